"""ARPA files, the text form of n-gram models: what they hold, and their words written anew.

The form: https://cmusphinx.github.io/wiki/arpaformat
"""

import contextlib
import re
import zlib
from collections.abc import Generator, Iterator, Mapping

from speech.language_model.text_files import open_text, reason
from utils import UserError

UNKNOWN = "<unk>"
# What marks a sentence's start and end and an unknown word; KenLM also takes the last one.
MARKS = {"<s>": "<s>", "</s>": "</s>", UNKNOWN: UNKNOWN, "<UNK>": UNKNOWN}

DATA = "\\data\\"
END = "\\end\\"
_COUNT = re.compile(r"ngram ([0-9]+)\s*=\s*([0-9]+)\s*")
_SECTION = re.compile(r"\\([0-9]+)-grams:\s*")

# Digits of a number that is written before it is known.
_DIGITS = 12


def ngram_counts(path: str) -> list[int]:
    """How many n-grams of each order a file has, as it says itself.

    Raises:
        UserError: it can't be read, or is no ARPA file.
    """
    with contextlib.closing(_lines(path)) as lines:
        return _read_counts(path, lines)[0]


def unigrams(path: str) -> list[tuple[str, float]]:
    """The words of a model and the logarithm (base 10) of their probability, without the marks.

    Raises:
        UserError: it can't be read, or is no ARPA file.
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
        raise UserError(f"{path} is no ARPA file with words in it: name another.")
    return found


def rewrite(source: str, path: str, names: Mapping[str, str]) -> None:
    """Copies a model with other names for its words; n-grams with a word without one are left out.

    Args:
        source: a plain or gzipped file; path: of the plain one that is written.
        names: word -> its name, without the marks.

    Raises:
        UserError: the source can't be read, or isn't a whole ARPA file; `path` can't be written.
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
            f"{path} can't be written: {error.strerror}. Make room, or choose another folder with "
            "--output_dir."
        ) from None


def _header(counts: list[int]) -> bytes:
    """As long for any counts."""
    lines = [f"ngram {order}={count:0{_DIGITS}}" for order, count in enumerate(counts, start=1)]
    return "\n".join([DATA, *lines, ""]).encode()


def _lines(path: str) -> Generator[str, None, None]:
    """The lines of a plain or gzipped file, without their ends and without empty ones."""
    try:
        with open_text(path) as file:
            for line in file:
                if text := line.decode().rstrip("\r\n"):
                    yield text
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no ARPA file: it isn't UTF-8 ({error.reason}).") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} can't be read: {reason(error)}. Check that it is there and whole."
        ) from None


def _read_counts(path: str, lines: Iterator[str]) -> tuple[list[int], str]:
    """The counts, and the line behind them."""
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
        f"{path} is no whole ARPA file: {found} stands where {expected} should. Name another."
    )
