"""Reads n-gram language models from ARPA files, and computes the probability of a word.

Katz' back-off (Katz, "Estimation of probabilities from sparse data", IEEE Transactions on
Acoustics, Speech, and Signal Processing 35, 1987), in the form of ARPA files and of KenLM: the
probability of a word after its context is that of the longest known n-gram, times the back-off
weights of the longer contexts.
"""

import array
import math
from collections.abc import Iterator
from typing import NoReturn

import numpy as np

from speech.decoding import tries
from speech.decoding.compilation import compiled
from speech.decoding.tries import ROOT, find_child
from speech.decoding.types import Integers, Records
from utils import UserError, is_number

BEGIN = "<s>"
END = "</s>"
UNKNOWN = "<unk>"

# ARPA's logarithms are to base 10.
NATURAL = math.log(10)

# Largest number of words in an n-gram, far above any model's.
LARGEST_ORDER = 100

# Smallest logarithm to base 10 whose natural logarithm float32 can hold.
LOWEST = -1e38

# Natural log of an unknown word's probability in a model without one: KenLM's, 10^-100.
NEVER = -100 * NATURAL

# Largest natural log of a back-off weight; with larger ones a search's probabilities overflow.
LARGEST_BACK_OFF = 100.0

# A language model: a trie of n-grams read backwards, the predicted word first, so that a longer
# context is a deeper node. A word's number is its unigram's node minus one. Natural logarithms;
# NaN: not in the model, but on the way to a longer n-gram.
NGrams = Records  # [nodes + 1]
DTYPE = np.dtype([*tries.FIELDS, ("log_prob", "<f4"), ("back_off", "<f4")])


@compiled
def log_probability(ngrams: NGrams, word: int, context: Integers, length: int) -> float:
    """Returns the natural log of a word's probability, float64.

    Args:
        context: int32 [at least length], the words before, the nearest one first.
        length: of the context; below the model's order.
    """
    node = word + 1
    total = np.float64(ngrams[node].log_prob)
    known = 0  # length of the longest context with which the word is known
    for i in range(length):
        node = find_child(ngrams, node, context[i])
        if node < 0:
            break
        if not np.isnan(ngrams[node].log_prob):
            total, known = np.float64(ngrams[node].log_prob), i + 1
    node = ROOT
    for i in range(length):
        node = find_child(ngrams, node, context[i])
        if node < 0:
            break
        if i >= known:
            total += ngrams[node].back_off
    return total


def check(ngrams: NGrams, order: int) -> int:
    """Checks all values in a model from a file that `log_probability` follows or adds up.

    Returns:
        the number of words.

    Raises:
        ValueError: the arrays aren't a model of this order.
    """
    words = int(ngrams["first_child"][1]) - 1 if len(ngrams) > 2 else 0
    tries.check(ngrams, words)
    if not np.array_equal(ngrams["label"][1 : words + 1], np.arange(words)):
        raise ValueError("the words' numbers aren't those of their unigrams")
    if np.isnan(ngrams["log_prob"][1 : words + 1]).any():
        raise ValueError("a word has no probability")
    node = ROOT  # the first one of a level
    for _ in range(order + 1):
        node = int(ngrams["first_child"][node])
    if node < len(ngrams) - 1:
        raise ValueError(f"there are n-grams of more words than the order, {order}")
    for start in range(0, len(ngrams), tries.PIECE):
        piece = ngrams[start : start + tries.PIECE]
        log_prob = np.ascontiguousarray(piece["log_prob"])
        if (log_prob > 0).any() or np.isneginf(log_prob).any():
            raise ValueError("a log-probability can't be one")
        back_off = np.ascontiguousarray(piece["back_off"])
        if not -np.inf < back_off.min() <= back_off.max() <= LARGEST_BACK_OFF:
            raise ValueError("a back-off weight can't be one")
    return words


