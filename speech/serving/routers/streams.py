"""The WebSocket /api/stream, which takes samples and returns text while a person speaks.

The client sends {"sample_rate": 48000} as text, samples (int16, little endian, mono) as binary
messages, and {"end": true}. It receives ready, partial, final and done, or an error.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import soxr
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from speech.audio.reader import INT16_SCALE
from speech.serving.errors import RequestError
from speech.serving.http import STREAM
from speech.serving.schemas import requests
from speech.serving.schemas.requests import TranscriptionOptions, format_value
from speech.serving.service import Service
from speech.serving.services import serialize
from speech.serving.services.reloading import ReloadableResources
from speech.serving.slots import Slots
from speech.transcription.live import LiveTranscriber, PartialTranscript
from speech.transcription.transcriber import TranscribedSegment, Transcriber
from utils import UserError

Samples = npt.NDArray[np.float32]
T = TypeVar("T")

# Close codes of RFC 6455.
REFUSED, TOO_BIG, FAILED = 1008, 1009, 1011

LOWEST_RATE, HIGHEST_RATE = 4000, 384000  # Hz
MOST_MESSAGE_BYTES = 2**20
# A message may hold minutes: after so much of it, other streams get their turn on the thread.
PIECE_SECONDS = 1.0
# A client that sends nothing for so long is disconnected.
IDLE_SECONDS = 30.0
# A client that doesn't receive a message for so long counts as gone.
SEND_SECONDS = 30.0


def router(service: Service) -> APIRouter:
    """Returns the route /api/stream."""
    routes = APIRouter()
    streams = streams_of(service)

    @routes.websocket(STREAM)
    async def stream(websocket: WebSocket) -> None:
        await streams.serve(websocket)

    return routes


def streams_of(service: Service) -> "Streams":
    """Returns the streams of a server."""
    return Streams(
        service.resources,
        service.stream_threads,
        service.streams,
        service.limits.seconds,
        service.metrics.audio_seconds.inc,
    )


class StreamError(Exception):
    """An error of the client's that ends its stream."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Streams:
    """Serves the streams of all clients."""

    def __init__(
        self,
        resources: ReloadableResources,
        threads: Executor,
        slots: Slots,
        most_seconds: float,
        on_seconds: Callable[[float], object],
    ) -> None:
        """
        Args:
            threads: for the streams' work; they may wait for a model's thread.
            most_seconds: of a stream.
            on_seconds: called at a stream's end with the seconds of audio received.
        """
        self._resources = resources
        self._threads = threads
        self._slots = slots
        self._most_seconds = most_seconds
        self._on_seconds = on_seconds

    async def serve(self, websocket: WebSocket, protocol: "type[Stream] | None" = None) -> None:
        """Serves one client until its stream ends.

        Args:
            protocol: default: that of /api/stream.
        """
        await websocket.accept()
        stream = (protocol or Stream)(websocket, self._threads, self._most_seconds)
        try:
            with self._slots.one(), self._resources.use() as resources:
                options = _options(websocket.query_params)
                choice = await stream.run(resources.catalogue.choose, options)
                await stream.serve(choice.transcriber, options.candidates)
        except _GoneError:
            pass
        except RequestError as error:
            code = FAILED if error.status >= 500 else REFUSED
            await stream.fail(code, error.message)
        except StreamError as error:
            await stream.fail(error.code, error.message)
        except UserError as error:
            await stream.fail(FAILED, str(error))
        except Exception:
            await stream.fail(FAILED, "The server failed. See its log for the reason.")
            raise
        finally:
            self._on_seconds(stream.seconds)


def _options(given: Mapping[str, str]) -> TranscriptionOptions:
    options = requests.read(given)
    if options.details:
        raise RequestError(400, "A stream has no details: leave them out, or upload a recording.")
    return options


class _GoneError(Exception):
    """The client has disconnected."""


# What sending raises then: starlette's, uvicorn's, and wait_for's, which is an OSError.
_GONE = (WebSocketDisconnect, RuntimeError, OSError)


