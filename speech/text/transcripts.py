"""Normalises transcripts to the characters of an alphabet.

Drops only what isn't spoken: punctuation and invisible characters. Digits and symbols that are
spoken (%, &, €) stay, so that they are reported as unknown characters.
"""

# ruff: noqa: RUF001, RUF003 - letters of many scripts are the point

import re
import unicodedata
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, get_args

from speech.text import numbers
from utils import INVISIBLE, Alphabet, UserError

Form = Literal["NFC", "NFKC"]
FORMS: tuple[Form, ...] = get_args(Form)

APOSTROPHE = "'"
# Characters that people type for it: quotation marks, accents, the modifier letter, its wide form.
APOSTROPHES = "\u2018\u2019\u201b\u02bc\u0060\u00b4\uff07"

# Joiners of Persian and Indic letters; no language of LANGUAGES uses them.
JOINERS = "\u200c\u200d"

# Unicode's punctuation that is spoken.
SPOKEN = frozenset("%‰‱&@#§¶*/\\†‡′″٪\u066b\u066c\uff05\uff06\uff20\uff03")

# Sign that lengthens a line of Arabic.
TATWEEL = "\u0640"

# Marks on Arabic letters but for the hamza and the madda, which are the letters' own (U+0653 to
# U+0655), and on Hebrew ones.
HARAKAT = "\u0610-\u061a\u064b-\u0652\u0656-\u065f\u0670\u06d6-\u06ed\u08d3-\u08ff"
HEBREW_POINTS = "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
POINTS = re.compile(f"[{HARAKAT}{HEBREW_POINTS}]")

# Scripts whose letters remain readable without marks. In other scripts marks are vowels.
MARKED_SCRIPTS = ("LATIN", "GREEK", "CYRILLIC")

# Between digits these belong to a number, a date or a time, which is left as it is.
BETWEEN_DIGITS = re.compile(r"(?<=\d)[.,:/'\-\u2013\u2019\u066b\u066c](?=\d)")
_PROTECTED = re.compile(f"({BETWEEN_DIGITS.pattern})")


@dataclass(frozen=True)
class Language:
    """The letters of a language and its spelling rules."""

    code: str  # ISO 639
    name: str
    letters: str  # lower case, in label order; empty: unknown to this module
    apostrophe: bool = False  # part of words; otherwise it is dropped
    own_letters: str = ""  # letters with a diacritic that count as separate letters
    dotless_i: bool = False  # the lower case of I is ı, that of İ is i


LATIN = "abcdefghijklmnopqrstuvwxyz"

# Languages with a known alphabet.
LANGUAGES = {
    each.code: each
    for each in (
        Language("en", "English", LATIN, apostrophe=True),
        Language("es", "Spanish", "abcdefghijklmnñopqrstuvwxyzáéíóúü", own_letters="ñ"),
        # Without vowel signs: see alphabet_of.
        Language("ar", "Arabic", "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىي"),
        Language("ru", "Russian", "абвгдеёжзийклмнопрстуфхцчшщъыьэюя", own_letters="й"),
        Language("de", "German", LATIN + "äöüß", own_letters="äöü"),
        Language("fr", "French", LATIN + "àâæçèéêëîïôœùûüÿ", apostrophe=True),
        Language("it", "Italian", LATIN + "àèéìíîòóùú", apostrophe=True),
        Language(
            "tr",
            "Turkish",
            "abcçdefgğhıijklmnoöprsştuüvyzâîû",
            own_letters="çğöşü",
            dotless_i=True,
        ),
    )
}


# Their three-letter codes in ISO 639-2 and 639-3.
LONG_CODES = {
    **{"eng": "en", "spa": "es", "ara": "ar", "rus": "ru", "deu": "de", "ger": "de"},
    **{"fra": "fr", "fre": "fr", "ita": "it", "tur": "tr"},
}

# Azerbaijani also distinguishes i and ı.
DOTLESS_I = ("az", "aze")

_CODE = re.compile("[a-z]{2,3}")


def language_of(code: str) -> Language:
    """Returns the rules of a language; the common rules for a language outside LANGUAGES.

    Args:
        code: two or three letters of ISO 639, in upper or lower case.

    Raises:
        UserError: it is no such code.
    """
    lower = code.lower()
    lower = LONG_CODES.get(lower, lower)
    if lower in LANGUAGES:
        return LANGUAGES[lower]
    if not _CODE.fullmatch(lower):
        raise UserError(
            f"--language={code} is not a language code of two or three letters (ISO 639): give "
            f"one, as in pl. Alphabets are known for {_known()}."
        )
    return Language(lower, lower, "", apostrophe=True, dotless_i=lower in DOTLESS_I)


def _known() -> str:
    return ", ".join(f"{each.code} ({each.name})" for each in LANGUAGES.values())


def alphabet_of(code: str) -> Alphabet:
    """Returns a language's letters, the space, and the apostrophe if it is part of words.

    The Arabic alphabet has no harakat: give --strip_diacritics, or an alphabet with harakat.

    Raises:
        UserError: it is not a language code, or the language's letters are unknown.
    """
    language = language_of(code)
    if not language.letters:
        raise UserError(
            f"--language={code} has no ready alphabet; there is one for {_known()}. Give one with "
            "--alphabet, or make one from the corpus with prepare_csv.py --make_alphabet."
        )
    return Alphabet((*language.letters, " ", *([APOSTROPHE] if language.apostrophe else [])))


