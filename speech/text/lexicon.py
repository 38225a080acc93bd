"""Lexicons: the pronunciations of words, as the files of CMUdict and Kaldi have them."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from speech.system import storage
from utils import UserError, lines_of

COMMENTS = (";;;", "#")
MOST_PHONES = 1000  # of any language, with tones and stress
# A probability of lexiconp.txt, as in 0.25.
PROBABILITY = re.compile(r"[0-9.]+")
# Of a word's second pronunciation and further ones, as in READ(2).
VARIANT = re.compile(r"\([0-9]+\)$")


@dataclass(frozen=True)
class Lexicon:
    """Pronunciations, one for each word."""

    phones: tuple[str, ...]  # in label order
    pronunciations: Mapping[str, tuple[int, ...]]  # labels of the phones by lower-case word

    @property
    def unknown(self) -> int:
        """The label of a word without a pronunciation; the blank follows."""
        return len(self.phones)

    @property
    def digest(self) -> str:
        """A checksum of the content."""
        content = repr((self.phones, sorted(self.pronunciations.items())))
        return hashlib.sha256(content.encode()).hexdigest()


def read_lexicon(path: str) -> Lexicon:
    """Reads a lexicon: each line has a word and its phones, separated by white space.

    A word's first pronunciation is the one that counts.

    Raises:
        UserError: there is no such file, a line has no phones, there is no word, or there are more
            phones than a language has.
    """
    spoken: dict[str, list[str]] = {}
    text = unicodedata.normalize("NFC", storage.read_text(path)).removeprefix("\ufeff")
    for number, line in enumerate(lines_of(text), 1):
        if line.startswith(COMMENTS) or not line.strip():
            continue
        word, *phones = line.partition(" #")[0].split()
        if not phones or PROBABILITY.fullmatch(phones[0]):
            found = f"{phones[0]!r} is no phone" if phones else "there is no pronunciation"
            raise UserError(
                f"{path}, line {number}, word {word!r}: {found}: write a word and its phones on "
                "each line, as in: cat K AE T"
            )
        spoken.setdefault(VARIANT.sub("", word).lower(), phones)
    names = tuple(sorted({phone for phones in spoken.values() for phone in phones}))
    if not 0 < len(names) <= MOST_PHONES:
        raise UserError(
            f"{path} is no lexicon: it has {len(spoken)} words and {len(names)} phones. A line has "
            "a word and its phones, as in: cat K AE T"
        )
    label = {name: number for number, name in enumerate(names)}
    return Lexicon(
        names, {word: tuple(label[each] for each in phones) for word, phones in spoken.items()}
    )
