"""Models and scorers that are replaced while a server runs."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from doors import ROOT, environment_of_door
from malformed import sound
from servers import Server, running
from tiny_models import STEP, noise, write_model
from tiny_scorer import write_tiny_scorer
from websockets.sync.client import connect

from speech.decoding.beam_search import BeamSettings
from speech.export import tflite
from speech.export.acoustic_graph import restore
from speech.export.acoustic_model import AcousticModel
from speech.export.description import Description
from speech.serving.schemas import requests
from speech.serving.services import reloading
from speech.serving.services.catalogue import open_catalogue
from speech.serving.services.reloading import ReloadableResources, Resources
from speech.serving.services.test_sets import TestSets

SECONDS = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path / "model", "conv_gru")
    write_tiny_scorer(tmp_path / "a.scorer", alpha=1.0)
    return tmp_path


def served_from(folder: Path) -> ReloadableResources:
    def load() -> Resources:
        paths = [f"{folder}/model"], [f"{folder}/a.scorer"]
        return Resources(open_catalogue(*paths, BeamSettings(8), 4), TestSets([]))

    return ReloadableResources(load)


def test_signal_during_the_first_loading_takes_effect_once_the_server_runs(folder: Path) -> None:
    loads: list[Resources] = []

    def load() -> Resources:
        if not loads:
            signal.raise_signal(signal.SIGHUP)
        catalogue = open_catalogue([f"{folder}/model"], [], BeamSettings(8), 4)
        loads.append(Resources(catalogue, TestSets([])))
        return loads[-1]

    served = ReloadableResources(load)

    async def serve() -> None:
        async with served.reloading():
            await until(lambda: len(loads) == 2 and served.current is loads[1])

    asyncio.run(serve())


async def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


def run(served: ReloadableResources, act: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with served.reloading():
            await act()

    asyncio.run(whole())


def alpha_of(loaded: Resources) -> float:
    scorer = loaded.catalogue.choose(requests.read({})).transcriber.scorer
    assert scorer is not None
    return scorer.alpha


def test_request_under_way_keeps_its_models(folder: Path) -> None:
    served = served_from(folder)

    async def replace() -> "weakref.ref[AcousticModel]":
        with served.use() as before:
            with served.use():
                write_tiny_scorer(folder / "a.scorer", alpha=2.0)
                os.kill(os.getpid(), signal.SIGHUP)
                await until(lambda: served.current is not before)
            with served.use() as after:
                assert alpha_of(after) == 2.0
            await asyncio.sleep(0.1)
            assert before.catalogue.alive and alpha_of(before) == 1.0
        await until(lambda: not before.catalogue.alive)
        return weakref.ref(before.catalogue.default_model.model)

    async def act() -> None:
        model = await replace()
        await until(lambda: model() is None)
        assert served.current.catalogue.alive

    run(served, act)
    assert not served.current.catalogue.alive


@pytest.mark.parametrize("name", ["a.scorer", f"model/model.ckpt-{STEP}.index"])
def test_failed_reload_keeps_the_current_models(
    folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    served = served_from(folder)
    before = served.current

    async def act() -> None:
        with open(folder / name, "r+b") as file:
            file.truncate(100)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: reloading.UNCHANGED in caplog.text)
        assert str(folder / name).removesuffix(".index") in caplog.text
        assert "Traceback" not in caplog.text
        assert served.current is before and alpha_of(before) == 1.0

    run(served, act)


# --- The server as a program ----------------------------------------------------------------------


def write_lite(folder: Path, path: Path, shift: float) -> None:
    config = write_model(folder, "conv_gru", shift)
    graph = restore(config, f"{folder}/model.ckpt-{STEP}")
    path.write_bytes(tflite.convert(graph, Description(config, STEP), tflite.FLOAT32))


def copy(source: Path, target: Path) -> None:
    """Overwrites a file in place."""
    before = target.stat().st_ino
    subprocess.run(["cp", source, target], check=True)
    assert target.stat().st_ino == before


def reload(server: Server, line_part: str) -> None:
    count = sum(line_part in line for line in server.log)
    server.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + SECONDS
    while sum(line_part in line for line in server.log) == count:
        assert server.process.poll() is None and time.monotonic() < end, "".join(server.log)
        time.sleep(0.02)


class Clients:
    """Clients that send a recording repeatedly, and the responses."""

    def __init__(self, url: str, count: int = 2) -> None:
        self._url = url
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(count)]
        self.answers: list[tuple[int, Any]] = []

    def __enter__(self) -> "Clients":
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join()

    def _send(self) -> None:
        with httpx.Client(base_url=self._url, timeout=SECONDS) as client:
            while not self._over.is_set():
                answer = client.post("/api/transcribe", files={"audio": sound(2.0)})
                self.answers.append((answer.status_code, answer.json().get("segments")))

    def next(self, count: int = 6) -> list[tuple[int, Any]]:
        """Returns responses to requests that are sent from now on."""
        before = len(self.answers)
        wanted = before + len(self._threads) + count
        end = time.monotonic() + SECONDS
        while len(self.answers) < wanted:
            assert time.monotonic() < end and all(each.is_alive() for each in self._threads)
            time.sleep(0.02)
        return self.answers[before + len(self._threads) : wanted]


def equal(answers: list[tuple[int, Any]]) -> Any:
    """Checks that all responses are equal, and returns their segments."""
    status, segments = answers[0]
    assert status == 200
    assert all(each == (status, segments) for each in answers)
    return segments


@pytest.mark.slow
def test_files_are_overwritten_in_place_under_requests(tmp_path: Path) -> None:
    model, scorer = tmp_path / "served.tflite", tmp_path / "served.scorer"
    for number, shift in enumerate((0.3, 0.6)):
        write_lite(tmp_path / f"{number}", tmp_path / f"{number}.tflite", shift)
        write_tiny_scorer(tmp_path / f"{number}.scorer", {"ab"[number]: -1.0}, 3.0 * number)
    shutil.copy(tmp_path / "0.tflite", model)
    shutil.copy(tmp_path / "0.scorer", scorer)
    (tmp_path / "half.tflite").write_bytes((tmp_path / "1.tflite").read_bytes()[:9000])
    flags = (f"--models={model}", f"--scorers={scorer}")
    with running(tmp_path / "temporary", *flags) as server:
        with Clients(server.url) as clients:
            old = equal(clients.next())
            copy(tmp_path / "1.tflite", model)
            copy(tmp_path / "1.scorer", scorer)
            assert equal(clients.next()) == old
            with connect(f"{server.url.replace('http', 'ws', 1)}/api/stream") as stream:
                stream.send('{"sample_rate": 16000}')
                stream.send(noise(24000).tobytes())
                reload(server, "Serving the reloaded models")
                stream.send('{"end": true}')
                *_, last = map(json.loads, stream)
                assert last == {"type": "done", "seconds": 1.5}
            new = equal(clients.next())
            assert new != old
            copy(tmp_path / "half.tflite", model)
            reload(server, f"{model} ")
            assert equal(clients.next()) == new
            copy(tmp_path / "0.tflite", model)
            reload(server, "Serving the reloaded models")
            mixed = equal(clients.next())  # the old model and the new scorer
            assert mixed not in (old, new)
        assert {status for status, _ in clients.answers} == {200}
        assert [each for _, each in clients.answers if each not in (old, new, mixed)] == []
        server.process.terminate()
        assert server.process.wait(SECONDS) == 0


@pytest.mark.slow
def test_closing_the_terminal_ends_the_server(tmp_path: Path) -> None:
    write_model(tmp_path / "model", "conv_gru")
    command = [sys.executable, str(ROOT / "serve.py"), "--port=0", f"--models={tmp_path}/model"]
    spawn = [sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])", *command]
    with subprocess.Popen(
        spawn,
        env=environment_of_door({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as terminal:
        assert terminal.stdout is not None
        (line,) = itertools.islice((each for each in terminal.stdout if "Serving at" in each), 1)
        address = urlsplit(line.split()[-1])
        terminal.kill()
    end = time.monotonic() + SECONDS
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < end:
            socket.create_connection((address.hostname, int(address.port or 0)), 1).close()
            time.sleep(0.1)
        raise AssertionError("The server still answers.")
