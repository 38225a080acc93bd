"""Lexicons: the pronunciations of words, as the files of CMUdict and Kaldi have them."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from absl import logging

from speech.system import storage
from utils import Alphabet, UserError, lines_of

COMMENTS = (";;;", "#")
MOST_CHARACTERS = 1000  # of the pronunciations of any language, with tones and stress
# A probability of lexiconp.txt, as in 0.25.
PROBABILITY = re.compile(r"[0-9.]+")
# Of what is no word, in Kaldi's lexicons: <SIL>, !SIL, [noise].
MARKS = ("<", "!SIL", "[")
# Of a word's second pronunciation and further ones, as in READ(2).
VARIANT = re.compile(r"\([0-9]+\)$")

SPACE = " "  # between words
UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # a word without a pronunciation

ROOM = 2  # places for phones in a batch, for each place for letters

# The two codes of the Advanced Research Projects Agency, of two letters as CMUdict has them and of
# one (Klatt, "Review of the ARPA Speech Understanding Project", JASA 62, 1977).
TWO_LETTERS = (
    "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW "
    "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"
)
ONE_LETTER = "a@AcWYEReIioOUubCdDfghJklmnGprsStTvwyzZ"
ARPABET = dict(zip(TWO_LETTERS.split(), ONE_LETTER, strict=True))
STRESS = re.compile(r"[0-2]$")  # of a vowel in CMUdict


@dataclass(frozen=True)
class Lexicon:
    """The pronunciations of words, each a text of one character a phone."""

    alphabet: Alphabet  # SPACE, the characters of pronunciations, UNKNOWN
    pronunciations: Mapping[str, tuple[str, ...]]  # by lower-case word, the usual one first

    def spell(self, word: str) -> str:
        """Returns a word's usual pronunciation, or UNKNOWN."""
        return self.pronunciations.get(word.lower(), (UNKNOWN,))[0]

    def knows(self, word: str) -> bool:
        """Returns whether a word has a pronunciation."""
        return word.lower() in self.pronunciations

    @property
    def digest(self) -> str:
        """A checksum of the content."""
        content = repr((self.alphabet.characters, sorted(self.pronunciations.items())))
        return hashlib.sha256(content.encode()).hexdigest()


def read_lexicon(path: str) -> Lexicon:
    """Reads a lexicon: each line has a word and its phones, separated by white space.

    Phones of ARPAbet become its code of one letter, without stress. Other phones are written as
    they are, one after the other, as in the IPA: each character has a label.

    Raises:
        UserError: there is no such file, a line has no phones, there is no word, or there are more
            characters than a language has.
    """
    spoken: dict[str, list[tuple[str, ...]]] = {}
    text = unicodedata.normalize("NFC", storage.read_text(path)).removeprefix("\ufeff")
    for number, line in enumerate(lines_of(text), 1):
        entry = line.partition(" #")[0]
        if line.startswith(COMMENTS) or not entry.strip():
            continue
        word, *phones = entry.split()
        if word.startswith(MARKS):
            continue
        if VARIANT.sub("", word) == "":
            raise UserError(
                f"{path}, line {number}: {word!r} is no word: write one before its phones."
            )
        if not phones or PROBABILITY.fullmatch(phones[0]):
            found = f"{phones[0]!r} is no phone" if phones else "there is no pronunciation"
            raise UserError(
                f"{path}, line {number}, word {word!r}: {found}: write a word and its phones on "
                "each line, as in: cat K AE T"
            )
        spoken.setdefault(VARIANT.sub("", word).lower(), []).append(tuple(phones))
    code = _code(phone for variants in spoken.values() for each in variants for phone in each)
    pronunciations = {
        word: tuple(dict.fromkeys(_join(code[phone] for phone in each) for each in variants))
        for word, variants in spoken.items()
    }
    texts = chain.from_iterable(pronunciations.values())
    characters = sorted({*chain.from_iterable(texts)} - {SPACE, UNKNOWN})
    if not 0 < len(characters) <= MOST_CHARACTERS:
        raise UserError(
            f"{path} is no lexicon: it has {len(spoken)} words, and {len(characters)} characters "
            "in their phones. A line has a word and its phones, as in: cat K AE T"
        )
    return Lexicon(Alphabet((SPACE, *characters, UNKNOWN)), pronunciations)


def _join(phones: Iterable[str]) -> str:
    """Returns the text of a pronunciation; NFC may compose a phone and the one before it."""
    return unicodedata.normalize("NFC", "".join(phones))


def _code(phones: Iterable[str]) -> dict[str, str]:
    """Returns the text of each phone."""
    distinct = set(phones)
    plain = {phone: STRESS.sub("", phone) for phone in distinct}
    if ARPABET.keys() >= set(plain.values()):
        return {phone: ARPABET[each] for phone, each in plain.items()}
    foreign = sorted(phone for phone, each in plain.items() if each not in ARPABET)
    if len(foreign) < len(distinct):
        logging.warning(
            "The lexicon has phones of ARPAbet and others (%s): all are written as they are, with "
            "a label for each character.",
            " ".join(foreign[:10]),
        )
    return {phone: phone for phone in distinct}
