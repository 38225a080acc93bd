"""Loads models, scorers and test sets, and serves them until the process is stopped."""

import contextlib
from collections.abc import Callable

from absl import logging

from speech.serving import app, server
from speech.serving.metrics import Metrics
from speech.serving.service import Service
from speech.serving.services import catalogue, test_sets
from speech.serving.services.reloading import ReloadableResources, Resources
from speech.serving.settings import ServerSettings
from speech.serving.wyoming.server import WyomingServer


def run(settings: ServerSettings) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Raises:
        UserError: the address can't be used, or something can't be loaded.
    """
    # First, so that a port that is in use is reported before models are loaded.
    bound = server.bind(settings.host, settings.port)
    wyoming_bound = None
    if settings.wyoming_port is not None:
        wyoming_bound = server.bind(settings.host, settings.wyoming_port, "--wyoming_port")
    metrics = Metrics()
    resources = ReloadableResources(lambda: load(settings, metrics.batch_sizes.observe))
    service = Service(resources, settings.limits, settings.batch_size, metrics)
    also = None
    if wyoming_bound:
        also = WyomingServer(service, wyoming_bound, settings.wyoming_language)
    server.serve(app.create_app(service, settings), bound, also)


def load(settings: ServerSettings, on_batch: Callable[[int], object]) -> Resources:
    """Loads models, scorers and test sets from their files, and warms the models up.

    Args:
        on_batch: called with the size of each batch, on the model's thread.

    Raises:
        UserError: something can't be loaded, or doesn't fit the rest.
    """
    found = catalogue.open_catalogue(
        settings.models, settings.scorers, settings.search, settings.batch_size, on_batch
    )
    with contextlib.ExitStack() as undo:
        undo.callback(found.close)
        found.warm_up()
        sets = test_sets.open_sets(settings.test_data, settings.audio, found)
        undo.pop_all()
    for served in found.models.values():
        logging.info("%s: %s", served.name, ", ".join(served.scorers) or "no scorer")
    return Resources(found, sets)
