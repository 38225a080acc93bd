"""Routes that list the test sets, and return their pages and recordings."""

import re
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from speech.audio.media_type import media_type_of
from speech.serving.errors import RequestError
from speech.serving.schemas import requests, responses
from speech.serving.service import Service
from speech.serving.services import test_sets
from speech.serving.services.test_sets import RecognisedUtterance, TestSet
from speech.transcription.subtitles import DECIMALS

MOST_ROWS = 100  # of a page

_RANGE = re.compile(r"bytes=([0-9]{,18})-([0-9]{,18})$")


def router(service: Service) -> APIRouter:
    """Returns the routes below /api/sets."""
    routes = APIRouter()

    @routes.get("/api/sets", summary="Prepared test sets")
    async def sets() -> responses.Sets:
        return responses.Sets(
            sets=[_set(each) for each in service.resources.current.sets.sets.values()]
        )

    @routes.get(
        "/api/sets/{name}",
        summary="A page of a test set: reference, hypothesis and errors",
        responses=responses.PROBLEMS,
    )
    async def page(
        request: Request,
        name: str,
        model: Annotated[str | None, Query(description="Name of a model.")] = None,
        scorer: Annotated[str | None, Query(description="Name of a scorer; empty: none.")] = None,
        offset: Annotated[int, Query(ge=0, description="The first utterance's number.")] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS, description="Most utterances.")] = 20,
    ) -> responses.Page:
        options = requests.read({"model": model, "scorer": scorer})
        with service.resources.use() as resources:
            found = resources.sets.find(name)
            choice = await service.workers.run(resources.catalogue.choose, options)
            with service.slots.one():
                rows = await found.page(
                    choice, offset, limit, service.workers, service.share(request)
                )
        return responses.Page(
            name=found.name,
            utterances=len(found.utterances),
            offset=offset,
            rows=[_row(found, each) for each in rows],
            rates=_rates(rows),
            so_far=_rates(list(found.kept(choice).values())),
        )

    @routes.get(
        "/api/sets/{name}/audio/{utterance_id:path}",
        summary="A recording of a test set",
        response_class=Response,
        responses={
            200: {"content": {"audio/*": responses.BINARY}},
            206: {"content": {"audio/*": responses.BINARY}, "description": "The requested range."},
            404: {"model": responses.Problem, "description": "There is no such recording."},
            416: {"model": responses.Problem, "description": "The recording has no such range."},
        },
    )
    async def audio(request: Request, name: str, utterance_id: str) -> Response:
        found = service.resources.current.sets.find(name)
        content = await service.workers.run(found.recording, utterance_id)
        if content is None:
            raise RequestError(
                404,
                f"There is no recording of {requests.format_value(utterance_id)} in {found.name}: "
                "serve.py --audio names the folders of recordings.",
            )
        return range_response(content, request.headers.get("range"))

    return routes


def range_response(content: bytes, header: str | None) -> Response:
    """Returns a sound file or a range of it: players request ranges to seek.

    Args:
        header: Range; one that can't be parsed, or has several ranges, is ignored.

    Raises:
        RequestError: the file has no such range (416).
    """
    kind, size = media_type_of(content), len(content)
    headers = {"accept-ranges": "bytes", "cache-control": "private, max-age=3600"}
    match = _RANGE.match(header or "")
    if not match or match[0] == "bytes=-":
        return Response(content, headers=headers, media_type=kind)
    if match[1]:
        start, end = int(match[1]), min(int(match[2] or size), size - 1)
    else:
        start, end = max(size - int(match[2]), 0), size - 1
    if not start <= end:
        raise RequestError(416, f"The recording has {size} bytes: request some of them.")
    headers["content-range"] = f"bytes {start}-{end}/{size}"
    return Response(content[start : end + 1], 206, headers, kind)


def _set(found: TestSet) -> responses.Set:
    return responses.Set(
        name=found.name,
        utterances=len(found.utterances),
        seconds=round(found.shards.index.audio_seconds, DECIMALS),
        audio=found.audio is not None,
    )


def _row(found: TestSet, recognised: RecognisedUtterance) -> responses.Row:
    result = recognised.result
    address = f"/api/sets/{quote(found.name, '')}/audio/{quote(result.utterance_id, '')}"
    return responses.Row(
        id=result.utterance_id,
        reference=result.reference,
        hypothesis=result.hypothesis,
        wer=result.words.rate,
        cer=result.characters.rate,
        seconds=round(recognised.seconds, DECIMALS),
        audio=address if found.audio else None,
        words=test_sets.signed_words(result),  # type: ignore[arg-type]  # pydantic checks the signs
    )


def _rates(rows: list[RecognisedUtterance]) -> responses.Rates:
    words, characters = test_sets.rates(rows)
    return responses.Rates(
        utterances=len(rows), words=words.length, wer=words.rate, cer=characters.rate
    )
