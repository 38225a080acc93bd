"""Settings from JSON: every value has the type that its dataclass's field says.

What a program wrote may come back cut, edited or damaged. Read by these functions, it is either
what the dataclass promises, or a FieldError names the field.
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

# Beyond it numpy and TensorFlow have no whole numbers.
LARGEST = 2**63 - 1

# Characters of a value that a message shows.
SHOWN = 80


class FieldError(ValueError):
    """A value that its field can't have; the message names the field."""


@contextlib.contextmanager
def explained(path: str, what: str, remedy: str) -> Iterator[None]:
    """Turns errors of a file's content into UserErrors that name the file.

    Args:
        what: the kind of file, with its article.
    """
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except ValueError as error:
        raise UserError(f"{path} is not {what} ({error}): {remedy}.") from None


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Returns the object that a JSON text holds.

    Raises:
        ValueError: the text isn't JSON, or holds something else.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise FieldError("it is nested too deeply") from None
    if type(content) is not dict:
        raise FieldError(f"it is {_shown(content)}, not an object")
    return content


def check_format(content: Any, version: int) -> None:
    """Raises FieldError unless an object's field "format" is the version that is read here."""
    if type(content) is dict and "format" in content and content["format"] != version:
        raise FieldError(
            f"it has format {_shown(content['format'])}, this program reads format {version}"
        )


def read(
    kind: type[Settings], content: Any, where: str, smallest: int = 0, finite: bool = True
) -> Settings:
    """Returns a dataclass with the values of a JSON object, nested ones too.

    A list becomes a tuple. None is possible where the type or the default is None. A type with a
    function `from_json` is read by that.

    Args:
        where: name of the object, for messages.
        smallest: lower limit of whole numbers.
        finite: whether NaN and infinity are refused.

    Raises:
        FieldError: a field is unknown, missing, or has a value of another type.
    """
    if type(content) is not dict:
        raise FieldError(f"{where} {_shown(content)} is no object")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for name in content:
        if name not in known:
            raise FieldError(f"{where}: {_shown(name)} is unknown")
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
    """Reads values; the fields are the arguments of `read`."""

    smallest: int
    finite: bool

    def value(self, kind: Any, value: Any, where: str) -> Any:
        """Returns a value as its type has it; where: the field, with its object."""
        if hasattr(kind, "from_json"):
            return kind.from_json(value)
        if is_dataclass(kind) and isinstance(kind, type):
            return read(kind, value, where.rpartition(": ")[2], self.smallest, self.finite)
        if isinstance(kind, types.UnionType):
            (other,) = (each for each in get_args(kind) if each is not types.NoneType)
            return None if value is None else self.value(other, value, where)
        if get_origin(kind) is tuple:
            if type(value) is not list:
                raise FieldError(f"{where} {_shown(value)} is no list")
            element = get_args(kind)[0]
            return tuple(self.value(element, each, f"{where}[{i}]") for i, each in enumerate(value))
        if get_origin(kind) is dict:
            if type(value) is not dict:
                raise FieldError(f"{where} {_shown(value)} is no object")
            element = get_args(kind)[1]
            return {
                name: self.value(element, each, f"{where}[{_shown(name)}]")
                for name, each in value.items()
            }
        if problem := self._problem(kind, value):
            raise FieldError(f"{where} {_shown(value)} {problem}")
        return value

    def _problem(self, kind: Any, value: Any) -> str:
        """Returns what is wrong with a value that has no parts; empty: nothing."""
        if kind is int:
            is_whole = type(value) is int and self.smallest <= value <= LARGEST
            return "" if is_whole else "is no whole number"
        if kind is float:
            in_range = type(value) is int and abs(value) <= LARGEST
            is_float = type(value) is float and (math.isfinite(value) or not self.finite)
            return "" if in_range or is_float else "is no number"
        return "" if kind is Any or type(value) is kind else "is not of the type it had"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def renamed(content: Any, names: Mapping[str, str]) -> Any:
    """Returns an object with the present names of fields that had others."""
    if type(content) is not dict:
        return content
    return {names.get(name, name): value for name, value in content.items()}
