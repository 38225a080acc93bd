"""Reads KenLM's binary language models of the type trie, as DeepSpeech's scorers contain them.

KenLM (github.com/kpu/kenlm; Heafield, "KenLM: Faster and Smaller Language Model Queries", WMT 2011)
keeps n-grams backwards, the predicted word first, level by level, as `ngrams.NGrams` does. So a
level's bit-packed records become a part of the array, in their order. Words are there as hashes.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from speech.decoding import ngrams, tries
from speech.decoding.compilation import compiled
from speech.decoding.ngrams import NGrams
from speech.decoding.types import Records

MAGIC = b"mmap lm http://kheafield.com/code format version 5\n"

# After 88 bytes that check the machine: order, multiplier of another type, type, whether the words
# follow as text, version of the search.
_PARAMETERS = struct.Struct("<B3xfIB3xI")
_PARAMETERS_AT = 88

UNKNOWN = 0  # number of <unk>

# Types of models: 2 to 5 are tries.
_TRIES = (2, 3, 4, 5)
_QUANTISED = (3, 5)
_COMPRESSED = (4, 5)  # pointers without the bits that can be found by bisection

_UNIGRAM = np.dtype([("log10", "<f4"), ("back_off", "<f4"), ("first_child", "<u8")])

Integers64 = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class KenlmModel:
    """A language model, and the hashes of its words."""

    order: int
    ngrams: NGrams
    hashes: Integers64  # of the words from number 1 on, ascending; 0 is <unk>
    end: int  # position after it in the file

    def numbers_of(self, words: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """Returns the number of each word [words]; UNKNOWN for one that is not there."""
        found = murmur_hashes(words)
        places = np.searchsorted(self.hashes, found)
        there = self.hashes[np.minimum(places, len(self.hashes) - 1)] == found
        return np.where(there, places + 1, UNKNOWN)


class _Level(NamedTuple):
    """The n-grams of one order above 1; all arrays [n-grams]."""

    words: Integers64  # the last one of each, which is the most distant one
    log10: npt.NDArray[np.float32]
    back_off: npt.NDArray[np.float32] | None  # None: of the highest order
    first_children: Integers64 | None  # [n-grams + 1], places in the next level


def read(data: bytes) -> KenlmModel:
    """Reads the model at the beginning of a file's content.

    Raises:
        ValueError: it is damaged, or is no trie.
    """
    if not data.startswith(MAGIC):
        raise ValueError("it is no binary of KenLM of the format version 5")
    try:
        order, _, kind, has_words, _ = _PARAMETERS.unpack_from(data, _PARAMETERS_AT)
        if kind not in _TRIES:
            raise ValueError(f"it has the type {kind} of KenLM: build_binary trie makes a trie")
        at = _PARAMETERS_AT + _PARAMETERS.size
        counts = struct.unpack_from(f"<{order}Q", data, at)
        at = _aligned(at + 8 * order)
        (words,) = struct.unpack_from("<Q", data, at)
        hashes = np.frombuffer(data, "<u8", words, at + 8)
        at += 8 + 8 * counts[0]
        tables, at = _tables(data, at, order, kind in _QUANTISED)
        unigrams = np.frombuffer(data, _UNIGRAM, counts[0] + 1, at)
        at += _UNIGRAM.itemsize * (counts[0] + 2)
        levels, at = _levels(data, at, counts, tables, kind in _COMPRESSED)
        if has_words:
            for _ in range(counts[0]):
                at = data.index(b"\0", at) + 1
    except (struct.error, IndexError, OverflowError, MemoryError) as error:
        raise ValueError(f"its language model is damaged or cut off: {error}") from None
    return KenlmModel(order, _trie(counts, unigrams, levels), hashes, at)


def _aligned(position: int) -> int:
    return -(-position // 8) * 8


class _Tables(NamedTuple):
    """The values that quantised n-grams refer to, for each order above 1."""

    log10_bits: int
    back_off_bits: int
    log10: list[npt.NDArray[np.float32]]  # empty: not quantised
    back_off: list[npt.NDArray[np.float32]]


def _tables(data: bytes, at: int, order: int, quantised: bool) -> tuple[_Tables, int]:
    if not quantised:
        return _Tables(31, 32, [], []), at  # the sign of a logarithm is known
    version, log10_bits, back_off_bits = data[at : at + 3]
    if version != 2:
        raise ValueError(f"its quantisation has the version {version}, not 2")
    at += 8
    tables = _Tables(log10_bits, back_off_bits, [], [])
    for n in range(2, order + 1):
        tables.log10.append(np.frombuffer(data, "<f4", 1 << log10_bits, at))
        at += 4 << log10_bits
        if n < order:
            tables.back_off.append(np.frombuffer(data, "<f4", 1 << back_off_bits, at))
            at += 4 << back_off_bits
    return tables, at


def _levels(
    data: bytes, at: int, counts: Sequence[int], tables: _Tables, compressed: bool
) -> tuple[list[_Level], int]:
    """Reads the n-grams of all orders above 1; returns them and the position after them."""
    most_chopped = data[at + 1] if compressed and len(counts) > 2 else 0
    word_bits = counts[0].bit_length()
    levels = []
    for number, count in enumerate(counts[1:]):
        last = number == len(counts) - 2
        offsets = np.zeros(0, np.uint64)
        pointer_bits = 0 if last else counts[number + 2].bit_length()
        if compressed and not last:
            chopped = _chopped_bits(count, counts[number + 2], most_chopped)
            pointer_bits -= chopped
            size = (counts[number + 2] >> pointer_bits) + 1
            offsets = np.frombuffer(data, "<u8", size, _aligned(at) + 8)
            at += 8 * (1 + size) + 7
        widths = [word_bits, tables.log10_bits]
        if not last:
            widths = [word_bits, tables.back_off_bits, tables.log10_bits, pointer_bits]
            if not tables.log10:
                widths = [word_bits, tables.log10_bits, tables.back_off_bits, pointer_bits]
        size = -(-(1 + count) * sum(widths) // 8) + 8
        packed = np.frombuffer(data, np.uint8, size, at)
        at += size
        levels.append(_level(packed, count, widths, tables, number, offsets))
    return levels, at


def _chopped_bits(count: int, most: int, limit: int) -> int:
    """Returns how many upper bits KenLM leaves out of pointers: those that save most memory."""
    needed = most.bit_length()
    return min(
        range(min(needed, limit) + 1),
        key=lambda bits: ((most >> (needed - bits)) * 64 - (count + 1) * bits, bits),
    )


def _level(
    packed: npt.NDArray[np.uint8],
    count: int,
    widths: Sequence[int],
    tables: _Tables,
    number: int,
    offsets: Integers64,
) -> _Level:
    last = len(widths) == 2
    fields = list(_fields(packed, count + (not last), widths))
    words = fields[0][:count]
    if last:
        return _Level(words, _log10(fields[1][:count], tables, number), None, None)
    quantised = bool(tables.log10)
    log10, back_off = (fields[2], fields[1]) if quantised else (fields[1], fields[2])
    following = fields[3]
    if len(offsets):
        upper = np.searchsorted(offsets, np.arange(count + 1, dtype=np.uint64), "right") - 1
        following = following | upper.astype(np.uint64) << np.uint64(widths[3])
    return _Level(
        words,
        _log10(log10[:count], tables, number),
        tables.back_off[number][back_off[:count]] if quantised else _floats(back_off[:count]),
        following,
    )


def _log10(values: Integers64, tables: _Tables, number: int) -> npt.NDArray[np.float32]:
    if tables.log10:
        return tables.log10[number][values]
    return _floats(values | np.uint64(1 << 31))


def _floats(bits: Integers64) -> npt.NDArray[np.float32]:
    return bits.astype(np.uint32).view(np.float32)


def _fields(
    packed: npt.NDArray[np.uint8], rows: int, widths: Sequence[int]
) -> Iterator[Integers64]:
    """Yields each field of bit-packed rows, little endian, [rows]; fields have up to 57 bits."""
    total, offset = sum(widths), 0
    for width in widths:
        starts = np.arange(rows, dtype=np.int64) * total + offset
        at = starts >> 3
        values = np.zeros(rows, np.uint64)
        for byte in range(-(-(width + 7) // 8)):
            values |= packed[at + byte].astype(np.uint64) << np.uint64(8 * byte)
        yield (values >> (starts & 7).astype(np.uint64)) & np.uint64((1 << width) - 1)
        offset += width


def _trie(counts: Sequence[int], unigrams: Records, levels: Sequence[_Level]) -> NGrams:
    """Returns the n-grams of all orders as one trie, with natural logarithms."""
    nodes = sum(counts) + 1
    if nodes >= 2**31:
        raise ValueError(f"it has {nodes - 1:,} n-grams, more than can be used here")
    trie = np.zeros(nodes + 1, ngrams.DTYPE)
    trie["label"][[0, -1]] = tries.NONE
    trie["first_child"] = nodes  # of the highest order, which has no children
    trie["first_child"][0] = 1
    trie["log_prob"][0] = np.nan
    starts = np.cumsum([1, *counts])  # each order's first node
    first = slice(1, 1 + counts[0])
    trie["label"][first] = np.arange(counts[0])
    _set(trie, first, unigrams["log10"][:-1], unigrams["back_off"][:-1])
    children: Any = unigrams["first_child"][:-1]
    for number, level in enumerate(levels):
        before = slice(starts[number], starts[number + 1])
        trie["first_child"][before] = children[: counts[number]].astype(np.int64) + before.stop
        own = slice(starts[number + 1], starts[number + 2])
        trie["label"][own] = level.words
        _set(trie, own, level.log10, level.back_off)
        children = level.first_children
    return trie


def _set(trie: NGrams, nodes: slice, log10: Any, back_off: Any) -> None:
    # <s> has no probability of its own; KenLM writes 0 or a positive number for it.
    trie["log_prob"][nodes] = np.minimum(log10, 0) * np.float32(ngrams.NATURAL)
    if back_off is not None:
        trie["back_off"][nodes] = back_off * np.float32(ngrams.NATURAL)


# --- Words ----------------------------------------------------------------------------------------


def murmur_hashes(words: Sequence[bytes]) -> Integers64:
    """Returns KenLM's hash of each word: MurmurHash64A by Austin Appleby, with the seed 0."""
    lengths = np.array([len(word) for word in words], np.int64)
    ends = np.cumsum(lengths)
    hashes = np.zeros(len(words), np.uint64)
    _hash_all(np.frombuffer(b"".join(words) + bytes(8), np.uint8), ends - lengths, ends, hashes)
    return hashes


@compiled
def _hash_all(
    text: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    hashes: Integers64,
) -> None:
    factor, shift = np.uint64(0xC6A4A7935BD1E995), np.uint64(47)
    for word in range(len(starts)):
        length = ends[word] - starts[word]
        value = np.uint64(length) * factor
        for block in range(starts[word], ends[word] - 7, 8):
            key = np.uint64(0)
            for byte in range(8):
                key |= np.uint64(text[block + byte]) << np.uint64(8 * byte)
            key *= factor
            key ^= key >> shift
            value = (value ^ key * factor) * factor
        rest = length % 8
        if rest:
            for byte in range(rest):
                value ^= np.uint64(text[ends[word] - rest + byte]) << np.uint64(8 * byte)
            value *= factor
        value = (value ^ value >> shift) * factor
        hashes[word] = value ^ value >> shift
