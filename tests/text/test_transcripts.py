"""Normalisation of transcripts: everything that is spoken stays."""
# ruff: noqa: RUF001 - letters of many scripts and typographic marks are the point

import re
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.text import transcripts
from speech.text.transcripts import (
    LANGUAGES,
    TranscriptRules,
    alphabet_of,
    language_of,
    without_diacritics,
)
from utils import ENGLISH, INVISIBLE, UserError

# What the rules have something to do with, besides any character at all.
TEXTS = st.text(
    st.one_of(
        st.sampled_from(
            "aeinñüйёßIİıΣσ'’-.,:¿«»\"1230 \u00a0\u200b\u200c\u200f\ufeff\u0301\u0307ـأَ"
        ),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=30,
)
RULES = st.builds(
    TranscriptRules,
    st.sampled_from([None, *LANGUAGES, "az", "el", "pl", "fa"]),
    st.sampled_from(transcripts.FORMS),
    st.booleans(),
)


def written(language: str | None, text: str, strip: bool = False) -> str:
    return TranscriptRules(language, strip_diacritics=strip).apply(text)


# --- What holds for all texts ---------------------------------------------------------------------


@given(RULES, TEXTS)
def test_applying_the_rules_again_changes_nothing(rules: TranscriptRules, text: str) -> None:
    once = rules.apply(text)
    assert rules.apply(once) == once


@given(RULES, TEXTS)
def test_the_unicode_form_is_that_of_the_rules(rules: TranscriptRules, text: str) -> None:
    found = rules.apply(text)
    assert unicodedata.is_normalized(rules.form, found)
    assert " ".join(found.split()) == found
    assert not INVISIBLE.search(found)


@given(st.sampled_from(list(LANGUAGES)), TEXTS)
def test_a_language_leaves_its_letters_and_characters_worth_a_report(
    language: str, text: str
) -> None:
    alphabet = set(alphabet_of(language).characters)
    for character in written(language, re.sub(r"\d", "", text)):
        silent = unicodedata.category(character).startswith("P") and (
            character not in transcripts.SPOKEN
        )
        assert character in alphabet or not silent, repr(character)


@given(st.sampled_from(list(LANGUAGES)), TEXTS)
def test_no_letter_digit_or_symbol_is_lost(language: str, text: str) -> None:
    def spoken(each: str) -> int:
        apostrophes = transcripts.APOSTROPHES + transcripts.TATWEEL
        decomposed = unicodedata.normalize("NFD", each.lower())
        return sum(unicodedata.category(c)[0] in "LNS" and c not in apostrophes for c in decomposed)

    assert spoken(written(language, text)) == spoken(text)


@given(st.sampled_from(list(LANGUAGES)), st.data())
def test_text_of_the_alphabet_stays_as_it_is(language: str, data: st.DataObject) -> None:
    letters = st.text(LANGUAGES[language].letters, min_size=1)
    text = " ".join(data.draw(st.lists(letters)))
    assert written(language, text) == text


# --- Without a language ---------------------------------------------------------------------------


def test_without_a_language_only_form_and_spaces_change() -> None:
    assert written(None, " “Don’t”,\u00a0said\u200b I\u0307. \u200f3 % \ufeff\n") == (
        "“Don’t”, said İ. 3 %"
    )
    assert TranscriptRules(form="NFKC").apply("ﬁne ① Ａ") == "fine 1 A"
    assert written(None, "می\u200cخواهم") == "می\u200cخواهم"


def test_without_a_language_marks_that_are_vowels_stay() -> None:
    for text in ("हिन्दी की", "ภาษาไทยที่", "がぎ", "தமிழ்"):
        assert written(None, text, strip=True) == unicodedata.normalize("NFC", text)
    assert written(None, "naïve ñ ά йё שָׁלוֹם مُحَمَّد أ", strip=True) == "naive n α ие שלום محمد أ"


# --- Each language --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Don’t stop -- he said: “It's WELL-known…”", "don't stop he said it's well known"),
        ("en", "'Yes,' she said, 'it's his.'", "yes she said it's his"),
        ("en", "''Quoted'' and `so´, rock 'n' roll", "quoted and so rock n roll"),
        ("en", "The dogs' bones, 'tis", "the dogs' bones 'tis"),
        ("en", "naïve CAFÉ", "naïve café"),
        ("en", "AT&T: 5% or €3, #1 @ 12:30!", "at&t 5% or €3 #1 @ 12:30"),
        ("en", "so\u00adft hy\u2010phen a/b", "soft hy phen a/b"),
        ("es", "¿Qué? ¡El NIÑO y el pingüino!", "qué el niño y el pingüino"),
        ("es", "«O'Donnell»—dijo", "odonnell dijo"),
        ("ar", "مُحَمَّدٌ، أَيْنَ؟ كتـــاب؛", "مُحَمَّدٌ أَيْنَ كتاب"),
        ("ar", "\u200fقال: «آمين»\u200e.", "قال آمين"),
        ("ru", "Ёжик — «СЪЕЛ» йод, кто-то…", "ёжик съел йод кто то"),
        ("de", "Die „STRAẞE“, Straße – geht’s?", "die straße straße gehts"),
        ("fr", "«\u00a0L’EAU\u00a0» d'Ève, c’est-à-dire ŒUVRE", "l'eau d'ève c'est à dire œuvre"),
        ("it", "Un po' d’acqua: 'perché' È?", "un po' d'acqua perché è"),
        ("tr", "IĞDIR’da İYİ KÂR, I\u0307STANBUL", "ığdırda iyi kâr istanbul"),
    ],
)
def test_text_as_people_write_it(language: str, text: str, expected: str) -> None:
    assert written(language, text) == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "naïve café ñ ø", "naive cafe n ø"),
        ("es", "Qué niño, pingüino ç", "que niño pinguino c"),
        ("ar", "مُحَمَّدٌ أَيْنَ آمِين هٰذا ۝ ؤئإ", "محمد أين آمين هذا ؤئإ"),
        ("ru", "Ёжик съел йод, за\u0301мок", "ежик съел йод замок"),
        ("de", "Äöüß Café", "äöüß cafe"),
        ("fr", "ça œuvre à l'été Noël", "ca œuvre a l'ete noel"),
        ("it", "perché è più", "perche e piu"),
        ("tr", "çğışöü kâr İ î", "çğışöü kar i i"),
    ],
)
def test_marks_are_dropped_and_letters_kept(language: str, text: str, expected: str) -> None:
    assert written(language, text, strip=True) == expected


