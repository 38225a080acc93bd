"""Lexicons: what is read from files, and what is refused."""

from pathlib import Path

import pytest

from speech.text.lexicon import ARPABET, SPACE, UNKNOWN, Lexicon, read_lexicon
from utils import UserError


def lexicon_of(folder: Path, text: str) -> Lexicon:
    path = folder / "lexicon.txt"
    path.write_text(text, encoding="utf-8")
    return read_lexicon(str(path))


def test_all_pronunciations_of_a_word_are_kept_and_the_first_is_the_usual_one(
    tmp_path: Path,
) -> None:
    text = "read R EH1 D\na AH0\nread(2) R IY1 D\nread(3) R EH0 D\na EY1\n"
    lexicon = lexicon_of(tmp_path, text)
    assert lexicon.pronunciations == {"read": ("rEd", "rid"), "a": ("A", "e")}
    assert [lexicon.spell(each) for each in ("read", "Read", "A", "reads")] == [
        *("rEd", "rEd", "A"),
        UNKNOWN,
    ]
    assert lexicon.knows("Read") and not lexicon.knows("reads")


def test_phones_of_arpabet_become_one_letter_each_without_stress(tmp_path: Path) -> None:
    """The spellings are by hand, from Klatt's table."""
    text = "church CH ER1 CH\nmeasure M EH1 ZH ER0\nthing TH IH2 NG\nbath B AE1 TH\njoy JH OY0\n"
    words = ["church", "measure", "thing", "bath", "joy"]
    spelled = [*map(lexicon_of(tmp_path, text).spell, words)]
    assert spelled == ["CRC", "mEZR", "TIG", "b@T", "JO"]
    every = lexicon_of(tmp_path, f"every {' '.join(ARPABET)}\n")
    assert len(ARPABET) == len(set(every.spell("every"))) == 39
    assert every.alphabet.characters == (SPACE, *sorted(every.spell("every")), UNKNOWN)


def test_other_phones_are_joined_as_they_are(tmp_path: Path) -> None:
    ipa = lexicon_of(tmp_path, "chew tʃ u\nbang b æ ŋ\n")
    assert ipa.pronunciations == {"chew": ("tʃu",), "bang": ("bæŋ",)}
    assert ipa.alphabet.characters == (SPACE, *"btuæŋʃ", UNKNOWN)
    with_foreign_phone = lexicon_of(tmp_path, "cat K AE1 T\nbach B AA1 X\n")
    assert with_foreign_phone.pronunciations == {"cat": ("KAE1T",), "bach": ("BAA1X",)}


def test_cmudict_and_kaldi_have_their_comments_capitals_and_white_space(tmp_path: Path) -> None:
    text = ";;; CMUdict\nAHMADI  AA0 M\nabbe\tAA0\r\n\naalto AA0 M # place, finnish\n# end\n # .\n"
    lexicon = lexicon_of(tmp_path, text)
    assert lexicon.alphabet.characters == (SPACE, "a", "m", UNKNOWN)
    assert lexicon.pronunciations == {"ahmadi": ("am",), "abbe": ("a",), "aalto": ("am",)}


def test_entries_of_kaldi_that_are_no_words_are_left_out(tmp_path: Path) -> None:
    lexicon = lexicon_of(tmp_path, "!SIL SIL\n<UNK> SPN\n[noise] NSN\ncat K AE1 T\n")
    assert lexicon.pronunciations == {"cat": ("k@t",)}


def test_entry_without_a_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 2: '\(1\)' is no word"):
        lexicon_of(tmp_path, "cat K AE1 T\n(1) AH\n")


def test_words_are_composed_and_a_byte_order_mark_is_none_of_them(tmp_path: Path) -> None:
    lexicon = lexicon_of(tmp_path, "\ufeffcafe\u0301 K AE\n")
    assert lexicon.pronunciations == {"caf\u00e9": ("k@",)}


@pytest.mark.parametrize(
    ("phones", "spelled"), [("n a \u0303", "n\u00e3"), ("\u1112 \u1161 \u11ab", "\ud55c")]
)
def test_pronunciation_has_labels_where_its_phones_compose(
    tmp_path: Path, phones: str, spelled: str
) -> None:
    lexicon = lexicon_of(tmp_path, f"word {phones}\n")
    assert lexicon.spell("word") == spelled
    assert lexicon.alphabet.decode(lexicon.alphabet.encode(spelled)) == spelled


def test_digest_changes_with_any_pronunciation_and_not_with_the_order_of_words(
    tmp_path: Path,
) -> None:
    cat, other_cat, read = "cat K AE T\n", "cat K AH T\n", "read R EH D\nread R IY D\n"
    other_read = "read R EH D\nread R AE D\n"
    texts = (cat + read, other_cat + read, cat + other_read, cat + "red R EH D\nd R IY D\n")
    digests = [lexicon_of(tmp_path, each).digest for each in texts]
    assert len(set(digests)) == len(digests)
    assert lexicon_of(tmp_path, read + cat).digest == digests[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat K AE T\ndog\n", "lexicon.txt, line 2, word 'dog': there is no pronunciation: "),
        ("cat 0.5 K AE T\n", r"lexicon.txt, line 1, word 'cat': '0.5' is no phone: write a word"),
        ("# nothing\n", "lexicon.txt is no lexicon: it has 0 words, and 0 characters"),
        (
            "\n".join(f"utterance-{n} {chr(0x4E00 + n)}" for n in range(1001)),
            "1001 words, and 1001 characters in their phones",
        ),
    ],
)
def test_file_that_is_no_lexicon_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        lexicon_of(tmp_path, text)
