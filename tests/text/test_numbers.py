"""Plain numbers become words, and what may be something else stays in digits."""

import re
import sys
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.text.transcripts import LANGUAGES, TranscriptRules, alphabet_of
from utils import UserError, in_western_digits


def spelt(language: str, text: str, strip: bool = False) -> str:
    return TranscriptRules(language, strip_diacritics=strip, spell_numbers=True).apply(text)


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
def test_numbers_that_may_be_something_else_stay_in_digits(language: str, text: str) -> None:
    given_text = text.replace("am 4 mai", "am 4. Mai")
    assert spelt(language, given_text) == text


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("ar", "123"),
        ("ar", "012"),
        ("de", "3,05"),
        ("de", "4. Tag"),
        ("en", "1984"),
        ("en", "3.05"),
    ],
)
def test_digits_of_other_scripts_are_read_as_0_to_9(language: str, text: str) -> None:
    arabic = text.translate({ord("0") + i: chr(0x660 + i) for i in range(10)})
    assert in_western_digits(spelt(language, arabic)) == spelt(language, text)


def test_the_dot_of_an_ordinal_is_distinguished_from_a_full_stop() -> None:
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
    found = spelt(language, text, strip=language == "ar")
    assert found and not alphabet_of(language).missing(found)


def test_a_run_of_thousands_of_digits_stays() -> None:
    for text in ("9" * 5000, "0" * 5000, f"{'9' * 5000}.5"):
        assert spelt("en", text) == text


def test_numbers_are_spelt_only_in_known_languages() -> None:
    with pytest.raises(UserError, match=r"--language=pl, only en, .*without --spell_numbers"):
        TranscriptRules("PL", spell_numbers=True)


def test_a_missing_num2words_is_reported_with_the_remedy() -> None:
    with (
        mock.patch.dict(sys.modules, {"num2words": None}),
        pytest.raises(UserError, match=r"pip install num2words==0\.5\.14"),
    ):
        TranscriptRules("en", spell_numbers=True)


def test_a_language_unknown_to_num2words_is_named() -> None:
    import num2words

    with (
        mock.patch.object(num2words, "CONVERTER_CLASSES", {}),
        pytest.raises(UserError, match="doesn't support the language 'tr'"),
    ):
        TranscriptRules("tr", spell_numbers=True)
