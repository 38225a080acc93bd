"""The routes: what is asked -> what is answered."""

import asyncio
import contextlib
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from speech.serving import requirements  # noqa: F401  # isort: skip
from fastapi import FastAPI, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from speech.audio.media_type import media_type_of
from speech.serving import metrics, uploads
from speech.serving.errors import RequestError, sendable
from speech.serving.http import STREAM, Front
from speech.serving.metrics import Metrics
from speech.serving.routers import serialize
from speech.serving.routers.streams import Streams
from speech.serving.schemas import invocations, responses
from speech.serving.schemas import requests as options
from speech.serving.schemas.invocations import Invocation, Recording
from speech.serving.schemas.requests import Asked
from speech.serving.services import test_sets
from speech.serving.services.catalogue import ServedModel
from speech.serving.services.listening import Listener, Share
from speech.serving.services.reloading import Served
from speech.serving.services.test_sets import Recognised
from speech.serving.slots import Slots
from speech.transcription.acoustic_stream import is_exact

T = TypeVar("T")

WEB = os.path.join(os.path.dirname(__file__), "web")

# Those that the process may use, where the system tells.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
THREADS = CORES or 1
# Streams wait on their threads for the model's: more of them than cores.
STREAM_THREADS = 8

# Uploads may be slow: so many of them for each request that may be under way.
UPLOADS_PER_SLOT = 4
MOST_ROWS = 100  # of a test set's page

# Requests that are broken off when the server is stopped have so long to tidy up.
TIDY_SECONDS = 3.0

PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": responses.Problem, "description": "A bad request or option."},
    404: {"model": responses.Problem, "description": "There is no such model, scorer or set."},
    503: {"model": responses.Problem, "description": "Too many requests; Retry-After tells when."},
}
AUDIO_PROBLEMS: dict[int | str, dict[str, Any]] = {
    **PROBLEMS,
    408: {"model": responses.Problem, "description": "The upload is too slow."},
    413: {"model": responses.Problem, "description": "Too many bytes or seconds."},
    415: {"model": responses.Problem, "description": "No audio, or damaged."},
    507: {"model": responses.Problem, "description": "The disk for uploads is full."},
}

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_RANGE = re.compile(r"bytes=([0-9]{,18})-([0-9]{,18})$")


@dataclass(frozen=True)
class Limits:
    """What a request may take."""

    upload_bytes: int
    seconds: float  # of a recording
    requests: int  # that may be under way or wait at once


def create_app(
    served: Served, limits: Limits, batch_size: int, told: Metrics, hosts: Collection[str]
) -> ASGIApp:
    """The server's application.

    Args:
        served: closed with the application.
        batch_size: most utterances that a model hears at once.
        told: where the models' batches are counted already.
        hosts: names of the server, as of `Front`.
    """
    service = _Service(served, limits, batch_size, told)
    app = FastAPI(
        title="Deep Speech",
        version="1",
        description="Speech to text.",
        docs_url=None,  # they fetch scripts from elsewhere
        redoc_url=None,
        lifespan=service.lifespan,
    )
    _handle_errors(app)
    _add_page(app)
    _add_api(app, service)
    _add_sets(app, service)
    _add_sagemaker(app, service)
    _add_streams(app, service)
    _describe(app)
    return Front(app, told, hosts)


