"""Settings from the environment."""

import os
import subprocess
import sys

import pytest
from doors import ROOT


@pytest.mark.parametrize(
    ("bucket", "train_data"),
    [
        ("my-bucket", "gs://my-bucket/data/train.tfrecords.*"),
        ("gs://my-bucket", "gs://my-bucket/data/train.tfrecords.*"),
        ("my-bucket/speech/", "gs://my-bucket/speech/data/train.tfrecords.*"),
        ("", "data/train.tfrecords.*"),
    ],
)
def test_bucket_with_or_without_its_scheme_holds_the_shards(bucket: str, train_data: str) -> None:
    others = {name: text for name, text in os.environ.items() if not name.startswith("DEEP_SPEECH")}
    printed = subprocess.run(
        [sys.executable, "-c", "import constants; print(constants.TRAIN_DATA)"],
        cwd=ROOT,
        env={**others, "DEEP_SPEECH_BUCKET": bucket},
        check=True,
        capture_output=True,
        text=True,
    )
    assert printed.stdout.strip() == train_data


@pytest.mark.parametrize(("given", "block"), [("", "16"), ("64", "64")])
def test_buckets_are_read_in_blocks_of_16_mb_unless_the_environment_sets_another_size(
    given: str, block: str
) -> None:
    name = "GCS_READ_CACHE_BLOCK_SIZE_MB"
    others = {key: text for key, text in os.environ.items() if key != name}
    printed = subprocess.run(
        [sys.executable, "-c", f"import constants, os; print(os.environ['{name}'])"],
        cwd=ROOT,
        env={**others, **({name: given} if given else {})},
        check=True,
        capture_output=True,
        text=True,
    )
    assert printed.stdout.strip() == block


@pytest.mark.parametrize("door", ["training.py", "check_tpu.py", "serve.py"])
def test_tensorflow_is_imported_after_what_limits_its_messages(door: str) -> None:
    set_here = ("TF_CPP_MIN_LOG_LEVEL", "GCS_READ_CACHE_BLOCK_SIZE_MB")
    environment = {name: text for name, text in os.environ.items() if name not in set_here}
    shown = subprocess.run(
        [sys.executable, door, "--help"],
        cwd=ROOT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert door.removesuffix(".py") in shown.stdout
    assert shown.stderr == ""
