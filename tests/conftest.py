"""Fixtures of several rooms: real speech, an emulated bucket, a TPU's compiler, a corpus."""

import importlib.util
import os
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from emulator import Emulator

from speech.system import bucket as gcs
from speech.tpu import compiler

# Real speech is beside the repository, if at all; tests that need it are skipped without it.
CORPORA = os.environ.get(
    "SPEECH_CORPORA",
    os.path.join(os.path.dirname(__file__), os.pardir, os.pardir, "shared", "corpora"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests of tf.estimator where TensorFlow doesn't have it."""
    if importlib.util.find_spec("tensorflow_estimator"):
        return
    for item in items:
        if item.get_closest_marker("estimator"):
            item.add_marker(pytest.mark.skip("this TensorFlow has no tf.estimator"))


def corpus(name: str) -> str:
    """Returns the folder of real speech; skips the test where there is none."""
    folder = os.path.join(CORPORA, name)
    if not os.path.isdir(folder):
        pytest.skip(f"no real speech at {folder}")
    return folder


@pytest.fixture
def librispeech_mini() -> str:
    return corpus("librispeech-mini")


@pytest.fixture
def asterisk_en() -> str:
    return corpus("asterisk-en")


@pytest.fixture
def asterisk_ru() -> str:
    return corpus("asterisk-ru")


@pytest.fixture
def librispeech_5h() -> str:
    return corpus("librispeech-5h")


@pytest.fixture(scope="session")
def genuine() -> str:
    """Returns the folder of models, scorers and outputs that Mozilla's own programs wrote."""
    folder = os.path.join(CORPORA, os.pardir, "deepspeech")
    if not os.path.isdir(folder):
        pytest.skip(f"no files of Mozilla DeepSpeech at {folder}")
    return folder


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """Starts the emulator of Google Cloud Storage."""
    pytest.importorskip("gcp_storage_emulator")
    pytest.importorskip("trustme")
    with Emulator() as running:
        yield running


@pytest.fixture
def bucket(emulator: Emulator) -> Iterator[str]:
    """Returns an empty folder, gs://<bucket>/<unique name>, in a bucket without faults."""
    emulator.heal()
    yield f"gs://{emulator.bucket}/{uuid.uuid4().hex[:8]}"
    emulator.heal()


@pytest.fixture
def own_bucket(emulator: Emulator, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Returns `bucket`, for speech.system.bucket in this process, which repeats no requests."""
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(gcs, "RETRY_SECONDS", 0.0)
    gcs._client.cache_clear()
    yield bucket
    gcs._client.cache_clear()


@pytest.fixture(scope="session")
def compiler_python() -> str:
    """Returns the Python of the TPU compiler's environment, which may be made (1 GB)."""
    return compiler.find_python(None)


# Writes utterances (id -> transcript) in LibriSpeech's layout below a split's folder.
WriteSplit = Callable[[Path, dict[str, str]], None]


@pytest.fixture(scope="session")
def write_split() -> WriteSplit:
    def write(split: Path, spoken: dict[str, str]) -> None:
        for utterance_id, transcript in spoken.items():
            speaker, chapter, _ = utterance_id.split("-")
            folder = split / speaker / chapter
            folder.mkdir(parents=True, exist_ok=True)
            with open(folder / f"{speaker}-{chapter}.trans.txt", "a", encoding="utf-8") as file:
                file.write(f"{utterance_id} {transcript}\n")
            # Noise seeded by the utterance, 0.2 to 0.4 s: enough outputs for 10 characters.
            rng = np.random.default_rng(zlib.crc32(utterance_id.encode()))
            noise = rng.normal(size=rng.integers(3200, 6400)) * 0.1
            soundfile.write(folder / f"{utterance_id}.flac", noise, 16000)

    return write