def read_arpa(path: str) -> tuple[NGrams, int, list[str]]:
    """Reads a language model.

    Returns:
        the model, its order, and its words in the order of their numbers, with <unk>.

    Raises:
        UserError: the file can't be read, or isn't a complete ARPA file.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return _ArpaReader(path, iter(file)).read()
    except OSError as error:
        raise UserError(f"The ARPA file {path} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"The ARPA file {path} is not UTF-8 ({error}): save it in UTF-8.") from None


class _ArpaReader:
    """Reads one ARPA file, line by line."""

    def __init__(self, path: str, lines: Iterator[str]) -> None:
        self._path = path
        self._lines = lines
        self._line_number = 0  # for messages
        self._words: dict[str, int] = {}
        self._log_probs, self._back_offs = array.array("f"), array.array("f")

    def read(self) -> tuple[NGrams, int, list[str]]:
        counts = self._header()
        sequences, lengths = [], []
        for order, count in enumerate(counts, start=1):
            block = self._section(order, count)
            sequences.append(np.pad(block, ((0, 0), (0, len(counts) - order))))
            lengths.append(np.full(len(block), order))
        while not (line := self._next()):
            pass
        if line != "\\end\\":
            self._refuse(r"has more n-grams than it counts, or no \end\ after them")
        ngrams, nodes = tries.build(np.concatenate(sequences), np.concatenate(lengths), DTYPE)
        ngrams["log_prob"] = np.nan
        ngrams["log_prob"][nodes] = np.frombuffer(self._log_probs, np.float32) * NATURAL
        ngrams["back_off"][nodes] = np.frombuffer(self._back_offs, np.float32) * NATURAL
        return ngrams, len(counts), list(self._words)

    def _header(self) -> list[int]:
        """Reads the numbers of n-grams, order by order."""
        for line in self._lines:
            self._line_number += 1
            if line.strip() == "\\data\\":
                break
        else:
            raise UserError(
                rf"{self._path} is no ARPA file: no line of it is \data\. Name another."
            )
        counts: list[int] = []
        while line := self._next():
            name, _, count = line.partition("=")
            if name != f"ngram {len(counts) + 1}" or not is_number(count.strip()):
                self._refuse(f"says {line!r} where 'ngram {len(counts) + 1}=COUNT' should be")
            counts.append(int(count))
        if not 1 <= len(counts) <= LARGEST_ORDER:
            self._refuse(f"counts no n-grams, or some of more than {LARGEST_ORDER} words")
        return counts

    def _section(self, order: int, count: int) -> Integers:
        """Reads the n-grams of one order, last word first: int32 [n-grams, order]."""
        while not (line := self._next()):
            pass
        if line != f"\\{order}-grams:":
            self._refuse(rf"says {line!r} where '\{order}-grams:' should be")
        numbers = array.array("i")
        for _ in range(count):
            numbers.extend(self._ngram(order))
        if order == 1:
            numbers.extend(self._unknown_word())
            if not {BEGIN, END} <= self._words.keys():
                self._refuse(f"has no {BEGIN} or no {END} among its unigrams")
        return np.frombuffer(numbers, np.int32).reshape(-1, order)

    def _ngram(self, order: int) -> list[int]:
        """Reads an n-gram: appends its numbers, and returns its words, the last one first."""
        fields = self._next().split()
        words = [_same_unknown(word) for word in fields[1 : order + 1]]
        if len(words) != order or len(fields) > order + 2:
            self._refuse(f"has {' '.join(fields)!r} among its {order}-grams")
        try:
            log_prob = float(fields[0])
            back_off = float(fields[order + 1]) if len(fields) > order + 1 else 0.0
        except ValueError:
            self._refuse(f"has {' '.join(fields)!r}, in which a number can't be read")
        if order == 1:
            self._add_word(words[0])
        try:
            numbers = [self._words[word] for word in reversed(words)]
        except KeyError as error:
            self._refuse(f"has no unigram of {error.args[0]!r}")
        if not (LOWEST <= log_prob <= 0 and LOWEST <= back_off <= LARGEST_BACK_OFF / NATURAL):
            self._refuse(
                f"has {' '.join(fields)!r}, whose numbers are no logarithms of a probability "
                "and a back-off weight"
            )
        self._log_probs.append(log_prob)
        self._back_offs.append(back_off)
        return numbers

    def _unknown_word(self) -> list[int]:
        """Adds <unk> if the model has no such word; returns the numbers of added words."""
        if UNKNOWN in self._words:
            return []
        self._add_word(UNKNOWN)
        self._log_probs.append(NEVER / NATURAL)
        self._back_offs.append(0.0)
        return [self._words[UNKNOWN]]

    def _add_word(self, word: str) -> None:
        if word in self._words:
            self._refuse(f"has the unigram of {word!r} twice")
        self._words[word] = len(self._words)

    def _next(self) -> str:
        self._line_number += 1
        try:
            return next(self._lines).strip()
        except StopIteration:
            self._refuse("ends in the middle")

    def _refuse(self, what: str) -> NoReturn:
        raise UserError(
            f"{self._path}, line {self._line_number}: the ARPA file {what}. Make it again."
        ) from None


def _same_unknown(word: str) -> str:
    """Returns the word, or UNKNOWN for the <UNK> of SRILM and others."""
    return UNKNOWN if word == "<UNK>" else word
