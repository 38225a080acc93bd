"""Flags of the checkpoint that a program uses of a trained model."""

from typing import Any

from absl import flags

from speech.engines import checkpoints
from speech.engines.checkpoints import CheckpointChoice
from utils import UserError


def define_checkpoint_flags() -> None:
    """Defines the flags that `checkpoint_from_flags` reads."""
    flags.DEFINE_string(
        "checkpoint",
        None,
        "Checkpoint to use: best (on the development set), latest, average, or a path; default: "
        "the best if training evaluated on a development set, else the latest.",
    )
    flags.DEFINE_string(
        "average_checkpoints",
        None,
        "Checkpoints whose average to use: the number of the last ones, as in 5, or a weight for "
        "each, newest first, as in 3,2,1.",
    )


def checkpoint_from_flags(values: Any) -> CheckpointChoice:
    """Reads the flags of the checkpoint; values: absl's FLAGS.

    Raises:
        UserError: both are given, or the weights can't be read.
    """
    if not values.average_checkpoints:
        return CheckpointChoice(values.checkpoint)
    if values.checkpoint:
        raise UserError("--checkpoint and --average_checkpoints exclude each other: give one.")
    return CheckpointChoice(average_weights=checkpoints.parse_weights(values.average_checkpoints))
