"""Wyoming, with the package `wyoming` as the client of a server that runs as a process."""

import asyncio
import contextlib
import io
import json
import re
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from servers import Server, running
from tiny_models import noise, tiny_config, write_model
from wyoming.asr import Transcribe, Transcript, TranscriptChunk
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong

from speech.decoding.beam_search import BeamSettings
from speech.export.description import Description, Naming
from speech.serving import server as server_module
from speech.serving.errors import RequestError
from speech.serving.services.batching import Batcher
from speech.serving.services.catalogue import Catalogue, ServedModel
from speech.serving.wyoming.events import MOST_DATA_BYTES, read_event
from speech.serving.wyoming.info import describe, model_name
from utils import UserError

SECONDS = 20
SECONDS_TO_WAIT = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("wyoming")
    write_model(folder / "model", "conv_gru")
    write_model(folder / "carried", "deep_speech_lstm", normalisation="none")
    with running(
        folder / "temporary",
        f"--models={folder}/model,{folder}/carried",
        f"--max_seconds={SECONDS}",
        "--beam_width=8",
        "--max_waiting=12",
        "--wyoming_port=0",
        "--wyoming_language=en",
    ) as started:
        yield started


@contextlib.asynccontextmanager
async def connected(server: Server) -> AsyncIterator[AsyncTcpClient]:
    (port,) = re.findall(r"Wyoming at tcp://127\.0\.0\.1:(\d+)", "".join(server.log))
    async with AsyncTcpClient("127.0.0.1", int(port), read_timeout=SECONDS_TO_WAIT) as client:
        yield client


def talk(server: Server, function: Callable[[AsyncTcpClient], Awaitable[Any]]) -> Any:
    """Returns the result of `function` with a connected client."""

    async def run() -> Any:
        async with connected(server) as client:
            return await function(client)

    return asyncio.run(run())


def recording(seconds: float, rate: int = 16000, channels: int = 1) -> npt.NDArray[np.int16]:
    """Returns noise with a long pause, which splits it into two segments, [samples, channels]."""
    part = noise(round(seconds * rate / 2) * channels).reshape(-1, channels)
    return np.concatenate([part, np.zeros((3 * rate, channels), np.int16), part])


async def send(
    client: AsyncTcpClient, samples: npt.NDArray[np.int16], rate: int, block: int = 1024
) -> None:
    form = {"rate": rate, "width": 2, "channels": samples.shape[1]}
    await client.write_event(AudioStart(**form).event())
    for start in range(0, len(samples), block):
        audio = samples[start : start + block].tobytes()
        await client.write_event(AudioChunk(audio=audio, **form).event())
    await client.write_event(AudioStop().event())


async def received(client: AsyncTcpClient, last: str) -> list[Event]:
    """Returns the events up to one of the type `last`, or to an error."""
    events: list[Event] = []
    while not events or events[-1].type not in (last, "error"):
        event = await client.read_event()
        assert event is not None, events
        events.append(event)
    return events


async def transcript(client: AsyncTcpClient, samples: npt.NDArray[np.int16], rate: int) -> str:
    await send(client, samples, rate)
    events = await received(client, "transcript-stop")
    return Transcript.from_event(events[-2]).text


async def error_of(client: AsyncTcpClient) -> Error:
    """Returns the error that comes next, after which the connection has to end."""
    error = Error.from_event((await received(client, "error"))[-1])
    assert await client.read_event() is None
    return error


def http_text(server: Server, samples: npt.NDArray[np.int16], rate: int, **options: str) -> str:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    answer = httpx.post(
        f"{server.url}/api/transcribe", files={"audio": ("x", file.getvalue())}, data=options,
        timeout=SECONDS_TO_WAIT,
    )  # fmt: skip
    return str(answer.json()["text"])


def metric(server: Server, name: str) -> float:
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS_TO_WAIT
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_models_are_described_with_their_languages(server: Server) -> None:
    async def describe(client: AsyncTcpClient) -> Info:
        await client.write_event(Describe().event())
        return Info.from_event((await received(client, "info"))[-1])

    info = talk(server, describe)
    (program,) = info.asr
    assert [each.name for each in program.models] == ["model", "carried"]
    assert all(each.languages == ["en"] and each.installed for each in program.models)
    assert all(each.version == "7" and each.attribution.name for each in program.models)
    assert program.supports_transcript_streaming and program.installed and program.version
    assert not info.tts and not info.satellite


