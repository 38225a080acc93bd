"""Routes of SageMaker's contract: a health check, and inference requests in several forms."""

from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from speech.serving import uploads
from speech.serving.errors import RequestError
from speech.serving.schemas import invocations, requests, responses
from speech.serving.schemas.invocations import Invocation
from speech.serving.service import Service


def router(service: Service) -> APIRouter:
    """Returns the routes /ping and /invocations."""
    routes = APIRouter()

    @routes.head("/ping", include_in_schema=False)
    @routes.get(
        "/ping",
        summary="SageMaker's health check",
        response_class=Response,
        responses={503: {"model": responses.Problem, "description": "A model's thread has died."}},
    )
    async def ping() -> Response:
        if not service.resources.current.catalogue.alive:
            raise RequestError(503, "A model's thread has died: restart the server.")
        return Response(status_code=200)

    @routes.post(
        "/invocations",
        summary="SageMaker's inference requests",
        response_model=responses.Transcription | responses.Predictions,
        responses=responses.AUDIO_PROBLEMS,
        openapi_extra={"requestBody": _body_schema(), "parameters": _header_parameters()},
    )
    async def invoke(request: Request) -> Response:
        options = invocations.options_in_headers(request.headers)
        kind = invocations.canonical_type(uploads.media_type(request))
        read = _reader(service, kind, options)
        if read is None:
            return _response(await service.transcribe_body(request, options))
        service.slots.check()
        with service.uploads.one():
            most = min(service.limits.upload_bytes * 4 // 3 + 2**16, invocations.MOST_BYTES)
            content = b"".join([each async for each in uploads.chunks(request, most)])
            invocation = await service.workers.run(read, content)
            del content
            transcribe = partial(service.transcribe_all, request, invocation.recordings)
            if kind == invocations.JSON_LINES:
                lines = await transcribe(service.transcribe_line)
                return Response("".join(lines), media_type=invocations.JSON_LINES)
            found = await transcribe(service.transcribe_recording)
        if invocation.instances:
            return _response(responses.Predictions(predictions=found))
        return _response(found[0])

    return routes


def _reader(
    service: Service, kind: str, options: dict[str, str]
) -> Callable[[bytes], Invocation] | None:
    """Returns the function that parses a body; None for a body that is a recording itself.

    Args:
        kind: the body's type, see invocations.canonical_type.
        options: of the headers. They are checked here, before any of the body is read.

    Raises:
        RequestError: an option isn't known or valid, or there is no such model.
    """
    model = service.resources.current.catalogue.served(requests.read(options).model).model
    most = service.limits.upload_bytes
    if kind == invocations.ARRAY:
        rate = model.description.config.front_end.sample_rate
        return partial(invocations.read_array, options=options, rate=rate)
    if kind == invocations.JSON_LINES:
        return partial(invocations.read_json_lines, options=options, most_bytes=most)
    if kind == invocations.JSON:
        return partial(invocations.read_json, options=options, most_bytes=most)
    return None


def _response(content: responses.Transcription | responses.Predictions) -> Response:
    return Response(content.model_dump_json(), media_type=invocations.JSON)


def _body_schema() -> dict[str, Any]:
    """Returns the OpenAPI description of the forms of a body."""
    instance = responses.Instance.model_json_schema()
    body = {
        "anyOf": [
            instance,
            {"type": "object", "properties": {"instances": {"type": "array", "items": instance}}},
        ]
    }
    return {
        "required": True,
        "content": {
            invocations.JSON: {"schema": body},
            invocations.JSON_LINES: {"schema": {"type": "string"}},
            invocations.ARRAY: responses.BINARY,
            "audio/*": responses.BINARY,
            "application/octet-stream": responses.BINARY,
        },
    }


def _header_parameters() -> list[dict[str, Any]]:
    """Returns the OpenAPI description of SageMaker's headers."""
    return [
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
    ]
