"""Reads and writes scorer files: a language model with its vocabulary, alphabet and weights.

One file, so that its parts can't be mixed up. It is read into memory as a whole, and its arrays are
used in place. It isn't memory-mapped: overwriting a mapped file would kill the processes that map
it.

    16 bytes    MAGIC
    48 bytes    version and length of the JSON, two little-endian int64; alpha and beta, two
                float64; the CRC-32C of all after these 64 bytes, a uint32; 8 zero bytes;
                the CRC-32C of the 60 bytes so far, a uint32, 0 in older files
    JSON        the alphabet, the order, and the lengths of the arrays
    arrays      the words' letters and the n-grams, see LETTERS and ngrams.DTYPE
"""

import contextlib
import json
import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from speech.decoding import ngrams, tries
from speech.decoding.ngrams import NGrams
from speech.decoding.tries import NONE, ROOT, Trie
from speech.system import storage, typed_json
from utils import UTF_8, Alphabet, AlphabetError, UserError

MAGIC = b"deep speech lm\r\n"
VERSION = 1

# Version, length of the JSON, alpha, beta, checksum of what follows, checksum of these and MAGIC.
HEADER = struct.Struct("<qqddI8xI")
CHECKSUM = struct.Struct("<I")

# Largest bonus of a word, in nats. Its factor hides every other one.
LARGEST_GAIN = 100

# Arrays begin at multiples of it, as is fast in memory.
ALIGNMENT = 64

# The words' trie; word: its number in the n-grams, or NONE where no word ends; boost: a hot word's
# bonus in nats, 0 in the file.
LETTERS = np.dtype([*tries.FIELDS, ("word", "<i4"), ("boost", "<f4")])

SPACE = " "
# The space in a language model of characters, since ARPA files separate words by spaces.
SPACE_WORD = "<space>"


@dataclass(frozen=True)
class Scorer:
    """A language model over the words, or characters, of an alphabet."""

    path: str
    alphabet: Alphabet
    alpha: float  # weight of the language model's natural-log probability
    beta: float  # bonus of each word, in nats
    characters: bool  # each character is a word
    order: int
    ngrams: NGrams
    begin: int  # the numbers of <s>, </s> and <unk>
    end: int
    unknown: int
    letters: Trie  # the words as sequences of labels, LETTERS

    @property
    def words(self) -> int:
        """Number of words in the vocabulary."""
        return int((self.letters["word"] != NONE).sum())


def write_scorer(
    path: str,
    arpa_path: str,
    words: Sequence[str],
    alphabet: Alphabet,
    alpha: float,
    beta: float,
    characters: bool,
) -> None:
    """Packs a language model, its vocabulary, alphabet and weights into a file, atomically.

    Args:
        arpa_path: of the language model, as plain text.
        words: the vocabulary; the characters of a language model of characters.

    Raises:
        UserError: the ARPA file can't be read, a word has characters outside the alphabet, an
            alphabet for words has no space, or the file can't be written.
    """
    if not characters and SPACE not in alphabet.characters:
        raise UserError(
            "The alphabet has no space to separate words by: add one to it, or make a language "
            "model of characters, with --characters."
        )
    check_weights(alpha, beta)
    model, order, model_words = ngrams.read_arpa(arpa_path)
    number_of = {word: number for number, word in enumerate(model_words)}
    arrays = (_letters(words, alphabet, number_of), model)
    content = {
        "alphabet": alphabet.to_json(),
        "characters": characters,
        "order": order,
        "begin": number_of[ngrams.BEGIN],
        "end": number_of[ngrams.END],
        "unknown": number_of[ngrams.UNKNOWN],
        "nodes": [len(each) for each in arrays],
    }
    text = json.dumps(content).encode()
    pieces, position = [memoryview(text)], len(MAGIC) + HEADER.size + len(text)
    for each in arrays:
        padding = bytes(-position % ALIGNMENT)
        pieces += [memoryview(padding), each.view(np.uint8).data]
        position += len(padding) + each.nbytes
    checksum = 0
    for piece in pieces:
        checksum = storage.crc32c(piece, checksum)
    with _replacing(path) as partial, open(partial, "wb") as file:
        file.write(_head(len(text), alpha, beta, checksum))
        file.writelines(pieces)


