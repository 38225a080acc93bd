"""Reads, rewrites and writes ARPA files, the text form of n-gram models.

The form: https://cmusphinx.github.io/wiki/arpaformat
"""

import contextlib
import re
import zlib
from collections.abc import Generator, Iterator, Mapping

import numpy as np

from speech.decoding.ngrams import NATURAL
from speech.decoding.scorer import Scorer
from speech.decoding.tries import PIECE
from speech.language_model.text_files import open_text, reason
from utils import UserError

UNKNOWN = "<unk>"
# Marks of a sentence's start and end and of unknown words; KenLM also accepts the last one.
MARKS = {"<s>": "<s>", "</s>": "</s>", UNKNOWN: UNKNOWN, "<UNK>": UNKNOWN}

DATA = "\\data\\"
END = "\\end\\"
_COUNT = re.compile(r"ngram ([0-9]+)\s*=\s*([0-9]+)\s*")
_SECTION = re.compile(r"\\([0-9]+)-grams:\s*")

# Digits of the counts, whose values are known only at the end.
_DIGITS = 12


def ngram_counts(path: str) -> list[int]:
    """Reads the number of n-grams of each order from the header of a file.

    Raises:
        UserError: it can't be read, or is not an ARPA file.
    """
    with contextlib.closing(_lines(path)) as lines:
        return _read_counts(path, lines)[0]


def unigrams(path: str) -> list[tuple[str, float]]:
    """Reads the words of a model without the marks, and log10 of their probabilities.

    Raises:
        UserError: it can't be read, or is not an ARPA file.
    """
    found: list[tuple[str, float]] = []
    with contextlib.closing(_lines(path)) as lines:
        for line in lines:
            if (section := _SECTION.fullmatch(line)) and section[1] != "1":
                break
            probability, tab, rest = line.partition("\t")
            if not tab:
                continue
            word = rest.split("\t")[0]
            if word not in MARKS:
                found.append((word, _number(path, line, probability)))
    if not found:
        raise UserError(f"{path} is not an ARPA file with words: name another.")
    return found


def rewrite(source: str, path: str, names: Mapping[str, str]) -> None:
    """Copies a model with new names of its words; drops n-grams that contain other words.

    Args:
        source: path of the model, plain or gzipped.
        path: path of the copy, plain.
        names: word -> its new name, without the marks.

    Raises:
        UserError: the source can't be read or isn't a complete ARPA file; `path` can't be written.
    """
    named = {**names, **MARKS}
    try:
        with contextlib.closing(_lines(source)) as lines, open(path, "wb") as output:
            counts, line = _read_counts(source, lines)
            kept = [0] * len(counts)
            output.write(_header(kept))
            while section := _SECTION.fullmatch(line):
                order = int(section[1])
                if order > len(counts):
                    raise _damaged(source, line, END)
                output.write(f"\n{line}\n".encode())
                for line in lines:
                    if line.startswith("\\"):
                        break
                    probability, _, rest = line.partition("\t")
                    ngram, tab, backoff = rest.partition("\t")
                    words = [named.get(word) for word in ngram.split(" ")]
                    if None in words:
                        continue
                    if len(words) != order:
                        raise _damaged(source, line, f"an n-gram of {order}")
                    output.write(
                        f"{probability}\t{' '.join(map(str, words))}{tab}{backoff}\n".encode()
                    )
                    kept[order - 1] += 1
                else:
                    line = ""
            if line != END:
                raise _damaged(source, line, END)
            output.write(f"\n{END}\n".encode())
            output.seek(0)
            output.write(_header(kept))
    except OSError as error:
        raise UserError(
            f"{path} can't be written: {error.strerror}. Free disk space, or choose another folder "
            "with --output_dir."
        ) from None


def write(scorer: Scorer, path: str) -> None:
    """Writes the n-grams of a scorer's words.

    Raises:
        UserError: the file can't be written.
    """
    names = np.array(scorer.spellings(), object)  # [words]
    model = scorer.ngrams
    counts, first = [0] * scorer.order, 1  # node of the order's first n-gram
    texts, spelt = np.array([""], object), np.array([True])  # [n-grams], of the order before
    children = np.array([len(names)])  # [n-grams], likewise
    try:
        with open(path, "w+b") as file:
            file.write(_header(counts))
            for order in range(1, scorer.order + 1):
                nodes = model[first : first + int(children.sum()) + 1]
                own, first = nodes[:-1], first + len(nodes) - 1
                labels = own["label"]
                spelt = np.repeat(spelt, children) & (names[labels] != "")
                # The words of an n-gram are stored backwards.
                texts = names[labels] + (" " if order > 1 else "") + np.repeat(texts, children)
                children = np.diff(nodes["first_child"])
                kept = np.flatnonzero(spelt & ~np.isnan(own["log_prob"]))
                counts[order - 1] = len(kept)
                file.write(f"\n\\{order}-grams:\n".encode())
                log10 = own["log_prob"][kept] / NATURAL
                back_off = own["back_off"][kept] / NATURAL
                for start in range(0, len(kept), PIECE):
                    piece = slice(start, start + PIECE)
                    rows = zip(log10[piece], texts[kept[piece]], back_off[piece], strict=True)
                    if order < scorer.order:
                        lines = [f"{a:.7g}\t{text}\t{b:.7g}\n" for a, text, b in rows]
                    else:
                        lines = [f"{a:.7g}\t{text}\n" for a, text, _ in rows]
                    file.write("".join(lines).encode())
            file.write(f"\n{END}\n".encode())
            file.seek(0)
            file.write(_header(counts))
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror}. Free disk space.") from None


def _header(counts: list[int]) -> bytes:
    """Returns the header, whose length is the same for all counts."""
    lines = [f"ngram {order}={count:0{_DIGITS}}" for order, count in enumerate(counts, start=1)]
    return "\n".join([DATA, *lines, ""]).encode()


def _lines(path: str) -> Generator[str, None, None]:
    """Yields the lines of a plain or gzipped file without line ends, except for empty lines."""
    try:
        with open_text(path) as file:
            for line in file:
                if text := line.decode().rstrip("\r\n"):
                    yield text
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not an ARPA file: it isn't UTF-8 ({error.reason}).") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} can't be read: {reason(error)}. Check that it exists and is complete."
        ) from None


def _read_counts(path: str, lines: Iterator[str]) -> tuple[list[int], str]:
    """Returns the counts and the line after them."""
    if not any(line.strip() == DATA for line in lines):
        raise _damaged(path, "", DATA)
    counts: list[int] = []
    line = ""
    for line in lines:
        match = _COUNT.fullmatch(line)
        if counts and _SECTION.fullmatch(line):
            return counts, line
        if match is None or int(match[1]) != len(counts) + 1:
            break
        counts.append(int(match[2]))
    raise _damaged(path, line, f"ngram {len(counts) + 1}=...")


def _number(path: str, line: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _damaged(path, line, "a number and an n-gram") from None


def _damaged(path: str, line: str, expected: str) -> UserError:
    found = f"{line.strip()[:60]!r}" if line else "its end"
    return UserError(
        f"{path} is not a complete ARPA file: found {found} instead of {expected}. Name another."
    )
