"""The corpus that visitors record, over HTTP: takes, consent, deletion, and killed servers."""

import contextlib
import secrets
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from servers import Server, running
from tiny_models import write_model

from speech.audio import flac
from speech.recordings.store import DATABASE, read_usable_takes

PROMPTS = [f"sentence number {number}" for number in range(40)]


def sound(seconds: float = 2.0, seed: int = 0) -> bytes:
    """Returns a flac of noise with silence on both sides."""
    random = np.random.default_rng(seed)
    voice = random.normal(0, 3000, round(16000 * seconds))
    quiet = random.normal(0, 3, 8000)
    return flac.encode(np.concatenate([quiet, voice, quiet]).astype(np.float32), 16000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    write_model(folder / "model", "conv_gru")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    return folder


@contextlib.contextmanager
def serving(folder: Path, temporary: str, recordings: str, *more: str) -> Iterator[Server]:
    with running(
        folder / temporary,
        f"--models={folder / 'model'}",
        f"--recordings={folder / recordings}",
        f"--prompts={folder / 'prompts.txt'}",
        *more,
    ) as server:
        yield server


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder, "temporary", "takes", "--max_seconds=20", "--max_upload_mb=1") as server:
        yield server


class Client(httpx.Client):
    """A speaker's browser."""

    def __init__(self, server: Server) -> None:
        super().__init__(base_url=f"{server.url}/api", timeout=60)

    def enter(self, name: str = "anna") -> str:
        consent = self.get("/recordings").json()["consent"]
        answer = self.post("/recordings/speaker", json={"name": name, "consent": consent})
        self.headers["Speaker-Token"] = answer.json()["token"]
        return str(answer.json()["token"])

    def store(self, take_id: str, content: bytes, **fields: str) -> httpx.Response:
        files = {"audio": ("take", content)}
        return self.put(f"/recordings/takes/{take_id}", data=fields, files=files)

    def prompts(self) -> list[dict[str, Any]]:
        return list(self.get("/recordings").json()["prompts"])


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server) as client:
        yield client


def new_id() -> str:
    return secrets.token_hex(16)


def test_take_is_checked_stored_and_heard_again(client: Client) -> None:
    client.enter()
    prompt = client.prompts()[0]
    take_id, content = new_id(), sound()
    answer = client.store(take_id, content, prompt_id=prompt["prompt_id"], text=prompt["text"])
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"take_id": take_id, "seconds": 3.0, "problem": "", "usable": True}
    (shown,) = [each for each in client.prompts() if each["take"]]
    assert shown["text"] == prompt["text"] and shown["take"] == answer.json()
    heard = client.get(f"/recordings/takes/{take_id}/audio")
    assert heard.content == content and heard.headers["cache-control"] == "no-store"
    assert client.delete(f"/recordings/takes/{take_id}").status_code == 204
    assert client.get(f"/recordings/takes/{take_id}/audio").status_code == 404


def test_correction_is_stored_with_what_was_heard(client: Client, folder: Path) -> None:
    client.enter()
    take_id = new_id()
    fields = {"text": " what I  said ", "heard": "what a set", "model": "model", "scorer": ""}
    assert client.store(take_id, sound(), **fields).json()["take_id"] == take_id
    assert client.get("/recordings").json()["corrections"] == 1
    with contextlib.closing(sqlite3.connect(folder / "takes" / DATABASE)) as database:
        query = "SELECT text, heard, model, scorer FROM takes WHERE take_id = ?"
        row = database.execute(query, (take_id,)).fetchone()
    assert row == ("what I  said", "what a set", "model", "")


def test_only_speakers_who_agreed_may_store(client: Client) -> None:
    refused = client.post("/recordings/speaker", json={"name": "anna", "consent": "I don't agree."})
    assert refused.status_code == 409
    assert client.store(new_id(), sound(), text="a", heard="b").status_code == 410
    client.headers["Speaker-Token"] = "guessed"
    assert client.store(new_id(), sound(), text="a", heard="b").status_code == 410
    assert client.get("/recordings").json()["name"] is None


def test_nobody_reaches_the_takes_of_others(server: Server, client: Client) -> None:
    client.enter()
    take_id = new_id()
    client.store(take_id, sound(), text="mine", heard="mine")
    with Client(server) as other:
        other.enter("ben")
        assert other.get(f"/recordings/takes/{take_id}/audio").status_code == 404
        assert other.delete(f"/recordings/takes/{take_id}").status_code == 404
        assert other.store(take_id, sound(), text="a", heard="b").status_code == 409
    assert client.get(f"/recordings/takes/{take_id}/audio").status_code == 200


