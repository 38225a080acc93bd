"""Sentences to record, as people write them down."""

from pathlib import Path

import pytest

from speech.corpora.prompts import read_prompts
from utils import UserError


def prompts(tmp_path: Path, text: str) -> list[tuple[str, str]]:
    path = tmp_path / "prompts.txt"
    path.write_text(text)
    return [(each.prompt_id, each.text) for each in read_prompts(str(path))]


def test_each_line_is_a_sentence_with_an_id_that_stays_when_lines_move(tmp_path: Path) -> None:
    first = prompts(tmp_path, "Hello, world\n\n  good   night \nHello, world\n")
    second = prompts(tmp_path, "good night\nnew\nHello, world\n")
    assert [text for _, text in first] == ["Hello, world", "good night"]
    assert first == [second[2], second[0]]


def test_ids_are_taken_if_every_line_has_one(tmp_path: Path) -> None:
    found = prompts(tmp_path, 'id,text\n1,turn on the light\n2,"yes, please"\n3,no, thanks\n')
    assert found == [("1", "turn on the light"), ("2", "yes, please"), ("3", "no, thanks")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n \n", "no sentences"),
        ("1,a\n1,b\n", "line 2: the id 1"),
        ("", "is empty"),
        ('1,""\n', "line 1: 1 has no text"),
    ],
)
def test_bad_file_is_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prompts(tmp_path, text)
