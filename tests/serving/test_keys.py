"""The keys that requests must carry."""

import base64
from pathlib import Path

import pytest

from speech.serving.keys import ApiKeys, read_keys
from utils import UserError


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize("given", ["Bearer b", "bearer  b", basic("me:b"), basic(":b"), "Bearer a"])
def test_each_key_is_allowed(given: str) -> None:
    assert ApiKeys(["a", "b"]).allow(given)


@pytest.mark.parametrize(
    "given",
    ["", "b", "Bearer", "Bearer ", "Bearer c", "Bearer ab", "Token b", "Basic b", "Basic ä",
     basic("b"), basic("b:"), basic("me:b:c"), "Bearer ä", "Bearer \udcff"],
)  # fmt: skip
def test_others_are_refused(given: str) -> None:
    assert not ApiKeys(["a", "b"]).allow(given)


def test_without_keys_everything_is_allowed() -> None:
    assert not read_keys(None) and read_keys(None).allow("")


def test_file_has_a_key_a_line(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# of the desk\r\n\r\n  a \r\nb", newline="")
    keys = read_keys(str(tmp_path / "keys"))
    assert keys.allow("Bearer a") and keys.allow("Bearer b")
    assert not keys.allow("Bearer ") and not keys.allow("Bearer # of the desk")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "has no key: write one a line"),
        (b"# nothing\n", "has no key"),
        (b"a\nmy key\n", "line 2: the key has a space"),
        ("ключ\n".encode(), "line 1: the key has a space or a character outside ASCII"),
        (b"\xff\n", "can't be read: it is not UTF-8"),
    ],
)
def test_unusable_file_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(UserError, match=expected) as raised:
        read_keys(str(tmp_path / "keys"))
    assert str(tmp_path / "keys") in str(raised.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--api_key_file={tmp_path}/x can't be read: No such"):
        read_keys(f"{tmp_path}/x")
