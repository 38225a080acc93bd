"""Describes the models to clients, and finds the one that a client wants."""

from typing import Any

from wyoming.info import AsrModel, AsrProgram, Attribution, Info

from speech.serving.errors import RequestError
from speech.serving.schemas.requests import format_value
from speech.serving.services.catalogue import Catalogue, ServedModel

PROGRAM, VERSION = "Deep Speech", "1"
PAPER = Attribution("A. Hannun et al.", "https://arxiv.org/abs/1412.5567")


def language_of(served: ServedModel, default: str) -> str:
    return served.model.description.naming.language or default


def model_name(catalogue: Catalogue, wanted: dict[str, Any], default: str) -> str | None:
    """Returns the model that transcribe names, or the first one of its language.

    Args:
        wanted: the data of transcribe.
        default: language of models that name none; empty: they may have any.

    Returns:
        the model's name; None: the default model.

    Raises:
        RequestError: no model has the language (404).
    """
    name, language = wanted.get("name"), wanted.get("language")
    if name or not language:
        return name or None
    languages = {each: language_of(served, default) for each, served in catalogue.models.items()}
    for same in (_whole, _primary):
        for each, own in languages.items():
            if own and same(own) == same(str(language)):
                return each
    unknown = [each for each, own in languages.items() if not own]
    if not unknown:
        raise RequestError(
            404,
            f"There is no model of the language {format_value(language)} here: choose among "
            f"{', '.join(languages.values())}.",
        )
    return unknown[0]


def _whole(language: str) -> str:
    return language.lower().replace("_", "-")


def _primary(language: str) -> str:
    """Returns the language of a tag such as pt-BR without its region."""
    return _whole(language).partition("-")[0]


def describe(catalogue: Catalogue, language: str) -> Info:
    """Returns the description of the server for its clients."""
    models = []
    for name, served in catalogue.models.items():
        description = served.model.description
        naming, own = description.naming, language_of(served, language)
        models.append(
            AsrModel(
                name=name,
                attribution=Attribution(naming.author or PROGRAM, ""),
                installed=True,
                description=naming.description or naming.name or name,
                version=naming.version or str(description.checkpoint_step),
                languages=[own] if own else [],
            )
        )
    program = AsrProgram(
        name=PROGRAM,
        attribution=PAPER,
        installed=True,
        description="Speech to text",
        version=VERSION,
        models=models,
        supports_transcript_streaming=True,
    )
    return Info(asr=[program])
