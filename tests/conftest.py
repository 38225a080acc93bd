"""Shared by the tests: the repository's modules on the path, and the real speech if it is there."""

import os
import sys
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
from utils import UserError

# Real speech lies beside the repository where there is any; tests that want it skip without.
CORPORA = os.environ.get(
    "SPEECH_CORPORA",
    os.path.join(os.path.dirname(__file__), os.pardir, os.pardir, "shared", "corpora"),
)


@pytest.fixture
def librispeech_mini() -> str:
    folder = os.path.join(CORPORA, "librispeech-mini")
    if not os.path.isdir(folder):
        pytest.skip(f"no real speech at {folder}")
    return folder


@pytest.fixture
def asterisk_en() -> str:
    folder = os.path.join(CORPORA, "asterisk-en")
    if not os.path.isdir(folder):
        pytest.skip(f"no real speech at {folder}")
    return folder


@pytest.fixture
def asterisk_ru() -> str:
    folder = os.path.join(CORPORA, "asterisk-ru")
    if not os.path.isdir(folder):
        pytest.skip(f"no real speech at {folder}")
    return folder


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """Google Cloud Storage on this machine; see tests/support/emulator.py."""
    pytest.importorskip("gcp_storage_emulator")
    pytest.importorskip("trustme")
    with Emulator() as running:
        yield running


@pytest.fixture
def bucket(emulator: Emulator) -> Iterator[str]:
    """An empty folder, gs://<bucket>/<name of its own>, in a bucket without faults."""
    emulator.heal()
    yield f"gs://{emulator.bucket}/{uuid.uuid4().hex[:8]}"
    emulator.heal()


@pytest.fixture
def own_bucket(emulator: Emulator, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """`bucket`, reached by speech.system.bucket in this very process, which gives up at once."""
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(gcs, "RETRY_SECONDS", 0.0)
    gcs._client.cache_clear()
    yield bucket
    gcs._client.cache_clear()


@pytest.fixture(scope="session")
def compiler_python() -> str:
    """The Python of the TPU compiler's environment (1 GB), made by the first test that needs it."""
    try:
        return compiler.find_python(None)
    except UserError as error:
        if sys.version_info < compiler.OLDEST_PYTHON:
            pytest.skip(str(error))
        raise


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
            # Noise of the utterance's own, 0.2 to 0.4 s: outputs enough for 10 characters.
            rng = np.random.default_rng(zlib.crc32(utterance_id.encode()))
            noise = rng.normal(size=rng.integers(3200, 6400)) * 0.1
            soundfile.write(folder / f"{utterance_id}.flac", noise, 16000)

    return write
