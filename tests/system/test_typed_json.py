"""Tests that values from JSON have the types of their fields, or errors name the field."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from speech.system import typed_json
from speech.system.typed_json import FieldError
from utils import UserError


@dataclass(frozen=True)
class Inner:
    name: str
    exact: bool = False


@dataclass(frozen=True)
class Settings:
    count: int
    share: float
    inner: Inner
    names: tuple[str, ...] = ()
    counts: dict[str, int] | None = None
    size: int = None  # type: ignore[assignment]


GOOD: dict[str, Any] = {"count": 1, "share": 0.5, "inner": {"name": "a"}}


def test_values_are_read_with_their_types() -> None:
    content = {**GOOD, "names": ["b", "c"], "counts": {"d": 2}, "size": None}
    expected = Settings(1, 0.5, Inner("a"), ("b", "c"), {"d": 2})
    assert typed_json.read(Settings, content, "it") == expected
    assert typed_json.read(Settings, {**GOOD, "share": 2}, "it").share == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": True}, "it: count True is no whole number"),
        ({"count": 1.0}, "it: count 1.0 is no whole number"),
        ({"count": -1}, "it: count -1 is no whole number"),
        ({"count": 2**63}, "it: count 9223372036854775808 is no whole number"),
        ({"count": None}, "it: count None is no whole number"),
        ({"size": "3"}, "it: size '3' is no whole number"),
        ({"share": "1"}, "it: share '1' is no number"),
        ({"share": float("nan")}, "it: share nan is no number"),
        ({"share": 10**400}, "it: share 1000"),
        ({"inner": None}, "inner None is no object"),
        ({"inner": {}}, "inner: name is missing"),
        ({"inner": {"name": "a", "exact": 1}}, "inner: exact 1 is not of the type it had"),
        ({"inner": {"name": "a", "nme": 1}}, "inner: 'nme' is unknown"),
        ({"names": "ab"}, "it: names 'ab' is no list"),
        ({"names": ["a", 1]}, r"it: names\[1\] 1 is not of the type it had"),
        ({"counts": {"d": "2"}}, r"it: counts\['d'\] '2' is no whole number"),
        ({"counts": 3}, "it: counts 3 is no object"),
    ],
    ids=str,
)
def test_an_invalid_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FieldError, match=message) as error:
        typed_json.read(Settings, {**GOOD, **changes}, "it")
    assert len(str(error.value)) < 200


def test_bounds_can_be_changed() -> None:
    content = {**GOOD, "count": -3, "share": float("inf")}
    found = typed_json.read(Settings, content, "it", smallest=-5, finite=False)
    assert (found.count, found.share) == (-3, float("inf"))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, '{"a": ' * 100_000])
def test_text_without_an_object_is_refused_with_its_file(text: str) -> None:
    with (
        pytest.raises(UserError, match=r"^x\.json is not a note \(.*\): write it again\."),
        typed_json.explain_errors("x.json", "a note", "write it again"),
    ):
        typed_json.parse_object(text)


def test_an_error_of_a_value_names_its_file() -> None:
    with (
        pytest.raises(UserError, match=r"^x\.json: no$"),
        typed_json.explain_errors("x.json", "a note", "write it again"),
    ):
        raise UserError("no")
    assert typed_json.parse_object(json.dumps(GOOD)) == GOOD
