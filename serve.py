"""Models -> a web page and an HTTP API.

  python serve.py
  python serve.py --models=model,export/model.tflite --scorers=lm/kenlm.scorer
  python serve.py --test_data='data/test.tfrecords.*' --audio=data/LibriSpeech/test-clean

docs/serving.md describes the API.
"""

from absl import flags

from speech.flags import serving as serving_flags
from speech.serving import requirements
from speech.system import command_line

FLAGS = flags.FLAGS


def define_flags() -> None:
    serving_flags.define_serving_flags()
    command_line.define_logging_flag()


def main() -> None:
    requirements.check()
    from speech.serving import main as serving  # only now: it imports what was checked

    serving.run(serving_flags.server_settings_from_flags(FLAGS))


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
