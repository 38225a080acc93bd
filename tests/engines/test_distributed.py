"""Training on several devices equals that on one: two replicas in a process, two processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from clusters import tf_config
from doors import ROOT, TINY_NETWORK, environment_of_door, run_door
from tiny_shards import random_utterances, write_shards

from speech.engines import checkpoints, strategies
from speech.engines.eager import EagerEngine
from speech.engines.engine import Callbacks, InitialValues, RunSettings, StepState
from speech.engines.stopping import Stopping
from speech.engines.strategies import Distribution
from speech.features.front_end import FrontEnd
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.training_input import TrainingInput, training_input_fn
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig
from speech.shards.shard_set import ShardSet, find_shards
from speech.training import transfer
from speech.training.history import History
from utils import ENGLISH

BINS = 4
BATCH = 6
# 23 utterances are three batches of 6 and one of 5: no two replicas have equally many of that.
FRAMES = list(range(200, 315, 5))
# The gradients' norm is in the hundreds: each step is clipped.
TRAINING = TrainingConfig(BATCH, 4, learning_rate=1e-3, clip_gradients=10.0, dropout=0.0)

# Networks without and with batch normalisation, which is over all replicas.
SIZES: dict[str, dict[str, Any]] = {
    "deep_speech_1": {"conv_channels": (2, 2), "recurrent_unit_size": 8},
    "conv_gru": {"conv_channels": (6,), "recurrent_layers": 1, "recurrent_unit_size": 8},
}


def model_config(network: str) -> ModelConfig:
    sizes = NetworkConfig.of(BINS, ENGLISH.size, network, **SIZES[network])
    return ModelConfig(FrontEnd(mel_filters=BINS), ENGLISH, sizes, TRAINING)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(folder, random_utterances(FRAMES, BINS), longest=(320, 12))


# --- Batches --------------------------------------------------------------------------------------


def batches(shards: ShardSet, batching: Batching, count: int) -> list[dict[str, Any]]:
    """Returns the first batches of training, as numpy arrays."""
    input_fn = training_input_fn(TrainingInput(shards, batching, 1, start_step=1))
    made = input_fn({"batch_size": batching.batch_size // batching.replicas})
    return [{**features, **labels} for features, labels in made.take(count).as_numpy_iterator()]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_parts_of_all_replicas_make_up_the_batch(shards: ShardSet, processes: int) -> None:
    replicas, steps = 6, 5
    whole = batches(shards, Batching(12, static=False), steps)
    assert {len(each["weight"]) for each in whole} == {12, 11}
    each = replicas // processes
    parts = [
        batches(
            shards,
            Batching(12, False, 1, replicas, range(process * each, (process + 1) * each)),
            steps * each,
        )
        for process in range(processes)
    ]
    for step, batch in enumerate(whole):
        own = [part for process in parts for part in process[step * each : (step + 1) * each]]
        assert {len(part["weight"]) for part in own} == {2}
        rows = len(batch["weight"])
        for key, values in batch.items():
            joined = np.concatenate([part[key] for part in own])
            np.testing.assert_array_equal(joined[:rows], values, err_msg=key)
            filling = 0 if key in ("weight", "feature_length") else values[-1]
            for row in joined[rows:]:
                np.testing.assert_array_equal(row, filling, err_msg=key)


# --- Two replicas in one process ------------------------------------------------------------------

# Two virtual devices, which a process must have before it uses TensorFlow; GPUs go through the same
# code. Trains alone and with both; the numbers are compared by the test.
REPLICAS = """
import sys
from pathlib import Path
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
import test_distributed
test_distributed.train_alone_and_together(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
"""


def train(
    folder: Path,
    shards: ShardSet,
    config: ModelConfig,
    steps: int,
    distribution: Distribution,
    initial_values: InitialValues | None = None,
) -> list[float]:
    """Trains for a number of steps; returns their losses."""
    run = RunSettings(str(folder), eval_batch_size=4, train_batch_size=BATCH)
    engine = EagerEngine(config, run, distribution, initial_values=initial_values)
    batching = distribution.cut(Batching(BATCH, static=False))
    losses: list[float] = []

    def on_step(state: StepState) -> None:
        assert state.loss is not None
        losses.append(state.loss)

    input_fn = training_input_fn(TrainingInput(shards, batching, 1))
    assert engine.train(input_fn, steps, 1.0, Callbacks(Stopping(), on_step)) == steps
    return losses


def train_alone_and_together(pattern: str, folder: Path, networks: list[str]) -> None:
    """Trains each network on one and on two devices, below `folder`; writes the losses there."""
    shards, losses = find_shards(pattern), {}
    two = strategies.mirrored(["/cpu:0", "/cpu:1"])
    for network in networks:
        config = model_config(network)
        for name, devices in (("alone", strategies.find_distribution(None)), ("together", two)):
            losses[f"{network} {name}"] = train(
                folder / network / name, shards, config, 10, devices
            )
        source = transfer.Source(str(folder / network / "alone" / "model.ckpt-10"), config)
        taken = transfer.plan(source, config, 0).initial_values()
        for name, devices in (("alone", strategies.find_distribution(None)), ("together", two)):
            losses[f"{network} {name} tuned"] = train(
                folder / network / f"{name} tuned", shards, config, 1, devices, taken
            )
    (folder / "losses.json").write_text(json.dumps(losses))


def assert_same_checkpoint(one: Path, other: Path) -> None:
    readers = [tf.train.load_checkpoint(str(folder)) for folder in (one, other)]
    names = readers[0].get_variable_to_shape_map()
    assert names == readers[1].get_variable_to_shape_map()
    for name in names:
        expected, found = (reader.get_tensor(name) for reader in readers)
        # Rounding leaves few digits of values far below a tensor's largest one.
        largest = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=1e-3 * largest + 1e-6, err_msg=name)


def test_two_replicas_train_as_one_device(shards: ShardSet, tmp_path: Path) -> None:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests/support"), str(ROOT / "tests/engines")])
    result = subprocess.run(
        [sys.executable, "-c", REPLICAS, shards.pattern, str(tmp_path), *SIZES],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    losses = json.loads((tmp_path / "losses.json").read_text())
    for network in SIZES:
        alone, together = losses[f"{network} alone"], losses[f"{network} together"]
        assert len(alone) == 10
        np.testing.assert_allclose(together, alone, rtol=1e-4)
        folder = tmp_path / network
        assert_same_checkpoint(folder / "alone", folder / "together")
        assert len(list((folder / "together").glob("*.v2"))) == 1  # one replica writes the curves
        # Both replicas start from another model's values.
        tuned = losses[f"{network} together tuned"]
        np.testing.assert_allclose(tuned, losses[f"{network} alone tuned"], rtol=1e-4)
        assert tuned[0] != pytest.approx(alone[0], rel=1e-3)


# --- Two processes, as people run them ------------------------------------------------------------


def flags(shards: ShardSet, folder: Path, *more: str) -> list[str]:
    return [
        f"--train_data={shards.pattern}",
        f"--dev_data={shards.pattern}",
        f"--model_dir={folder}",
        f"--train_batch_size={BATCH}",
        "--dropout=0",
        *more,
    ]


@contextmanager
def workers(*flags: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Runs two processes of training.py on this machine."""
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.socket()) for _ in range(2)]
        for each in listening:
            each.bind(("localhost", 0))
        addresses = [f"localhost:{each.getsockname()[1]}" for each in listening]
    with ExitStack() as stack:
        started = []
        for index in range(2):
            environment = {"TF_CONFIG": tf_config("worker", index, worker=addresses)}
            process = subprocess.Popen(
                [sys.executable, "training.py", "--distribution=multi_worker", *flags],
                cwd=ROOT,
                env=environment_of_door(environment),
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            started.append(process)
        yield started


def outputs(processes: list[subprocess.Popen[str]]) -> list[str]:
    return [process.communicate(timeout=90)[1] for process in processes]


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline, path
        time.sleep(0.1)


def losses(folder: Path) -> dict[int, float]:
    points = History(str(folder), 10**9).training
    return {point.step: point.loss for point in points if point.loss is not None}


@pytest.mark.slow
def test_two_processes_train_as_one(shards: ShardSet, tmp_path: Path) -> None:
    network = ["--network=conv_gru", "--conv_channels=6", "--recurrent_unit_size=8"]
    more = [*network, "--recurrent_layers=1", "--train_steps=20", "--eval_steps=12"]
    with workers(*flags(shards, tmp_path / "two", *more)) as processes:
        alone = run_door("training.py", *flags(shards, tmp_path / "one", *more))
        chief, other = outputs(processes)
    assert [each.returncode for each in processes] == [0, 0], chief + other
    assert alone.returncode == 0, alone.stderr
    expected, found = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(expected) == list(found) == list(range(1, 21))
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-4)
    assert_same_checkpoint(tmp_path / "one", tmp_path / "two")
    # The chief alone evaluates, logs and saves.
    assert chief.count("dev loss") == 2 and "dev loss" not in other
    assert "Worker 0 has ended the training." in other
    assert not list((tmp_path / "two").glob("tmp*"))
    for text in (chief, other):
        assert "Warning" not in text and "Traceback" not in text


