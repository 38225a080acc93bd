"""The search for the largest batch, and the training step that is compiled."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import constants
import model
from speech.features.front_end import FrontEnd
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig
from speech.tpu import check
from speech.tpu.check import LARGEST_BATCH, largest_batch, reason
from speech.tpu.compiler import compile_program
from speech.tpu.estimate import TOPOLOGIES, estimate
from speech.tpu.table import MEBIBYTE, BatchShape
from utils import ENGLISH


@given(room=st.integers(0, 2 * LARGEST_BATCH), batch=st.integers(1, 2 * LARGEST_BATCH))
def test_largest_batch_is_found_to_one_part_in_sixteen(room: int, batch: int) -> None:
    tried = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= room

    found = largest_batch(fits, batch)
    largest = min(room, LARGEST_BATCH)
    assert found <= largest and largest - found <= found / 16
    assert bool(found) == bool(room)
    # Each call costs a minute.
    assert len(tried) == len(set(tried)) <= 16
    assert min(tried) >= 1 and max(tried) <= LARGEST_BATCH
    assert not found or found in tried


def test_reason_is_the_first_line() -> None:
    assert reason("\n RESOURCE_EXHAUSTED: no room.\nSee elsewhere.\n") == (
        "RESOURCE_EXHAUSTED: no room."
    )


def test_step_of_a_core_is_no_part_of_a_larger_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its gradients are not divided by the cores that share a batch."""
    calls: list[tuple[int, ...]] = []

    def training_step(model_fn: object, *sizes: int) -> bytes:
        calls.append(sizes)
        return b""

    def builder(config: ModelConfig, model_dir: str) -> Callable[..., Any]:
        calls.append((config.training.train_batch_size,))
        return lambda: None

    monkeypatch.setattr(check, "training_step", training_step)
    training = replace(TrainingConfig(), train_batch_size=32)
    config = ModelConfig(FrontEnd(), ENGLISH, NetworkConfig.of(80, 29), training)
    shape = BatchShape(frames=100, labels=12, audio_seconds=1.0)
    check.step_program(builder, config, shape, batch=4)
    assert calls == [(4,), (4, 100, 80, 12)]


@pytest.mark.slow
@pytest.mark.estimator
@pytest.mark.parametrize(("topology", "most_milliseconds"), [("v5e", 40), ("v2", 190)])
def test_default_step_takes_no_longer_than_the_documented_time(
    compiler_python: str, topology: str, most_milliseconds: float
) -> None:
    """For 32 of the longest utterances on a core, in bfloat16."""
    config = ModelConfig(
        FrontEnd(), ENGLISH, NetworkConfig.of(80, ENGLISH.size), TrainingConfig(bfloat16=True)
    )
    shape = BatchShape(constants.MAX_SEQUENCE_LENGTH, constants.MAX_LABEL_LENGTH, 17.29)
    hlo = check.step_program(model.model_fn_builder, config, shape, batch=32)
    compiled = compile_program(hlo, TOPOLOGIES[topology].name, compiler_python)
    assert compiled.error is None and compiled.bytes < TOPOLOGIES[topology].memory_bytes
    found = estimate(compiled.text)
    milliseconds = found.milliseconds(TOPOLOGIES[topology])
    assert all(milliseconds.values()) and sum(milliseconds.values()) <= most_milliseconds
    # The sum leaves out little: the dropout's random numbers, written once, and copies.
    assert found.endless_loops == 0 and found.unpriced_bytes < 256 * MEBIBYTE
