"""A lexicon: the pronunciations of words, as the files of CMUdict and Kaldi have them.

Letters say little about an English word's sounds. A network that learns the sounds (phones) too
learns from less speech.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from speech.system import storage
from utils import UserError, lines_of

COMMENTS = (";;;", "#")
# Of a word's second pronunciation and further ones, as in READ(2).
VARIANT = re.compile(r"\([0-9]+\)$")


@dataclass(frozen=True)
class Lexicon:
    """Pronunciations, one for each word."""

    phones: tuple[str, ...]  # in label order
    pronunciations: Mapping[str, tuple[int, ...]]  # labels of the phones by lower-case word

    @property
    def unknown(self) -> int:
        """The label of a word without a pronunciation."""
        return len(self.phones)

    @property
    def classes(self) -> int:
        """Number of classes of a softmax over the phones: they, the unknown word and the blank."""
        return len(self.phones) + 2


def read_lexicon(path: str) -> Lexicon:
    """Reads a lexicon: each line has a word and its phones, separated by white space.

    A word's first pronunciation is the one that counts.

    Raises:
        UserError: there is no such file, a word has no phones, or there is no word.
    """
    spoken: dict[str, list[str]] = {}
    for number, line in enumerate(lines_of(storage.read_text(path)), 1):
        if line.startswith(COMMENTS) or not line.strip():
            continue
        word, *phones = line.partition(" #")[0].split()
        if not phones:
            raise UserError(
                f"{path}, line {number}: {word!r} has no pronunciation: write a word and its "
                "phones on each line, as in: cat K AE T"
            )
        spoken.setdefault(VARIANT.sub("", word).lower(), phones)
    if not spoken:
        raise UserError(f"{path} has no words: a line has a word and its phones: cat K AE T")
    names = tuple(sorted({phone for phones in spoken.values() for phone in phones}))
    label = {name: number for number, name in enumerate(names)}
    return Lexicon(
        names, {word: tuple(label[each] for each in phones) for word, phones in spoken.items()}
    )
