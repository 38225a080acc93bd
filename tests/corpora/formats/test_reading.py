"""Encodings of a corpus, and errors about many rows."""

from pathlib import Path

import pytest

from speech.corpora.formats.reading import read_text, refuse_problems
from utils import UserError

TEXT = "id,es\r\n1,¿qué?\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_known_encodings_are_read_alike(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes(TEXT.encode(encoding))
    assert read_text(str(tmp_path / "a.csv")) == TEXT


def test_big_endian_utf_16_is_detected_by_its_mark(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xfe\xff" + TEXT.encode("utf-16-be"))
    assert read_text(str(tmp_path / "a.csv")) == TEXT


@pytest.mark.parametrize(
    ("content", "expected_message"),
    [
        (TEXT.encode("latin-1"), r"a.csv, line 2, is not UTF-8 \(.*0xbf\): save the file as UTF-8"),
        (TEXT.encode("utf-16-le"), r"a.csv, line \d, .*save the file as UTF-8"),
        (b"id,es\n1,a\0b\n", "a.csv, line 2, contains a zero byte"),
        (TEXT.encode("utf-16")[:-1], "a.csv is damaged UTF-16"),
        (b"", "a.csv is empty"),
    ],
)
def test_other_text_is_named_with_its_line(
    tmp_path: Path, content: bytes, expected_message: str
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=expected_message):
        read_text(str(tmp_path / "a.csv"))


def test_a_file_that_can_not_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone.csv can't be read: No such file"):
        read_text(str(tmp_path / "gone.csv"))
    with pytest.raises(UserError, match="can't be read: Is a directory"):
        read_text(str(tmp_path))


def test_problems_are_named_up_to_ten_and_the_others_counted() -> None:
    refuse_problems("a.csv", [])
    with pytest.raises(UserError) as one:
        refuse_problems("a.csv", ["line 3: bad"])
    assert str(one.value) == "a.csv can't be used: line 3: bad. Correct or remove it."
    with pytest.raises(UserError) as many:
        refuse_problems("a.csv", [f"line {line}: bad" for line in range(1, 14)])
    assert "line 10: bad; and 3 more. Correct or remove them." in str(many.value)
    assert "line 11" not in str(many.value)
