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


def test_words_are_composed_and_a_byte_order_mark_is_none_of_them(tmp_path: Path) -> None:
    lexicon = lexicon_of(tmp_path, "\ufeffcafe\u0301 K AE\n")
    assert lexicon.pronunciations == {"caf\u00e9": (1, 0)}
    assert lexicon.unknown == 2


def test_digest_changes_with_a_pronunciation(tmp_path: Path) -> None:
    digests = {
        lexicon_of(tmp_path, f"cat K {vowel} T\nat AE T\na AH\n").digest for vowel in ("AE", "AH")
    }
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat K AE T\ndog\n", "lexicon.txt, line 2, word 'dog': there is no pronunciation: "),
        ("cat 0.5 K AE T\n", r"lexicon.txt, line 1, word 'cat': '0.5' is no phone: write a word"),
        ("# nothing\n", "lexicon.txt is no lexicon: it has 0 words"),
        ("\n".join(f"utterance-{n} word{n}" for n in range(1001)), "1001 words and 1001 phones"),
    ],
)
def test_file_that_is_no_lexicon_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        lexicon_of(tmp_path, text)
