"""The engine of jax: cores against one device of TensorFlow, steps in flight, several hosts."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import host_devices  # before jax is imported; skips these tests without jax
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import tiny_config
from tiny_training import (
    BINS,
    TRAINING,
    batches,
    checkpointed,
    device_of,
    engine_in,
    model_config,
    predictions,
    run_settings,
    tiny_shards,
    train,
)

from speech.engines import checkpoints, choice
from speech.engines.devices import EAGER, PJRT, DeviceSettings, TpuSettings, find_device
from speech.engines.engine import Callbacks, InputFn, StepState
from speech.engines.pjrt import IN_FLIGHT, InputContext, PjrtEngine
from speech.engines.stopping import Stopping
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.training_input import TrainingInput, training_input_fn
from speech.networks.config import ModelConfig, NetworkConfig
from speech.shards.shard_set import ShardSet
from speech.text.lexicon import SPACE, UNKNOWN, Lexicon
from speech.tpu.cores import described_cores
from speech.tpu.program import Program
from speech.tpu.step_program import StepProgram, core_batch
from utils import ENGLISH, Alphabet, UserError

SUPPORT = Path(__file__).resolve().parents[1] / "support"

# Batches that two cores divide. Without dropout, whose masks XLA draws differently.
FOUR = replace(TRAINING, train_batch_size=4, clip_gradients=5.0, warmup_steps=3)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    frames = [20, 45, 31, 60, 22, 38, 27, 50, 41, 33, 25]
    return tiny_shards(tmp_path_factory.mktemp("shards"), frames)


def config_of(network: str) -> ModelConfig:
    return replace(model_config(FOUR), network=tiny_config(network).network)


def losses_of(folder: Path, shards: ShardSet, steps: int, **settings: Any) -> list[float]:
    losses: list[float] = []

    def on_step(state: StepState) -> None:
        assert state.loss is not None and state.step == first + len(losses) + 1
        losses.append(state.loss)

    first = checkpoints.latest_step(str(folder)) if folder.exists() else 0
    train(folder, shards, steps, FOUR, on_step, static=True, **settings)
    return losses


# --- Losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["deep_speech_1", "conv_gru"])
def test_any_number_of_cores_trains_as_one_device_of_tensorflow(
    tmp_path: Path, shards: ShardSet, network: str
) -> None:
    """With statistics of the whole batch, and clipping by the norm of its gradient."""
    config = config_of(network)
    expected = losses_of(tmp_path / "eager", shards, 6, kind=EAGER, config=config)
    wanted = checkpointed(tmp_path / "eager")
    for cores in (1, 2):
        folder = tmp_path / str(cores)
        found = losses_of(folder, shards, 6, kind=PJRT, cores=cores, config=config)
        np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=f"{cores} cores")
        variables = checkpointed(folder)
        assert variables.keys() == wanted.keys()
        for name, value in wanted.items():
            assert variables[name].dtype == value.dtype and variables[name].shape == value.shape
            np.testing.assert_allclose(variables[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_cores_train_the_phones_of_a_lexicon_as_one_device_of_tensorflow(
    tmp_path: Path, shards: ShardSet
) -> None:
    spoken = {"a": ("A",), "bb": ("BB",), "cab": ("CAB", "CB"), "c": ("C",)}
    lexicon = Lexicon(Alphabet((SPACE, *"ABC", UNKNOWN)), spoken)
    sizes = {"conv_channels": (2, 2), "dense_unit_size": 8, "attention_heads": 2, "blocks": 2}
    phones = lexicon.alphabet.characters
    network = NetworkConfig.of(BINS, ENGLISH.size, "conformer", phones, **sizes)
    config = replace(model_config(FOUR), network=network)
    expected = losses_of(tmp_path / "eager", shards, 6, config=config, lexicon=lexicon)
    found = losses_of(tmp_path / "2", shards, 6, kind=PJRT, cores=2, config=config, lexicon=lexicon)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    without = losses_of(tmp_path / "without", shards, 1, config=config)
    assert abs(without[0] - expected[0]) > 0.1


def test_a_training_moves_between_engines_and_numbers_of_cores(
    tmp_path: Path, shards: ShardSet
) -> None:
    expected = losses_of(tmp_path / "straight", shards, 8, kind=EAGER)
    moves: list[dict[str, Any]] = [
        {"kind": EAGER},
        {"kind": PJRT, "cores": 2},
        {"kind": PJRT},
        {"kind": EAGER},
    ]
    found = []
    for part, settings in enumerate(moves, start=1):
        found += losses_of(tmp_path / "moved", shards, 2 * part, **settings)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_cores_divide_a_batch_of_recognition(tmp_path: Path, shards: ShardSet) -> None:
    train(tmp_path / "m", shards, 1, FOUR, static=True)
    expected = predictions(engine_in(tmp_path / "m"), tmp_path / "m", shards, static=True)
    engine = engine_in(tmp_path / "m", kind=PJRT, cores=2)
    found = predictions(engine, tmp_path / "m", shards, static=True)
    assert len(found) == len(expected) == 12
    for one, other in zip(found, expected, strict=True):
        assert one["utterance_number"] == other["utterance_number"]
        np.testing.assert_allclose(one["log_probs"], other["log_probs"], atol=1e-4)


# --- Steps in flight ------------------------------------------------------------------------------


def in_flight(folder: Path, **settings: Any) -> PjrtEngine:
    folder.mkdir()
    run = replace(run_settings(folder, FOUR), iterations_per_loop=100, **settings)
    return PjrtEngine(model_config(FOUR), run, device_of(PJRT).jax_cores)


def test_steps_in_flight_change_neither_losses_nor_checkpoints(
    tmp_path: Path, shards: ShardSet
) -> None:
    expected = losses_of(tmp_path / "one", shards, 7, kind=PJRT)
    engine = in_flight(tmp_path / "several", save_checkpoints_steps=3)
    seen: list[tuple[str, int]] = []
    losses: list[float | None] = []

    def on_step(state: StepState) -> None:
        seen.append(("step", state.step))
        losses.append(state.loss)

    def before_save(state: StepState) -> None:
        seen.append(("save", state.step))

    callbacks = Callbacks(Stopping(), on_step, before_save)
    assert engine.train(batches(shards, FOUR, static=True), 7, 1.0, callbacks) == 7
    steps = [("step", step) for step in range(1, 8)]
    saved = [("save", step) for step in (0, 3, 6, 7)]
    assert seen == [saved[0], *steps[:3], saved[1], *steps[3:6], saved[2], steps[6], saved[3]]
    assert losses == expected
    one, several = checkpointed(tmp_path / "one"), checkpointed(tmp_path / "several")
    for name, value in one.items():
        np.testing.assert_array_equal(several[name], value, err_msg=name)


def test_requested_stop_ends_training_after_the_steps_in_flight(
    tmp_path: Path, shards: ShardSet
) -> None:
    engine, stopping = in_flight(tmp_path / "m"), Stopping()
    seen: list[int] = []

    def stop(state: StepState) -> None:
        seen.append(state.step)
        stopping.signal = signal.SIGTERM

    reached = engine.train(batches(shards, FOUR, static=True), 9, 1.0, Callbacks(stopping, stop))
    assert reached == IN_FLIGHT == checkpointed(tmp_path / "m")["global_step"]
    assert seen == [*range(1, reached + 1)]


# --- Devices --------------------------------------------------------------------------------------


def test_engine_runs_on_what_jax_has_without_a_tpu() -> None:
    device = find_device(DeviceSettings(engine=PJRT))
    assert device.engine == PJRT and device.cores == device.jax_cores.count == host_devices.COUNT
    assert device.batching(8).static and device.training_batching(8).static
    assert isinstance(
        choice.make_engine(device, model_config(), run_settings(Path("m"), TRAINING), print),
        PjrtEngine,
    )


def test_tpu_of_another_machine_is_refused() -> None:
    settings = DeviceSettings(TpuSettings(True, name="tpu-1"), PJRT)
    with pytest.raises(UserError, match=r"drives the TPU of the machine .* leave it out"):
        find_device(settings)


@pytest.mark.parametrize(
    ("topology", "network"),
    [
        ("v5e:2x2", "conv_gru"),
        ("v6e:2x2", "deep_speech_1"),
        ("v5p:2x2x1", "deep_speech_1"),
        ("tpu7x:2x2x1", "deep_speech_1"),
    ],
)
def test_step_of_all_cores_compiles_for_a_tpu(topology: str, network: str) -> None:
    pytest.importorskip("libtpu", reason="libtpu is not installed")
    cores = described_cores(topology)
    config = config_of(network)
    config = replace(config, training=replace(config.training, dropout=0.1, bfloat16=True))
    step = StepProgram(config, cores.count, on_tpu=True)
    lowered = step.lower(*core_batch(2, 40, config.network, 8))
    compiled = Program(lowered.hlo, cores).compile()
    sums = re.findall(r" all-reduce(?:-start)?\(", compiled.as_text())
    assert 0 < len(sums) < 20  # those of the gradients are joined
    # All variables are updated where they are.
    sizes = [each.shape.num_elements() * each.dtype.size for each in step.state.saved.values()]
    assert compiled.memory_analysis().alias_size_in_bytes >= sum(sizes)


# --- Hosts ----------------------------------------------------------------------------------------


def of_hosts(input_fn: InputFn) -> InputFn:
    """Returns the input function of one host that feeds what two would."""

    def together(params: Any) -> tf.data.Dataset:
        size = params["batch_size"] // 2
        parts = [
            input_fn({"batch_size": size, "context": InputContext(host, 2)}) for host in range(2)
        ]
        return tf.data.Dataset.zip(tuple(parts)).map(
            lambda *parts: tf.nest.map_structure(lambda *each: tf.concat(each, 0), *parts)
        )

    return together


def test_two_hosts_train_as_one_that_feeds_the_same(tmp_path: Path, shards: ShardSet) -> None:
    expected: list[float] = []

    def on_step(state: StepState) -> None:
        assert state.loss is not None
        expected.append(state.loss)

    batching = Batching(TRAINING.train_batch_size, static=True, hosts=2)
    input_fn = training_input_fn(TrainingInput(shards, batching, 1, shuffle_buffer_size=8))
    engine = engine_in(tmp_path / "one", kind=PJRT, cores=2)
    engine.train(of_hosts(input_fn), 5, 1.0, Callbacks(Stopping(), on_step))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path])}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SUPPORT / "pjrt_host.py"), str(number), "2", str(port)]
            + [shards.pattern, str(tmp_path / "two")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        outputs = [each.communicate(timeout=300) for each in processes]
    finally:
        for each in processes:
            each.kill()
    assert not any(each.returncode for each in processes), [error for _, error in outputs]
    (losses, recognised), (of_follower, _) = (
        json.loads(output.splitlines()[-1]) for output, _ in outputs
    )
    np.testing.assert_array_equal(losses, of_follower)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert recognised == 2 * 12
    assert checkpointed(tmp_path / "two")["global_step"] == 5