def _head(length: int, alpha: float, beta: float, checksum: int) -> bytes:
    """Returns the bytes before the JSON; checksum: of all bytes after them."""
    head = (MAGIC + HEADER.pack(VERSION, length, alpha, beta, checksum, 0))[: -CHECKSUM.size]
    return head + CHECKSUM.pack(storage.crc32c(head))


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[str]:
    """Yields a temporary path that replaces `path` at the end; after an error nothing changes.

    A program that has the old file open can read on.

    Raises:
        UserError: the file can't be written.
    """
    storage.refuse_device(path)
    partial = storage.partial_path(path)
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"The scorer {path} can't be written: {error.strerror}.") from None
    finally:
        with contextlib.suppress(OSError):  # gone, if it has replaced `path`
            os.remove(partial)


def _letters(words: Sequence[str], alphabet: Alphabet, number_of: dict[str, int]) -> Trie:
    """Returns the trie of the words' labels."""
    labels = tries.padded([alphabet.encode(word) for word in words])
    letters, nodes = tries.build(*labels, LETTERS)
    letters["word"] = NONE
    unknown = number_of[ngrams.UNKNOWN]
    letters["word"][nodes] = [
        number_of.get(SPACE_WORD if word == SPACE else word, unknown) for word in words
    ]
    return letters


def read_scorer(path: str) -> Scorer:
    """Reads a scorer file into memory.

    Raises:
        UserError: it doesn't exist, is no scorer, is cut off, or has a newer version.
    """
    if not path:
        raise UserError("The scorer's path is empty: name a file that build_lm.py made.")
    if storage.in_bucket(path):
        raise UserError(
            f"The scorer {path} is in a bucket, but scorers are read from a disk: copy it to this "
            "machine."
        )
    head, start, rest = _read_file(path)
    try:
        if head.own_checksum and head.own_checksum != storage.crc32c(start[: -CHECKSUM.size]):
            raise ValueError("the checksum of its head is wrong")
        if not _are_weights(head.alpha, head.beta):
            raise ValueError(f"its alpha is {head.alpha}, its beta {head.beta}")
        content = typed_json.read(
            _Content, typed_json.parse_object(rest[: max(0, head.json_length)]), "its JSON"
        )
        (letters_at, model_at), end = _places(content.nodes, len(start) + head.json_length)
        if len(start) + len(rest) < end:
            raise _cut_off(path)
        if storage.crc32c(memoryview(rest)[: end - len(start)]) != head.checksum:
            raise ValueError("its checksum is wrong")
        letters = np.frombuffer(rest, LETTERS, content.nodes[0], letters_at - len(start))
        model = np.frombuffer(rest, ngrams.DTYPE, content.nodes[1], model_at - len(start))
        _check(content, letters, model)
    except (ValueError, AlphabetError) as error:
        raise UserError(
            f"The scorer {path} is damaged ({error}): copy it again, or make it again with "
            "build_lm.py."
        ) from None
    return Scorer(
        path,
        content.alphabet,
        head.alpha,
        head.beta,
        content.characters,
        content.order,
        model,
        content.begin,
        content.end,
        content.unknown,
        letters,
    )


class _Head(NamedTuple):
    """The numbers before a scorer's JSON, HEADER."""

    version: int
    json_length: int
    alpha: float
    beta: float
    checksum: int  # of all after the head
    own_checksum: int  # of the head; 0: an older file, without


def _read_file(path: str) -> tuple[_Head, bytes, bytes]:
    """Reads a scorer file: its head's numbers, its head, and the rest."""
    try:
        with open(path, "rb") as file:
            start = file.read(len(MAGIC) + HEADER.size)
            if not start.startswith(MAGIC):
                raise UserError(
                    f"{path} is no scorer: make one with build_lm.py. (One of Mozilla's has "
                    "another format; build_lm.py --input_arpa packs its language model.)"
                )
            if len(start) < len(MAGIC) + HEADER.size:
                raise _cut_off(path)
            head = _Head(*HEADER.unpack(start[len(MAGIC) :]))
            if head.version != VERSION:
                raise UserError(
                    f"The scorer {path} has version {head.version}, and only version {VERSION} can "
                    "be read here: make it again with build_lm.py, or update this program."
                )
            rest = file.read()
    except OSError as error:
        raise UserError(f"The scorer {path} can't be read: {error.strerror}.") from None
    if len(rest) < head.json_length:
        raise _cut_off(path)
    return head, start, rest


@dataclass(frozen=True)
class _Content:
    """The fields of a scorer's JSON."""

    alphabet: Alphabet
    characters: bool
    order: int
    begin: int
    end: int
    unknown: int
    nodes: tuple[int, ...]  # records of the letters and of the n-grams