def test_no_language_keeps_no_letters_of_its_own() -> None:
    assert without_diacritics("El\u0301 Ñandú") == "El Nandu"


def test_a_mark_belongs_to_the_last_letter_however_many_marks_are_between() -> None:
    assert without_diacritics("e\u0301\u0323\u0301 क\u093c\u0301\u0301") == "e क\u093c\u0301\u0301"
    assert without_diacritics("ñ\u0301\u0301", LANGUAGES["es"]) == "ñ"


def test_time_grows_with_a_run_of_marks_and_not_with_its_square() -> None:
    def seconds(marks: int) -> float:
        begin = time.process_time()
        assert len(without_diacritics("क" + "\u0951" * marks)) == marks + 1
        return time.process_time() - begin

    seconds(1000)
    assert seconds(30_000) < 60 * min(seconds(2000) for _ in range(3)) + 0.1


# --- Languages without letters here ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("pl", "„Zażółć GĘŚLĄ jaźń”, rzekł – d’Artagnan!", "zażółć gęślą jaźń rzekł d'artagnan"),
        ("PL", "'ŁÓDŹ' 5%", "łódź 5%"),
        ("uk", "П\u02bcЯТЬ, об’єкт?", "п'ять об'єкт"),
        ("el", "ΟΔΥΣΣΕΥΣ, «Σοφός»·", "οδυσσευς σοφός"),
        ("az", "İSTİ QIŞ, I", "isti qış ı"),
        ("lt", "ĮSIJUNGĖ", "įsijungė"),
        ("fa", "می\u200cخواهم، کتـــاب؟", "می\u200cخواهم کتاب"),
        ("hi", "क्या\u200d? हाँ।", "क्या\u200d हाँ"),
        ("yue", "你好，world！", "你好 world"),
    ],
)
def test_other_languages_are_written_in_lower_case_without_punctuation(
    language: str, text: str, expected: str
) -> None:
    assert written(language, text) == expected


def test_other_languages_have_no_letters_of_their_own() -> None:
    assert written("pl", "Zażółć gęślą jaźń, Čapek", strip=True) == "zazołc gesla jazn capek"


def test_codes_may_be_in_upper_case_or_have_three_letters() -> None:
    for code in ("RU", "Ru", "rus"):
        assert language_of(code) is LANGUAGES["ru"] and alphabet_of(code) == alphabet_of("ru")
    assert written("TUR", "I") == written("AZE", "I") == "ı"
    assert {language_of(code).code for code in transcripts.LONG_CODES} == set(LANGUAGES)


def test_other_languages_have_no_ready_alphabet() -> None:
    message = (
        r"--language=PL has no ready alphabet; .*de \(German\).* --alphabet, .*--make_alphabet"
    )
    with pytest.raises(UserError, match=message):
        alphabet_of("PL")


# --- Alphabets ------------------------------------------------------------------------------------


def test_the_english_alphabet_is_the_default_one() -> None:
    assert alphabet_of("en") == ENGLISH


@pytest.mark.parametrize(
    ("language", "size"), [("es", 34), ("ar", 37), ("ru", 34), ("de", 31), ("tr", 33)]
)
def test_alphabets_have_letters_and_the_space(language: str, size: int) -> None:
    characters = alphabet_of(language).characters
    assert len(characters) == size and " " in characters and "'" not in characters
    assert set(LANGUAGES[language].own_letters) <= set(characters)


def test_the_arabic_alphabet_writes_text_without_harakat() -> None:
    text = "مُحَمَّدٌ ٱ"
    assert alphabet_of("ar").missing(written("ar", text, strip=True)) == ["ٱ"]
    assert "\u064f" in alphabet_of("ar").missing(written("ar", text))


# --- What can't be done ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["german", "x", "", "d1", "pl-PL", "рус", "pl "])
def test_an_invalid_code_is_refused_with_the_known_languages(code: str) -> None:
    for attempt in (lambda: TranscriptRules(code), lambda: alphabet_of(code)):
        with pytest.raises(UserError, match=rf"--language={code} is .*en \(English\).*\(Turkish\)"):
            attempt()


def test_contradictory_rules_are_refused() -> None:
    with pytest.raises(UserError, match="'NFD' is not one of NFC, NFKC"):
        TranscriptRules(form="NFD")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="give --language"):
        TranscriptRules(spell_numbers=True)
