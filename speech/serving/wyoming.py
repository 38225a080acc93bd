"""Serves Wyoming, the protocol of Home Assistant's voice assistants, over TCP.

An event is a line of JSON, {"type", "data", "data_length", "payload_length"}, more data as JSON,
and a payload; https://github.com/OHF-voice/wyoming describes them. A client sends transcribe,
audio-start, audio-chunk and audio-stop, of which the first two are optional. It receives
transcript-start, a transcript-chunk after each pause in the speech, transcript, and
transcript-stop; or error, after which the connection ends, because Home Assistant waits for either.
"""

import asyncio
import contextlib
import ipaddress
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from absl import logging
from uvicorn.server import ServerState
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_write_event
from wyoming.info import AsrModel, AsrProgram, Attribution, Describe, Info
from wyoming.ping import Ping, Pong

from speech.decoding.alignment import TimedWord
from speech.serving import connections
from speech.serving.errors import RequestError, sendable
from speech.serving.http import STOPPED
from speech.serving.schemas import requests
from speech.serving.schemas.requests import format_value
from speech.serving.service import Service
from speech.serving.services.arriving import ArrivingRecording, PcmFormat
from speech.serving.services.catalogue import Catalogue, ServedModel
from speech.serving.slots import RETRY_SECONDS
from speech.transcription.subtitles import join_words
from speech.transcription.transcriber import TranscribedSegment
from utils import UserError

ROUTE = "wyoming"  # in the metrics

# Bounds of an event: of its line and of its data, and of its payload.
MOST_DATA_BYTES, MOST_PAYLOAD_BYTES = 2**16, 2**20
# Bounds of a format: Hz, bytes of a sample, and channels.
BOUNDS = {"rate": (4000, 384_000), "width": (1, 4), "channels": (1, 32)}

# Types of a recording's events.
AUDIO_TYPES = ("audio-start", "audio-chunk", "audio-stop")

# A client that sends nothing for so long is disconnected, within a recording and outside of one.
IDLE_SECONDS, QUIET_SECONDS = 30.0, 300.0
# A client that doesn't receive an event for so long counts as gone.
SEND_SECONDS = 30.0
# A client that is refused while it sends may see a lost connection instead of the error: for so
# long what it still sends is read and dropped.
DRAIN_SECONDS = 10.0

PROGRAM, VERSION = "Deep Speech", "1"
PAPER = Attribution("A. Hannun et al.", "https://arxiv.org/abs/1412.5567")


class WyomingServer:
    """Serves Wyoming beside HTTP, in the event loop of uvicorn's server."""

    def __init__(self, service: Service, bound: socket.socket, language: str) -> None:
        """
        Args:
            bound: bound to an address; closed with the server.
            language: of models whose files name none; empty: unknown.
        """
        self._service = service
        self._bound = bound
        self._language = language

    async def start(self, state: ServerState) -> asyncio.Server:
        """Listens.

        Args:
            state: uvicorn's; as the server stops, it ends these connections with HTTP's.

        Raises:
            OSError: another server, started at the same time, was first to listen.
        """

        def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection: Any = _Connection(self._service, self._language, reader, writer)
            state.connections.add(connection)
            full = len(state.connections) > connections.most_connections()
            connection.task = asyncio.create_task(connection.serve(full))
            state.tasks.add(connection.task)
            connection.task.add_done_callback(state.tasks.discard)
            connection.task.add_done_callback(lambda task: state.connections.discard(connection))

        listening = await asyncio.start_server(connect, sock=self._bound, limit=MOST_DATA_BYTES)
        host, port = self._bound.getsockname()[:2]
        logging.info("Wyoming at tcp://%s:%d", f"[{host}]" if ":" in host else host, port)
        if not ipaddress.ip_address(host).is_loopback:
            logging.warning(
                "Wyoming has no passwords and no encryption: everyone who reaches port %d can use "
                "the models. Let a firewall admit only the machines that need it.",
                port,
            )
        for served in self._service.resources.current.catalogue.models.values():
            if not _language_of(served, self._language):
                logging.warning(
                    "%s has no language, so Home Assistant doesn't offer it: name its language "
                    "with --wyoming_language.",
                    served.name,
                )
        return listening


class _GoneError(Exception):
    """The client has disconnected."""


