"""Forms of characters, arrays and utterances' places that people read in messages."""

import unicodedata
from typing import Any

import numpy.typing as npt

CIRCLE = "\u25cc"  # what a mark is shown on
FIRST_ISOLATE, END_ISOLATE = "\u2068", "\u2069"

SUMMARY_VALUES = 10  # that the summary of an array begins with


def place(utterance: object) -> str:
    """Where the corpus tells of it, such as train.csv:17, or else its audio's path, or its id."""
    names = (getattr(utterance, each, "") for each in ("place", "audio_path", "utterance_id"))
    return next((str(each) for each in names if each), "")


def array_summary(values: npt.NDArray[Any]) -> str:
    """Summarises an array in a line: shape, dtype, mean, deviation, and its first values."""
    if not values.size:
        return f"{list(values.shape)} {values.dtype}"
    first = ", ".join(f"{each:.4g}" for each in values.flat[:SUMMARY_VALUES])
    more = ", ..." if values.size > SUMMARY_VALUES else ""
    return (
        f"{list(values.shape)} {values.dtype}, mean {values.mean():.4g}, deviation "
        f"{values.std():.4g}: {first}{more}"
    )


def is_mark(character: str) -> bool:
    """Whether it stands on another character."""
    return unicodedata.category(character).startswith("M")


def unicode_name(character: str) -> str:
    """Unicode's name; of controls, which have none, "control"."""
    unnamed = "control" if unicodedata.category(character) == "Cc" else "unnamed"
    return unicodedata.name(character, unnamed)


def code_point(character: str) -> str:
    return f"U+{ord(character):04X}"


def shown(character: str) -> str:
    """The character where it can be seen: a mark on a circle, what is invisible in words."""
    if is_mark(character):
        return f"{CIRCLE}{character}"
    invisible = {"Z": "space", "C": "invisible"}
    return invisible.get(unicodedata.category(character)[0], character)


def described(character: str) -> str:
    """As it looks, a mark on a circle, and as Unicode calls it: 'é' (U+00E9, LATIN ...)."""
    seen = f"'{shown(character)}'" if is_mark(character) else repr(character)
    return f"{seen} ({code_point(character)}, {unicode_name(character)})"


def isolated(text: str) -> str:
    """The text so that, where it is written from right to left, it moves nothing beside it."""
    if any(unicodedata.bidirectional(each) in ("R", "AL", "AN") for each in text):
        return enclosed(text)
    return text


def enclosed(text: str) -> str:
    """The text so that its own first strong letter decides its direction, not the terminal's."""
    return f"{FIRST_ISOLATE}{text}{END_ISOLATE}"


def in_utf8(text: str) -> str:
    """What can be written: the name of a file needn't be UTF-8."""
    return text.encode(errors="backslashreplace").decode()