def test_ping_is_answered_with_its_text(server: Server) -> None:
    async def ping(client: AsyncTcpClient) -> list[Pong]:
        await client.write_event(Event("an-event-of-tomorrow"))  # ignored
        await client.write_event(Ping("x").event())
        return [Pong.from_event(each) for each in await received(client, "pong")]

    assert talk(server, ping) == [Pong("x")]


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2), (8000, 1)])
@pytest.mark.parametrize("model", ["model", "carried"])
def test_transcript_is_that_of_the_http_api(
    server: Server, rate: int, channels: int, model: str
) -> None:
    samples = recording(6, rate, channels)

    async def run(client: AsyncTcpClient) -> list[Event]:
        await client.write_event(Transcribe(name=model, language="en").event())
        await send(client, samples, rate)
        return await received(client, "transcript-stop")

    start, *chunks, found, stop = talk(server, run)
    text = Transcript.from_event(found).text
    assert text == http_text(server, samples, rate, model=model) != ""
    assert (start.type, stop.type) == ("transcript-start", "transcript-stop")
    assert found.data["language"] == start.data["language"] == "en"
    assert len(chunks) == 2
    assert "".join(TranscriptChunk.from_event(each).text for each in chunks) == text


@pytest.mark.parametrize(("subtype", "width"), [("PCM_U8", 1), ("PCM_24", 3), ("PCM_32", 4)])
def test_samples_may_have_any_width(server: Server, subtype: str, width: int) -> None:
    samples = recording(2)
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format="RAW", subtype=subtype)

    async def run(client: AsyncTcpClient) -> str:
        # Without audio-start, and cut within samples.
        for start in range(0, len(file.getvalue()), 2**15 + 1):
            audio = file.getvalue()[start : start + 2**15 + 1]
            await client.write_event(AudioChunk(16000, width, 1, audio).event())
        await client.write_event(AudioStop().event())
        return Transcript.from_event((await received(client, "transcript"))[-1]).text

    wav = io.BytesIO()
    soundfile.write(wav, samples, 16000, format="WAV", subtype=subtype)
    answer = httpx.post(f"{server.url}/api/transcribe", files={"audio": ("x", wav.getvalue())})
    assert talk(server, run) == answer.json()["text"] != ""


def test_connection_takes_one_recording_after_another(server: Server) -> None:
    samples = [recording(2), recording(3)]

    async def run(client: AsyncTcpClient) -> list[str]:
        return [await transcript(client, each, 16000) for each in samples]

    assert talk(server, run) == [http_text(server, each, 16000) for each in samples]


def test_recording_without_samples_has_an_empty_transcript(server: Server) -> None:
    async def run(client: AsyncTcpClient) -> str:
        return await transcript(client, np.zeros((0, 1), np.int16), 16000)

    assert talk(server, run) == ""


def test_ten_clients_at_once_have_their_own_transcripts(server: Server) -> None:
    samples = [recording(1 + number / 10) for number in range(10)]

    async def one(each: npt.NDArray[np.int16]) -> str:
        async with connected(server) as client:
            return await transcript(client, each, 16000)

    async def run() -> list[str]:
        return list(await asyncio.gather(*map(one, samples)))

    assert asyncio.run(run()) == [http_text(server, each, 16000) for each in samples]


def test_recordings_are_counted_and_logged(server: Server) -> None:
    counted = 'speech_requests_total{route="wyoming",status="200"}'
    before = metric(server, counted), metric(server, "speech_audio_seconds_total")
    talk(server, lambda client: transcript(client, recording(2), 16000))
    wait_until(lambda: metric(server, counted) == before[0] + 1)
    assert metric(server, "speech_audio_seconds_total") == pytest.approx(before[1] + 5)
    assert metric(server, "speech_streams ") == 0
    assert any('"Wyoming transcribe" 200' in line for line in server.log)