@pytest.mark.slow
def test_both_workers_end_when_one_dies_and_can_continue(shards: ShardSet, tmp_path: Path) -> None:
    steps = ["--train_steps=100000", "--eval_steps=100000", "--save_checkpoints_steps=5"]
    endless = flags(shards, tmp_path, "--dev_data=", *TINY_NETWORK, *steps)
    with workers(*endless) as processes:
        wait_for(tmp_path / "model.ckpt-5.index", processes[0])
        processes[1].kill()
        chief, _ = outputs(processes)
    assert processes[0].returncode == 1
    assert "error: worker 1 at localhost:" in chief and "is gone" in chief
    assert "Traceback" not in chief
    step = checkpoints.steps_of(checkpoints.latest_checkpoint(str(tmp_path)))
    assert step >= 5

    # The same command again, until the second worker is asked to stop.
    with workers(*endless) as processes:
        wait_for(tmp_path / f"model.ckpt-{step + 5}.index", processes[0])
        processes[1].send_signal(signal.SIGTERM)
        chief, other = outputs(processes)
    assert [each.returncode for each in processes] == [0, 0], chief + other
    assert f"Continues from the checkpoint of step {step}" in chief
    stopped = checkpoints.steps_of(checkpoints.latest_checkpoint(str(tmp_path)))
    assert f"Stopped at step {stopped}." in chief and stopped > step
    assert "SIGTERM: stops after this step" in other
