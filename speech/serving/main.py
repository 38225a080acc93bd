"""Loads models, scorers and test sets, and serves them until the process is stopped."""

import contextlib
import ipaddress
import socket
from collections.abc import Callable

from absl import logging

from speech.serving import app, server
from speech.serving.keys import ApiKeys, read_keys
from speech.serving.metrics import Metrics
from speech.serving.service import Service
from speech.serving.services import catalogue, recordings, test_sets
from speech.serving.services.reloading import ReloadableResources, Resources
from speech.serving.settings import ServerSettings
from speech.serving.wyoming.server import WyomingServer


def run(settings: ServerSettings) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Raises:
        UserError: the address or the file of keys can't be used, or something can't be loaded.
    """
    keys = read_keys(settings.api_key_file)
    # Before models are loaded, so that a port that is in use is reported at once.
    bound = server.bind(settings.host, settings.port)
    wyoming_bound = None
    if settings.wyoming_port is not None:
        wyoming_bound = server.bind(settings.host, settings.wyoming_port, "--wyoming_port")
    _warn_if_open(bound, keys)
    metrics = Metrics()
    with recordings.opened(settings.recordings) as recorded:

        def load_all() -> Resources:
            prompts = recorded.read_prompts() if recorded else []
            loaded = load(settings, metrics.batch_sizes.observe)
            if recorded:  # now that nothing else can fail
                recorded.store.set_prompts(prompts)
            return loaded

        resources = ReloadableResources(load_all)
        service = Service(resources, settings.limits, settings.batch_size, metrics, recorded)
        also = None
        if wyoming_bound:
            also = WyomingServer(service, wyoming_bound, settings.wyoming_language)
        server.serve(app.create_app(service, settings, keys), bound, also)


def _warn_if_open(bound: socket.socket, keys: ApiKeys) -> None:
    """Warns if other machines may use the server without a key."""
    address = bound.getsockname()[0]
    if not keys and not ipaddress.ip_address(address).is_loopback:
        logging.warning(
            "Everyone who reaches this machine may use the server at %s: give it keys with "
            "--api_key_file, or let only a proxy reach it (docs/serving.md).",
            address,
        )


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