def _check(content: _Content, letters: Trie, model: NGrams) -> None:
    """Checks the values that the compiled search uses without further checks.

    Raises:
        ValueError: an index is out of its array, or a number is out of range.
    """
    if not content.characters and SPACE not in content.alphabet.characters:
        raise ValueError("its alphabet has no space")
    if not 1 <= content.order <= ngrams.LARGEST_ORDER:
        raise ValueError(f"its order is {content.order}")
    words = ngrams.check(model, content.order)
    if max(content.begin, content.end, content.unknown) >= words:
        raise ValueError(f"the numbers of <s>, </s> and <unk> are not below {words}")
    tries.check(letters, content.alphabet.blank)
    if letters["word"][ROOT] != NONE or letters["word"][-1] != NONE:
        raise ValueError("the vocabulary has words outside its nodes")
    for start in range(0, len(letters), tries.PIECE):
        piece = letters[start : start + tries.PIECE]
        word = np.ascontiguousarray(piece["word"])
        if word.min() < NONE or word.max() >= words:
            raise ValueError(f"the vocabulary has words whose numbers are not below {words}")
        if piece["boost"].any():
            raise ValueError("the vocabulary has hot words")


def _places(lengths: Sequence[int], position: int) -> tuple[list[int], int]:
    """Returns the positions where the letters and the n-grams begin, and where the file ends."""
    places = []
    for dtype, length in zip((LETTERS, ngrams.DTYPE), lengths, strict=True):
        position += -position % ALIGNMENT
        places.append(position)
        position += dtype.itemsize * length
    return places, position


def _cut_off(path: str) -> UserError:
    return UserError(f"The scorer {path} is cut off: copy it again, or make it again.")


def check_alphabet(scorer: Scorer, alphabet: Alphabet, model: str) -> None:
    """Checks that a model's alphabet is the scorer's.

    Args:
        model: its directory, for messages.

    Raises:
        UserError: it is another one.
    """
    if scorer.alphabet == alphabet:
        return
    ours, theirs = set(alphabet.characters), set(scorer.alphabet.characters)
    if UTF_8 in (scorer.alphabet, alphabet):
        what = f"{str(scorer.alphabet)!r} instead of {str(alphabet)!r}"
    elif ours == theirs:
        what = "the same characters in another order"
    else:
        differences = ((theirs - ours, "more"), (ours - theirs, "less"))
        named = " and ".join(f"{sorted(each)} {word}" for each, word in differences if each)
        what = f"{named} than the model's {len(ours)}"
    raise UserError(
        f"The scorer {scorer.path} is of another alphabet than the model in {model}, with {what}: "
        "make one with build_lm.py --alphabet and the alphabet that the model was trained with."
    )


def read_matching_scorer(path: str | None, alphabet: Alphabet, model: str) -> Scorer | None:
    """Reads the scorer of a model's alphabet; None without a path.

    Args:
        model: its directory, for messages.

    Raises:
        UserError: the scorer can't be read, or is of another alphabet.
    """
    if not path:
        return None
    scorer = read_scorer(path)
    check_alphabet(scorer, alphabet, model)
    return scorer


def write_weights(path: str, alpha: float, beta: float) -> None:
    """Replaces a scorer file, or the target of a link, by one with other weights.

    Raises:
        UserError: it is no scorer, or can't be written.
    """
    check_weights(alpha, beta)
    read_scorer(path)
    with _replacing(os.path.realpath(path)) as partial:
        shutil.copy(path, partial)
        with open(partial, "r+b") as file:
            _, length, _, _, checksum, _ = HEADER.unpack(
                file.read(len(MAGIC) + HEADER.size)[len(MAGIC) :]
            )
            file.seek(0)
            file.write(_head(length, alpha, beta, checksum))


def check_weights(alpha: float, beta: float) -> None:
    """Checks a scorer's weights.

    Raises:
        UserError: they are out of range.
    """
    if not _are_weights(alpha, beta):
        raise UserError(
            f"alpha is {alpha} and beta {beta}: give an alpha from 0 to {LARGEST_GAIN}, and a beta "
            f"from -{LARGEST_GAIN} to {LARGEST_GAIN}."
        )


def _are_weights(alpha: float, beta: float) -> bool:
    return 0 <= alpha <= LARGEST_GAIN and abs(beta) <= LARGEST_GAIN
