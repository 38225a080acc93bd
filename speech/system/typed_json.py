"""Reads dataclasses from JSON, and checks that each value has the type of its field.

A file that a program wrote may have been truncated, edited or damaged since. A FieldError names the
field that is wrong.
"""

import contextlib
import json
import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin

from utils import UserError

Settings = TypeVar("Settings")

# Largest integer of numpy and TensorFlow.
LARGEST = 2**63 - 1

# Maximum number of characters of a value in a message.
SHOWN_CHARACTERS = 80


class FieldError(ValueError):
    """A value is invalid for its field; the message names the field."""


@contextlib.contextmanager
def explain_errors(path: str, what: str, remedy: str) -> Iterator[None]:
    """Turns errors of a file's content into UserErrors that name the file.

    Args:
        what: kind of the file, with an article.
        remedy: advice for the user, an imperative.
    """
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except ValueError as error:
        raise UserError(f"{path} is not {what} ({error}): {remedy}.") from None


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Parses a JSON text whose value is an object.

    Raises:
        ValueError: the text isn't JSON, or has another value.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise FieldError("it is nested too deeply") from None
    if type(content) is not dict:
        raise FieldError(f"it is {_abbreviate(content)}, not an object")
    return content


def check_format(content: Any, version: int) -> None:
    """Raises FieldError if an object has a field "format" with another value than `version`."""
    if type(content) is dict and "format" in content and content["format"] != version:
        raise FieldError(
            f"it has format {_abbreviate(content['format'])}, this program reads format {version}"
        )


def read(
    kind: type[Settings], content: Any, where: str, smallest: int = 0, finite: bool = True
) -> Settings:
    """Makes a dataclass, and those nested in it, from a JSON object.

    A list becomes a tuple. null is valid if the field's type or default includes None. A type with
    a function `from_json` is read by it.

    Args:
        where: name of the object, for messages.
        smallest: lower bound of integers.
        finite: whether NaN and infinity are invalid.

    Raises:
        FieldError: a field is unknown, missing, or has a value of another type.
    """
    if type(content) is not dict:
        raise FieldError(f"{where} {_abbreviate(content)} is no object")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for name in content:
        if name not in known:
            raise FieldError(f"{where}: {_abbreviate(name)} is unknown")
    for name, field in known.items():
        if name not in content and not _has_default(field):
            raise FieldError(f"{where}: {name} is missing")
    reader = _Reader(smallest, finite)
    return kind(
        **{
            name: None
            if value is None and known[name].default is None
            else reader.value(known[name].type, value, f"{where}: {name}")
            for name, value in content.items()
        }
    )


def _has_default(field: "Field[Any]") -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


@dataclass(frozen=True)
class _Reader:
    """Converts values; the fields are arguments of `read`."""

    smallest: int
    finite: bool

    def value(self, kind: Any, value: Any, where: str) -> Any:
        """Converts a value to a type; where: names of the object and the field, for messages."""
        if hasattr(kind, "from_json"):
            return kind.from_json(value)
        if is_dataclass(kind) and isinstance(kind, type):
            return read(kind, value, where.rpartition(": ")[2], self.smallest, self.finite)
        if isinstance(kind, types.UnionType):
            (other,) = (each for each in get_args(kind) if each is not types.NoneType)
            return None if value is None else self.value(other, value, where)
        if get_origin(kind) is tuple:
            if type(value) is not list:
                raise FieldError(f"{where} {_abbreviate(value)} is no list")
            element = get_args(kind)[0]
            return tuple(self.value(element, each, f"{where}[{i}]") for i, each in enumerate(value))
        if get_origin(kind) is dict:
            if type(value) is not dict:
                raise FieldError(f"{where} {_abbreviate(value)} is no object")
            element = get_args(kind)[1]
            return {
                name: self.value(element, each, f"{where}[{_abbreviate(name)}]")
                for name, each in value.items()
            }
        if problem := self._problem(kind, value):
            raise FieldError(f"{where} {_abbreviate(value)} {problem}")
        return value

    def _problem(self, kind: Any, value: Any) -> str:
        """Returns what is wrong with a value without parts, "" if nothing is."""
        if kind is int:
            is_whole = type(value) is int and self.smallest <= value <= LARGEST
            return "" if is_whole else "is no whole number"
        if kind is float:
            in_range = type(value) is int and abs(value) <= LARGEST
            is_float = type(value) is float and (math.isfinite(value) or not self.finite)
            return "" if in_range or is_float else "is no number"
        return "" if kind is Any or type(value) is kind else "is not of the type it had"


def _abbreviate(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def rename_fields(content: Any, names: Mapping[str, str]) -> Any:
    """Renames fields of an object; names: old name -> new name."""
    if type(content) is not dict:
        return content
    return {names.get(name, name): value for name, value in content.items()}
