"""Numbers in digits -> words, where a text leaves no doubt that they are plain numbers.

What may be a date, a time, an ordinal, a year that is read otherwise, a telephone number or a code
stays in digits, to be reported. num2words, of the extra `numbers`, spells whole numbers.
"""

# ruff: noqa: RUF001 - letters of many scripts are the point

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from utils import UserError, in_western_digits, is_number

# Without separators a longer one is more probably a telephone number or a code.
MOST_DIGITS = 7
# With separators: what the words of every language reach to.
MOST_GROUPED_DIGITS = 15

# What may stand before and behind a plain number.
BEFORE = "\"'«“„‘‹([¿¡"
BEHIND = "\"'»”“’›)].,;:!?…،؛؟"

# Spaces that don't break the line are typed for nothing else between digits.
THOUSANDS_SPACES = "\u00a0\u202f\u2009"


@dataclass(frozen=True)
class NumberStyle:
    """How a language writes numbers, and reads them."""

    thousands: str  # characters between groups of three digits, besides THOUSANDS_SPACES
    decimal: str  # character before the fraction; none, if fractions are left alone
    # What it is called; empty: num2words reads the whole decimal.
    point: str = ""
    # The fraction is read digit by digit; else as a number behind its zeros.
    digit_by_digit: bool = False
    # Whole numbers that are read otherwise if they are years, as in nineteen eighty-four.
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
    """Raises UserError unless numbers of a language can be spelt."""
    if language not in STYLES:
        raise UserError(
            f"--spell_numbers doesn't know how numbers are written in --language={language}, only "
            f"in {', '.join(STYLES)}: leave them in digits, without --spell_numbers."
        )
    try:
        from num2words import CONVERTER_CLASSES
    except ModuleNotFoundError:
        raise UserError(
            "Numbers are spelt by num2words, which isn't installed: pip install num2words==0.5.14, "
            "or leave them in digits, without --spell_numbers."
        ) from None
    if language not in CONVERTER_CLASSES:
        raise UserError(
            f"num2words doesn't know the language {language!r}: leave numbers in digits, without "
            "--spell_numbers, or install the version that setup.cfg names."
        )


def spell_numbers(text: str, language: str) -> str:
    """The text with its plain numbers in words, as num2words writes them.

    Args:
        text: as it was written, with its punctuation.
        language: one of STYLES.
    """
    style = STYLES[language]

    def spelt(found: re.Match[str]) -> str:
        return _spelt(found, style, language) or found[0]

    return _pattern(language).sub(spelt, text)


@cache
def _pattern(language: str) -> re.Pattern[str]:
    """Numbers with nothing around them but spaces and a sentence's punctuation, and no number
    beside them."""
    style = STYLES[language]
    groups = rf"\d{{1,3}}(?:[{re.escape(style.thousands + THOUSANDS_SPACES)}]\d{{3}})+"
    fraction = rf"(?:{re.escape(style.decimal)}(?P<fraction>\d{{1,3}}))?" if style.decimal else ""
    return re.compile(
        rf"(?<![^\s{re.escape(BEFORE)}])(?<!\d\s)(?P<whole>{groups}|\d+){fraction}"
        rf"(?!\s\d)(?=(?P<behind>[{re.escape(BEHIND)}]*)(?:\s|$))(?P<last>(?=\W*$))?"
    )


def _spelt(found: re.Match[str], style: NumberStyle, language: str) -> str | None:
    """The number in words; None, if it may be something else."""
    written = in_western_digits(found["whole"])
    fraction = found.groupdict().get("fraction")
    fraction = fraction and in_western_digits(fraction)
    digits = "".join(filter(is_number, written))
    grouped = digits != written
    # Before int, which reads no more than some thousands of them.
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
        and found["behind"].startswith(".")
        and found["last"] is None
    ):
        return None
    if fraction is None:
        return _words(number, language)
    if not style.point:
        return _words(Decimal(f"{number}.{int(fraction):0{len(fraction)}}"), language)
    behind = fraction.lstrip("0") if not style.digit_by_digit else ""
    read = [*fraction[: len(fraction) - len(behind)], *([behind] if behind else [])]
    spelt = [_words(int(each), language) for each in read]
    return " ".join([_words(number, language), style.point, *spelt])


def _words(number: int | Decimal, language: str) -> str:
    from num2words import num2words

    words = str(num2words(number, lang=language))
    if language == "tr":
        return " ".join(TURKISH_WORDS.findall(words))
    # The Arabic "and" is written at the word behind it.
    return words.replace(" و ", " و") if language == "ar" else words