class _Service:
    """What the routes share."""

    def __init__(self, served: Served, limits: Limits, batch_size: int, told: Metrics) -> None:
        self.served = served
        self.limits = limits
        self.metrics = told
        self.threads = ThreadPoolExecutor(THREADS, "listening")
        self.stream_threads = ThreadPoolExecutor(STREAM_THREADS, "stream")
        self.listener = Listener(self.threads, THREADS, limits.seconds, batch_size)
        self.slots = Slots(limits.requests, "transcriptions are under way", told.waiting.set)
        self.uploads = Slots(
            UPLOADS_PER_SLOT * limits.requests, "uploads are coming in", told.uploading.set
        )
        self.streams = Slots(limits.requests, "streams are open", told.streams.set)
        self.folder = ""  # of uploads, while the application runs

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        async with self.served.reloading():
            with tempfile.TemporaryDirectory(prefix="deep-speech-uploads-") as self.folder:
                yield
                await self._tidied()
            self.threads.shutdown(cancel_futures=True)
            self.stream_threads.shutdown(cancel_futures=True)

    async def _tidied(self) -> None:
        """Waits until no request is under way, or for TIDY_SECONDS."""
        until = time.monotonic() + TIDY_SECONDS
        places = (self.slots, self.uploads, self.streams)
        while any(each.taken for each in places) and time.monotonic() < until:
            await asyncio.sleep(0.02)

    def share(self, request: Request) -> Share:
        """A request's share of the threads, while its client is there."""

        async def wanted() -> None:
            if await request.is_disconnected():
                raise ClientDisconnect

        return self.listener.share(wanted)

    async def transcribe(self, share: Share, path: str, asked: Asked) -> responses.Transcription:
        """The answer to a recording; it has a slot."""
        with self.served.use() as loaded:
            choice = await share.run(loaded.catalogue.choose, asked)
            listened = await self.listener.hear(
                path, choice, asked.candidates, asked.details, share
            )
        self.metrics.audio_seconds.inc(listened.seconds)
        return await share.run(serialize.transcription, listened, choice)

    async def transcribe_bytes(
        self, share: Share, content: bytes, asked: Asked
    ) -> responses.Transcription:
        """Likewise, of a recording in memory."""
        with uploads.stored(self.folder) as file:
            await share.run(file.write, content)
            await share.run(file.flush)
            return await self.transcribe(share, file.name, asked)

    async def transcribe_recording(
        self, share: Share, recording: Recording | RequestError
    ) -> responses.Transcription:
        """Likewise, of one of a request's recordings."""
        if isinstance(recording, RequestError):
            raise recording
        with invocations.told_where(recording.where):
            return await self.transcribe_bytes(share, recording.content, recording.asked)

    async def transcribe_line(self, share: Share, recording: Recording | RequestError) -> str:
        """Likewise, as a line of JSON, which also says if the recording is refused."""
        answer: responses.Transcription | responses.Problem
        try:
            answer = await self.transcribe_recording(share, recording)
        except RequestError as error:
            if error.status >= 500:  # not the line's fault: it may be sent again
                raise
            answer = responses.Problem(error=sendable(error.message))
        return f"{answer.model_dump_json()}\n"

    async def transcribe_all(
        self,
        request: Request,
        recordings: Sequence[Recording | RequestError],
        transcribe: Callable[[Share, Recording | RequestError], Coroutine[Any, Any, T]],
    ) -> list[T]:
        """What `transcribe` answers to each of a request's recordings; an error ends the others."""
        share = self.share(request)
        with self.slots.one():
            tasks = [asyncio.create_task(transcribe(share, each)) for each in recordings]
            try:
                return list(await asyncio.gather(*tasks))
            finally:  # no task outlives the slot
                for each in tasks:
                    each.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def transcribe_body(self, request: Request, *given: Any) -> responses.Transcription:
        """Likewise, of a request's body; given: options beside it, which a form's come before."""
        self.slots.check()
        with self.uploads.one():
            async with uploads.received(request, self.folder, self.limits.upload_bytes) as upload:
                asked = options.read(*given, upload.fields)
                with self.slots.one():
                    return await self.transcribe(self.share(request), upload.path, asked)


def _problem(status: int, message: str, headers: Any = None) -> JSONResponse:
    return JSONResponse({"error": sendable(message)}, status, headers)


def _handle_errors(app: FastAPI) -> None:
    """Every refusal is {"error"} with a sentence."""

    @app.exception_handler(RequestError)
    async def refuse(request: Request, error: RequestError) -> JSONResponse:
        again = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        return _problem(error.status, error.message, again)

    @app.exception_handler(RequestValidationError)
    async def refuse_values(request: Request, error: RequestValidationError) -> JSONResponse:
        return _problem(400, options.sentence(error.errors()))

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> JSONResponse:
        what = f"{request.method} {options.shown(request.url.path)}"
        messages = {
            404: f"{what} is nothing here: /openapi.json tells what there is.",
            405: f"{what} isn't answered: /openapi.json tells which methods are.",
        }
        message = messages.get(error.status_code, f"{what}: {error.detail}.")
        return _problem(error.status_code, message, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return _problem(400, "The upload was broken off: send it whole.")  # nobody reads it

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> JSONResponse:
        return _problem(500, "The server failed; its log tells why.")


def _add_page(app: FastAPI) -> None:
    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(os.path.join(WEB, "index.html"), headers={"cache-control": "no-cache"})

    app.mount("/static", StaticFiles(directory=WEB), name="static")


def _add_api(app: FastAPI, service: _Service) -> None:
    @app.get("/api/models", summary="Models, scorers, limits and defaults")
    async def models() -> responses.Models:
        catalogue = service.served.now.catalogue
        default = catalogue.default_model
        return responses.Models(
            models=[_model(each) for each in catalogue.models.values()],
            scorers=[
                responses.NamedScorer(
                    name=name,
                    models=[
                        each.name for each in catalogue.models.values() if name in each.scorers
                    ],
                )
                for name in catalogue.scorers
            ],
            limits=responses.Limits(
                upload_bytes=service.limits.upload_bytes, seconds=service.limits.seconds
            ),
            defaults=responses.Defaults(
                model=default.name,
                scorer=catalogue.scorer_of(default, None),
                beam_width=catalogue.defaults.beam_width,
            ),
        )

    @app.post(
        "/api/transcribe",
        summary="What was said in a recording",
        responses=AUDIO_PROBLEMS,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    uploads.FORM: {"schema": _form_schema()},
                    "audio/*": _BINARY,
                    "application/octet-stream": _BINARY,
                },
            }
        },
    )
    async def transcribe(
        request: Request, query: Annotated[Asked, Query()]
    ) -> responses.Transcription:
        return await service.transcribe_body(request, query.model_dump(exclude_unset=True))

    @app.get(
        "/metrics",
        summary="Prometheus' metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    async def tell() -> Response:
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)


