"""Routes that list the models, transcribe a recording, and export metrics."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from speech.serving import metrics, uploads
from speech.serving.schemas import responses
from speech.serving.schemas.requests import TranscriptionOptions
from speech.serving.service import Service
from speech.serving.services.catalogue import Catalogue, ServedModel
from speech.transcription.acoustic_stream import is_exact


def router(service: Service) -> APIRouter:
    """Returns the routes /api/models, /api/transcribe and /metrics."""
    routes = APIRouter()

    @routes.get("/api/models", summary="Models, scorers, limits and defaults")
    async def models() -> responses.Models:
        limits = responses.Limits(
            upload_bytes=service.limits.upload_bytes, seconds=service.limits.seconds
        )
        return _models(service.resources.current.catalogue, limits, service.recordings is not None)

    @routes.post(
        "/api/transcribe",
        summary="Transcript of a recording",
        responses=responses.AUDIO_PROBLEMS,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    uploads.FORM: {"schema": _form_schema()},
                    "audio/*": responses.BINARY,
                    "application/octet-stream": responses.BINARY,
                },
            }
        },
    )
    async def transcribe(
        request: Request, query: Annotated[TranscriptionOptions, Query()]
    ) -> responses.Transcription:
        return await service.transcribe_body(request, query.model_dump(exclude_unset=True))

    @routes.get(
        "/metrics",
        summary="Metrics in Prometheus' format",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    async def tell() -> Response:
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)

    return routes


def _models(catalogue: Catalogue, limits: responses.Limits, recordings: bool) -> responses.Models:
    default = catalogue.default_model
    return responses.Models(
        models=[_model(each) for each in catalogue.models.values()],
        scorers=[
            responses.NamedScorer(
                name=name,
                models=[each.name for each in catalogue.models.values() if name in each.scorers],
            )
            for name in catalogue.scorers
        ],
        limits=limits,
        defaults=responses.Defaults(
            model=default.name,
            scorer=catalogue.scorer_of(default, None),
            beam_width=catalogue.defaults.beam_width,
        ),
        recordings=recordings,
    )


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
    """Returns the JSON schema of a form: a recording and the options."""
    schema = TranscriptionOptions.model_json_schema()
    about = f"A sound file; the field's name is {uploads.NAMED_FIELDS}."
    audio = {"type": "string", "format": "binary", "description": about}
    return {
        "type": "object",
        "anyOf": [{"required": [name]} for name in uploads.FIELDS],
        "properties": {**dict.fromkeys(uploads.FIELDS, audio), **schema["properties"]},
    }
