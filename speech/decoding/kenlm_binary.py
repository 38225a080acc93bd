"""Reads KenLM's binary language models of the type trie, as DeepSpeech's scorers contain them.

KenLM (github.com/kpu/kenlm; Heafield, "KenLM: Faster and Smaller Language Model Queries", WMT 2011)
keeps n-grams backwards, the predicted word first, level by level, as `ngrams.NGrams` does. So a
level's bit-packed records become a part of the array, in their order. Words are there as hashes.
"""

import mmap
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from speech.decoding import ngrams, tries
from speech.decoding.compilation import compiled
from speech.decoding.ngrams import NGrams

MAGIC = b"mmap lm http://kheafield.com/code format version 5\n"

# After 88 bytes that check the machine: order, multiplier of another type, type, whether the words
# follow as text, version of the search.
_PARAMETERS = struct.Struct("<B3xfIB3xI")
_PARAMETERS_AT = 88
# Position of the byte that says whether the words follow.
HAS_WORDS_AT = _PARAMETERS_AT + 12

UNKNOWN = 0  # number of <unk>

# Types of models: 2 to 5 are tries.
_TRIES = (2, 3, 4, 5)
_QUANTISED = (3, 5)
_COMPRESSED = (4, 5)  # pointers without the bits that can be found by bisection

_QUANTISATION_VERSION = 2

_UNIGRAM = np.dtype([("log10", "<f4"), ("back_off", "<f4"), ("first_child", "<u8")])

# Bits of numbers that aren't quantised; a logarithm's sign is known.
_LOG10_BITS, _BACK_OFF_BITS = 31, 32
_MOST_BITS = 57  # of a field: with the 7 bits before it in its first byte, they fit into 8 bytes

Integers64 = npt.NDArray[np.uint64]
# Makes numbers of their bits.
_Decoder = Callable[[Integers64], Any]


