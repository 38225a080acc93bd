"""Transcripts as people write them become what an alphabet writes; nothing that is said goes."""
# ruff: noqa: RUF001 - letters of many scripts and typographic marks are the point

import re
import sys
import time
import unicodedata
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech import transcripts
from speech.transcripts import (
    LANGUAGES,
    TranscriptRules,
    alphabet_of,
    language_of,
    without_diacritics,
)
from utils import ENGLISH, UserError

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


def written(language: str | None, text: str, strip: bool = False, spell: bool = False) -> str:
    rules = TranscriptRules(language, strip_diacritics=strip, spell_numbers=spell)
    return rules.apply(text)


def spelt(language: str, text: str) -> str:
    return written(language, text, spell=True)


# --- What holds for all texts ---------------------------------------------------------------------


@given(RULES, TEXTS)
def test_what_is_rewritten_stays_as_it_is(rules: TranscriptRules, text: str) -> None:
    once = rules.apply(text)
    assert rules.apply(once) == once


@given(RULES, TEXTS)
def test_the_unicode_form_is_the_one_asked_for(rules: TranscriptRules, text: str) -> None:
    found = rules.apply(text)
    assert unicodedata.is_normalized(rules.form, found)
    assert " ".join(found.split()) == found
    assert not transcripts.INVISIBLE.search(found)


@given(st.sampled_from(list(LANGUAGES)), TEXTS)
def test_with_a_language_what_is_left_is_its_letters_or_worth_a_report(
    language: str, text: str
) -> None:
    alphabet = set(alphabet_of(language).characters)
    for character in written(language, re.sub(r"\d", "", text)):
        silent = unicodedata.category(character).startswith("P") and (
            character not in transcripts.SAID
        )
        assert character in alphabet or not silent, repr(character)


@given(st.sampled_from(list(LANGUAGES)), TEXTS)
def test_no_letter_digit_or_symbol_is_lost(language: str, text: str) -> None:
    def said(each: str) -> int:
        apostrophes = transcripts.APOSTROPHES + transcripts.TATWEEL
        decomposed = unicodedata.normalize("NFD", each.lower())
        return sum(unicodedata.category(c)[0] in "LNS" and c not in apostrophes for c in decomposed)

    assert said(written(language, text)) == said(text)


@given(st.sampled_from(list(LANGUAGES)), st.data())
def test_text_of_the_alphabet_is_left_alone(language: str, data: st.DataObject) -> None:
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
def test_marks_go_but_no_letters(language: str, text: str, expected: str) -> None:
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
def test_any_other_language_is_written_small_and_without_punctuation(
    language: str, text: str, expected: str
) -> None:
    assert written(language, text) == expected


def test_any_other_language_has_no_letters_of_its_own() -> None:
    assert written("pl", "Zażółć gęślą jaźń, Čapek", strip=True) == "zazołc gesla jazn capek"


def test_codes_are_the_same_in_capitals_and_in_three_letters() -> None:
    for code in ("RU", "Ru", "rus"):
        assert language_of(code) is LANGUAGES["ru"] and alphabet_of(code) == alphabet_of("ru")
    assert written("TUR", "I") == written("AZE", "I") == "ı"
    assert {language_of(code).code for code in transcripts.LONG_CODES} == set(LANGUAGES)


def test_any_other_language_has_no_ready_alphabet() -> None:
    told = r"--language=PL has no ready alphabet; .*de \(German\).* --alphabet, .*--make_alphabet"
    with pytest.raises(UserError, match=told):
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