@pytest.mark.parametrize(
    ("content", "fields", "status"),
    [
        (b"no sound at all", {"text": "a", "heard": "b"}, 415),
        (sound(25.0), {"text": "a", "heard": "b"}, 413),
        (sound(), {"prompt_id": "unknown", "text": "a"}, 404),
        (sound(), {"prompt_id": "1", "text": "a", "heard": "b"}, 400),
        (sound(), {"text": "a"}, 400),
        (sound(), {"text": " ", "heard": "b"}, 400),
        (sound(), {}, 400),
        (bytes(2_000_000), {"text": "a", "heard": "b"}, 413),
    ],
)
def test_bad_take_is_refused_with_a_sentence(
    client: Client, content: bytes, fields: dict[str, str], status: int
) -> None:
    client.enter()
    answer = client.store(new_id(), content, **fields)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert all(each["take"] is None for each in client.prompts())


def test_bad_id_and_page_of_another_site_are_refused(client: Client) -> None:
    client.enter()
    assert client.store("short", sound(), text="a", heard="b").status_code == 400
    client.headers["Origin"] = "https://elsewhere.example"
    assert client.store(new_id(), sound(), text="a", heard="b").status_code == 403
    assert client.delete("/recordings/speaker").status_code == 403


def test_removed_speaker_leaves_nothing(server: Server, client: Client, folder: Path) -> None:
    client.enter("annabella")
    content = sound(seed=7)
    client.store(new_id(), content, text="very private words", heard="heard private words")
    assert client.delete("/recordings/speaker").status_code == 204
    stored = [each.read_bytes() for each in (folder / "takes").rglob("*") if each.is_file()]
    assert content not in stored
    for private in (b"annabella", b"private words"):
        assert private not in b"".join(stored)
    assert client.get("/recordings").json()["name"] is None


def test_take_is_refused_once_the_database_was_deleted(folder: Path) -> None:
    with serving(folder, "deleting", "deleted") as server, Client(server) as client:
        client.enter()
        prompt = client.prompts()[0]
        for each in (folder / "deleted").glob(f"{DATABASE}*"):
            each.unlink()
        answer = client.store(new_id(), sound(), prompt_id=prompt["prompt_id"], text=prompt["text"])
        assert answer.status_code == 500
        assert "was deleted or replaced while the server runs" in answer.json()["error"]
        assert not list((folder / "deleted").rglob("*.flac"))
        assert answer.json()["error"] in "".join(server.log)


def test_server_without_recordings_has_no_such_route(folder: Path) -> None:
    with running(folder / "plain", f"--models={folder / 'model'}") as plain:
        assert httpx.get(f"{plain.url}/api/models").json()["recordings"] is False
        assert httpx.get(f"{plain.url}/api/recordings").status_code == 404


def record(server: Server, number: int, stop: float, confirmed: set[str]) -> None:
    """Records until a time, the last prompt or the server's end; adds the ids that it stored."""
    contents = [sound(0.5, 100 * number + each) for each in range(5)]
    with contextlib.suppress(httpx.TransportError), Client(server) as client:
        client.enter(f"speaker {number}")
        for at, prompt in enumerate(client.prompts()):
            if time.monotonic() > stop:
                return
            take_id = new_id()
            said = {"prompt_id": prompt["prompt_id"], "text": prompt["text"]}
            answer = client.store(take_id, contents[at % 5], **said)
            assert answer.status_code == 200, answer.text
            confirmed.add(take_id)


def record_together(server: Server, seconds: float, kill_after: float = np.inf) -> set[str]:
    """Lets twenty speakers record; returns the ids of all takes that the server confirmed.

    Args:
        kill_after: number of takes after which the server is killed.
    """
    confirmed: set[str] = set()
    stop = time.monotonic() + seconds
    with ThreadPoolExecutor(20) as threads:
        recording = [threads.submit(record, server, each, stop, confirmed) for each in range(20)]
        while not all(each.done() for each in recording):
            if len(confirmed) > kill_after:
                server.process.kill()
            time.sleep(0.05)
        for each in recording:
            each.result()
    return confirmed


def test_killed_server_loses_no_take_that_it_confirmed(folder: Path) -> None:
    with serving(folder, "killed", "survives") as server:
        confirmed = record_together(server, seconds=100, kill_after=100)
    assert 100 < len(confirmed) < 20 * len(PROMPTS)
    with serving(folder, "restarted", "survives"):
        takes = {each.take_id: each for each in read_usable_takes(str(folder / "survives"))}
        assert confirmed <= takes.keys()
        files = {each.stem for each in (folder / "survives" / "audio").rglob("*.flac")}
        assert files == {each.audio for each in takes.values()}


@pytest.mark.slow
def test_twenty_speakers_record_for_a_minute(folder: Path) -> None:
    (folder / "prompts.txt").write_text("\n".join(f"sentence {each}" for each in range(2000)))
    with serving(folder, "minute", "many") as server:
        confirmed = record_together(server, seconds=60)
    takes = {each.take_id for each in read_usable_takes(str(folder / "many"))}
    print(f"{len(confirmed)} takes of 20 speakers in a minute")
    assert confirmed == takes