def test_client_that_vanishes_frees_its_slot(server: Server) -> None:
    counted = 'speech_requests_total{route="wyoming",status="400"}'
    before = metric(server, counted)

    async def vanish(client: AsyncTcpClient) -> None:
        form = {"rate": 16000, "width": 2, "channels": 1}
        await client.write_event(AudioStart(**form).event())
        await client.write_event(AudioChunk(audio=bytes(2000), **form).event())
        await received(client, "transcript-start")
        assert metric(server, "speech_streams ") == 1

    talk(server, vanish)
    wait_until(lambda: metric(server, "speech_streams ") == 0)
    wait_until(lambda: metric(server, counted) == before + 1)
    assert "Traceback" not in "".join(server.log)


@pytest.mark.parametrize(
    ("events", "code", "message"),
    [
        ([Transcribe(name="x")], "404", "There is no model 'x' here: choose among model, carried"),
        ([Transcribe(language="de")], "404", "no model of the language 'de' here: choose among en"),
        ([AudioStart(1, 2, 1)], "400", "The rate of audio-start is 1: send a whole number from"),
        ([AudioStart(16000, 5, 1)], "400", "The width of audio-start is 5"),
        ([AudioStart(16000, 2, 1), AudioChunk(8000, 2, 1, b"")], "400", "format changes"),
        ([AudioStart(16000, 2, 1), Transcribe()], "400", "transcribe came within a recording"),
        ([AudioChunk(16000, 2, 1, bytes(2**20 + 2))], "413", "payload_length is beyond 1048576"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_message(
    server: Server, events: list[Any], code: str, message: str
) -> None:
    async def run(client: AsyncTcpClient) -> Error:
        for each in events:
            await client.write_event(each.event())
        if not any(isinstance(each, AudioStart | AudioChunk) for each in events):
            await send(client, recording(1), 16000)
        return await error_of(client)

    error = talk(server, run)
    assert error.code == code and message in error.text


def test_recording_is_refused_once_it_is_too_long(server: Server) -> None:
    async def run(client: AsyncTcpClient) -> Error:
        with contextlib.suppress(OSError):
            await send(client, np.zeros(((SECONDS + 2) * 16000, 1), np.int16), 16000)
        return await error_of(client)

    error = talk(server, run)
    assert error.code == "413" and f"longer than the {SECONDS} seconds" in error.text


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(range(256)) * 8 + b"\n",
        b"[]\n",
        b'{"data": {}}\n',
        b'{"type": "ping", "data": [1]}\n',
        b'{"type": "ping", "data_length": -1}\n',
        b'{"type": "ping", "data_length": "9"}\n',
        b'{"type": "ping", "data_length": 1e999}\n',
        b'{"type": "ping", "data_length": 2}\n"]',
        b"[" * 60_000 + b"\n",
        b'{"type": "audio-start", "data": {"rate": "x"}}\n',
        b'{"type": "ping", "data_length": 99999999999}\n',
        b"x" * (2 * MOST_DATA_BYTES),
    ],
)
def test_bytes_that_are_no_events_are_refused(server: Server, content: bytes) -> None:
    async def run(client: AsyncTcpClient) -> Error:
        assert client._writer
        client._writer.write(content)
        return await error_of(client)

    assert talk(server, run).code in ("400", "413")
    assert "Traceback" not in "".join(server.log)


def test_strange_text_is_sent_back(server: Server) -> None:
    async def run(client: AsyncTcpClient) -> str | None:
        assert client._writer
        client._writer.write(b'{"type": "ping", "data": {"text": "\\ud800"}}\n')
        return Pong.from_event((await received(client, "pong"))[-1]).text

    assert talk(server, run) == "\\ud800"


def test_data_of_an_event_may_be_in_its_line_and_after_it() -> None:
    async def run(content: bytes) -> Event:
        reader = asyncio.StreamReader()
        reader.feed_data(content)
        reader.feed_eof()
        return await read_event(reader)

    head = {"type": "t", "data": {"a": 1, "b": 1}, "data_length": 8, "payload_length": 3}
    content = json.dumps(head).encode() + b'\n{"b": 2}xyz'
    assert asyncio.run(run(content)) == Event("t", {"a": 1, "b": 2}, b"xyz")
    with pytest.raises(asyncio.IncompleteReadError):
        asyncio.run(run(content[:-1]))
    with pytest.raises(RequestError, match="no event of Wyoming"):
        asyncio.run(run(b"{}\n"))


def test_language_chooses_the_model() -> None:
    """Of a language and region, then of the language, then one whose language isn't known."""
    config = tiny_config()

    def served(name: str, language: str) -> ServedModel:
        model: Any = SimpleNamespace(description=Description(config, 1, Naming(language=language)))
        return ServedModel(name, name, Batcher(model, 1), {})

    languages = {"a": "en-US", "b": "pt_BR", "c": "pt", "d": ""}
    models = [served(*each) for each in languages.items()]
    catalogue = Catalogue(models, [], BeamSettings())
    for wanted, expected in {
        "": None, "en": "a", "EN-gb": "a", "pt": "c", "pt-br": "b", "pt-PT": "b", "de": "d"
    }.items():  # fmt: skip
        assert model_name(catalogue, {"language": wanted}, "") == expected
    assert model_name(catalogue, {"name": "b", "language": "en"}, "") == "b"
    assert model_name(catalogue, {"language": "de-AT"}, "de") == "d"
    with pytest.raises(RequestError, match="choose among en-US, pt_BR, pt, fr"):
        model_name(catalogue, {"language": "de"}, "fr")
    described = describe(catalogue, "").asr[0].models
    assert [each.languages for each in described] == [["en-US"], ["pt_BR"], ["pt"], []]
    catalogue.close()


def test_more_streams_than_allowed_are_refused_as_busy(server: Server) -> None:
    """The limit holds for WebSockets and Wyoming together; descriptions are given nevertheless."""

    async def run() -> Error:
        async with contextlib.AsyncExitStack() as opened:
            for _ in range(12):
                client = await opened.enter_async_context(connected(server))
                await client.write_event(AudioStart(16000, 2, 1).event())
                await received(client, "transcript-start")
            one_more = await opened.enter_async_context(connected(server))
            await one_more.write_event(Describe().event())
            await received(one_more, "info")
            await send(one_more, recording(1), 16000)
            return await error_of(one_more)

    error = asyncio.run(run())
    assert error.code == "503"
    assert "12 streams are open, the most that this server allows: try again" in error.text
    wait_until(lambda: metric(server, "speech_streams ") == 0)


def test_idle_connections_make_room_for_requests_and_recordings(server: Server) -> None:
    async def run() -> None:
        async with contextlib.AsyncExitStack() as opened:
            busy = await opened.enter_async_context(connected(server))
            await busy.write_event(AudioStart(16000, 2, 1).event())
            await received(busy, "transcript-start")
            idle = [await opened.enter_async_context(connected(server)) for _ in range(120)]
            assert httpx.get(f"{server.url}/api/models").status_code == 200
            assert await idle[0].read_event() is None
            await idle[-1].write_event(Ping("x").event())
            await received(idle[-1], "pong")
            await busy.write_event(AudioStop().event())
            await received(busy, "transcript-stop")

    kept = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (200, kept[1]))
    try:
        asyncio.run(run())
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, kept)