class _Connection:
    """The connection of one client."""

    task: "asyncio.Task[None]"  # runs `serve`

    def __init__(
        self,
        service: Service,
        language: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._service = service
        self._language = language
        self._reader = reader
        self._writer = writer
        self._recording = False  # whether one is under way
        self._stopping = False

    def shutdown(self) -> None:
        """Ends the connection after the recording under way. uvicorn calls it as it stops."""
        self._stopping = True
        if not self._recording:
            self.task.cancel()

    async def serve(self, full: bool) -> None:
        """Serves the client until it disconnects.

        Args:
            full: whether there are too many connections.
        """
        try:
            if full:
                again = f"There are too many connections: try again in {RETRY_SECONDS} seconds."
                raise RequestError(503, again)
            await self._answer_all()
        except _GoneError:
            pass
        except RequestError as error:
            await self._fail(error.status, error.message)
        except UserError as error:
            await self._fail(500, str(error))
        except asyncio.CancelledError:  # the server is stopping
            if self._recording:
                await self._fail(503, STOPPED)
        except Exception:
            logging.exception("A recording of a client of Wyoming failed.")
            await self._fail(500, "The server failed. See its log for the reason.")
        finally:
            self._writer.close()

    async def _answer_all(self) -> None:
        wanted: dict[str, Any] = {}  # the data of transcribe
        while not self._stopping:
            event = await self._receive(QUIET_SECONDS)
            if Transcribe.is_type(event.type):
                wanted = event.data
            elif event.type in AUDIO_TYPES[:2]:
                self._recording = True
                with self._counted():
                    await self._transcribe(wanted, event)
                self._recording, wanted = False, {}
            else:
                await self._answer(event)

    async def _answer(self, event: Event) -> None:
        """Answers an event that isn't about a recording; ignores it if it is unknown."""
        if Describe.is_type(event.type):
            await self._send(_info(self._service.resources.current.catalogue, self._language))
        elif Ping.is_type(event.type):
            text = event.data.get("text")
            await self._send(Pong(sendable(text) if isinstance(text, str) else None))

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Counts and logs a recording, by the status that HTTP would have."""
        status, started = 500, time.monotonic()
        try:
            yield
            status = 200
        except RequestError as error:
            status = error.status
            raise
        except _GoneError:
            status = 400
            raise
        except asyncio.CancelledError:
            status = 503
            raise
        finally:
            self._service.metrics.requests.labels(ROUTE, status).inc()
            self._service.metrics.latency.labels(ROUTE).observe(time.monotonic() - started)
            host, port = self._writer.get_extra_info("peername")[:2]
            logging.info('%s:%d - "Wyoming transcribe" %d', host, port, status)

    async def _transcribe(self, wanted: dict[str, Any], event: Event) -> None:
        """Receives a recording, whose first event is `event`, and sends its transcript."""
        service, form = self._service, _format_of(event)
        share = service.workers.share(self._check_client)
        with service.streams.one(), service.resources.use() as resources:
            model = _model_name(resources.catalogue, wanted, self._language)
            choice = await share.run(resources.catalogue.choose, requests.read({"model": model}))
            language = _language_of(choice.served, self._language) or None
            recording = ArrivingRecording(
                form, choice, service.workers, share, service.limits.seconds
            )
            await self._send(TranscriptStart(language=language))
            words: list[TimedWord] = []
            text = ""
            try:
                async for segment in self._segments(recording, form, event):
                    words += segment.transcript.words
                    before, text = text, join_words(words, choice.transcriber.separator)
                    if text != before:
                        await self._send(TranscriptChunk(text[len(before) :]))
            finally:
                service.metrics.audio_seconds.inc(recording.seconds)
            await self._send(Transcript(text, language=language))
            await self._send(TranscriptStop())

    async def _segments(
        self, recording: ArrivingRecording, form: PcmFormat, event: Event
    ) -> AsyncIterator[TranscribedSegment]:
        """Yields a recording's segments while it arrives, until audio-stop."""
        while not AudioStop.is_type(event.type):
            if _format_of(event) != form:
                raise RequestError(400, "The audio's format changes: send audio-stop before.")
            for each in await recording.feed(event.payload or b""):
                yield each
            event = await self._receive_audio()
        for each in await recording.finish():
            yield each

    async def _receive_audio(self) -> Event:
        """Returns the next event that is about the recording under way; answers others."""
        while True:
            event = await self._receive(IDLE_SECONDS)
            if event.type in AUDIO_TYPES:
                return event
            if Transcribe.is_type(event.type):
                raise RequestError(400, "transcribe came within a recording: send it before.")
            await self._answer(event)

    async def _check_client(self) -> None:
        if self._writer.is_closing():
            raise _GoneError

    async def _receive(self, seconds: float) -> Event:
        try:
            async with asyncio.timeout(seconds):
                return await read_event(self._reader)
        except TimeoutError:
            raise RequestError(
                408, f"Nothing came for {seconds:g} seconds: connect again."
            ) from None
        except (asyncio.IncompleteReadError, OSError):
            raise _GoneError from None

    async def _send(self, content: Eventable) -> None:
        try:
            await asyncio.wait_for(async_write_event(content.event(), self._writer), SEND_SECONDS)
        except OSError:  # a TimeoutError is one
            raise _GoneError from None

    async def _fail(self, status: int, message: str) -> None:
        """Sends an error, if the client is still connected, and waits for it to disconnect."""
        with contextlib.suppress(_GoneError, OSError):
            await self._send(Error(sendable(message), str(status)))
            self._writer.write_eof()
            async with asyncio.timeout(DRAIN_SECONDS):
                while await self._reader.read(2**16):
                    pass


async def read_event(reader: asyncio.StreamReader) -> Event:
    """Reads an event. The package `wyoming` would read one of any size.

    Raises:
        RequestError: it is no event (400), or too large (413).
        IncompleteReadError: the client has disconnected.
    """
    try:
        head = _object_of(await reader.readuntil(b"\n"))
    except asyncio.LimitOverrunError:
        raise _too_large("line", MOST_DATA_BYTES) from None
    data = head.get("data") or {}
    if not isinstance(head.get("type"), str) or not isinstance(data, dict):
        raise _not_an_event()
    if length := _length_in(head, "data_length", MOST_DATA_BYTES):
        data = {**data, **_object_of(await reader.readexactly(length))}
    payload = await reader.readexactly(_length_in(head, "payload_length", MOST_PAYLOAD_BYTES))
    return Event(head["type"], data, payload)


def _object_of(content: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(content)
        if isinstance(found, dict):
            return found
    raise _not_an_event()


def _length_in(head: dict[str, Any], name: str, most: int) -> int:
    length = head.get(name) or 0
    if type(length) is not int or length < 0:
        raise _not_an_event()
    if length > most:
        raise _too_large(name, most)
    return length


def _not_an_event() -> RequestError:
    return RequestError(
        400, "This is no event of Wyoming: send a line of JSON with a type, then what it announces."
    )


def _too_large(what: str, most: int) -> RequestError:
    return RequestError(413, f"An event's {what} is beyond {most} bytes: send smaller chunks.")


def _format_of(event: Event) -> PcmFormat:
    """Returns the format of audio-start or audio-chunk; raises RequestError (400)."""
    for name, (lowest, highest) in BOUNDS.items():
        value = event.data.get(name)
        if type(value) is not int or not lowest <= value <= highest:
            raise RequestError(
                400,
                f"The {name} of {event.type} is {format_value(value)}: send a whole number from "
                f"{lowest} to {highest}.",
            )
    return PcmFormat(**{name: event.data[name] for name in BOUNDS})


def _language_of(served: ServedModel, default: str) -> str:
    return served.model.description.naming.language or default


def _model_name(catalogue: Catalogue, wanted: dict[str, Any], default: str) -> str | None:
    """Returns the model that transcribe names, or the first one of its language.

    Args:
        wanted: the data of transcribe.
        default: language of models that name none; empty: they may have any.

    Returns:
        the model's name; None: the default model.

    Raises:
        RequestError: no model has the language (404).
    """
    name, language = wanted.get("name"), wanted.get("language")
    if name or not language:
        return name or None
    languages = {each: _language_of(served, default) for each, served in catalogue.models.items()}
    for same in (_whole, _primary):
        for each, own in languages.items():
            if own and same(own) == same(str(language)):
                return each
    unknown = [each for each, own in languages.items() if not own]
    if not unknown:
        raise RequestError(
            404,
            f"There is no model of the language {format_value(language)} here: choose among "
            f"{', '.join(languages.values())}.",
        )
    return unknown[0]


def _whole(language: str) -> str:
    return language.lower().replace("_", "-")


def _primary(language: str) -> str:
    """Returns the language of a tag such as pt-BR without its region."""
    return _whole(language).partition("-")[0]


def _info(catalogue: Catalogue, language: str) -> Info:
    """Returns the description of the server for its clients."""
    models = []
    for name, served in catalogue.models.items():
        description = served.model.description
        naming, own = description.naming, _language_of(served, language)
        models.append(
            AsrModel(
                name=name,
                attribution=Attribution(naming.author or PROGRAM, ""),
                installed=True,
                description=naming.description or naming.name or name,
                version=naming.version or str(description.checkpoint_step),
                languages=[own] if own else [],
            )
        )
    program = AsrProgram(
        name=PROGRAM,
        attribution=PAPER,
        installed=True,
        description="Speech to text",
        version=VERSION,
        models=models,
        supports_transcript_streaming=True,
    )
    return Info(asr=[program])