class Stream:
    """The stream of one client."""

    def __init__(self, websocket: WebSocket, threads: Executor, most_seconds: float) -> None:
        self._websocket = websocket
        self._threads = threads
        self._most_seconds = most_seconds
        self.seconds = 0.0  # received so far

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Returns the result of a function that is called on one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def serve(self, transcriber: Transcriber, candidates: int) -> None:
        """Receives samples and sends their text until the client ends the stream."""
        rate = _rate_of(await self.receive())
        live = await self.run(LiveTranscriber, transcriber, candidates)
        resampler = Resampler(rate, transcriber.sample_rate)
        await self.send({"type": "ready", "exact": live.exact})
        while (message := await self.receive()) is not None:
            if isinstance(message, str):
                if parse_json(message) != {"end": True}:
                    raise StreamError(
                        REFUSED,
                        f"The message {format_value(message)} is unknown: send samples or "
                        '{"end": true}.',
                    )
                break
            for piece in self.pieces(message, rate):
                await self._send_texts(await self.run(feed, live, resampler, piece), transcriber)
        await self._send_texts(await self.run(finish, live, resampler), transcriber)
        await self.send({"type": "done", "seconds": round(self.seconds, serialize.DECIMALS)})
        await self.close()

    def pieces(self, message: bytes, rate: int) -> Iterator[bytes]:
        """Yields a message of samples in pieces; raises StreamError if it isn't allowed."""
        self._count(len(message), rate)
        size = int(PIECE_SECONDS * rate) * 2  # bytes
        for start in range(0, len(message), size):
            yield message[start : start + size]

    async def close(self) -> None:
        """Closes the stream at its end."""
        with contextlib.suppress(*_GONE):
            await asyncio.wait_for(self._websocket.close(), SEND_SECONDS)

    def _count(self, size: int, rate: int) -> None:
        """Adds a message of `size` bytes to `seconds`; raises StreamError if it isn't allowed."""
        if size > MOST_MESSAGE_BYTES:
            raise StreamError(
                TOO_BIG, f"A message has {size} bytes: send at most {MOST_MESSAGE_BYTES}."
            )
        if size % 2:
            raise StreamError(REFUSED, f"A message has {size} bytes: send whole 16-bit samples.")
        self.seconds += size / 2 / rate
        if self.seconds > self._most_seconds:
            raise StreamError(
                TOO_BIG,
                f"The stream is longer than the {self._most_seconds:g} seconds that this server "
                "allows: open a new one.",
            )

    async def receive(self) -> str | bytes:
        try:
            message = await asyncio.wait_for(self._websocket.receive(), IDLE_SECONDS)
        except TimeoutError:
            raise StreamError(
                REFUSED, f"Nothing was received for {IDLE_SECONDS:g} seconds: open a new stream."
            ) from None
        if message["type"] == "websocket.disconnect":
            raise _GoneError
        text = message.get("text")
        return text if text is not None else message["bytes"]

    async def send(self, content: dict[str, Any]) -> None:
        try:
            text = json.dumps(content, ensure_ascii=False)
            await asyncio.wait_for(self._websocket.send_text(text), SEND_SECONDS)
        except _GONE:
            raise _GoneError from None

    async def _send_texts(
        self, texts: Sequence[PartialTranscript | TranscribedSegment], transcriber: Transcriber
    ) -> None:
        for each in texts:
            if isinstance(each, TranscribedSegment):
                segment = serialize.segment(each, transcriber.separator)
                await self.send({"type": "final", **segment.model_dump()})
            else:
                await self.send(
                    {
                        "type": "partial",
                        "start": round(each.start, serialize.DECIMALS),
                        "seconds": round(each.seconds, serialize.DECIMALS),
                        "text": each.text,
                    }
                )

    async def fail(self, code: int, message: str) -> None:
        """Sends the client an error, if it is still connected, and closes the stream."""
        try:
            await self.send({"type": "error", "error": message})
            await asyncio.wait_for(self._websocket.close(code), SEND_SECONDS)
        except (_GoneError, *_GONE):
            pass


class Resampler:
    """Converts samples from the client's rate to the model's."""

    def __init__(self, rate: int, wanted_rate: int) -> None:
        self._same = rate == wanted_rate
        self._stream = soxr.ResampleStream(rate, wanted_rate, 1, dtype="float32", quality="HQ")

    def __call__(self, message: bytes, last: bool = False) -> Samples:
        """Returns float32 [samples] at int16 scale."""
        samples = np.frombuffer(message, "<i2").astype(np.float32)
        if self._same:
            return samples
        scaled = self._stream.resample_chunk(samples / INT16_SCALE, last=last)
        return np.asarray(scaled * np.float32(INT16_SCALE))


def feed(
    live: LiveTranscriber, resampler: Resampler, message: bytes
) -> list[PartialTranscript | TranscribedSegment]:
    samples = resampler(message)
    return live.feed(samples) if len(samples) else []


def finish(
    live: LiveTranscriber, resampler: Resampler
) -> list[PartialTranscript | TranscribedSegment]:
    rest = resampler(b"", last=True)
    texts = live.feed(rest) if len(rest) else []
    return [*texts, *live.finish()]


def _rate_of(message: str | bytes) -> int:
    """Returns the sample rate in a stream's first message; raises StreamError if it has none."""
    content = parse_json(message) if isinstance(message, str) else None
    rate = content.get("sample_rate") if isinstance(content, dict) else None
    if type(rate) is not int or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise StreamError(
            REFUSED,
            'A stream begins with {"sample_rate": 48000} as text, a whole number from '
            f"{LOWEST_RATE} to {HIGHEST_RATE} in Hz, not with {format_value(content)}.",
        )
    return rate


def parse_json(text: str) -> Any:
    """Returns the content of a JSON text; None if it isn't JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
