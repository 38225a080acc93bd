"""Normalises text to sentences of tokens for a language model."""

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

# Tokens with a special meaning in a language model.
RESERVED = frozenset({"<s>", "</s>", "<unk>"})

APOSTROPHE = "'"
TYPOGRAPHIC_APOSTROPHES = "\u2019\u02bc\uff07"

# A line that shares a run of this many words with an excluded transcript is left out, ...
RUN_WORDS = 6
# ... in a language without spaces a run of this many characters.
RUN_CHARACTERS = 10


class _Table(dict[int, str]):
    """A table for str.translate that computes the entry of a code point on first use."""

    def __init__(self, of: Callable[[str], str]) -> None:
        super().__init__()
        self._of = of

    def __missing__(self, code: int) -> str:
        self[code] = found = self._of(chr(code))
        return found


class Normaliser:
    """Normalises text to the characters of an alphabet.

    Applies the rules of transcripts first, so that text in the alphabet has the same words as its
    labels, except for a single apostrophe. Then typographic apostrophes become '; a character
    outside the alphabet becomes lower case if that is in the alphabet; every other one separates
    words.

    UTF_8 contains all characters: whatever the rules leave becomes part of words, as in the labels,
    also upper case and punctuation. The rules of a language remove these.
    """

    def __init__(
        self, alphabet: Alphabet, characters: bool, rules: TranscriptRules = AS_IT_IS
    ) -> None:
        """Args:
            characters: tokens are characters instead of words.
            rules: rules of transcripts.

        Raises:
            UserError: words can't be separated in this alphabet.
        """
        self.outside: Counter[str] = Counter()  # character outside the alphabet -> count
        self._of_bytes = alphabet == UTF_8
        self._spaced = " " in alphabet.characters
        # Whether the language separates words. With UTF_8, a model of characters is for others.
        self.has_space = self._spaced and not (self._of_bytes and characters)
        self._characters = characters
        self._rules = rules
        self._alphabet = frozenset(alphabet.characters)
        self._composed = alphabet.composed
        self._brackets = {"<", ">"} <= self._alphabet
        self._letters = _Table(lambda each: "\n" if each == "\n" else self._letter(each) or " ")
        self._others = _Table(lambda each: "" if each.isspace() or self._letter(each) else each)
        if not characters and not self._spaced:
            raise UserError(
                "The alphabet has no space to separate words: add it, or build a character-based "
                "model with --characters."
            )

    def _letter(self, character: str) -> str | None:
        """Returns a character's form in the alphabet; None if it has none."""
        if self._of_bytes:
            # KenLM treats a zero byte as a space.
            return None if character.isspace() or character == "\0" else character
        if character in self._alphabet:
            return character
        if character in TYPOGRAPHIC_APOSTROPHES and APOSTROPHE in self._alphabet:
            return APOSTROPHE
        lower = unicodedata.normalize("NFC", character.lower())
        return lower if self._alphabet.issuperset(lower) else None

    def sentences(self, text: str) -> Iterator[list[str]]:
        """Yields the words of each line that has any."""
        text = self._composed("\n".join(map(self._rules.apply, lines_of(text))))
        self.outside.update(text.translate(self._others))
        for line in text.translate(self._letters).split("\n"):
            # A single apostrophe was a quotation mark.
            words = [word for word in line.split() if word != APOSTROPHE]
            if self._brackets:
                words = [word for word in words if word not in RESERVED]
            if words:
                yield words

    def tokens(self, words: list[str]) -> list[str]:
        """Returns the tokens: the words, or in a character-based model their characters."""
        if not self._characters:
            return words
        letters = (" " if self._spaced else "").join(words)
        return [
            SPACE_WORD if letter == " " else letter
            for i, letter in enumerate(letters)
            if not (letter == " " and self._of_bytes and _amid_east_asian(letters, i))
        ]

    def normalise_token(self, token: str) -> str | None:
        """Normalises a token of an existing model; None if a model built here can't contain it."""
        if self._characters and token == SPACE_WORD:
            return token if self._spaced else None
        text = self._composed(self._rules.apply(token))
        if not text or SPACE in text or text.translate(self._others) or text in RESERVED:
            return None
        text = text.translate(self._letters)
        return text if len(text) == 1 or not self._characters else None


def _amid_east_asian(text: str, i: int) -> bool:
    """Says whether Chinese or Japanese, which use no spaces, is on both sides of a position."""
    return all(map(written_without_spaces, text[i - 1 : i] + text[i + 1 : i + 2]))


class Excluded:
    """Transcripts that a language model must not contain, typically those of the test set."""

    def __init__(self, has_space: bool) -> None:
        """Args:
        has_space: whether the language separates words.
        """
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
        """Says whether a line shares a run with a transcript, or equals a shorter one."""
        units = self._units(words)
        return tuple(units) in self._whole or not self._runs.isdisjoint(self._runs_of(units))

    def _units(self, words: list[str]) -> list[str]:
        return words if self._has_space else list("".join(words))

    def _runs_of(self, units: list[str]) -> Iterator[tuple[str, ...]]:
        return zip(*(units[start:] for start in range(self._run)), strict=False)


@dataclass(frozen=True)
class Prepared:
    """The counts of the text that a model is estimated from."""

    sentences: int
    left_out: int  # sentences that overlap excluded transcripts
    occurrences: Counter[str]  # token -> count, in the order of first occurrence

    @property
    def tokens(self) -> int:
        return self.occurrences.total()


def read_excluded(files: Iterable[TextFile], normaliser: Normaliser) -> Excluded:
    """Reads the excluded transcripts, one per line.

    Raises:
        UserError: a file can't be read.
    """
    excluded = Excluded(normaliser.has_space)
    for file in files:
        for block in read_blocks(file):
            for words in normaliser.sentences(block):
                excluded.add(words)
    normaliser.outside.clear()  # the model isn't estimated from this text
    return excluded


def prepare(
    files: Iterable[TextFile],
    normaliser: Normaliser,
    excluded: Excluded,
    path: str,
    most_tokens: int | None,
) -> Prepared:
    """Writes the sentences of the files to `path`, one per line, tokens separated by spaces.

    Args:
        most_tokens: maximum number of tokens; None: no limit.

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
                            f"The text has more than {most_tokens:,} tokens, the maximum of the "
                            "embedded estimator. Compile KenLM, which has no limit, with make "
                            "kenlm, or name its folder with --kenlm_bins."
                        )
                logging.info("%s: %d sentences", file.path, sentences - before)
    except OSError as error:
        raise UserError(
            f"{path} can't be written: {error.strerror}. Free disk space, or choose another folder "
            "with --output_dir."
        ) from None
    if not sentences:
        why = f" (--exclude_txt left out {left_out:,} sentences)" if left_out else ""
        raise UserError(
            f"The text has no words in the characters of the alphabet{why}: name another text with "
            "--input_txt, or the right --alphabet."
        )
    return Prepared(sentences, left_out, occurrences)