def _model(served: ServedModel) -> responses.Model:
    description = served.model.description
    config = description.config
    return responses.Model(
        name=served.name,
        title=description.naming.name or served.name,
        language=description.naming.language,
        network=config.network.name,
        step=description.checkpoint_step,
        sample_rate=config.front_end.sample_rate,
        streams=is_exact(served.model),
        labels=[*config.alphabet.characters, ""],
    )


def _form_schema() -> dict[str, Any]:
    schema = Asked.model_json_schema()
    told = f"A sound file; the field's name is {uploads.NAMED_FIELDS}."
    audio = {"type": "string", "format": "binary", "description": told}
    return {
        "type": "object",
        "anyOf": [{"required": [name]} for name in uploads.FIELDS],
        "properties": {**dict.fromkeys(uploads.FIELDS, audio), **schema["properties"]},
    }


def _add_sets(app: FastAPI, service: _Service) -> None:
    @app.get("/api/sets", summary="Prepared test sets")
    async def sets() -> responses.Sets:
        return responses.Sets(
            sets=[
                responses.Set(
                    name=each.name,
                    utterances=len(each.utterances),
                    seconds=round(each.shards.index.audio_seconds, serialize.DECIMALS),
                    audio=each.audio is not None,
                )
                for each in service.served.now.sets.sets.values()
            ]
        )

    @app.get(
        "/api/sets/{name}",
        summary="A page of a test set: reference, hypothesis and errors",
        responses=PROBLEMS,
    )
    async def page(
        request: Request,
        name: str,
        model: Annotated[str | None, Query(description="Name of a model.")] = None,
        scorer: Annotated[str | None, Query(description="Name of a scorer; empty: none.")] = None,
        offset: Annotated[int, Query(ge=0, description="The first utterance's number.")] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS, description="Most utterances.")] = 20,
    ) -> responses.Page:
        asked = options.read({"model": model, "scorer": scorer})
        with service.served.use() as loaded:
            found = loaded.sets.find(name)
            choice = await service.listener.run(loaded.catalogue.choose, asked)
            with service.slots.one():
                rows = await found.page(
                    choice, offset, limit, service.listener, service.share(request)
                )
        return responses.Page(
            name=found.name,
            utterances=len(found.utterances),
            offset=offset,
            rows=[_row(found, each) for each in rows],
            rates=_rates(rows),
            so_far=_rates(list(found.kept(choice).values())),
        )

    @app.get(
        "/api/sets/{name}/audio/{utterance_id:path}",
        summary="A recording of a test set",
        response_class=Response,
        responses={
            200: {"content": {"audio/*": _BINARY}},
            206: {"content": {"audio/*": _BINARY}, "description": "The range that was asked for."},
            404: {"model": responses.Problem, "description": "There is no such recording."},
            416: {"model": responses.Problem, "description": "It has no such range."},
        },
    )
    async def audio(request: Request, name: str, utterance_id: str) -> Response:
        found = service.served.now.sets.find(name)
        content = await service.listener.run(found.recording, utterance_id)
        if content is None:
            raise RequestError(
                404,
                f"There is no recording of {options.shown(utterance_id)} in {found.name}: "
                "serve.py --audio names the folders of recordings.",
            )
        return ranged(content, request.headers.get("range"))


def ranged(content: bytes, asked: str | None) -> Response:
    """A sound file or a range of it, as players ask for that seek.

    Args:
        asked: the header Range; one that isn't understood, or has several ranges, is none.

    Raises:
        RequestError: the file has no such range (416).
    """
    kind, size = media_type_of(content), len(content)
    headers = {"accept-ranges": "bytes", "cache-control": "private, max-age=3600"}
    match = _RANGE.match(asked or "")
    if not match or match[0] == "bytes=-":
        return Response(content, headers=headers, media_type=kind)
    if match[1]:
        start, end = int(match[1]), min(int(match[2] or size), size - 1)
    else:
        start, end = max(size - int(match[2]), 0), size - 1
    if not start <= end:
        raise RequestError(416, f"The recording has {size} bytes: ask for some of them.")
    headers["content-range"] = f"bytes {start}-{end}/{size}"
    return Response(content[start : end + 1], 206, headers, kind)


