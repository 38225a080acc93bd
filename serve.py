"""Models -> a web page and an HTTP API.

  python serve.py
  python serve.py --models=model,export/model.tflite --scorers=lm/kenlm.scorer
  python serve.py --test_data='data/test.tfrecords.*' --audio=data/LibriSpeech/test-clean

docs/serving.md tells what it answers.
"""

import contextlib

from absl import flags, logging

import constants
from speech import command_line, decoder_flags
from speech.decoder import BeamSettings
from speech.serving import app, catalogue, server, test_sets
from speech.serving.metrics import Metrics
from speech.serving.reloading import Loaded, Served

FLAGS = flags.FLAGS


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
    flags.DEFINE_integer("port", 8080, "0: any that is free.", lower_bound=0, upper_bound=65535)
    command_line.define_number("max_upload_mb", 100, "Largest recording.", lower_bound=0.001)
    command_line.define_number("max_seconds", 3600, "Longest recording or stream.", lower_bound=1)
    command_line.define_paths("test_data", [], "Test shards to look through, globs by commas.")
    command_line.define_paths("audio", [], "Folders of their recordings, by commas.")
    flags.DEFINE_integer(
        "batch_size", 16, "Most utterances that a model hears at once.", lower_bound=1
    )
    flags.DEFINE_integer(
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


def main() -> None:
    settings, limits = asked_settings(), asked_limits()
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

    server.serve(app.create_app(Served(load), limits, FLAGS.batch_size, told), bound)


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
