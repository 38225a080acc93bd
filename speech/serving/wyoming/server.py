"""Serves Wyoming beside HTTP.

A client sends transcribe, audio-start, audio-chunk and audio-stop, of which the first two are
optional. It receives transcript-start, a transcript-chunk after each pause in the speech,
transcript, and transcript-stop; or error, after which the connection ends, because Home Assistant
waits for a transcript until then.
"""

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from absl import logging
from uvicorn.server import ServerState
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_write_event
from wyoming.info import Describe
from wyoming.ping import Ping, Pong

from speech.decoding.alignment import TimedWord
from speech.serving import connections
from speech.serving.errors import RequestError, sendable
from speech.serving.http import DRAIN_SECONDS, STOPPED
from speech.serving.schemas import requests
from speech.serving.service import Service
from speech.serving.services.arriving import ArrivingRecording, PcmFormat
from speech.serving.wyoming.events import MOST_DATA_BYTES, format_of, read_event
from speech.serving.wyoming.info import describe, language_of, model_name
from speech.transcription.subtitles import text_after
from speech.transcription.transcriber import TranscribedSegment
from utils import UserError

ROUTE = "wyoming"  # in the metrics

# Types of a recording's events.
AUDIO_TYPES = ("audio-start", "audio-chunk", "audio-stop")

# A client that sends nothing for so long is disconnected, within a recording and outside of one.
IDLE_SECONDS, QUIET_SECONDS = 30.0, 300.0
# A client that doesn't receive an event for so long counts as gone.
SEND_SECONDS = 30.0


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
            if not connections.make_room(state.connections, connection):
                connection.abort()
            connection.task = asyncio.create_task(connection.serve())
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
            if not language_of(served, self._language):
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
        self._received = False  # whether the client has sent anything
        # When the connection last had nothing to do; None: it has.
        self._idle_since: float | None = asyncio.get_running_loop().time()

    @property
    def waiting(self) -> tuple[bool, float] | None:
        """See `connections.Connection`."""
        if self._idle_since is None or self._writer.is_closing():
            return None
        return self._received, self._idle_since

    def abort(self) -> None:
        """Closes the connection at once, after which `serve` ends."""
        self._writer.transport.abort()

    def shutdown(self) -> None:
        """Ends the connection after the recording under way. uvicorn calls it as it stops."""
        self._stopping = True
        if not self._recording:
            self.task.cancel()

    async def serve(self) -> None:
        """Serves the client until it disconnects."""
        try:
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
            event = await self._receive_next()
            if Transcribe.is_type(event.type):
                wanted = event.data
            elif event.type in AUDIO_TYPES[:2]:
                self._recording = True
                with self._counted():
                    await self._transcribe(wanted, event)
                self._recording, wanted = False, {}
            else:
                await self._answer(event)

    async def _receive_next(self) -> Event:
        """Returns the next event outside of a recording."""
        self._idle_since = asyncio.get_running_loop().time()
        event = await self._receive(QUIET_SECONDS)
        self._idle_since, self._received = None, True
        return event

    async def _answer(self, event: Event) -> None:
        """Answers an event that isn't about a recording; ignores it if it is unknown."""
        if Describe.is_type(event.type):
            await self._send(describe(self._service.resources.current.catalogue, self._language))
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
            host, port = (self._writer.get_extra_info("peername") or ("unknown", 0))[:2]
            logging.info('%s:%d - "Wyoming transcribe" %d', host, port, status)

    async def _transcribe(self, wanted: dict[str, Any], event: Event) -> None:
        """Receives a recording, whose first event is `event`, and sends its transcript."""
        service, form = self._service, format_of(event)
        share = service.workers.share(self._check_client)
        with service.streams.one(), service.resources.use() as resources:
            model = model_name(resources.catalogue, wanted, self._language)
            choice = await share.run(resources.catalogue.choose, requests.read({"model": model}))
            language = language_of(choice.served, self._language) or None
            recording = ArrivingRecording(
                form, choice, service.workers, share, service.limits.seconds
            )
            await self._send(TranscriptStart(language=language))
            last: Sequence[TimedWord] = ()  # the words of the segment before, if it had any
            text = ""
            try:
                async for segment in self._segments(recording, form, event):
                    if words := segment.transcript.words:
                        added = text_after(last, words, choice.transcriber.separator)
                        last = words
                        text += added
                        await self._send(TranscriptChunk(added))
            finally:
                service.metrics.audio_seconds.inc(recording.seconds)
            await self._send(Transcript(text, language=language))
            await self._send(TranscriptStop())

    async def _segments(
        self, recording: ArrivingRecording, form: PcmFormat, event: Event
    ) -> AsyncIterator[TranscribedSegment]:
        """Yields a recording's segments while it arrives, until audio-stop."""
        while not AudioStop.is_type(event.type):
            if format_of(event) != form:
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
        self._recording = False
        self._idle_since = asyncio.get_running_loop().time()
        with contextlib.suppress(_GoneError, OSError):
            await self._send(Error(sendable(message), str(status)))
            self._writer.write_eof()
            async with asyncio.timeout(DRAIN_SECONDS):
                while await self._reader.read(2**16):
                    pass
