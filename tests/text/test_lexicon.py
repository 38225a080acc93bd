"""Lexicons: what is read from files, and what is refused."""

from pathlib import Path

import pytest

from speech.text.lexicon import Lexicon, read_lexicon
from utils import UserError


def lexicon_of(folder: Path, text: str) -> Lexicon:
    path = folder / "lexicon.txt"
    path.write_text(text, encoding="utf-8")
    return read_lexicon(str(path))


def test_first_pronunciation_of_a_word_counts(tmp_path: Path) -> None:
    lexicon = lexicon_of(tmp_path, "read R EH D\nread(2) R IY D\n")
    spoken = [lexicon.phones[each] for each in lexicon.pronunciations["read"]]
    assert spoken == ["R", "EH", "D"]


def test_cmudict_and_kaldi_have_their_comments_capitals_and_white_space(tmp_path: Path) -> None:
    text = ";;; # CMUdict\nAHMADI  AA0 M\nabbe\tAA0\r\n\naalto AA0 M # place, finnish\n# end\n"
    lexicon = lexicon_of(tmp_path, text)
    assert lexicon.phones == ("AA0", "M")
    assert lexicon.pronunciations == {"ahmadi": (0, 1), "abbe": (0,), "aalto": (0, 1)}


def test_classes_are_the_phones_the_unknown_word_and_the_blank(tmp_path: Path) -> None:
    lexicon = lexicon_of(tmp_path, "ja j a\nnei n e\n")
    assert (lexicon.unknown, lexicon.classes) == (4, 6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat K AE T\ndog\n", r"lexicon.txt, line 2: 'dog' has no pronunciation: write a word"),
        ("# nothing\n", "lexicon.txt has no words"),
        ("", "lexicon.txt has no words"),
    ],
)
def test_file_that_is_no_lexicon_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        lexicon_of(tmp_path, text)
