"""The WebSocket of vosk-server, for its clients.

The client sends {"config": {"sample_rate": 16000}} as text, samples as binary messages, as in
/api/stream, and {"eof": 1}. Each message of samples is answered by {"partial"} or, at a pause, by
{"result", "text"}; eof by the rest. https://github.com/alphacep/vosk-server has clients.
"""

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, WebSocket

from speech.serving.http import VOSK
from speech.serving.routers.streams import (
    HIGHEST_RATE,
    LOWEST_RATE,
    REFUSED,
    Resampler,
    Stream,
    StreamError,
    feed,
    finish,
    parse_json,
    streams_of,
)
from speech.serving.schemas.requests import format_value
from speech.serving.service import Service
from speech.serving.services.serialize import DECIMALS
from speech.transcription.live import LiveTranscriber, PartialTranscript
from speech.transcription.subtitles import join_words
from speech.transcription.transcriber import TranscribedSegment, Transcriber

DEFAULT_RATE = 8000  # Hz, vosk-server's


def router(service: Service) -> APIRouter:
    """Returns the routes of vosk-server's WebSocket."""
    routes = APIRouter()
    streams = streams_of(service)

    async def stream(websocket: WebSocket) -> None:
        await streams.serve(websocket, VoskStream)

    for path in VOSK:
        routes.add_api_websocket_route(path, stream)
    return routes


class VoskStream(Stream):
    """The stream of one client of vosk-server."""

    async def serve(self, transcriber: Transcriber, candidates: int) -> None:
        """Receives samples and answers each message until the client ends the stream."""
        rate, message = DEFAULT_RATE, await self.receive()
        while isinstance(message, str) and "config" in (content := _object_of(message)):
            rate, message = _rate_in(content["config"], rate), await self.receive()
        live = await self.run(LiveTranscriber, transcriber)
        resampler = Resampler(rate, transcriber.sample_rate)
        partial = ""
        while not isinstance(message, str):
            ended: list[TranscribedSegment] = []
            for piece in self.pieces(message, rate):
                for each in await self.run(feed, live, resampler, piece):
                    if isinstance(each, PartialTranscript):
                        partial = each.text
                    else:
                        partial = ""
                        ended.append(each)
            result = _result(ended, transcriber.separator)
            await self.send(result if ended else {"partial": partial})
            message = await self.receive()
        if "eof" not in _object_of(message):
            raise StreamError(
                REFUSED,
                f"The message {format_value(message)} is unknown here: send samples or "
                '{"eof": 1}, and {"config": {"sample_rate": 16000}} before samples.',
            )
        rest = await self.run(finish, live, resampler)
        ended = [each for each in rest if isinstance(each, TranscribedSegment)]
        await self.send(_result(ended, transcriber.separator))
        await self.close()


def _result(segments: Iterable[TranscribedSegment], separator: str) -> dict[str, Any]:
    words = [word for each in segments for word in each.transcript.words]
    result = [
        {
            "conf": 1.0,  # unknown
            "start": round(word.start, DECIMALS),
            "end": round(word.start + word.duration, DECIMALS),
            "word": word.text,
        }
        for word in words
    ]
    text = {"text": join_words(words, separator)}
    return {"result": result, **text} if words else text


def _object_of(message: str) -> dict[str, Any]:
    content = parse_json(message)
    return content if isinstance(content, dict) else {}


def _rate_in(config: Any, default: int) -> int:
    """Returns the sample rate of a configuration; raises StreamError if it isn't valid."""
    rate = config.get("sample_rate", default) if isinstance(config, dict) else None
    if not isinstance(rate, int | float) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise StreamError(
            REFUSED,
            f"The configuration's sample_rate is {format_value(rate)}: send a number from "
            f"{LOWEST_RATE} to {HIGHEST_RATE} in Hz.",
        )
    return int(rate)
