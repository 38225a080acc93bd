"""Checks whether the training step compiles for, and fits on, a TPU. Needs no TPU.

  python check_tpu.py --train_batch_size=32,64 --bfloat16
  python check_tpu.py --model_dir=model --train_data=data/train.tfrecords.* --topology=v3

Compiles the step that training.py would run with the TPU's compiler, for one core of a v2, v3 or v4
and for four chips of a later TPU, and prints the memory that the compiler reports, and an estimate
of the time. docs/tpu.md says how far to trust it.
"""

from absl import flags

from speech.flags.tpu_check import check_settings_from_flags, define_tpu_check_flags
from speech.system import command_line, tensorflow_import
from speech.tpu import check

FLAGS = flags.FLAGS


def define_flags() -> None:
    define_tpu_check_flags()
    command_line.define_logging_flag()


def main() -> None:
    tensorflow_import.quieten(FLAGS.logging)
    check.check(check_settings_from_flags(FLAGS))


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
