"""What a request may ask for: the same as form fields, query, JSON or SageMaker's attributes."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from speech.decoding.beam_search import BeamSettings, HotWords, parse_hot_word
from speech.decoding.scorer import LARGEST_GAIN
from speech.serving.errors import RequestError
from utils import UserError

# A beam takes memory and time that grow with its width.
LARGEST_BEAM_WIDTH = 1024
MOST_CANDIDATES = 10
MOST_HOT_WORDS = 100
SHOWN_CHARACTERS = 80  # of a value, in a message


class Asked(BaseModel):
    """Options of a request; what isn't given is the server's default."""

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
        None, description="Words to listen for, and nats that each gains: word:7.5,other:3"
    )
    candidates: int = Field(1, ge=1, le=MOST_CANDIDATES, description="Most texts of a segment.")
    details: bool = Field(
        False, description="With the waveform, and what the network heard of up to a minute."
    )

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: Any) -> Any:
        """An empty field is none; of the scorer it says that there be none."""
        if not isinstance(given, Mapping):
            return given
        return {name: value for name, value in given.items() if value != "" or name == "scorer"}


def read(*sources: Mapping[str, Any]) -> Asked:
    """The options of a request; of one that is given twice the later source's.

    Raises:
        RequestError: an option isn't known, or its value can't be.
    """
    given = {name: value for source in sources for name, value in source.items()}
    try:
        return Asked.model_validate(given)
    except ValidationError as error:
        raise RequestError(400, sentence(error.errors())) from None


def sentence(problems: Any) -> str:
    """What pydantic has against values, its list of problems, in a sentence or several."""
    return " ".join(_problem(each) for each in problems)


def _problem(problem: Mapping[str, Any]) -> str:
    places = [str(each) for each in problem["loc"] if each not in ("query", "path", "body")]
    name = ".".join(places)
    name = _cut(name) if name.isidentifier() else shown(name)
    if problem["type"] == "extra_forbidden":
        return f"{name} is no option here: give some of {', '.join(Asked.model_fields)}."
    message = problem["msg"][:1].lower() + problem["msg"][1:]
    return f"{name} is {shown(problem.get('input'))}: {message}."


def shown(value: Any) -> str:
    """A value that a client sent, for a message: short, and without anything invisible."""
    if isinstance(value, str):
        return repr(_cut(value))
    try:
        return _cut(json.dumps(value))
    except (TypeError, ValueError):
        return type(value).__name__


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def settings_of(asked: Asked, defaults: BeamSettings, with_scorer: bool) -> BeamSettings:
    """How the beam search is to search.

    Raises:
        RequestError: weights without a scorer, or hot words can't be read.
    """
    if not with_scorer and (asked.lm_alpha is not None or asked.lm_beta is not None):
        raise RequestError(
            400, "lm_alpha and lm_beta weight a language model: name a scorer, or leave them out."
        )
    return replace(
        defaults,
        beam_width=defaults.beam_width if asked.beam_width is None else asked.beam_width,
        alpha=asked.lm_alpha,
        beta=asked.lm_beta,
        hot_words=_hot_words(asked.hot_words or ""),
    )


def _hot_words(text: str) -> HotWords:
    pieces = [each for each in text.split(",") if each.strip()]
    if len(pieces) > MOST_HOT_WORDS:
        raise RequestError(400, f"{len(pieces)} hot words: give at most {MOST_HOT_WORDS}.")
    try:
        return tuple(map(parse_hot_word, pieces))
    except UserError as error:
        raise RequestError(400, str(error)) from None
