"""Routes of the corpus that visitors record: speakers, prompts and takes."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request
from fastapi.responses import FileResponse, Response
from starlette.concurrency import run_in_threadpool

from speech.recordings.store import OfferedPrompt, Take
from speech.serving import uploads
from speech.serving.schemas import requests, responses
from speech.serving.schemas.requests import SpeakerRequest, TakeForm
from speech.serving.service import Service
from speech.serving.services.recordings import Recordings
from speech.transcription.subtitles import DECIMALS

Token = Annotated[str | None, Header(alias="Speaker-Token", description="Of the speaker.")]
TakeId = Annotated[
    str, Path(pattern="^[A-Za-z0-9_-]{8,64}$", description="Chosen by the client, at random.")
]

PROBLEMS: dict[int | str, dict[str, Any]] = {
    **responses.AUDIO_PROBLEMS,
    409: {"model": responses.Problem, "description": "The consent or the take has changed."},
    410: {"model": responses.Problem, "description": "The speaker is unknown."},
}


def router(service: Service, recordings: Recordings) -> APIRouter:
    """Returns the routes below /api/recordings."""
    routes = APIRouter(prefix="/api/recordings", responses=PROBLEMS)

    @routes.get("", summary="Prompts, and the speaker's takes")
    async def overview(token: Token = None) -> responses.Recordings:
        return await run_in_threadpool(_overview, recordings, token)

    @routes.post("/speaker", summary="Adds a speaker, or renews the speaker's consent")
    async def enter(request: SpeakerRequest, token: Token = None) -> responses.SpeakerToken:
        return responses.SpeakerToken(
            token=await run_in_threadpool(recordings.enter, token, request)
        )

    @routes.delete("/speaker", summary="Removes a speaker and all takes", status_code=204)
    async def remove_speaker(token: Token = None) -> None:
        speaker = await run_in_threadpool(recordings.speaker, token)
        await run_in_threadpool(recordings.store.remove_speaker, speaker)

    @routes.put(
        "/takes/{take_id}",
        summary="Stores a take; the same request may be repeated",
        openapi_extra={
            "requestBody": {"required": True, "content": {uploads.FORM: {"schema": _schema()}}}
        },
    )
    async def store(request: Request, take_id: TakeId, token: Token = None) -> responses.Take:
        speaker = await run_in_threadpool(recordings.speaker, token, True)
        with service.uploads.one():
            async with uploads.received(
                request, service.folder, service.limits.upload_bytes
            ) as upload:
                take = await run_in_threadpool(
                    recordings.add,
                    speaker,
                    take_id,
                    upload.path,
                    requests.validated(TakeForm, upload.fields),
                    service.limits.seconds,
                )
        return _take(take)

    @routes.get("/takes/{take_id}/audio", summary="A take's sound", response_class=Response)
    async def audio(take_id: TakeId, token: Token = None) -> FileResponse:
        speaker = await run_in_threadpool(recordings.speaker, token)
        take = await run_in_threadpool(recordings.take, speaker, take_id)
        return FileResponse(
            recordings.store.audio_path(take.audio),
            media_type="audio/flac",
            headers={"cache-control": "no-store"},  # a deleted voice isn't kept
        )

    @routes.delete("/takes/{take_id}", summary="Removes a take", status_code=204)
    async def remove_take(take_id: TakeId, token: Token = None) -> None:
        speaker = await run_in_threadpool(recordings.speaker, token)
        take = await run_in_threadpool(recordings.take, speaker, take_id)
        await run_in_threadpool(recordings.store.remove_take, take)

    return routes


def _overview(recordings: Recordings, token: str | None) -> responses.Recordings:
    speaker = recordings.store.find_speaker(token or "")
    if speaker is None:
        return responses.Recordings(
            consent=recordings.consent, name=None, agreed=False, corrections=0, prompts=[]
        )
    takes = recordings.store.takes_of(speaker)
    return responses.Recordings(
        consent=recordings.consent,
        name=speaker.name,
        agreed=speaker.consent == recordings.consent,
        corrections=sum(each.prompt_id is None for each in takes),
        prompts=[_prompt(each) for each in recordings.store.offered_prompts(speaker, takes)],
    )


def _prompt(offered: OfferedPrompt) -> responses.OfferedPrompt:
    return responses.OfferedPrompt(
        prompt_id=offered.prompt.prompt_id,
        text=offered.prompt.text,
        others=offered.others,
        take=_take(offered.take) if offered.take else None,
    )


def _take(take: Take) -> responses.Take:
    return responses.Take(
        take_id=take.take_id,
        seconds=round(take.seconds, DECIMALS),
        problem=take.check.problem,
        usable=take.check.usable,
    )


def _schema() -> dict[str, Any]:
    """Returns the JSON schema of a take's form."""
    schema = TakeForm.model_json_schema()
    audio = {"type": "string", "format": "binary", "description": "A sound file."}
    return {**schema, "properties": {uploads.FIELDS[0]: audio, **schema["properties"]}}
