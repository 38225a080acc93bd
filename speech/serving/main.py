"""Loads models, scorers and test sets, and serves them until the process is stopped."""

import contextlib
from collections.abc import Callable

from absl import logging

from speech.serving import app, server
from speech.serving.metrics import Metrics
from speech.serving.services import catalogue, recordings, test_sets
from speech.serving.services.reloading import ReloadableResources, Resources
from speech.serving.settings import ServerSettings


def run(settings: ServerSettings) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Raises:
        UserError: the address can't be used, or something can't be loaded.
    """
    # First, so that a port that is in use is reported before models are loaded.
    bound = server.bind(settings.host, settings.port)
    metrics = Metrics()
    with recordings.opened(settings.recordings) as recorded:

        def load_all() -> Resources:
            if recorded:
                recorded.load_prompts()
            return load(settings, metrics.batch_sizes.observe)

        application = app.create_app(ReloadableResources(load_all), settings, metrics, recorded)
        server.serve(application, bound)


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
