"""Text as people write it -> sentences of tokens, as a language model counts them."""

import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from absl import logging

from speech.decoding.scorer import SPACE, SPACE_WORD
from speech.language_model.text_files import TextFile, read_blocks
from speech.text.characters import written_without_spaces
from speech.text.transcripts import AS_IT_IS, TranscriptRules
from utils import UTF_8, Alphabet, UserError, lines_of

# Tokens that mean something else to a language model.
RESERVED = frozenset({"<s>", "</s>", "<unk>"})

APOSTROPHE = "'"
TYPOGRAPHIC_APOSTROPHES = "\u2019\u02bc\uff07"

# A line that shares a run of so many words with a transcript of the test set is left out, ...
RUN_WORDS = 6
# ... in a language without spaces a run of so many characters, about as much.
RUN_CHARACTERS = 10


class _Table(dict[int, str]):
    """For str.translate: code point -> what stands for it, asked for when a text first has it."""

    def __init__(self, of: Callable[[str], str]) -> None:
        super().__init__()
        self._of = of

    def __missing__(self, code: int) -> str:
        self[code] = found = self._of(chr(code))
        return found


class Normaliser:
    """Writes text in an alphabet.

    The rules that transcripts are written by come first, so that a text that the alphabet can write
    has the words of its label, but for an apostrophe that stands alone. In other text typographic
    apostrophes become '; a character that the alphabet doesn't have is written in lower case if the
    alphabet has that; every other one separates words.

    UTF_8 has all characters: all that the rules leave makes words, capitals and punctuation too,
    as they are in the labels. The rules of a language take these away.
    """

    def __init__(
        self, alphabet: Alphabet, characters: bool, rules: TranscriptRules = AS_IT_IS
    ) -> None:
        """Args:
            characters: every character is a token of the model, instead of every word.
            rules: that transcripts are written by.

        Raises:
            UserError: there can be no such model of this alphabet.
        """
        self.outside: Counter[str] = Counter()  # character -> how often it separated words
        self._of_bytes = alphabet == UTF_8
        self._spaced = " " in alphabet.characters
        # Whether the language separates words: with UTF_8, a model of characters is for others.
        self.has_space = self._spaced and not (self._of_bytes and characters)
        self._characters = characters
        self._rules = rules
        self._alphabet = frozenset(alphabet.characters)
        self._brackets = {"<", ">"} <= self._alphabet
        self._letters = _Table(lambda each: "\n" if each == "\n" else self._letter(each) or " ")
        self._others = _Table(lambda each: "" if each.isspace() or self._letter(each) else each)
        if not characters and not self._spaced:
            raise UserError(
                "The alphabet has no space, so that words can't be told apart: add it, or build a "
                "character-based model with --characters."
            )

    def _letter(self, character: str) -> str | None:
        """How the alphabet writes a character; None: not at all."""
        if self._of_bytes:
            # KenLM takes a zero byte for a space.
            return None if character.isspace() or character == "\0" else character
        if character in self._alphabet:
            return character
        if character in TYPOGRAPHIC_APOSTROPHES and APOSTROPHE in self._alphabet:
            return APOSTROPHE
        lower = unicodedata.normalize("NFC", character.lower())
        return lower if self._alphabet.issuperset(lower) else None

    def sentences(self, text: str) -> Iterator[list[str]]:
        """The words of each line, of the lines that have any."""
        text = "\n".join(map(self._rules.apply, lines_of(text)))
        self.outside.update(text.translate(self._others))
        for line in text.translate(self._letters).split("\n"):
            # An apostrophe that stands alone was a quotation mark.
            words = [word for word in line.split() if word != APOSTROPHE]
            if self._brackets:
                words = [word for word in words if word not in RESERVED]
            if words:
                yield words

    def tokens(self, words: list[str]) -> list[str]:
        """What the model counts: the words, or in a character-based model their characters."""
        if not self._characters:
            return words
        letters = (" " if self._spaced else "").join(words)
        return [
            SPACE_WORD if letter == " " else letter
            for i, letter in enumerate(letters)
            if not (letter == " " and self._of_bytes and _amid_east_asian(letters, i))
        ]

    def written(self, token: str) -> str | None:
        """The token of another's model as it would be in one made here; None: it couldn't be."""
        if self._characters and token == SPACE_WORD:
            return token if self._spaced else None
        text = self._rules.apply(token)
        if not text or SPACE in text or text.translate(self._others) or text in RESERVED:
            return None
        text = text.translate(self._letters)
        return text if len(text) == 1 or not self._characters else None


