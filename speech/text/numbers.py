"""Spells numbers in words where a text leaves no doubt that they are plain numbers.

Dates, times, ordinals, years, telephone numbers and codes stay in digits and are reported as
unknown characters. Whole numbers are spelt by num2words (extra `numbers`).
"""

# ruff: noqa: RUF001 - letters of many scripts are the point

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from utils import UserError, in_western_digits, is_number

# A longer number without separators is more probably a telephone number or a code.
MOST_DIGITS = 7
# With separators: the words of every language reach this far.
MOST_GROUPED_DIGITS = 15

# Punctuation before and after a plain number.
BEFORE = "\"'«“„‘‹([¿¡"
AFTER = "\"'»”“’›)].,;:!?…،؛؟"

# Between digits, spaces that don't break the line always separate thousands.
THOUSANDS_SPACES = "\u00a0\u202f\u2009"


@dataclass(frozen=True)
class NumberStyle:
    """How a language writes numbers and speaks them."""

    thousands: str  # characters between groups of three digits, besides THOUSANDS_SPACES
    decimal: str  # character before the fraction; empty: fractions stay in digits
    # Its name; empty: num2words spells the whole decimal.
    point: str = ""
    # The fraction is spoken digit by digit; else as a number after its zeros.
    digit_by_digit: bool = False
    # Whole numbers that are spoken differently as years, as in nineteen eighty-four.
    years: range = range(0)
    ordinal_dot: bool = False  # 4. may mean the fourth


STYLES = {
    "en": NumberStyle(",", ".", "point", digit_by_digit=True, years=range(1100, 2100)),
    "es": NumberStyle(". ", ",", "coma"),
    "ar": NumberStyle(",٬", ""),
    "ru": NumberStyle(" ", ","),
    "de": NumberStyle(
        ".", ",", "Komma", digit_by_digit=True, years=range(1100, 2000), ordinal_dot=True
    ),
    "fr": NumberStyle(" ", ",", "virgule"),
    "it": NumberStyle(".", ",", "virgola"),
    "tr": NumberStyle(".", ",", "virgül", ordinal_dot=True),
}

# num2words joins all words of a Turkish number, which only cheques do.
TURKISH_WORDS = re.compile(
    "sıfır|bir|iki|üç|dört|beş|altmış|altı|yedi|sekiz|dokuz|on|yirmi|otuz|kırk|elli|yetmiş|seksen"
    "|doksan|yüz|bin|milyon|milyar|trilyon"
)


def check(language: str) -> None:
    """Raises UserError if numbers of a language can't be spelt."""
    if language not in STYLES:
        raise UserError(
            f"--spell_numbers doesn't support --language={language}, only {', '.join(STYLES)}: "
            "leave numbers in digits, without --spell_numbers."
        )
    try:
        from num2words import CONVERTER_CLASSES
    except ModuleNotFoundError:
        raise UserError(
            "--spell_numbers requires num2words, which isn't installed: pip install "
            "num2words==0.5.14, or leave numbers in digits, without --spell_numbers."
        ) from None
    if language not in CONVERTER_CLASSES:
        raise UserError(
            f"num2words doesn't support the language {language!r}: leave numbers in digits, "
            "without --spell_numbers, or install the version that setup.cfg names."
        )


def spell_numbers(text: str, language: str) -> str:
    """Spells the plain numbers of a text in words, with num2words.

    Args:
        text: the original text with its punctuation.
        language: one of STYLES.
    """
    style = STYLES[language]

    def replace(found: re.Match[str]) -> str:
        return _spell(found, style, language) or found[0]

    return _pattern(language).sub(replace, text)


@cache
def _pattern(language: str) -> re.Pattern[str]:
    """Returns a pattern of numbers between spaces and punctuation, not next to another number."""
    style = STYLES[language]
    groups = rf"\d{{1,3}}(?:[{re.escape(style.thousands + THOUSANDS_SPACES)}]\d{{3}})+"
    fraction = rf"(?:{re.escape(style.decimal)}(?P<fraction>\d{{1,3}}))?" if style.decimal else ""
    return re.compile(
        rf"(?<![^\s{re.escape(BEFORE)}])(?<!\d\s)(?P<whole>{groups}|\d+){fraction}"
        rf"(?!\s\d)(?=(?P<after>[{re.escape(AFTER)}]*)(?:\s|$))(?P<last>(?=\W*$))?"
    )


def _spell(found: re.Match[str], style: NumberStyle, language: str) -> str | None:
    """Returns the number in words; None if it may be something else."""
    written = in_western_digits(found["whole"])
    fraction = found.groupdict().get("fraction")
    fraction = fraction and in_western_digits(fraction)
    digits = "".join(filter(is_number, written))
    grouped = digits != written
    # Before the call of int, which refuses several thousand digits.
    if len(digits) > (MOST_GROUPED_DIGITS if grouped else MOST_DIGITS):
        return None
    number = int(digits)
    if len(digits) > 1 and digits.startswith("0"):
        return None
    if not grouped and number in style.years:
        return None
    if (
        style.ordinal_dot
        and not grouped
        and found["after"].startswith(".")
        and found["last"] is None
    ):
        return None
    if fraction is None:
        return _words(number, language)
    if not style.point:
        return _words(Decimal(f"{number}.{int(fraction):0{len(fraction)}}"), language)
    # Digits before it are spoken one by one.
    number_part = fraction.lstrip("0") if not style.digit_by_digit else ""
    single_digits = fraction.removesuffix(number_part)
    parts = [*single_digits, *([number_part] if number_part else [])]
    spelt = [_words(int(each), language) for each in parts]
    return " ".join([_words(number, language), style.point, *spelt])


def _words(number: int | Decimal, language: str) -> str:
    from num2words import num2words

    words = str(num2words(number, lang=language))
    if language == "tr":
        return " ".join(TURKISH_WORDS.findall(words))
    # The Arabic "and" is joined to the word after it.
    return words.replace(" و ", " و") if language == "ar" else words
