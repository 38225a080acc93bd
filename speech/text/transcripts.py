"""Transcripts as people wrote them -> what an alphabet writes.

Only what isn't said is dropped: punctuation and invisible characters. Digits and symbols that are
read in some way (%, &, €) stay, so that they are reported as characters that the alphabet lacks.
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
# What people type for it: quotation marks, accents, the modifier letter, its wide form.
APOSTROPHES = "\u2018\u2019\u201b\u02bc\u0060\u00b4\uff07"

# These decide how Persian and Indic letters join; no language of LANGUAGES writes them.
JOINERS = "\u200c\u200d"

# Unicode's punctuation that is said, in one way or another.
SAID = frozenset("%‰‱&@#§¶*/\\†‡′″٪\u066b\u066c\uff05\uff06\uff20\uff03")

# Signs that lengthen a line of Arabic.
TATWEEL = "\u0640"

# Marks on Arabic letters but for the hamza and the madda, which are the letters' own (U+0653 to
# U+0655), and on Hebrew ones.
HARAKAT = "\u0610-\u061a\u064b-\u0652\u0656-\u065f\u0670\u06d6-\u06ed\u08d3-\u08ff"
HEBREW_POINTS = "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
POINTS = re.compile(f"[{HARAKAT}{HEBREW_POINTS}]")

# Scripts whose letters are themselves without their marks. In others marks are vowels.
MARKED_SCRIPTS = ("LATIN", "GREEK", "CYRILLIC")

# Between digits these belong to a number, a date or a time, which is reported as it is.
BETWEEN_DIGITS = re.compile(r"(?<=\d)[.,:/'\-\u2013\u2019\u066b\u066c](?=\d)")
_PROTECTED = re.compile(f"({BETWEEN_DIGITS.pattern})")


@dataclass(frozen=True)
class Language:
    """What transcripts of a language are written with."""

    code: str  # ISO 639
    name: str
    letters: str  # lower case, in label order; empty: they aren't known here
    apostrophe: bool = False  # written inside words; where it isn't, it is dropped
    own_letters: str = ""  # letters that aren't another one with a diacritic
    dotless_i: bool = False  # the small letter of I is ı, that of İ is i


LATIN = "abcdefghijklmnopqrstuvwxyz"

# Languages whose letters are known here.
LANGUAGES = {
    each.code: each
    for each in (
        Language("en", "English", LATIN, apostrophe=True),
        Language("es", "Spanish", "abcdefghijklmnñopqrstuvwxyzáéíóúü", own_letters="ñ"),
        # As it is written without the signs of vowels: see alphabet_of.
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


# Their codes of three letters in ISO 639-2 and 639-3.
LONG_CODES = {
    **{"eng": "en", "spa": "es", "ara": "ar", "rus": "ru", "deu": "de", "ger": "de"},
    **{"fra": "fr", "fre": "fr", "ita": "it", "tur": "tr"},
}

# Azerbaijani has the Turkish i and ı too.
DOTLESS_I = ("az", "aze")

_CODE = re.compile("[a-z]{2,3}")


def language_of(code: str) -> Language:
    """The rules of a language; of one that isn't in LANGUAGES those that most languages share.

    Args:
        code: ISO 639's, of two or three letters, in capitals or small.

    Raises:
        UserError: it is no such code.
    """
    lower = code.lower()
    lower = LONG_CODES.get(lower, lower)
    if lower in LANGUAGES:
        return LANGUAGES[lower]
    if not _CODE.fullmatch(lower):
        raise UserError(
            f"--language={code} is no language's code, which ISO 639 writes in two or three "
            f"letters: give one, as in pl. Letters are known here of {_known()}."
        )
    return Language(lower, lower, "", apostrophe=True, dotless_i=lower in DOTLESS_I)


def _known() -> str:
    return ", ".join(f"{each.code} ({each.name})" for each in LANGUAGES.values())


def alphabet_of(code: str) -> Alphabet:
    """A language's letters, the space, and the apostrophe where it is written inside words.

    The Arabic one is of text without harakat: give --strip_diacritics, or an alphabet that has
    them.

    Raises:
        UserError: it is no language's code, or the language's letters aren't known here.
    """
    language = language_of(code)
    if not language.letters:
        raise UserError(
            f"--language={code} has no ready alphabet; there is one for {_known()}. Give one by "
            "--alphabet, or make one of the corpus by prepare_csv.py --make_alphabet."
        )
    return Alphabet((*language.letters, " ", *([APOSTROPHE] if language.apostrophe else [])))


@dataclass(frozen=True)
class TranscriptRules:
    """How transcripts are rewritten."""

    language: str | None = None  # see language_of; None: only Unicode's form and spaces are touched
    form: Form = "NFC"  # Unicode's
    # Drops marks on letters, but on no letter that the language calls one of its own. Without a
    # language the marks of Latin, Greek, Cyrillic, Hebrew and Arabic letters.
    strip_diacritics: bool = False
    spell_numbers: bool = False  # plain numbers in words; see speech/text/numbers.py

    def __post_init__(self) -> None:
        """Raises UserError if these rules can't be followed."""
        if self.form not in FORMS:
            raise UserError(f"The Unicode form {self.form!r} is none of {', '.join(FORMS)}.")
        language = self._language  # is refused here, if it is none
        if self.spell_numbers:
            if language is None:
                raise UserError(
                    "--spell_numbers wants to know in which language: give --language, one of "
                    f"{', '.join(numbers.STYLES)}."
                )
            numbers.check(language.code)

    @cached_property
    def _language(self) -> Language | None:
        return None if self.language is None else language_of(self.language)

    def apply(self, text: str) -> str:
        """The transcript as these rules write it; in NFC or NFKC, without spaces at its ends.

        What is rewritten already stays as it is. The one exception are numbers: what kept one
        from being spelt, such as the dot of an ordinal, is gone then.
        """
        if self.spell_numbers and self._language is not None:
            text = numbers.spell_numbers(INVISIBLE.sub("", text), self._language.code)
        # What one step drops may make neighbours of what another one rewrites.
        while (rewritten := self._rewritten(text)) != text:
            text = rewritten
        return text

    def _rewritten(self, text: str) -> str:
        text = INVISIBLE.sub("", unicodedata.normalize(self.form, text))
        if self._language is not None:
            text = _in_language(text, self._language)
        if self.strip_diacritics:
            text = without_diacritics(text, self._language)
        return unicodedata.normalize(self.form, " ".join(text.split()))


