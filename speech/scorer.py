"""The scorer file: a language model, its vocabulary, alphabet and weights, ready for the decoder.

One file, so that nothing can be mixed up. It is read into memory whole, and its arrays are used as
they lie there. It isn't mapped: a file that is overwritten in place would kill those that map it.

    16 bytes    MAGIC
    48 bytes    version and length of the JSON, two little-endian int64; alpha and beta, two
                float64; the CRC-32C of all that follows, a uint32; 12 bytes that are 0
    JSON        the alphabet, the order, and the lengths of the arrays
    arrays      the words' letters and the n-grams, see LETTERS and ngrams.DTYPE
"""

import contextlib
import functools
import json
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import google_crc32c
import numpy as np
import numpy.typing as npt

from speech import ngrams, storage, tries
from speech.ngrams import NGrams
from speech.tries import NONE, Trie
from utils import UTF_8, Alphabet, AlphabetError, UserError

MAGIC = b"deep speech lm\r\n"
VERSION = 1

# Version, length of the JSON, alpha, beta, checksum.
HEADER = struct.Struct("<qqddI12x")
WEIGHTS = struct.Struct("<dd")
WEIGHTS_AT = len(MAGIC) + 16

# Bytes that are checked at a time.
PIECE = 1 << 24

# Arrays begin at multiples of it, as memory wants them.
ALIGNMENT = 64

# The words' trie; word: the n-grams' number of it, or NONE where none ends; boost: nats that a hot
# word gains, which isn't of the file.
LETTERS = np.dtype([*tries.FIELDS, ("word", "<i4"), ("boost", "<f4")])

SPACE = " "
# What a language model of characters calls the space, as ARPA files separate words by spaces.
SPACE_WORD = "<space>"


@dataclass(frozen=True)
class Scorer:
    """A language model over the words, or characters, of an alphabet."""

    path: str
    alphabet: Alphabet
    alpha: float  # weight of the language model's natural-log probability
    beta: float  # nats that each word gains
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
    """Packs an ARPA file (plain text), the vocabulary, alphabet and weights; whole or not at all.

    Args:
        words: the vocabulary; of a language model of characters, the characters.

    Raises:
        UserError: the ARPA file can't be read, a word can't be written with the alphabet, an
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
    pieces, position = [np.frombuffer(text, np.uint8)], len(MAGIC) + HEADER.size + len(text)
    for each in arrays:
        padding = np.zeros(-position % ALIGNMENT, np.uint8)
        pieces += [padding, each.view(np.uint8)]
        position += len(padding) + each.nbytes
    checksum = functools.reduce(_extended, pieces, 0)
    partial = storage.partial_path(path)
    try:
        with open(partial, "wb") as file:
            file.write(MAGIC + HEADER.pack(VERSION, len(text), alpha, beta, checksum))
            file.writelines(piece.data for piece in pieces)
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"The scorer {path} can't be written: {error.strerror}.") from None
    finally:
        with contextlib.suppress(OSError):  # gone, if the file is whole
            os.remove(partial)


def _letters(words: Sequence[str], alphabet: Alphabet, number_of: dict[str, int]) -> Trie:
    """The trie of the words' labels."""
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
        UserError: there is none, it isn't one, it is cut off, or of a newer version.
    """
    if not path:
        raise UserError("The scorer's path is empty: name a file that build_lm.py made.")
    if storage.in_bucket(path):
        raise UserError(
            f"The scorer {path} lies in a bucket, and is read from a disk: copy it to this machine."
        )
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
            version, length, alpha, beta, checksum = HEADER.unpack(start[len(MAGIC) :])
            if version != VERSION:
                raise UserError(
                    f"The scorer {path} is of version {version}, and version {VERSION} is the one "
                    "that can be read here: make it anew with build_lm.py, or update this program."
                )
            rest = file.read()
    except OSError as error:
        raise UserError(f"The scorer {path} can't be read: {error.strerror}.") from None
    if len(rest) < length:
        raise _cut_off(path)
    try:
        content = json.loads(rest[: max(0, length)])
        (letters_at, model_at), end = _places(content["nodes"], len(start) + length)
        if len(start) + len(rest) < end:
            raise _cut_off(path)
        if _extended(0, np.frombuffer(rest, np.uint8, end - len(start))) != checksum:
            raise ValueError("its checksum is another")
        letters, model = content["nodes"]
        return Scorer(
            path,
            Alphabet.from_json(content["alphabet"]),
            alpha,
            beta,
            content["characters"],
            content["order"],
            np.frombuffer(rest, ngrams.DTYPE, model, model_at - len(start)),
            content["begin"],
            content["end"],
            content["unknown"],
            np.frombuffer(rest, LETTERS, letters, letters_at - len(start)),
        )
    except (ValueError, KeyError, TypeError, AlphabetError) as error:
        raise UserError(
            f"The scorer {path} is damaged ({error!r}): copy it again, or make it anew."
        ) from None


def _places(lengths: Sequence[int], position: int) -> tuple[list[int], int]:
    """Where the letters and the n-grams begin, and where the file ends."""
    places = []
    for dtype, length in zip((LETTERS, ngrams.DTYPE), lengths, strict=True):
        position += -position % ALIGNMENT
        places.append(position)
        position += dtype.itemsize * length
    return places, position


def _extended(checksum: int, content: npt.NDArray[np.uint8]) -> int:
    """A CRC-32C with more bytes; a second for some GB."""
    for at in range(0, len(content), PIECE):
        checksum = google_crc32c.extend(checksum, content[at : at + PIECE].tobytes())
    return checksum


def _cut_off(path: str) -> UserError:
    return UserError(f"The scorer {path} is cut off: copy it again, or make it anew.")


def check_alphabet(scorer: Scorer, alphabet: Alphabet, model: str) -> None:
    """Raises UserError if a model's alphabet isn't the scorer's; model: its directory."""
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


def write_weights(path: str, alpha: float, beta: float) -> None:
    """Writes other weights into a scorer file, so that a reader sees the old file or the new one.

    Raises:
        UserError: it isn't a scorer, or can't be written.
    """
    check_weights(alpha, beta)
    read_scorer(path)
    content = bytearray(storage.read_bytes(path))
    WEIGHTS.pack_into(content, WEIGHTS_AT, alpha, beta)
    storage.write_bytes(os.path.realpath(path), bytes(content))  # a link stays one


def check_weights(alpha: float, beta: float) -> None:
    """Raises UserError if these can't be a scorer's weights."""
    if not (math.isfinite(alpha) and math.isfinite(beta) and alpha >= 0):
        raise UserError(
            f"alpha is {alpha} and beta {beta}: give finite numbers, and an alpha of 0 or more."
        )
