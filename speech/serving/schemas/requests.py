"""The options of a request, the same in form fields, query, JSON and SageMaker's attributes."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from speech.decoding.beam_search import BeamSettings, HotWords, parse_hot_word
from speech.decoding.scorer import LARGEST_GAIN
from speech.serving.errors import RequestError
from utils import UserError

# Memory and time grow with the width of a beam.
LARGEST_BEAM_WIDTH = 1024
MOST_CANDIDATES = 10
MOST_HOT_WORDS = 100
Schema = TypeVar("Schema", bound=BaseModel)

LONGEST_TEXT = 20_000  # characters of a corrected transcript
SHOWN_CHARACTERS = 80  # of a value, in a message


class TranscriptionOptions(BaseModel):
    """Options of a request. Those that aren't given have the server's defaults."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = Field(None, description="Name of a model, see /api/models.")
    scorer: str | None = Field(
        None, description="Name of a scorer that fits the model; empty for none."
    )
    beam_width: int | None = Field(
        None, ge=1, le=LARGEST_BEAM_WIDTH, description="Prefixes that the beam search keeps."
    )
    lm_alpha: float | None = Field(
        None, ge=0, le=LARGEST_GAIN, description="Weight of the scorer's language model."
    )
    lm_beta: float | None = Field(
        None, ge=-LARGEST_GAIN, le=LARGEST_GAIN, description="Nats that each word gains."
    )
    hot_words: str | None = Field(
        None, description="Words to favour, and the nats that each gains: word:7.5,other:3"
    )
    candidates: int = Field(1, ge=1, le=MOST_CANDIDATES, description="Most texts of a segment.")
    details: bool = Field(
        False,
        description="Also return the waveform and, for up to a minute, the network's inputs and "
        "outputs.",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: Any) -> Any:
        """Drops empty fields; an empty scorer stays, since it means no scorer."""
        if not isinstance(given, Mapping):
            return given
        return {name: value for name, value in given.items() if value != "" or name == "scorer"}


class SpeakerRequest(BaseModel):
    """A person who wants to record."""

    model_config = ConfigDict(str_strip_whitespace=True)

    name: str = Field(min_length=1, max_length=80, description="A name or pseudonym.")
    consent: str = Field(description="The text that the person agreed to.")


class TakeForm(BaseModel):
    """The fields of a take beside its sound: of a prompt, or of a corrected transcript."""

    model_config = ConfigDict(str_strip_whitespace=True)

    text: str = Field(min_length=1, max_length=LONGEST_TEXT, description="What was said.")
    prompt_id: str | None = Field(None, description="Of the sentence that was read.")
    heard: str | None = Field(
        None, max_length=LONGEST_TEXT, description="The hypothesis that text corrects."
    )
    model: str = ""
    scorer: str = ""

    @model_validator(mode="after")
    def _is_one(self) -> "TakeForm":
        if (self.prompt_id is None) == (self.heard is None):
            raise ValueError("give prompt_id for a sentence, or heard for a correction")
        return self


def read(*sources: Mapping[str, Any]) -> TranscriptionOptions:
    """Returns the options of a request; later sources have priority.

    Raises:
        RequestError: an option isn't known, or its value isn't valid (400).
    """
    given = {name: value for source in sources for name, value in source.items()}
    return validated(TranscriptionOptions, given)


def validated(schema: type[Schema], given: Mapping[str, Any]) -> Schema:
    """Returns the values of a request as `schema` describes them.

    Raises:
        RequestError: a value isn't valid (400).
    """
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        raise RequestError(400, sentence(error.errors())) from None


def sentence(problems: Any) -> str:
    """Formats pydantic's list of problems as sentences."""
    return " ".join(_problem(each) for each in problems)


def _problem(problem: Mapping[str, Any]) -> str:
    places = [str(each) for each in problem["loc"] if each not in ("query", "path", "body")]
    name = ".".join(places)
    name = _cut(name) if name.isidentifier() else format_value(name)
    if problem["type"] == "extra_forbidden":
        known = ", ".join(TranscriptionOptions.model_fields)
        return f"{name} is not an option: give some of {known}."
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    if not places:
        return f"The request is not complete: {message}."
    return f"{name} is {format_value(problem.get('input'))}: {message}."


def format_value(value: Any) -> str:
    """Formats a client's value for a message: short, and without invisible characters."""
    if isinstance(value, str):
        return repr(_cut(value))
    try:
        return _cut(json.dumps(value))
    except (TypeError, ValueError):
        return type(value).__name__


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def settings_of(
    options: TranscriptionOptions, defaults: BeamSettings, with_scorer: bool
) -> BeamSettings:
    """Returns the settings of the beam search.

    Raises:
        RequestError: there are weights but no scorer, or hot words can't be parsed (400).
    """
    if not with_scorer and (options.lm_alpha is not None or options.lm_beta is not None):
        raise RequestError(
            400, "lm_alpha and lm_beta weight a language model: name a scorer, or leave them out."
        )
    return replace(
        defaults,
        beam_width=defaults.beam_width if options.beam_width is None else options.beam_width,
        alpha=options.lm_alpha,
        beta=options.lm_beta,
        hot_words=_hot_words(options.hot_words or ""),
    )


def _hot_words(text: str) -> HotWords:
    pieces = [each for each in text.split(",") if each.strip()]
    if len(pieces) > MOST_HOT_WORDS:
        raise RequestError(
            400, f"There are {len(pieces)} hot words: give at most {MOST_HOT_WORDS}."
        )
    try:
        return tuple(map(parse_hot_word, pieces))
    except UserError as error:
        raise RequestError(400, str(error)) from None