def test_recording_under_way_is_finished_when_the_server_stops(tmp_path: Path) -> None:
    write_model(tmp_path / "model", "conv_gru")
    flags = (f"--models={tmp_path}/model", "--wyoming_port=0", "--beam_width=8")
    samples = recording(2)
    form = {"rate": 16000, "width": 2, "channels": 1}
    with running(tmp_path / "temporary", *flags) as own:
        assert "model has no language, so Home Assistant doesn't offer it" in "".join(own.log)

        async def run() -> None:
            async with connected(own) as idle, connected(own) as client:
                await idle.write_event(Ping("x").event())
                await received(idle, "pong")
                await client.write_event(AudioStart(**form).event())
                await received(client, "transcript-start")
                own.process.terminate()
                assert await idle.read_event() is None
                with pytest.raises(ConnectionRefusedError):
                    async with connected(own):
                        pass
                await client.write_event(AudioChunk(audio=samples.tobytes(), **form).event())
                await client.write_event(AudioStop().event())
                assert [each.type for each in await received(client, "transcript-stop")][-2:] == [
                    "transcript",
                    "transcript-stop",
                ]
                assert await client.read_event() is None

        asyncio.run(run())
        assert own.process.wait(30) == 0
    assert "Traceback" not in "".join(own.log)


def test_port_in_use_is_refused_with_its_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"--wyoming_port={port} can't be used: Address alr"):
            server_module.bind("127.0.0.1", port, "--wyoming_port")
