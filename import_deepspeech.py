"""A model of Mozilla DeepSpeech or Coqui STT -> a model directory.

  python import_deepspeech.py deepspeech-0.9.3-models.pbmm --model_dir=model
  python import_deepspeech.py checkpoint_dir --alphabet=alphabet.txt --model_dir=model

The model is a .pb, .pbmm or .tflite file, a folder of checkpoints, or a checkpoint. The directory
is then like one of training.py: it is evaluated (eval.py --model_dir=model), exported, used
(transcribe.py --model=model, serve.py) and fine-tuned (training.py --init_checkpoint=model).
"""

from absl import flags

import constants
from speech.flags import kinds
from speech.mozilla.importing import import_model
from speech.system import command_line, tensorflow_import
from speech.text import alphabets

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string("model_dir", constants.MODEL_DIR, "Model directory to write.")
    flags.DEFINE_string(
        "alphabet",
        None,
        "Alphabet that a checkpoint was trained with, or utf-8 for --bytes_output_mode. Default: "
        "the one that the model contains, or alphabet.txt beside a checkpoint.",
    )
    kinds.define_alias("alphabet_config_path", "alphabet")
    command_line.define_logging_flag()


def main(path: str) -> None:
    """Imports the model that is stored at `path`."""
    tensorflow_import.quieten(FLAGS.logging)
    alphabet = alphabets.read_alphabet(FLAGS.alphabet) if FLAGS.alphabet else None
    config = import_model(path, alphabet, FLAGS.model_dir)
    network = config.network
    print(
        f"{FLAGS.model_dir}: {network.name}, {network.dense_unit_size} units, "
        f"{len(config.alphabet.characters)} characters, {config.front_end.sample_rate} Hz"
    )


if __name__ == "__main__":
    define_flags()
    command_line.run(main, "MODEL")
