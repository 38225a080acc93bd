"""CSV files -> model, word error rate and exported file, with the words of DeepSpeech.py.

  deepspeech-train --train_files train.csv --dev_files dev.csv --test_files test.csv \
      --n_hidden 134 --epochs 75 --checkpoint_dir ckpt --export_dir exported

It prepares shards (prepare_csv.py), trains (training.py --recipe=deepspeech), tests (eval.py),
exports (export.py) and transcribes (transcribe.py), as far as the flags ask for it. The same
command continues a run that was stopped. docs/deepspeech.md has the differences.
"""

import sys

from absl import flags

from speech.deepspeech_training import run as training_run
from speech.flags import deepspeech as deepspeech_flags
from speech.system import command_line, tensorflow_import

FLAGS = flags.FLAGS


def define_flags() -> None:
    deepspeech_flags.define_flags()
    command_line.define_logging_flag()


def main() -> None:
    settings = deepspeech_flags.run_from_flags(FLAGS)
    tensorflow_import.require()  # now, not after minutes of preparation, which needs none
    training_run.run(settings)


def run() -> None:
    """Runs this door, also as the command deepspeech-train."""
    define_flags()
    sys.argv[1:] = deepspeech_flags.join_booleans(sys.argv[1:], FLAGS)
    command_line.run(main)


if __name__ == "__main__":
    run()
