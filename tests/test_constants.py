"""Locations from the environment."""

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
