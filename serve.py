"""Models -> a web page and an HTTP API.

  python serve.py
  python serve.py --models=model,export/model.tflite --scorers=lm/kenlm.scorer
  python serve.py --test_data='data/test.tfrecords.*' --audio=data/LibriSpeech/test-clean

docs/serving.md tells what it answers.
"""

import contextlib
import re

from absl import flags, logging

import constants
from speech.decoding.beam_search import BeamSettings
from speech.flags import decoder as decoder_flags
from speech.serving import app, server
from speech.serving.metrics import Metrics
from speech.serving.services import catalogue, test_sets
from speech.serving.services.reloading import Loaded, Served
from speech.system import command_line
from utils import UserError

FLAGS = flags.FLAGS

HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def define_flags() -> None:
    command_line.define_paths(
        "models",
        [constants.MODEL_DIR],
        "Model directories, SavedModels and .tflite files, by commas; the first is the default.",
    )
    command_line.define_paths("scorers", [], "Language models that build_lm.py made, by commas.")
    flags.DEFINE_string(
        "host", "127.0.0.1", "The address to serve at; 0.0.0.0 is every one of this machine."
    )
    flags.DEFINE_list(
        "allowed_hosts",
        [],
        "Names, by commas, that clients may call the server by: of a proxy before it, or this "
        "machine's. localhost, addresses and --host are allowed anyway.",
    )
    command_line.define_integer(
        "port", 8080, "0: any that is free.", lower_bound=0, upper_bound=65535
    )
    command_line.define_number("max_upload_mb", 100, "Largest recording.", lower_bound=0.001)
    command_line.define_number("max_seconds", 3600, "Longest recording or stream.", lower_bound=1)
    command_line.define_paths("test_data", [], "Test shards to look through, globs by commas.")
    command_line.define_paths("audio", [], "Folders of their recordings, by commas.")
    command_line.define_integer(
        "batch_size", 16, "Most utterances that a model hears at once.", lower_bound=1
    )
    command_line.define_integer(
        "max_waiting", 100, "Requests that may be under way or wait; more get 503.", lower_bound=1
    )
    decoder_flags.define_search_flags()
    command_line.define_logging_flag()


def asked_settings() -> BeamSettings:
    return BeamSettings(
        FLAGS.beam_width,
        FLAGS.cutoff_prob,
        FLAGS.cutoff_top_n,
        unknown_penalty=FLAGS.unknown_penalty,
    )


def asked_limits() -> app.Limits:
    return app.Limits(round(FLAGS.max_upload_mb * 1e6), FLAGS.max_seconds, FLAGS.max_waiting)


def asked_hosts() -> set[str]:
    """The names of this server, in lower case."""
    names = {FLAGS.host.lower()}
    for given in FLAGS.allowed_hosts:
        try:
            name = given.encode("idna").decode().lower()
        except UnicodeError:
            name = ""
        if not HOST_NAME.fullmatch(name):
            raise UserError(
                f"--allowed_hosts={given} is no host's name: give it as speech.example.org, "
                "without http://, port and path."
            )
        names.add(name)
    return names


def main() -> None:
    settings, limits, hosts = asked_settings(), asked_limits(), asked_hosts()
    bound = server.bind(FLAGS.host, FLAGS.port)
    told = Metrics()

    def load() -> Loaded:
        found = catalogue.open_catalogue(
            FLAGS.models, FLAGS.scorers, settings, FLAGS.batch_size, told.batch_sizes.observe
        )
        with contextlib.ExitStack() as undo:
            undo.callback(found.close)
            found.warm_up()
            sets = test_sets.open_sets(FLAGS.test_data, FLAGS.audio, found)
            undo.pop_all()
        for served in found.models.values():
            logging.info("%s: %s", served.name, ", ".join(served.scorers) or "no scorer")
        return Loaded(found, sets)

    server.serve(app.create_app(Served(load), limits, FLAGS.batch_size, told, hosts), bound)


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
