"""Speech as it is spoken: a WebSocket that takes samples and tells what was heard.

The client sends {"sample_rate": 48000} as text, samples (int16, little endian, mono) as binary
messages, and {"end": true}. It gets ready, partial, final and done, or an error.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import soxr
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from speech.audio.reader import INT16_SCALE
from speech.serving.errors import RequestError
from speech.serving.routers import serialize
from speech.serving.schemas import requests
from speech.serving.schemas.requests import Asked, shown
from speech.serving.services.reloading import Served
from speech.serving.slots import Slots
from speech.transcription.live import LiveTranscriber, Partial
from speech.transcription.transcriber import Heard, Transcriber
from utils import UserError

Samples = npt.NDArray[np.float32]
T = TypeVar("T")

# Close codes of RFC 6455.
REFUSED, TOO_BIG, FAILED = 1008, 1009, 1011

LOWEST_RATE, HIGHEST_RATE = 4000, 384000  # Hz
MOST_MESSAGE_BYTES = 2**20
# A thread hears so much at once before other streams come: a message may hold minutes.
PIECE_SECONDS = 1.0
# A client that sends nothing for so long is told to come back.
IDLE_SECONDS = 30.0
# One that doesn't take what it is told for so long is gone.
SEND_SECONDS = 30.0


class StreamError(Exception):
    """What ends a stream."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Streams:
    """What serves the streams of all clients."""

    def __init__(
        self,
        served: Served,
        threads: Executor,
        slots: Slots,
        most_seconds: float,
        on_seconds: Callable[[float], object],
    ) -> None:
        """
        Args:
            threads: that streams hear on; they may wait for a model's thread.
            most_seconds: of a stream.
            on_seconds: is told of the seconds that came, at a stream's end.
        """
        self._served = served
        self._threads = threads
        self._slots = slots
        self._most_seconds = most_seconds
        self._on_seconds = on_seconds

    async def serve(self, websocket: WebSocket) -> None:
        """One client, to its end."""
        await websocket.accept()
        stream = _Stream(websocket, self._threads, self._most_seconds)
        try:
            with self._slots.one(), self._served.use() as loaded:
                asked = _asked(websocket.query_params)
                choice = await stream.run(loaded.catalogue.choose, asked)
                await stream.serve(choice.transcriber, asked.candidates)
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
            await stream.fail(FAILED, "The server failed; its log tells why.")
            raise
        finally:
            self._on_seconds(stream.seconds)


def _asked(given: Mapping[str, str]) -> Asked:
    asked = requests.read(given)
    if asked.details:
        raise RequestError(400, "A stream has no details: leave them out, or upload a recording.")
    return asked


class _GoneError(Exception):
    """The client has left."""


# What sending raises then: starlette's, uvicorn's, and wait_for's, which is an OSError only since
# Python 3.11.
_GONE = (WebSocketDisconnect, RuntimeError, OSError, asyncio.TimeoutError)


class _Stream:
    """One client's."""

    def __init__(self, websocket: WebSocket, threads: Executor, most_seconds: float) -> None:
        self._websocket = websocket
        self._threads = threads
        self._most_seconds = most_seconds
        self.seconds = 0.0  # that came

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def serve(self, transcriber: Transcriber, candidates: int) -> None:
        rate = _rate_of(await self._receive())
        live = await self.run(LiveTranscriber, transcriber, candidates)
        resampler = _Resampler(rate, transcriber.sample_rate)
        await self._send({"type": "ready", "exact": live.exact})
        while (message := await self._receive()) is not None:
            if isinstance(message, str):
                if _json(message) != {"end": True}:
                    raise StreamError(
                        REFUSED,
                        f'{shown(message)} is unknown here: send samples or {{"end": true}}.',
                    )
                break
            self._count(len(message), rate)
            size = int(PIECE_SECONDS * rate) * 2  # bytes
            for start in range(0, len(message), size):
                piece = message[start : start + size]
                await self._tell(await self.run(_feed, live, resampler, piece), transcriber)
        await self._tell(await self.run(_finish, live, resampler), transcriber)
        await self._send({"type": "done", "seconds": round(self.seconds, serialize.DECIMALS)})
        with contextlib.suppress(*_GONE):
            await asyncio.wait_for(self._websocket.close(), SEND_SECONDS)

    def _count(self, size: int, rate: int) -> None:
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
                "takes: begin a new one.",
            )

    async def _receive(self) -> str | bytes:
        try:
            message = await asyncio.wait_for(self._websocket.receive(), IDLE_SECONDS)
        except asyncio.TimeoutError:
            raise StreamError(
                REFUSED, f"Nothing came for {IDLE_SECONDS:g} seconds: begin a new stream."
            ) from None
        if message["type"] == "websocket.disconnect":
            raise _GoneError
        text = message.get("text")
        return text if text is not None else message["bytes"]

    async def _send(self, content: dict[str, Any]) -> None:
        try:
            text = json.dumps(content, ensure_ascii=False)
            await asyncio.wait_for(self._websocket.send_text(text), SEND_SECONDS)
        except _GONE:
            raise _GoneError from None

    async def _tell(self, heard: Sequence[Partial | Heard], transcriber: Transcriber) -> None:
        for each in heard:
            if isinstance(each, Heard):
                segment = serialize.segment(each, transcriber.separator)
                await self._send({"type": "final", **segment.model_dump()})
            else:
                await self._send(
                    {
                        "type": "partial",
                        "start": round(each.start, serialize.DECIMALS),
                        "seconds": round(each.seconds, serialize.DECIMALS),
                        "text": each.text,
                    }
                )

    async def fail(self, code: int, message: str) -> None:
        """Tells the client what is wrong, if it is there, and closes."""
        try:
            await self._send({"type": "error", "error": message})
            await asyncio.wait_for(self._websocket.close(code), SEND_SECONDS)
        except (_GoneError, *_GONE):
            pass


class _Resampler:
    """Samples of a client's rate -> those of the model's."""

    def __init__(self, rate: int, wanted_rate: int) -> None:
        self._same = rate == wanted_rate
        self._stream = soxr.ResampleStream(rate, wanted_rate, 1, dtype="float32", quality="HQ")

    def __call__(self, message: bytes, last: bool = False) -> Samples:
        """float32 [samples] at int16 scale."""
        samples = np.frombuffer(message, "<i2").astype(np.float32)
        if self._same:
            return samples
        scaled = self._stream.resample_chunk(samples / INT16_SCALE, last=last)
        return np.asarray(scaled * np.float32(INT16_SCALE))


def _feed(live: LiveTranscriber, resampler: _Resampler, message: bytes) -> list[Any]:
    samples = resampler(message)
    return list(live.feed(samples)) if len(samples) else []


def _finish(live: LiveTranscriber, resampler: _Resampler) -> list[Any]:
    rest = resampler(b"", last=True)
    heard = list(live.feed(rest)) if len(rest) else []
    return heard + list(live.finish())


def _rate_of(message: str | bytes) -> int:
    """The sample rate in a stream's first message."""
    content = _json(message) if isinstance(message, str) else None
    rate = content.get("sample_rate") if isinstance(content, dict) else None
    if type(rate) is not int or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise StreamError(
            REFUSED,
            'A stream begins with {"sample_rate": 48000}, a whole number from '
            f"{LOWEST_RATE} to {HIGHEST_RATE} in Hz, as text, not with {shown(content)}.",
        )
    return rate


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