AS_IT_IS = TranscriptRules()


def _in_language(text: str, language: Language) -> str:
    """In lower case, without what isn't said."""
    if language.dotless_i:
        text = text.replace("I", "ı").replace("İ", "i")
    text = text.lower().translate(_table(language))
    if language.apostrophe:
        text = _without_quotation_marks(text)
    return "".join(
        # Of the pattern's one group every other part is what it found.
        part if i % 2 else part.translate(_punctuation())
        for i, part in enumerate(_PROTECTED.split(text))
    )


@cache
def _table(language: Language) -> dict[int, str]:
    """For str.translate: apostrophes of all kinds, and what vanishes."""
    apostrophe = APOSTROPHE if language.apostrophe else ""
    vanish = TATWEEL + (JOINERS if language.letters else "")
    return {
        **{ord(each): apostrophe for each in APOSTROPHE + APOSTROPHES},
        **{ord(each): "" for each in vanish},
    }


class _Punctuation(dict[int, int | str]):
    """For str.translate: a space for punctuation that isn't said."""

    def __missing__(self, code: int) -> int | str:
        character = chr(code)
        silent = unicodedata.category(character).startswith("P") and character not in SAID
        self[code] = " " if silent and character != APOSTROPHE else code
        return self[code]


@cache
def _punctuation() -> _Punctuation:
    return _Punctuation()


# Apostrophes that stand for one quotation mark, one where a quotation could begin or end, and one
# that touches no letter.
_SEVERAL = re.compile("'{2,}")
_QUOTATION = re.compile(r"(?P<begin>(?<![\w'])'(?=[^\s']))|(?P<end>(?<=[^\s'])'(?![\w']))")
_ALONE = re.compile(r"(?<!\w)'(?!\w)")


def _without_quotation_marks(text: str) -> str:
    """Apostrophes in pairs around words go; one at a word's end alone (po', dogs') stays."""
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
    """The text without marks on its letters, in Unicode's composed form.

    Args:
        language: whose own letters are kept; None: none are.
    """
    own = language.own_letters if language else ""
    kept: list[str] = []
    letter = ""  # the last character that is no mark
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
    """Whether a character is a mark that its letter, empty if there is none, can do without."""
    if POINTS.match(character):
        return True
    if not unicodedata.combining(character):
        return False
    return bool(letter) and unicodedata.name(letter, "").startswith(MARKED_SCRIPTS)