@dataclass(frozen=True)
class TranscriptRules:
    """Rules that normalise transcripts."""

    language: str | None = None  # see language_of; None: only Unicode's form and spaces change
    form: Form = "NFC"  # Unicode's
    # Drops the marks of letters, except the language's own letters. Without a language, drops the
    # marks of Latin, Greek, Cyrillic, Hebrew and Arabic letters.
    strip_diacritics: bool = False
    spell_numbers: bool = False  # writes plain numbers in words; see speech/text/numbers.py

    def __post_init__(self) -> None:
        """Raises UserError if the rules contradict each other."""
        if self.form not in FORMS:
            raise UserError(f"The Unicode form {self.form!r} is not one of {', '.join(FORMS)}.")
        language = self._language  # raises for an invalid code
        if self.spell_numbers:
            if language is None:
                raise UserError(
                    "--spell_numbers requires a language: give --language, one of "
                    f"{', '.join(numbers.STYLES)}."
                )
            numbers.check(language.code)

    @cached_property
    def _language(self) -> Language | None:
        return None if self.language is None else language_of(self.language)

    def apply(self, text: str) -> str:
        """Normalises a transcript: in NFC or NFKC, without spaces at its ends.

        Applying the rules twice changes nothing more, except for numbers: the first time removes
        what kept a number from being spelt, such as the dot of an ordinal.
        """
        if self.spell_numbers and self._language is not None:
            text = numbers.spell_numbers(INVISIBLE.sub("", text), self._language.code)
        # One step may drop a character between two that another step rewrites.
        while (rewritten := self._rewrite(text)) != text:
            text = rewritten
        return text

    def _rewrite(self, text: str) -> str:
        text = INVISIBLE.sub("", unicodedata.normalize(self.form, text))
        if self._language is not None:
            text = _apply_language(text, self._language)
        if self.strip_diacritics:
            text = without_diacritics(text, self._language)
        return unicodedata.normalize(self.form, " ".join(text.split()))


AS_IT_IS = TranscriptRules()


def _apply_language(text: str, language: Language) -> str:
    """Writes a text in lower case and drops what isn't spoken."""
    if language.dotless_i:
        text = text.replace("I", "ı").replace("İ", "i")
    text = text.lower().translate(_table(language))
    if language.apostrophe:
        text = _without_quotation_marks(text)
    return "".join(
        # The pattern has one group: every other part is a match.
        part if i % 2 else part.translate(_punctuation())
        for i, part in enumerate(_PROTECTED.split(text))
    )


@cache
def _table(language: Language) -> dict[int, str]:
    """Returns a table for str.translate: maps all apostrophes and drops signs and joiners."""
    apostrophe = APOSTROPHE if language.apostrophe else ""
    dropped = TATWEEL + (JOINERS if language.letters else "")
    return {
        **{ord(each): apostrophe for each in APOSTROPHE + APOSTROPHES},
        **{ord(each): "" for each in dropped},
    }


class _Punctuation(dict[int, int | str]):
    """A table for str.translate: a space for punctuation that isn't spoken."""

    def __missing__(self, code: int) -> int | str:
        character = chr(code)
        unspoken = unicodedata.category(character).startswith("P") and character not in SPOKEN
        self[code] = " " if unspoken and character != APOSTROPHE else code
        return self[code]


@cache
def _punctuation() -> _Punctuation:
    return _Punctuation()


# Apostrophes that form one quotation mark, one where a quotation may begin or end, and one that
# touches no letter.
_SEVERAL = re.compile("'{2,}")
_QUOTATION = re.compile(r"(?P<begin>(?<![\w'])'(?=[^\s']))|(?P<end>(?<=[^\s'])'(?![\w']))")
_ALONE = re.compile(r"(?<!\w)'(?!\w)")


def _without_quotation_marks(text: str) -> str:
    """Drops pairs of apostrophes around words; keeps a single one at a word's end (po', dogs')."""
    if APOSTROPHE not in text:
        return text
    text = _SEVERAL.sub(" ", text)
    begins: list[int] = []
    pairs: set[int] = set()
    for found in _QUOTATION.finditer(text):
        if found["begin"]:
            begins.append(found.start())
        elif begins:
            pairs |= {begins.pop(), found.start()}
    text = "".join(" " if i in pairs else each for i, each in enumerate(text))
    return _ALONE.sub(" ", text)


def without_diacritics(text: str, language: Language | None = None) -> str:
    """Drops the marks of letters; returns Unicode's composed form (NFC).

    Args:
        language: its own letters keep their marks; None: no letter does.
    """
    own = language.own_letters if language else ""
    kept: list[str] = []
    letter = ""  # the last character that isn't a mark
    for character in unicodedata.normalize("NFC", text):
        if character.lower() in own:
            kept.append(character)
            letter = character
            continue
        for part in unicodedata.normalize("NFD", character):
            if _is_diacritic(part, letter):
                continue
            kept.append(part)
            if not unicodedata.combining(part):
                letter = part
    return unicodedata.normalize("NFC", "".join(kept))


def _is_diacritic(character: str, letter: str) -> bool:
    """Says whether a character is a mark to drop; `letter` is empty for a mark without letter."""
    if POINTS.match(character):
        return True
    if not unicodedata.combining(character):
        return False
    return bool(letter) and unicodedata.name(letter, "").startswith(MARKED_SCRIPTS)
