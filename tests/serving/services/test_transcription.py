"""Transcription on a server's threads."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from starlette.requests import ClientDisconnect
from tiny_models import noise, write_model
from watched_threads import Watched

from speech.decoding.beam_search import BeamSettings
from speech.serving.errors import RequestError
from speech.serving.schemas import requests
from speech.serving.services import transcription
from speech.serving.services.catalogue import Catalogue, open_catalogue
from speech.serving.services.transcription import TranscriptionResult, TranscriptionWorkers


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    folder = tmp_path_factory.mktemp("listening") / "model"
    write_model(folder, "conv_gru")
    opened = open_catalogue([str(folder)], [], BeamSettings(8), 4)
    yield opened
    opened.close()


def transcribe(
    threads: ThreadPoolExecutor, catalogue: Catalogue, path: Path
) -> TranscriptionResult:
    async def check_client() -> None:
        pass

    workers = TranscriptionWorkers(threads, 1, 60, 4)
    choice = catalogue.choose(requests.read({}))
    return asyncio.run(workers.transcribe(str(path), choice, 1, False, workers.share(check_client)))


def test_thread_is_free_for_others_after_each_segment(catalogue: Catalogue, tmp_path: Path) -> None:
    part = np.concatenate([noise(16000), np.zeros(16000 * 3, np.int16)])
    soundfile.write(tmp_path / "x.wav", np.tile(part, 3), 16000)
    with Watched() as threads:
        found = transcribe(threads, catalogue, tmp_path / "x.wav")
    assert len(found.segments) == 3
    assert threads.given.count("read_slice") >= 4


def test_thread_is_free_for_others_in_silence(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcription, "SLICE_SECONDS", 0.0)
    soundfile.write(tmp_path / "x.flac", np.zeros(16000 * 50, np.int16), 16000)
    with Watched() as threads:
        transcribe(threads, catalogue, tmp_path / "x.flac")
    assert threads.given.count("read_slice") > 20


def test_request_has_only_its_share_of_the_threads() -> None:
    at_once, most, checks = 0, 0, 0

    async def check_client() -> None:
        nonlocal checks
        checks += 1
        if checks > 12:
            raise ClientDisconnect

    async def run(threads: ThreadPoolExecutor) -> list[Any]:
        share = TranscriptionWorkers(threads, 2, 60, 4).share(check_client)
        return await asyncio.gather(*(share.run(work) for _ in range(16)), return_exceptions=True)

    def work() -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.02)
        at_once -= 1

    with ThreadPoolExecutor(8) as threads:
        found = asyncio.run(run(threads))
    assert most == 2
    assert found[:12] == [None] * 12  # the client of the others has disconnected
    assert all(isinstance(each, ClientDisconnect) for each in found[12:])


def test_recording_without_samples_is_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(0, np.int16), 16000)
    with (
        ThreadPoolExecutor(1) as threads,
        pytest.raises(RequestError, match="contains no samples") as e,
    ):
        transcribe(threads, catalogue, tmp_path / "x.wav")
    assert e.value.status == 415
