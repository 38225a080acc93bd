"""The search for the largest batch, and the training step that is compiled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import constants
from speech.features.front_end import FrontEnd
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig
from speech.tpu import check
from speech.tpu.check import LARGEST_BATCH, largest_batch, reason
from speech.tpu.compiler import compile_program
from speech.tpu.estimate import TOPOLOGIES, estimate
from speech.tpu.hlo import Array
from speech.tpu.lowering import lowers_sums
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


@pytest.mark.parametrize("cores", [1, 4] if lowers_sums() else [1])
def test_step_of_a_core_takes_its_utterances_whatever_the_number_of_cores(cores: int) -> None:
    network = NetworkConfig.of(8, ENGLISH.size, conv_channels=(2, 3), recurrent_unit_size=8)
    config = ModelConfig(FrontEnd(mel_filters=8), ENGLISH, network, TrainingConfig())
    shape = BatchShape(frames=40, labels=12, audio_seconds=1.0)
    hlo = check.step_program(config, shape, batch=4, cores=cores)
    assert Array((4, 40, 8), "float32") in hlo.arguments
    assert Array((4, 12), "int32") in hlo.arguments


@pytest.mark.slow
@pytest.mark.parametrize(("topology", "most_milliseconds"), [("v5e", 40), ("v2", 190)])
def test_default_step_takes_no_longer_than_the_documented_time(
    compiler_python: str, topology: str, most_milliseconds: float
) -> None:
    """For 32 of the longest utterances on a core, in bfloat16."""
    config = ModelConfig(
        FrontEnd(), ENGLISH, NetworkConfig.of(80, ENGLISH.size), TrainingConfig(bfloat16=True)
    )
    shape = BatchShape(constants.MAX_SEQUENCE_LENGTH, constants.MAX_LABEL_LENGTH, 17.29)
    tpu = TOPOLOGIES[topology]
    cores = tpu.cores if lowers_sums() else 1
    hlo = check.step_program(config, shape, 32, cores)
    compiled = compile_program(hlo, tpu.name, cores, compiler_python)
    assert compiled.error is None and compiled.bytes < tpu.memory_bytes
    found = estimate(compiled.text)
    milliseconds = found.milliseconds(tpu)
    assert all(milliseconds.values()) and sum(milliseconds.values()) <= most_milliseconds
    # The sum leaves out little: the dropout's random numbers, written once, and copies.
    assert found.endless_loops == 0 and found.unpriced_bytes < 256 * MEBIBYTE