@dataclass(frozen=True)
class KenlmModel:
    """A language model, and the hashes of its words."""

    order: int
    ngrams: NGrams
    hashes: Integers64  # of the words from number 1 on, ascending; 0 is <unk>
    end: int  # position after its n-grams in the file

    def numbers_of(self, words: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """Returns the number of each word [words]; UNKNOWN for one that is not there."""
        found = murmur_hashes(words)
        places = np.searchsorted(self.hashes, found)
        there = self.hashes[np.minimum(places, len(self.hashes) - 1)] == found
        return np.where(there, places + 1, UNKNOWN)


class _Level(NamedTuple):
    """Where the n-grams of one order above 1 are, and how many bits each of their fields has."""

    ngrams: int
    word: int  # the last one, which is the most distant one
    back_off: int  # 0: of the highest order
    log10: int
    pointer: int  # place of the first child in the next level
    records: int  # position of the first record
    offsets: int = 0  # position of the places where the pointers' upper bits rise
    rises: int = 0  # number of these places; 0: pointers are complete


class _Layout(NamedTuple):
    """Where the parts of a model are, in bytes from the file's beginning."""

    counts: tuple[int, ...]  # n-grams of each order
    words: int  # number of hashes
    hashes: int
    tables: int | None  # of the values that quantised n-grams refer to; None: not quantised
    unigrams: int
    levels: list[_Level]
    end: int  # of the n-grams, after which the words may follow as text


def read(data: bytes) -> KenlmModel:
    """Reads the model at the beginning of a file's content.

    Raises:
        ValueError: it is damaged, or is no trie.
    """
    layout = _layout(data)
    hashes = np.frombuffer(data, "<u8", layout.words, layout.hashes)
    return KenlmModel(len(layout.counts), _trie(data, layout), hashes, layout.end)


def end_of(data: bytes | mmap.mmap) -> int:
    """Returns the position after the n-grams, from a few numbers at the beginning of each part.

    Raises:
        ValueError: the model is damaged, or is no trie.
    """
    return _layout(data).end


def _layout(data: bytes | mmap.mmap) -> _Layout:
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError("it is no binary of KenLM of the format version 5")
    try:
        order, _, kind, _, _ = _PARAMETERS.unpack_from(data, _PARAMETERS_AT)
        if kind not in _TRIES:
            raise ValueError(f"it has the type {kind} of KenLM: build_binary trie makes a trie")
        at = _PARAMETERS_AT + _PARAMETERS.size
        counts = struct.unpack_from(f"<{order}Q", data, at)
        at = _aligned(at + 8 * order)
        (words,) = struct.unpack_from("<Q", data, at)
        hashes = at + 8
        at = hashes + 8 * counts[0]
        log10, back_off, tables = _LOG10_BITS, _BACK_OFF_BITS, None
        if kind in _QUANTISED:
            version, log10, back_off = struct.unpack_from("<3B", data, at)
            if version != _QUANTISATION_VERSION or max(log10, back_off) > _MOST_BITS:
                raise ValueError(
                    f"its quantisation has the version {version}, {log10} and {back_off} bits"
                )
            tables = at + 8
            at = tables + (order - 1) * (4 << log10) + (order - 2) * (4 << back_off)
        unigrams = at
        at += _UNIGRAM.itemsize * (counts[0] + 2)
        limit = data[at + 1] if kind in _COMPRESSED and order > 2 else None
        levels, end = _levels(at, counts, log10, back_off, limit)
    except (struct.error, IndexError, OverflowError) as error:
        raise ValueError(f"its language model is damaged or cut off: {error}") from None
    if not 1 <= words <= counts[0] or end > len(data):
        raise ValueError("its language model is damaged or cut off")
    return _Layout(counts, words, hashes, tables, unigrams, levels, end)


def _aligned(position: int) -> int:
    return -(-position // 8) * 8


def _levels(
    at: int, counts: Sequence[int], log10: int, back_off: int, limit: int | None
) -> tuple[list[_Level], int]:
    """Returns the levels of all orders above 1, of which the first begins at `at`, and their end.

    Args:
        limit: most bits that are left out of pointers; None: pointers are complete.
    """
    levels = []
    for count, following in zip(counts[1:], [*counts[2:], None], strict=True):
        level = _Level(count, counts[0].bit_length(), 0, log10, 0, at)
        if following is not None:
            level = level._replace(back_off=back_off, pointer=following.bit_length())
            if limit is not None:
                pointer = level.pointer - _chopped_bits(count, following, limit)
                rises = (following >> pointer) + 1
                at += 8 * (1 + rises) + 7
                level = level._replace(
                    pointer=pointer, records=at, offsets=_aligned(level.records) + 8, rises=rises
                )
        at += -(-(1 + count) * _record_bits(level) // 8) + 8
        levels.append(level)
    return levels, at


def _record_bits(level: _Level) -> int:
    return level.word + level.back_off + level.log10 + level.pointer


def _chopped_bits(count: int, most: int, limit: int) -> int:
    """Returns how many upper bits KenLM leaves out of pointers: those that save most memory."""
    needed = most.bit_length()
    return min(
        range(min(needed, limit) + 1),
        key=lambda bits: ((most >> (needed - bits)) * 64 - (count + 1) * bits, bits),
    )


def _trie(data: bytes, layout: _Layout) -> NGrams:
    """Returns the n-grams of all orders as one trie, with natural logarithms."""
    counts = layout.counts
    nodes = sum(counts) + 1
    if nodes >= 2**31:
        raise ValueError(f"it has {nodes - 1:,} n-grams, more than can be used here")
    trie = np.zeros(nodes + 1, ngrams.DTYPE)
    trie["label"][[0, -1]] = tries.NONE
    trie["first_child"][[0, -1]] = 1, nodes
    trie["log_prob"][0] = np.nan
    first = 1 + counts[0]  # node of the level's first n-gram
    unigrams = np.frombuffer(data, _UNIGRAM, counts[0], layout.unigrams)
    own = trie[1:first]
    own["label"] = np.arange(counts[0])
    own["first_child"] = unigrams["first_child"].astype(np.int64) + first
    _set(own, unigrams["log10"], unigrams["back_off"])
    for level, (log10, back_off) in zip(layout.levels, _decoders(data, layout), strict=True):
        following = first + level.ngrams
        for start in range(first, following, tries.PIECE):  # pieces take little memory
            own = trie[start : min(start + tries.PIECE, following)]
            rows = np.arange(start - first, start - first + len(own))
            fields = _fields(data, level, layout.tables is not None, rows)
            own["label"] = fields["word"]
            own["first_child"] = following + fields["pointer"].astype(np.int64)
            _set(own, log10(fields["log10"]), back_off(fields["back_off"]))
        first = following
    return trie


def _set(nodes: NGrams, log10: Any, back_off: Any) -> None:
    # <s> has no probability of its own; KenLM writes 0 or a positive number for it.
    nodes["log_prob"] = np.minimum(log10, 0) * np.float32(ngrams.NATURAL)
    nodes["back_off"] = back_off * np.float32(ngrams.NATURAL)


def _decoders(data: bytes, layout: _Layout) -> list[list[_Decoder]]:
    """Returns what makes log10 and back-off weight of their bits, for each order above 1."""
    if layout.tables is None:
        return [[_logarithms, _floats] for _ in layout.levels]
    decoders: list[list[_Decoder]] = []
    at = layout.tables
    for level in layout.levels:
        tables = [np.zeros(1, np.float32)] * 2
        for number, bits in enumerate((level.log10, level.back_off)):
            if bits:
                tables[number] = np.frombuffer(data, "<f4", 1 << bits, at)
                at += tables[number].nbytes
        decoders.append([partial(_values, table) for table in tables])
    return decoders


def _values(table: npt.NDArray[np.float32], bits: Integers64) -> npt.NDArray[np.float32]:
    return np.asarray(table[bits])


def _logarithms(bits: Integers64) -> npt.NDArray[np.float32]:
    return _floats(bits | np.uint64(1 << _LOG10_BITS))


def _floats(bits: Integers64) -> npt.NDArray[np.float32]:
    return bits.astype(np.uint32).view(np.float32)


def _fields(
    data: bytes, level: _Level, quantised: bool, rows: npt.NDArray[np.int64]
) -> dict[str, Integers64]:
    """Returns the fields of some records, by their names in _Level; all arrays [rows]."""
    record_bits = _record_bits(level)
    # [bytes], at each byte the number that the 8 bytes from there on are.
    windows: Integers64 = np.ndarray(
        -(-(1 + level.ngrams) * record_bits // 8) + 1, "<u8", data, level.records, strides=(1,)
    )
    middle = ("back_off", "log10") if quantised else ("log10", "back_off")
    found, at = {}, rows * record_bits
    for name in ("word", *middle, "pointer"):
        bits = getattr(level, name)
        shifted = windows[at >> 3] >> (at & 7).astype(np.uint64)
        found[name] = shifted & np.uint64((1 << bits) - 1)
        at += bits
    if level.rises:
        places = np.frombuffer(data, "<u8", level.rises, level.offsets)
        upper = np.searchsorted(places, rows.astype(np.uint64), "right") - 1
        found["pointer"] |= upper.astype(np.uint64) << np.uint64(level.pointer)
    return found


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
