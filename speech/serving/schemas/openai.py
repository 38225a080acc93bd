"""Requests and responses of OpenAI's audio API.

Its classes that have namesakes in responses.py begin with OpenAI: /openapi.json has them by name.

Source: https://platform.openai.com/docs/api-reference/audio and the types of its Python package.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from speech.serving.errors import RequestError, sendable
from speech.serving.schemas import requests, responses
from speech.serving.schemas.requests import TranscriptionOptions

# The paths that answer as OpenAI does, also their refusals.
PREFIX = "/v1/"


class Options(TranscriptionOptions):
    """Fields of a form. Those of /api/transcribe are taken too, and unknown ones ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    response_format: Literal["json", "text", "srt", "vtt", "verbose_json"] = "json"
    timestamp_granularities: list[Literal["word", "segment"]] = Field(
        ["segment"], description="Of verbose_json: its words, its segments, or both."
    )
    stream: bool = Field(False, description="Whether to send the text segment by segment.")
    language: str = Field("", description="Ignored: the model has one.")
    prompt: str = Field("", description="Ignored: see hot_words.")
    temperature: float = Field(0, ge=0, le=1, description="Ignored: nothing is sampled.")


def read(fields: Mapping[str, str]) -> Options:
    """Returns the options in a form's fields.

    Raises:
        RequestError: a value isn't valid, or two don't go together (400).
    """
    given: dict[str, Any] = {name.removesuffix("[]"): value for name, value in fields.items()}
    if granularities := given.get("timestamp_granularities"):
        given["timestamp_granularities"] = granularities.split(",")
    try:
        options = Options.model_validate(given)
    except ValidationError as error:
        problems = error.errors()
        param = str(problems[0]["loc"][0])
        raise RequestError(400, requests.sentence(problems), param=param) from None
    chosen = options.response_format
    if "timestamp_granularities" in options.model_fields_set and chosen != "verbose_json":
        raise RequestError(
            400,
            f"timestamp_granularities need response_format verbose_json, not {chosen}.",
            param="timestamp_granularities",
        )
    if options.stream and chosen not in ("json", "text"):
        raise RequestError(
            400,
            f"A stream has the text only: leave out response_format {chosen}, or stream.",
            param="stream",
        )
    return options


class ProblemDetails(BaseModel):
    message: str = Field(description="What is wrong, the value, and the remedy.")
    type: Literal["invalid_request_error", "server_error"]
    param: str | None = Field(description="The field that is refused.")
    code: str | None = Field(examples=["model_not_found"])


class OpenAIProblem(BaseModel):
    """The body of every response that isn't a success."""

    error: ProblemDetails


def problem(error: RequestError) -> OpenAIProblem:
    """Returns the body of a refusal."""
    return OpenAIProblem(
        error=ProblemDetails(
            message=sendable(error.message),
            type="invalid_request_error" if error.status < 500 else "server_error",
            param=error.param,
            code=error.code,
        )
    )


AUDIO_PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": OpenAIProblem, "description": "The server has keys, and the request has none."},
    **{
        status: {**each, "model": OpenAIProblem}
        for status, each in responses.AUDIO_PROBLEMS.items()
    },
}


class OpenAIModel(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When the server loaded it, in seconds since 1970.")
    owned_by: str = "deep-speech"


class OpenAIModels(BaseModel):
    object: Literal["list"] = "list"
    data: list[OpenAIModel]


class OpenAITranscription(BaseModel):
    text: str


class OpenAIWord(BaseModel):
    word: str
    start: float = Field(description="Seconds from the recording's start.")
    end: float


class OpenAISegment(BaseModel):
    id: int
    seek: int = Field(description="Its start in hundredths of a second.")
    start: float = Field(description="Seconds from the recording's start.")
    end: float
    text: str = Field(description="The segments' texts, joined, are the recording's.")
    tokens: list[int] = Field(description="The text's labels, see /api/models.")
    temperature: float = 0.0
    avg_logprob: float = Field(description="The confidence, divided by the number of tokens.")
    compression_ratio: float = Field(description="Bytes of the text over those of its zlib.")
    no_speech_prob: float = Field(description="Always 0: segments without words are left out.")


class VerboseTranscription(BaseModel):
    task: Literal["transcribe"] = "transcribe"
    language: str = Field(description="The model's; empty: unknown.")
    duration: float = Field(description="Of the recording, in seconds.")
    text: str
    words: list[OpenAIWord] | None = None
    segments: list[OpenAISegment] | None = None


class Delta(BaseModel):
    type: Literal["transcript.text.delta"] = "transcript.text.delta"
    delta: str


class Done(BaseModel):
    type: Literal["transcript.text.done"] = "transcript.text.done"
    text: str
