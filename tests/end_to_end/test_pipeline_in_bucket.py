"""Tests the pipeline with shards and model in a bucket, as on a TPU VM."""

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
from doors import ROOT, TINY_NETWORK, assert_error, environment_of_door, run_door
from emulator import Emulator
from google.cloud import storage
from tiny_shards import random_utterances, write_shards

from speech.training.history import HISTORY_FILE

FRAMES = [200, 210, 220, 230, 240, 250, 260, 270, 280, 290, 300, 295]
STEPS_PER_EPOCH = 3
LAST_STEP = 12
TRAINING = ("--train_batch_size=4", "--eval_batch_size=8", "--max_epochs=4", *TINY_NETWORK)
RATES = ("wer", "cer", "loss")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes the three sets to a folder, with the doors' default names."""
    folder = tmp_path_factory.mktemp("local") / "data"
    utterances = random_utterances(FRAMES, bins=4)
    for name, own in {"train": utterances, "dev": utterances[:8], "test": utterances[4:]}.items():
        write_shards(folder, own, name=f"{name}.tfrecords", longest=(300, 12))
    return folder


@pytest.fixture
def filled_bucket(
    emulator: Emulator, bucket: str, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Returns a folder of the bucket, with the shards in its folder `data`."""
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    client = storage.Client()
    for file in shards.iterdir():
        blob = storage.Blob.from_uri(f"{bucket}/data/{file.name}", client)
        blob.upload_from_filename(str(file), if_generation_match=0)
    return bucket


def train_flags(root: str, *more: str) -> list[str]:
    """Returns the flags that train root/model on the shards in root/data."""
    data = [
        f"--train_data={root}/data/train.tfrecords.*",
        f"--dev_data={root}/data/dev.tfrecords.*",
    ]
    return [*data, f"--model_dir={root}/model", *TRAINING, *more]


def evaluate(root: str, report: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Evaluates root/model; returns the summary."""
    result = run_door(
        "eval.py",
        f"--test_data={root}/data/test.tfrecords.*",
        f"--model_dir={root}/model",
        f"--report_dir={report}",
        "--checkpoint=latest",
        environment=environment,
    )
    assert result.returncode == 0, result.stderr
    assert f"{root}/model/model.ckpt-{LAST_STEP}" in result.stderr
    assert len((report / "utterances.csv").read_text().splitlines()) == 1 + 8
    summary: dict[str, Any] = json.loads((report / "summary.json").read_text())
    assert summary["checkpoint_step"] == LAST_STEP
    return summary


def dev_losses(log: str) -> dict[int, float]:
    """Returns step -> loss on the development data, from training's log."""
    results = re.findall(r"step (\d+)  dev loss (\d+\.\d\d)", log)
    return {int(step): float(loss) for step, loss in results}


def train_until_checkpoint(
    emulator: Emulator, bucket: str, step: int, then: Callable[["subprocess.Popen[str]"], object]
) -> tuple[int, str]:
    """Trains until the bucket has the checkpoint of `step`, then calls `then` with the process.

    Returns:
        exit code and standard error.
    """
    state = f"{bucket.removeprefix(f'gs://{emulator.bucket}/')}/model/checkpoint"
    with subprocess.Popen(
        [sys.executable, "training.py", *train_flags(bucket)],
        cwd=ROOT,
        env=environment_of_door(emulator.environment),
        stderr=subprocess.PIPE,
        text=True,
    ) as door:
        limit = time.monotonic() + 180
        while f"model.ckpt-{step}".encode() not in emulator.objects(state).get(state, b""):
            assert door.poll() is None and time.monotonic() < limit
            time.sleep(0.01)
        then(door)
        _, stderr = door.communicate(timeout=180)
    return door.returncode, stderr


def variables(checkpoint: Path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(checkpoint))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.mark.slow
def test_killed_training_in_a_bucket_ends_like_one_on_local_files(
    emulator: Emulator, filled_bucket: str, shards: Path, tmp_path: Path
) -> None:
    local = str(shards.parent)
    undisturbed = run_door("training.py", *train_flags(local))
    assert undisturbed.returncode == 0, undisturbed.stderr

    code, _ = train_until_checkpoint(
        emulator, filled_bucket, STEPS_PER_EPOCH, subprocess.Popen.kill
    )
    assert code == -signal.SIGKILL
    code, stderr = train_until_checkpoint(
        emulator, filled_bucket, 2 * STEPS_PER_EPOCH, subprocess.Popen.terminate
    )
    assert code == 0, stderr
    (stopped,) = map(int, re.findall(r"Stopped at step (\d+)\.", stderr))
    assert 2 * STEPS_PER_EPOCH <= stopped < LAST_STEP
    again = run_door("training.py", *train_flags(filled_bucket), environment=emulator.environment)
    assert again.returncode == 0, again.stderr
    assert f"The model is in {filled_bucket}/model" in again.stderr
    assert f"checkpoint of step {stopped}, to step {LAST_STEP}" in again.stderr

    # The same loss at every step and evaluation, ...
    folder = filled_bucket.removeprefix(f"gs://{emulator.bucket}/")
    history = f"{folder}/model/{HISTORY_FILE}"
    ours = emulator.objects(history)[history].decode().splitlines()
    expected = Path(local, "model", HISTORY_FILE).read_text().splitlines()
    assert len(ours) == len(expected) == LAST_STEP + LAST_STEP // STEPS_PER_EPOCH
    for one, other in zip(map(json.loads, ours), map(json.loads, expected), strict=True):
        assert one.pop("kind") == other.pop("kind")
        assert one == pytest.approx(other, rel=1e-3)
    best = f"{folder}/model/best/checkpoint"
    assert emulator.objects(best)[best] == Path(local, "model/best/checkpoint").read_bytes()

    # ... the same variables ...
    prefix = f"{folder}/model/model.ckpt-{LAST_STEP}"
    for name, content in emulator.objects(prefix).items():
        (tmp_path / Path(name).name).write_bytes(content)
    values = variables(tmp_path / Path(prefix).name)
    local_values = variables(Path(local, "model", Path(prefix).name))
    assert values.keys() == local_values.keys()
    for name, value in values.items():
        np.testing.assert_allclose(value, local_values[name], rtol=1e-3, atol=1e-5, err_msg=name)

    # ... and the same rates.
    summary = evaluate(filled_bucket, tmp_path / "report", emulator.environment)
    local_summary = evaluate(local, tmp_path / "local", {})
    for rate in RATES:
        assert summary[rate] == pytest.approx(local_summary[rate], rel=0.01), rate


def test_default_paths_find_shards_and_model_in_the_bucket(
    emulator: Emulator, filled_bucket: str, tmp_path: Path
) -> None:
    environment = {
        **emulator.environment,
        "DEEP_SPEECH_BUCKET": filled_bucket,
        "DEEP_SPEECH_REPORT_DIR": str(tmp_path),
    }
    training = run_door("training.py", *TINY_NETWORK, "--train_steps=1", environment=environment)
    assert training.returncode == 0, training.stderr
    assert f"{filled_bucket}/data/train.tfrecords.*: 12 utterances" in training.stderr
    assert list(dev_losses(training.stderr)) == [1]
    evaluation = run_door("eval.py", environment=environment)
    assert evaluation.returncode == 0, evaluation.stderr
    assert f"{filled_bucket}/model/best/model.ckpt-1" in evaluation.stderr
    assert "(8 utterances, " in evaluation.stdout
    assert json.loads((tmp_path / "summary.json").read_text())["checkpoint_step"] == 1


def test_a_bucket_that_vanishes_during_training_is_reported_without_a_traceback(
    emulator: Emulator, filled_bucket: str
) -> None:
    code, stderr = train_until_checkpoint(emulator, filled_bucket, 0, lambda _: emulator.vanish())
    assert code == 1
    assert "Traceback" not in stderr, stderr
    message = stderr.splitlines()[-1]
    assert message.startswith("error: ") and filled_bucket in message
    assert "run the same command again" in message


def without_bucket(emulator: Emulator, door: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Runs a door that has to fail within seconds, most of which import TensorFlow."""
    return run_door(door, *flags, seconds=90, environment=emulator.environment)


def test_a_missing_bucket_of_the_shards_is_reported_in_one_line(emulator: Emulator) -> None:
    pattern = "gs://no-such-bucket/data/train.tfrecords.*"
    result = without_bucket(emulator, "training.py", f"--train_data={pattern}")
    assert_error(result, pattern, "check the bucket's name")
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_bucket_of_the_model_is_reported(emulator: Emulator, filled_bucket: str) -> None:
    flags = train_flags(filled_bucket, "--model_dir=gs://no-such-bucket/model")
    result = without_bucket(emulator, "training.py", *flags)
    assert_error(result, "gs://no-such-bucket/model", "check the bucket's name")
    assert len(result.stderr.splitlines()) == 2  # the first one names the engine
    result = without_bucket(emulator, "eval.py", "--model_dir=gs://no-such-bucket/model")
    assert_error(result, "gs://no-such-bucket/model", "check the bucket's name")


def shards_read(emulator: Emulator) -> bool:
    """Returns whether TensorFlow has read a shard since `forget_requests`."""
    content = rf"/{emulator.bucket}/.*\.tfrecords\.\d{{8}}"
    return any(re.fullmatch(content, path) for _, path in emulator.requests())


def test_a_read_only_bucket_is_reported_before_training_reads_shards(
    emulator: Emulator, filled_bucket: str
) -> None:
    emulator.refuse_writes()
    emulator.forget_requests()
    result = without_bucket(emulator, "training.py", *train_flags(filled_bucket))
    assert_error(result, f"--model_dir={filled_bucket}/model", "403", "Storage Object Admin")
    assert len(result.stderr.splitlines()) == 2  # the first one names the engine
    # The refused request was TensorFlow's.
    writes = [path for method, path in emulator.requests() if method != "GET"]
    assert writes and all("/model/.writable" in path for path in writes)
    assert not shards_read(emulator)


@pytest.mark.slow
def test_training_removes_the_file_that_checks_the_model_s_folder(
    emulator: Emulator, filled_bucket: str
) -> None:
    emulator.forget_requests()
    flags = train_flags(filled_bucket, "--train_steps=1", "--dev_data=")
    result = run_door("training.py", *flags, environment=emulator.environment)
    assert result.returncode == 0, result.stderr
    folder = f"{filled_bucket.removeprefix(f'gs://{emulator.bucket}/')}/model/"
    names = [name.removeprefix(folder) for name in emulator.objects(folder)]
    assert {"config.json", "checkpoint"} <= set(names) and ".writable" not in names
    assert any("/model/.writable" in path for _, path in emulator.requests())
    assert shards_read(emulator)
