"""The flags of the checkpoint that a program uses."""

import pytest
from doors import parse_flags

from speech.engines.checkpoints import CheckpointChoice
from speech.flags.checkpoint import checkpoint_from_flags, define_checkpoint_flags
from utils import UserError


def choice(*given: str) -> CheckpointChoice:
    return checkpoint_from_flags(parse_flags(define_checkpoint_flags, *given))


def test_flags_are_a_checkpoint_or_an_average() -> None:
    assert choice() == CheckpointChoice(None)
    assert choice("--checkpoint=latest") == CheckpointChoice("latest")
    assert choice("--average_checkpoints=3,1") == CheckpointChoice(average_weights=(3.0, 1.0))


def test_both_flags_or_bad_weights_are_refused() -> None:
    with pytest.raises(UserError, match="--checkpoint and --average_checkpoints exclude each"):
        choice("--checkpoint=best", "--average_checkpoints=3")
    with pytest.raises(UserError, match="--average_checkpoints=many"):
        choice("--average_checkpoints=many")
