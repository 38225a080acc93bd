"""Routes of OpenAI's audio API: models and transcriptions, whole or as server-sent events."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, TypeAdapter
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from speech.decoding.alignment import TimedWord
from speech.serving import uploads
from speech.serving.errors import RequestError
from speech.serving.schemas import openai as schemas
from speech.serving.schemas import responses
from speech.serving.schemas.openai import Options
from speech.serving.service import Service
from speech.serving.services import openai
from speech.serving.services.catalogue import Choice
from speech.serving.uploads import Upload
from speech.transcription.subtitles import text_after
from speech.transcription.transcriber import TranscribedSegment

EVENTS = "text/event-stream"
# So that nginx passes each event on.
EVENT_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def router(service: Service) -> APIRouter:
    """Returns the routes below /v1."""
    routes = APIRouter()
    absent: dict[int | str, dict[str, Any]] = {404: schemas.AUDIO_PROBLEMS[404]}

    @routes.get("/v1/models", summary="Models, as OpenAI lists them")
    async def list_models() -> schemas.OpenAIModels:
        return openai.models(service.resources.current)

    @routes.get("/v1/models/{name:path}", summary="A model, as OpenAI has it", responses=absent)
    async def get_model(name: str) -> schemas.OpenAIModel:
        return openai.model(name, service.resources.current)

    @routes.post(
        "/v1/audio/transcriptions",
        summary="Transcript of a recording, as OpenAI returns it",
        response_class=Response,
        responses={200: {"content": _content()}, **schemas.AUDIO_PROBLEMS},
        openapi_extra={"requestBody": {"required": True, "content": _form()}},
    )
    async def transcribe_form(request: Request) -> Response:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            async with service.received(request) as upload:
                options = schemas.read(upload.fields)
                served = service.resources.current.catalogue.models
                options.model = openai.served_name(options.model, served)
                if options.stream:
                    await _stream(service, request, upload, options, send)
                    return
                response = await _transcribe(service, request, upload, options)
            await response(scope, receive, send)

        return _Answer(answer)

    return routes


class _Answer(Response):
    """A response whose content is made while it is sent.

    Only a response can send; and slot and upload are held by the same function from the first byte
    to the last, so that none is left over when a client leaves.
    """

    def __init__(self, answer: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        super().__init__()
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(scope, receive, send)


async def _transcribe(
    service: Service, request: Request, upload: Upload, options: Options
) -> Response:
    share = service.share(request)
    result, choice = await service.recognise(share, upload.path, options)
    content, kind = await share.run(openai.formatted, result, choice, options)
    return Response(content, media_type=kind)


async def _stream(
    service: Service, request: Request, upload: Upload, options: Options, send: Send
) -> None:
    """Sends the text of each segment when it is known.

    A refusal before the first one has its own status; a later one is an event.
    """
    events = _Events(send)
    try:
        await service.recognise(service.share(request), upload.path, options, events.add)
        await events.finish()
    except RequestError as error:
        if not events.begun:
            raise
        await events.send(schemas.problem(error), last=True)
    except ClientDisconnect:
        if not events.begun:
            raise


class _Events:
    """The server-sent events of a transcription."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._last: Sequence[TimedWord] = ()  # of the segments so far, the last with words
        self._text = ""
        self.begun = False

    async def add(self, choice: Choice, segments: Sequence[TranscribedSegment]) -> None:
        for each in segments:
            if words := each.transcript.words:
                text = text_after(self._last, words, choice.transcriber.separator)
                self._last = words
                self._text += text
                await self.send(schemas.Delta(delta=text))

    async def finish(self) -> None:
        await self.send(schemas.Done(text=self._text), last=True)

    async def send(self, event: BaseModel, last: bool = False) -> None:
        if not self.begun:
            self.begun = True
            head = Response(headers=EVENT_HEADERS, media_type=EVENTS)
            del head.headers["content-length"]
            await self._send(
                {"type": "http.response.start", "status": 200, "headers": head.raw_headers}
            )
        body = f"data: {event.model_dump_json()}\n\n".encode()
        await self._send({"type": "http.response.body", "body": body, "more_body": not last})


def _content() -> dict[str, Any]:
    """Returns the OpenAPI description of the forms of a transcript."""
    either = TypeAdapter(schemas.OpenAITranscription | schemas.VerboseTranscription).json_schema()
    text = {"schema": {"type": "string"}}
    return {openai.JSON: {"schema": either}} | dict.fromkeys(
        (openai.TEXT, openai.WEBVTT, EVENTS), text
    )


def _form() -> dict[str, Any]:
    """Returns the OpenAPI description of the form."""
    schema = Options.model_json_schema()
    properties = {"file": responses.BINARY["schema"], **schema["properties"]}
    properties["timestamp_granularities[]"] = properties.pop("timestamp_granularities")
    return {
        uploads.FORM: {"schema": {"type": "object", "required": ["file"], "properties": properties}}
    }
