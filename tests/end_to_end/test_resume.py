"""Tests that training which is stopped and continued ends like an undisturbed one."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from doors import ROOT, environment_of_door, run_door
from tiny_shards import random_utterances, write_shards

from speech.shards.shard_set import ShardSet
from speech.training.history import HISTORY_FILE, History

FRAMES = [100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200, 195]
LAST_STEP = 18
EVALUATION = 6  # steps between two evaluations

# All that has a state: order, masks of features, dropout, schedule, plateaus, the best result.
TRAINING = (
    "--conv_channels=4,4",
    "--recurrent_unit_size=16",
    "--train_batch_size=4",
    f"--train_steps={LAST_STEP}",
    f"--eval_steps={EVALUATION}",
    "--save_checkpoints_steps=2",
    "--keep_checkpoint_max=3",
    "--dropout=0.2",
    "--augment=time_mask[p=0.5,n=2,size=100~50]",
    "--learning_rate=1e-3",
    "--learning_rate_schedule=cosine",
    "--warmup_steps=5",
    "--sorta_grad",
    "--reduce_lr_on_plateau",
    "--plateau_epochs=2",
    "--plateau_reduction=0.5",
    "--es_min_delta=1000",  # so that nothing is better than the first
    "--best_by=loss",
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(folder, random_utterances(FRAMES, bins=4), longest=(200, 12))


def flags(shards: ShardSet, folder: Path) -> list[str]:
    data = [f"--train_data={shards.pattern}", f"--dev_data={shards.pattern}"]
    return [*data, f"--model_dir={folder}", *TRAINING]


@pytest.fixture(scope="module")
def undisturbed(shards: ShardSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "model"
    result = run_door("training.py", *flags(shards, folder), seconds=200)
    assert result.returncode == 0, result.stderr
    return folder


def stop_when(
    shards: ShardSet, folder: Path, ready: Callable[[], bool], how: signal.Signals
) -> tuple[int, str]:
    """Trains until `ready`, then sends a signal; returns the exit code and standard error."""
    with subprocess.Popen(
        [sys.executable, "training.py", *flags(shards, folder)],
        cwd=ROOT,
        env=environment_of_door({}),
        stderr=subprocess.PIPE,
        text=True,
    ) as door:
        limit = time.monotonic() + 120
        while not ready():
            assert door.poll() is None and time.monotonic() < limit
            time.sleep(0.001)
        door.send_signal(how)
        _, stderr = door.communicate(timeout=120)
    return door.returncode, stderr


def checkpoint_from(folder: Path, step: int) -> Callable[[], bool]:
    """Returns a function that says whether the latest checkpoint is of this step or later."""

    def exists() -> bool:
        state = folder / "checkpoint"
        steps = (
            re.findall(r'^model_checkpoint_path: ".*-(\d+)"', state.read_text())
            if state.exists()
            else []
        )
        return bool(steps) and int(steps[0]) >= step

    return exists


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / HISTORY_FILE).read_text().splitlines()]


def assert_same_training(folder: Path, other: Path) -> None:
    """Asserts equal losses, learning rates, results, best checkpoints and variables."""
    ours, theirs = records(folder), records(other)
    assert [(each.pop("kind"), each["step"]) for each in ours] == [
        (each.pop("kind"), each["step"]) for each in theirs
    ]
    for one, another in zip(ours, theirs, strict=True):
        assert one == pytest.approx(another, rel=1e-3)
    assert {path.name for path in (folder / "best").iterdir()} == {
        path.name for path in (other / "best").iterdir()
    }
    one, another = (tf.train.load_checkpoint(str(each)) for each in (folder, other))
    assert one.get_variable_to_shape_map() == another.get_variable_to_shape_map()
    for name in one.get_variable_to_shape_map():
        np.testing.assert_allclose(
            one.get_tensor(name), another.get_tensor(name), rtol=1e-3, atol=1e-5, err_msg=name
        )


def test_the_run_has_plateaus_and_a_best_result(undisturbed: Path) -> None:
    """Makes sure that the comparisons below are meaningful."""
    history = History(str(undisturbed), LAST_STEP)
    assert [point.step for point in history.training] == list(range(1, LAST_STEP + 1))
    assert len(history.dev_results) == LAST_STEP // EVALUATION and history.best
    rates = [point.learning_rate for point in history.training]
    assert rates[2 * EVALUATION] < 0.55 * rates[2 * EVALUATION - 1]  # after the second evaluation


@pytest.mark.slow
def test_the_masks_of_dropout_matter(shards: ShardSet, undisturbed: Path, tmp_path: Path) -> None:
    """Makes sure that other masks would give another loss."""
    flags_without = ["--dropout=0", "--train_steps=4", "--noreduce_lr_on_plateau", "--dev_data="]
    result = run_door("training.py", *flags(shards, tmp_path), *flags_without)
    assert result.returncode == 0, result.stderr
    with_masks, without = (records(folder)[3] for folder in (undisturbed, tmp_path))
    assert with_masks["step"] == without["step"] == 4
    assert abs(with_masks["loss"] / without["loss"] - 1) > 0.005


def test_training_killed_at_several_moments_ends_like_an_undisturbed_one(
    shards: ShardSet, undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    best = folder / "best" / "checkpoint"  # appears during an evaluation
    resumed = []
    for ready in (best.exists, checkpoint_from(folder, 8), checkpoint_from(folder, 14)):
        code, _ = stop_when(shards, folder, ready, signal.SIGKILL)
        assert code == -signal.SIGKILL
        resumed.append(int(tf.train.load_variable(str(folder), "global_step")))
    # At least one step is not that of an evaluation, where undisturbed training pauses too.
    assert resumed[0] == EVALUATION and any(step % EVALUATION for step in resumed), resumed
    result = run_door("training.py", *flags(shards, folder), seconds=200)
    assert result.returncode == 0, result.stderr
    assert "Continues from the checkpoint of step" in result.stderr
    assert_same_training(folder, undisturbed)


@pytest.mark.slow
def test_training_stopped_by_signals_saves_and_ends_like_an_undisturbed_one(
    shards: ShardSet, undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    code, stderr = stop_when(shards, folder, checkpoint_from(folder, 8), signal.SIGTERM)
    assert code == 0, stderr
    stopped = tf.train.load_variable(str(folder), "global_step")
    assert 8 <= stopped < LAST_STEP
    assert f"Stopped at step {stopped}. The same command continues from here." in stderr
    assert max(each["step"] for each in records(folder)) == stopped
    code, stderr = stop_when(shards, folder, checkpoint_from(folder, stopped + 2), signal.SIGINT)
    assert code == 130 and "Stopped at step" in stderr and "Traceback" not in stderr
    result = run_door("training.py", *flags(shards, folder), seconds=200)
    assert result.returncode == 0, result.stderr
    assert_same_training(folder, undisturbed)


@pytest.mark.slow
def test_a_second_training_of_the_same_model_is_refused(shards: ShardSet, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    first = subprocess.Popen(
        [sys.executable, "training.py", *flags(shards, folder)],
        cwd=ROOT,
        env=environment_of_door({}),
        stderr=subprocess.PIPE,
        text=True,
    )
    lock = folder / ".lock"
    while not lock.exists():
        assert first.poll() is None
        time.sleep(0.01)
    second = run_door("training.py", *flags(shards, folder), seconds=200)
    first.terminate()
    _, stderr = first.communicate(timeout=120)
    assert first.returncode == 0, stderr
    assert second.returncode == 1 and f"Another run (process {first.pid})" in second.stderr
    assert "--model_dir" in second.stderr
