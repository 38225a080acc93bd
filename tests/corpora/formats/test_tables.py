"""Tables with a header -> rows."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.corpora.formats import registry
from speech.corpora.formats.tables import (
    format_names,
    header_columns,
    read_csv,
    read_tsv,
    separator_of,
)
from utils import UserError

HEADER = "wav_filename,wav_filesize,transcript"


def table(tmp_path: Path, text: str) -> str:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    return str(path)


def rows(path: str) -> list[tuple[int, str]]:
    return [(row.line, row.fields["transcript"]) for row in read_csv(path, "csv").rows]


def test_lines_are_counted_where_rows_start(tmp_path: Path) -> None:
    text = f'{HEADER}\r\na,1,"x, ""y"""\r\n\r\nb,1,"x\r\ny"\r\n ,,\r\nc,1,z'
    assert rows(table(tmp_path, text)) == [(2, 'x, "y"'), (4, "x\r\ny"), (7, "z")]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_header_determines_the_separator(tmp_path: Path, separator: str) -> None:
    text = f"\n{HEADER}\na,1,x\n".replace(",", separator)
    assert rows(table(tmp_path, text)) == [(3, "x")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [";", ",", "\t", "|"])
def test_excels_first_line_names_the_separator(tmp_path: Path, separator: str, end: str) -> None:
    text = f"sep={separator}\n{HEADER.replace(',', separator)}\na{separator}1{separator}x, y; z\n"
    if separator in ",;":
        text = text.replace("x, y; z", '"x, y; z"')
    path = table(tmp_path, text.replace("\n", end))
    assert rows(path) == [(3, "x, y; z")]
    assert registry.detect(path) == "csv"


def test_names_of_columns_may_have_upper_case_and_blanks(tmp_path: Path) -> None:
    text = 'Wav_Filename ,"  WAV_FILESIZE",Transcript\t\na,1, x\n'
    assert rows(table(tmp_path, text)) == [(2, " x")]


def test_all_bad_rows_are_kept_as_problems(tmp_path: Path) -> None:
    text = f'{HEADER}\na,1\nb,1,x\nc,1,x,y\nd,1,"x"y\ne,1,"open\nf,1,x\n'
    found = read_csv(table(tmp_path, text), "csv")
    assert [row.line for row in found.rows] == [3]
    assert found.problems[:2] == [
        "line 2: 2 fields instead of 3",
        "line 4: 4 fields instead of 3",
    ]
    assert [each.split(" (")[0] for each in found.problems[2:]] == [
        "line 5: its quotes don't match",
        "line 6: its quotes don't match",
    ]


def test_a_field_that_is_too_long_is_not_blamed_on_quotes(tmp_path: Path) -> None:
    found = read_csv(table(tmp_path, f"{HEADER}\na,1,{'x' * 700_000}\nb,1,y\n"), "csv")
    assert found.problems == [
        "line 2: a field has more than 131072 characters: split it, or close the quote before it"
    ]
    assert [row.line for row in found.rows] == [3]


@pytest.mark.parametrize(
    ("header", "expected_message"),
    [
        ("wav_filename,text", "has no column transcript: its first line names wav_filename, t"),
        ("a,b", "has no column wav_filename and transcript.*needs wav_filename, transcript.$"),
        ("client_id\tpath\tsentence", "It may be of the format common_voice.$"),
        ("wav_filename,transcript,Transcript", "column transcript more than once: rename"),
    ],
)
def test_a_missing_column_is_refused(tmp_path: Path, header: str, expected_message: str) -> None:
    with pytest.raises(UserError, match=expected_message):
        read_csv(table(tmp_path, f"{header}\na,b\n"), "csv")


def test_a_table_of_empty_lines_has_no_columns(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its first line names none"):
        read_csv(table(tmp_path, "\n \n"), "csv")


def test_strange_names_are_shown_in_part() -> None:
    assert format_names(["a", "b\n\x00c"]) == "a, b??c"
    assert format_names(["x" * 50] * 22) == ", ".join(["x" * 40] * 20) + ", and 2 more"


def test_columns_without_a_name_are_ignored(tmp_path: Path) -> None:
    assert rows(table(tmp_path, f"{HEADER},,\na,1,x,,\n")) == [(2, "x")]


FIELDS = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r\0"))


@settings(deadline=None)
@given(st.lists(FIELDS.filter(lambda text: bool(text.strip())), min_size=1, max_size=5))
def test_tsv_treats_quotes_as_letters(sentences: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.tsv"
        lines = [f"{number}.mp3\t{text}" for number, text in enumerate(sentences)]
        path.write_bytes("\r\n".join(["path\tsentence", *lines]).encode())
        found = read_tsv(str(path), "common_voice")
    assert not found.problems
    assert [(row.line, row.fields["sentence"]) for row in found.rows] == [
        (line, text) for line, text in enumerate(sentences, start=2)
    ]


def test_separator_of_text_without_any_is_the_comma() -> None:
    assert separator_of("") == separator_of("transcript") == ","
    assert header_columns("") == []