# --- Numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "3 cats, 1,234 dogs.", "three cats one thousand two hundred and thirty four dogs"),
        ("en", "“21” (3.05)!", "twenty one three point zero five"),
        ("es", "1.234 y 3,5", "mil doscientos treinta y cuatro y tres coma cinco"),
        ("ar", "٢١، 1234", "واحد وعشرون ألف ومئتان وأربعة وثلاثون"),
        ("ru", "1\u00a0000 и 2,5", "одна тысяча и две целых пять десятых"),
        ("de", "1.234", "eintausendzweihundertvierunddreißig"),
        ("de", "3,05 von 1984", "drei komma null fünf von 1984"),
        ("fr", "10 000 et 3,14", "dix mille et trois virgule quatorze"),
        ("it", "23 e 3,5", "ventitré e tre virgola cinque"),
        ("tr", "1.234 kişi, 1,5", "bin iki yüz otuz dört kişi bir virgül beş"),
    ],
)  # fmt: skip
def test_plain_numbers_are_spelt(language: str, text: str, expected: str) -> None:
    assert spelt(language, text) == expected


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "in 1984"),
        ("en", "12:30 1st a4 007 5% €5 3/4 1990-1995 12.5.2020 12345678 1,23"),
        ("en", "555 1234"),
        ("de", "am 4 mai"),
        ("de", "3.14"),
        ("es", "3.14"),
        ("ar", "3.5"),
        ("fr", "1er 2e"),
    ],
)
def test_what_may_be_no_plain_number_is_left_to_be_reported(language: str, text: str) -> None:
    given_text = text.replace("am 4 mai", "am 4. Mai")
    assert spelt(language, given_text) == text


def test_an_ordinals_dot_is_told_from_a_sentences() -> None:
    assert spelt("de", "Es sind 4.") == "es sind vier"
    assert spelt("tr", "4. kat, 4.") == "4 kat dört"


@given(st.sampled_from(list(LANGUAGES)), st.integers(0, 1099))
def test_every_small_number_is_in_the_languages_letters(language: str, number: int) -> None:
    found = spelt(language, str(number))
    assert found and not alphabet_of(language).missing(found)


@pytest.mark.parametrize(("language", "separator"), [
    ("en", ","), ("es", "."), ("ar", "٬"), ("ru", " "), ("de", "."), ("fr", " "), ("it", "."),
    ("tr", "."),
])  # fmt: skip
def test_numbers_that_have_no_words_stay_in_digits(language: str, separator: str) -> None:
    for groups in range(1, 5):
        text = separator.join(["1", *["234"] * groups])
        assert not re.search(r"\d", spelt(language, text)), text
    for groups in (5, 6, 7, 11, 12, 14, 25, 2000):
        text = separator.join(["1", *["000"] * groups])
        assert re.sub(r"\D", "", spelt(language, text)) == re.sub(r"\D", "", text)


@given(st.sampled_from(list(LANGUAGES)), st.integers(1000, 10**15 - 1))
def test_every_grouped_number_with_words_is_in_the_languages_letters(
    language: str, number: int
) -> None:
    text = f"{number:,}".replace(",", "\u00a0")
    found = written(language, text, strip=language == "ar", spell=True)
    assert found and not alphabet_of(language).missing(found)


def test_a_run_of_thousands_of_digits_stays() -> None:
    for text in ("9" * 5000, "0" * 5000, f"{'9' * 5000}.5"):
        assert spelt("en", text) == text


def test_numbers_are_spelt_of_known_languages_only() -> None:
    with pytest.raises(UserError, match=r"--language=pl, only in en, .*without --spell_numbers"):
        TranscriptRules("PL", spell_numbers=True)


def test_without_num2words_the_remedy_is_told() -> None:
    with (
        mock.patch.dict(sys.modules, {"num2words": None}),
        pytest.raises(UserError, match=r"pip install num2words==0\.5\.14"),
    ):
        TranscriptRules("en", spell_numbers=True)


def test_a_language_that_num2words_lacks_is_named() -> None:
    import num2words

    with (
        mock.patch.object(num2words, "CONVERTER_CLASSES", {}),
        pytest.raises(UserError, match="doesn't know the language 'tr'"),
    ):
        TranscriptRules("tr", spell_numbers=True)


# --- What can't be done ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["german", "x", "", "d1", "pl-PL", "рус", "pl "])
def test_what_is_no_code_is_refused_with_the_languages_that_are_there(code: str) -> None:
    for attempt in (lambda: TranscriptRules(code), lambda: alphabet_of(code)):
        with pytest.raises(UserError, match=rf"--language={code} is .*en \(English\).*\(Turkish\)"):
            attempt()


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="'NFD' is none of NFC, NFKC"):
        TranscriptRules(form="NFD")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="give --language"):
        TranscriptRules(spell_numbers=True)
