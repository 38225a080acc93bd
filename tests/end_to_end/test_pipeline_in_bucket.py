"""The pipeline with its shards and its model in a bucket, as on a TPU VM."""

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
    """A folder with the three sets, in the places where the doors look for them."""
    folder = tmp_path_factory.mktemp("local") / "data"
    utterances = random_utterances(FRAMES, bins=4)
    for name, own in {"train": utterances, "dev": utterances[:8], "test": utterances[4:]}.items():
        write_shards(folder, own, name=f"{name}.tfrecords", longest=(300, 12))
    return folder


@pytest.fixture
def filled_bucket(
    emulator: Emulator, bucket: str, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A folder of the bucket with the shards in its `data`."""
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    client = storage.Client()
    for file in shards.iterdir():
        blob = storage.Blob.from_uri(f"{bucket}/data/{file.name}", client)
        blob.upload_from_filename(str(file), if_generation_match=0)
    return bucket


def train_flags(root: str, *more: str) -> list[str]:
    """The flags of a training run on the shards in root/data, of the model in root/model."""
    data = [
        f"--train_data={root}/data/train.tfrecords.*",
        f"--dev_data={root}/data/dev.tfrecords.*",
    ]
    return [*data, f"--model_dir={root}/model", *TRAINING, *more]


def evaluate(root: str, report: Path, environment: dict[str, str]) -> dict[str, Any]:
    """The summary that eval.py writes of root/model."""
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
    """Step -> the loss that training found on the development data."""
    looks = re.findall(r"step (\d+)  dev loss (\d+\.\d\d)", log)
    return {int(step): float(loss) for step, loss in looks}


def train_until_checkpoint(
    emulator: Emulator, bucket: str, step: int, then: Callable[["subprocess.Popen[str]"], object]
) -> tuple[int, str]:
    """Trains until the bucket names the checkpoint of `step`, then does something to the door.

    Returns:
        the door's exit code and what it says.
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
def test_training_from_the_bucket_is_killed_and_ends_as_on_local_files(
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

    # The same loss at every step and look, ...
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


def test_bare_commands_find_shards_and_model_in_the_bucket(
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


def test_a_bucket_that_vanishes_in_training_is_told_of_without_a_traceback(
    emulator: Emulator, filled_bucket: str
) -> None:
    code, stderr = train_until_checkpoint(emulator, filled_bucket, 0, lambda _: emulator.vanish())
    assert code == 1
    assert "Traceback" not in stderr, stderr
    message = stderr.splitlines()[-1]
    assert message.startswith("error: ") and filled_bucket in message
    assert "run the same command again" in message


def without_bucket(emulator: Emulator, door: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """A door that is to give up within seconds, most of which go into importing TensorFlow."""
    return run_door(door, *flags, seconds=90, environment=emulator.environment)


def test_bucket_of_the_shards_that_is_not_there_is_told_of_in_one_line(emulator: Emulator) -> None:
    pattern = "gs://no-such-bucket/data/train.tfrecords.*"
    result = without_bucket(emulator, "training.py", f"--train_data={pattern}")
    assert_error(result, pattern, "check the bucket's name")
    assert len(result.stderr.splitlines()) == 1


def test_bucket_of_the_model_that_is_not_there_is_named(
    emulator: Emulator, filled_bucket: str
) -> None:
    flags = train_flags(filled_bucket, "--model_dir=gs://no-such-bucket/model")
    result = without_bucket(emulator, "training.py", *flags)
    assert_error(result, "gs://no-such-bucket/model", "check the bucket's name")
    assert len(result.stderr.splitlines()) == 1
    result = without_bucket(emulator, "eval.py", "--model_dir=gs://no-such-bucket/model")
    assert_error(result, "gs://no-such-bucket/model", "check the bucket's name")


def shards_read(emulator: Emulator) -> bool:
    """Whether TensorFlow has asked for a shard's content since `forget_requests`."""
    content = rf"/{emulator.bucket}/.*\.tfrecords\.\d{{8}}"
    return any(re.fullmatch(content, path) for _, path in emulator.requests())


def test_bucket_that_may_only_be_read_is_told_of_before_training_reads_shards(
    emulator: Emulator, filled_bucket: str
) -> None:
    emulator.refuse_writes()
    emulator.forget_requests()
    result = without_bucket(emulator, "training.py", *train_flags(filled_bucket))
    assert_error(result, f"--model_dir={filled_bucket}/model", "403", "Storage Object Admin")
    assert len(result.stderr.splitlines()) == 1
    # TensorFlow was the one that was refused.
    writes = [path for method, path in emulator.requests() if method != "GET"]
    assert writes and all("/model/.writable" in path for path in writes)
    assert not shards_read(emulator)


@pytest.mark.slow
def test_training_leaves_no_trace_of_its_check_in_the_model_s_folder(
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