def _row(found: test_sets.TestSet, recognised: Recognised) -> responses.Row:
    result = recognised.result
    address = f"/api/sets/{quote(found.name, '')}/audio/{quote(result.utterance_id, '')}"
    return responses.Row(
        id=result.utterance_id,
        reference=result.reference,
        hypothesis=result.hypothesis,
        wer=result.words.rate,
        cer=result.characters.rate,
        seconds=round(recognised.seconds, serialize.DECIMALS),
        audio=address if found.audio else None,
        words=test_sets.signed_words(result),  # type: ignore[arg-type]  # pydantic checks the signs
    )


def _rates(rows: list[Recognised]) -> responses.Rates:
    words, characters = test_sets.rates(rows)
    return responses.Rates(
        utterances=len(rows), words=words.length, wer=words.rate, cer=characters.rate
    )


def _add_sagemaker(app: FastAPI, service: _Service) -> None:
    @app.head("/ping", include_in_schema=False)
    @app.get(
        "/ping",
        summary="SageMaker's health check",
        response_class=Response,
        responses={503: {"model": responses.Problem, "description": "A model's thread has died."}},
    )
    async def ping() -> Response:
        if not service.served.now.catalogue.alive:
            raise RequestError(503, "A model's thread has died: start the server again.")
        return Response(status_code=200)

    instance = responses.Instance.model_json_schema()
    body = {
        "anyOf": [
            instance,
            {"type": "object", "properties": {"instances": {"type": "array", "items": instance}}},
        ]
    }

    @app.post(
        "/invocations",
        summary="SageMaker's inference requests",
        response_model=responses.Transcription | responses.Predictions,
        responses=AUDIO_PROBLEMS,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    invocations.JSON: {"schema": body},
                    invocations.JSON_LINES: {"schema": {"type": "string"}},
                    invocations.ARRAY: _BINARY,
                    "audio/*": _BINARY,
                    "application/octet-stream": _BINARY,
                },
            },
            "parameters": [
                {
                    "name": invocations.ATTRIBUTES_HEADER,
                    "in": "header",
                    "description": "Options of /api/transcribe: beam_width=200;candidates=3",
                    "schema": {"type": "string"},
                },
                {
                    "name": invocations.MODEL_HEADER,
                    "in": "header",
                    "description": "Name of a model, see /api/models.",
                    "schema": {"type": "string"},
                },
            ],
        },
    )
    async def invoke(request: Request) -> Response:
        asked = invocations.asked_for(request.headers)
        # What the headers ask for is refused before any line is read.
        model = service.served.now.catalogue.served(options.read(asked).model).model
        kind = invocations.form_of(uploads.media_type(request))
        most = service.limits.upload_bytes
        read: Callable[[bytes], Invocation]
        if kind == invocations.ARRAY:
            rate = model.description.config.front_end.sample_rate
            read = partial(invocations.read_array, asked=asked, rate=rate)
        elif kind == invocations.JSON_LINES:
            read = partial(invocations.read_json_lines, asked=asked, most_bytes=most)
        elif kind == invocations.JSON:
            read = partial(invocations.read_json, asked=asked, most_bytes=most)
        else:
            return _answer(await service.transcribe_body(request, asked))
        service.slots.check()
        with service.uploads.one():
            most = min(most * 4 // 3 + 2**16, invocations.MOST_BYTES)
            content = b"".join([each async for each in uploads.chunks(request, most)])
            invocation = await service.listener.run(read, content)
            del content
            heard = partial(service.transcribe_all, request, invocation.recordings)
            if kind == invocations.JSON_LINES:
                lines = await heard(service.transcribe_line)
                return Response("".join(lines), media_type=invocations.JSON_LINES)
            found = await heard(service.transcribe_recording)
        if invocation.instances:
            return _answer(responses.Predictions(predictions=found))
        return _answer(found[0])


def _answer(content: responses.Transcription | responses.Predictions) -> Response:
    return Response(content.model_dump_json(), media_type=invocations.JSON)


def _add_streams(app: FastAPI, service: _Service) -> None:
    streams = Streams(
        service.served,
        service.stream_threads,
        service.streams,
        service.limits.seconds,
        service.metrics.audio_seconds.inc,
    )

    @app.websocket(STREAM)
    async def stream(websocket: WebSocket) -> None:
        await streams.serve(websocket)


def _describe(app: FastAPI) -> None:
    """Makes /openapi.json without what FastAPI says of refusals: they are 400 and {"error"}."""

    def described() -> dict[str, Any]:
        if not app.openapi_schema:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            for path in schema["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            schemas = schema.get("components", {}).get("schemas", {})
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI's documentation has it