def _amid_east_asian(text: str, i: int) -> bool:
    """Whether Chinese or Japanese stands on both sides of a place, where no space is written."""
    return all(map(written_without_spaces, text[i - 1 : i] + text[i + 1 : i + 2]))


class Excluded:
    """Transcripts that a language model mustn't know, typically those it will be tested with."""

    def __init__(self, has_space: bool) -> None:
        """has_space: whether the language separates its words."""
        self._has_space = has_space
        self._run = RUN_WORDS if has_space else RUN_CHARACTERS
        self._runs: set[tuple[str, ...]] = set()
        self._whole: set[tuple[str, ...]] = set()

    def add(self, words: list[str]) -> None:
        units = [sys.intern(unit) for unit in self._units(words)]
        if len(units) < self._run:
            self._whole.add(tuple(units))
        self._runs.update(self._runs_of(units))

    def touches(self, words: list[str]) -> bool:
        """Whether a line shares a run with a transcript, or is a whole one that is shorter."""
        units = self._units(words)
        return tuple(units) in self._whole or not self._runs.isdisjoint(self._runs_of(units))

    def _units(self, words: list[str]) -> list[str]:
        return words if self._has_space else list("".join(words))

    def _runs_of(self, units: list[str]) -> Iterator[tuple[str, ...]]:
        return zip(*(units[start:] for start in range(self._run)), strict=False)


@dataclass(frozen=True)
class Prepared:
    """What a text held that a model is to be estimated from."""

    sentences: int
    left_out: int  # sentences, for what they share with the excluded transcripts
    occurrences: Counter[str]  # token -> how often; in the order in which they came

    @property
    def tokens(self) -> int:
        return self.occurrences.total()


def read_excluded(files: Iterable[TextFile], normaliser: Normaliser) -> Excluded:
    """The transcripts in the files, a line each.

    Raises:
        UserError: a file can't be read.
    """
    excluded = Excluded(normaliser.has_space)
    for file in files:
        for block in read_blocks(file):
            for words in normaliser.sentences(block):
                excluded.add(words)
    normaliser.outside.clear()  # these are in no text that the model learns
    return excluded


def prepare(
    files: Iterable[TextFile],
    normaliser: Normaliser,
    excluded: Excluded,
    path: str,
    most_tokens: int | None,
) -> Prepared:
    """Writes the files' sentences to `path`, one a line, tokens separated by spaces.

    Args:
        most_tokens: that the estimator takes; None: any number.

    Raises:
        UserError: a file can't be read, there are more tokens or none, or `path` can't be written.
    """
    sentences = left_out = 0
    occurrences: Counter[str] = Counter()
    try:
        with open(path, "w", encoding="utf-8") as output:
            for file in files:
                before = sentences
                for block in read_blocks(file):
                    lines: list[str] = []
                    for words in normaliser.sentences(block):
                        if excluded.touches(words):
                            left_out += 1
                            continue
                        tokens = normaliser.tokens(words)
                        occurrences.update(tokens)
                        lines.append(" ".join(tokens) + "\n")
                    sentences += len(lines)
                    output.writelines(lines)
                    if most_tokens is not None and occurrences.total() > most_tokens:
                        raise UserError(
                            f"The text has more than {most_tokens:,} tokens, the most that the "
                            "embedded estimator takes. Compile KenLM, which takes any number: "
                            "make kenlm; or name its folder with --kenlm_bins."
                        )
                logging.info("%s: %d sentences", file.path, sentences - before)
    except OSError as error:
        raise UserError(
            f"{path} can't be written: {error.strerror}. Make room, or choose another folder with "
            "--output_dir."
        ) from None
    if not sentences:
        why = f" (--exclude_txt left out {left_out:,} sentences)" if left_out else ""
        raise UserError(
            f"There are no words of the alphabet in the text{why}: name another with --input_txt, "
            "or the right --alphabet."
        )
    return Prepared(sentences, left_out, occurrences)
