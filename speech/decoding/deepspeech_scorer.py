"""Reads scorers of Mozilla DeepSpeech and Coqui STT.

Such a file is a language model of KenLM and, after it, the vocabulary: native_client's
ctcdecode/scorer.cpp. The vocabulary is a finite-state acceptor of OpenFst's type ConstFst, over the
numbers of an alphabet's labels. The alphabet itself isn't in the file: it is the model's.
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from speech.decoding import kenlm_binary, tries
from speech.decoding.kenlm_binary import KenlmModel
from speech.decoding.ngrams import BEGIN, END
from speech.decoding.tries import NONE, Trie
from speech.decoding.types import Records
from utils import UTF_8, Alphabet

# Magic number "TRIE", version, whether labels are bytes, alpha, beta.
_TRAILER = struct.Struct("<4siBdd")
TRAILER_MAGIC, TRAILER_VERSION = b"EIRT", 6

FST_MAGIC = 2125659606
_FST_TYPES = [b"const", b"standard"]
# Version, flags, properties, first state, number of states and of arcs.
_FST_HEADER = struct.Struct("<iiQqqq")
_ALIGNED = 4  # among the flags; files of version 1 are aligned, too
_ALIGNMENT = 16
_STATE = np.dtype(
    [("weight", "<f4"), ("arc", "<u4"), ("arcs", "<u4"), ("inputs", "<u4"), ("outputs", "<u4")]
)
_ARC = np.dtype([("label", "<i4"), ("output", "<i4"), ("weight", "<f4"), ("next", "<i4")])

# Labels of a word, far above any word's: a cyclic acceptor has endless ones.
LONGEST_WORD = 1000
SMALLEST_SHARE = 0.95  # of the vocabulary that the language model has, if the alphabet is right


class Contents(NamedTuple):
    """What a scorer file of DeepSpeech contains."""

    model: KenlmModel
    characters: bool  # each character is a word
    alpha: float
    beta: float
    begin: int  # the numbers of <s> and </s>
    end: int
    letters: Trie  # as in speech/decoding/scorer.py


@dataclass(frozen=True)
class _Acceptor:
    """The vocabulary: states and the arcs that leave them, sorted by label."""

    start: int
    states: Records  # _STATE
    arcs: Records  # _ARC

    def is_final(self, states: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        return np.asarray(self.states["weight"][states] < np.inf)


def read(data: bytes, alphabet: Alphabet, letters_dtype: np.dtype) -> Contents:
    """Reads a scorer.

    Args:
        data: a file's content.
        alphabet: of the model that it is used with.
        letters_dtype: LETTERS of speech/decoding/scorer.py.

    Raises:
        ValueError: it is damaged, or of another alphabet.
    """
    model = kenlm_binary.read(data)
    characters, alpha, beta, acceptor = _read_trailer(data, model.end)
    if characters != (alphabet == UTF_8):
        raise ValueError(
            f"it is {'' if characters else 'not '}of bytes (--force_bytes_output_mode), and the "
            f"model's alphabet is {'' if alphabet == UTF_8 else 'not '}utf-8"
        )
    letters, nodes = _letters(acceptor, alphabet, letters_dtype)
    letters["word"][nodes] = numbers = model.numbers_of(_texts(letters, nodes, alphabet))
    if np.count_nonzero(numbers) < max(1, SMALLEST_SHARE * len(numbers)):
        raise ValueError("its words aren't those of its language model: it is of another alphabet")
    begin, end = model.numbers_of([BEGIN.encode(), END.encode()]).tolist()
    return Contents(model, characters, alpha, beta, begin, end, letters)


def with_weights(data: bytes, alpha: float, beta: float) -> bytes:
    """Returns a scorer file with other weights.

    Raises:
        ValueError: it is damaged.
    """
    at = kenlm_binary.read(data).end
    characters, *_ = _read_trailer(data, at)
    trailer = _TRAILER.pack(TRAILER_MAGIC, TRAILER_VERSION, characters, alpha, beta)
    return data[:at] + trailer + data[at + _TRAILER.size :]


def _read_trailer(data: bytes, at: int) -> tuple[bool, float, float, _Acceptor]:
    try:
        magic, version, characters, alpha, beta = _TRAILER.unpack_from(data, at)
        if magic != TRAILER_MAGIC:
            raise ValueError("it is a language model of KenLM without a vocabulary")
        if version != TRAILER_VERSION:
            raise ValueError(f"its vocabulary has the version {version}, not {TRAILER_VERSION}")
        return bool(characters), alpha, beta, _read_acceptor(data, at + _TRAILER.size)
    except (struct.error, OverflowError, MemoryError) as error:
        raise ValueError(f"its vocabulary is missing, damaged or cut off: {error}") from None


def _read_acceptor(data: bytes, at: int) -> _Acceptor:
    (magic,) = struct.unpack_from("<i", data, at)
    at += 4
    names = []
    for _ in range(2):
        (length,) = struct.unpack_from("<i", data, at)
        names.append(data[at + 4 : at + 4 + max(length, 0)])
        at += 4 + max(length, 0)
    if magic != FST_MAGIC or names != _FST_TYPES:
        raise ValueError("its vocabulary is no acceptor of OpenFst of the type const")
    version, flags, _, start, states, arcs = _FST_HEADER.unpack_from(data, at)
    at += _FST_HEADER.size
    step = _ALIGNMENT if flags & _ALIGNED or version == 1 else 1
    at = -(-at // step) * step
    found = np.frombuffer(data, _STATE, states, at)
    at = -(-(at + found.nbytes) // step) * step
    edges = np.frombuffer(data, _ARC, arcs, at)
    last = found["arc"].astype(np.int64) + found["arcs"]
    if (
        not 0 <= start < states
        or last.max(initial=0) > arcs
        or not 0 <= edges["next"].min(initial=0) <= edges["next"].max(initial=0) < states
    ):
        raise ValueError("its vocabulary refers to states that it doesn't have")
    return _Acceptor(start, found, edges)


def _letters(
    acceptor: _Acceptor, alphabet: Alphabet, dtype: np.dtype
) -> tuple[Trie, npt.NDArray[np.int64]]:
    """Returns the trie of the vocabulary's labels and the nodes where words end.

    It follows all arcs from the states of one level of the trie to those of the next one. Words of
    letters end in a space, which the trie doesn't have.
    """
    of_bytes = alphabet == UTF_8
    # Labels are counted from 1; those of bytes are the bytes, as there is none of byte 0.
    space = None if of_bytes else alphabet.labels_of(" ")[0]
    states = np.array([acceptor.start])  # of the nodes of a level
    labels, children, ends = [np.array([NONE])], [], []
    nodes = 0  # before the level
    while len(states):
        if len(labels) > LONGEST_WORD:
            raise ValueError("its vocabulary has words without an end")
        counts = acceptor.states["arcs"][states].astype(np.int64)
        parents = np.repeat(np.arange(len(states)), counts)
        firsts = acceptor.states["arc"][states].astype(np.int64)
        arcs = firsts[parents] + np.arange(len(parents)) - (np.cumsum(counts) - counts)[parents]
        label = acceptor.arcs["label"][arcs].astype(np.int64) - (0 if of_bytes else 1)
        following = acceptor.arcs["next"][arcs].astype(np.int64)
        if len(label) and not 0 <= label.min() <= label.max() < alphabet.blank:
            raise ValueError("its words have labels that the alphabet doesn't have")
        if of_bytes:
            ends.append(nodes + np.flatnonzero(acceptor.is_final(states)))
        else:
            at_space = label == space
            ends.append(nodes + parents[at_space & acceptor.is_final(following)])
            parents, label, following = (each[~at_space] for each in (parents, label, following))
        children.append(np.bincount(parents, minlength=len(states)))
        labels.append(label)
        nodes += len(states)
        states = following
    trie = np.zeros(nodes + 1, dtype)
    trie["label"] = np.concatenate([*labels, [NONE]])
    trie["first_child"] = np.cumsum(np.concatenate([[1], *children]))
    trie["word"] = NONE
    return trie, np.concatenate(ends)


def _texts(letters: Trie, nodes: npt.NDArray[np.int64], alphabet: Alphabet) -> list[bytes]:
    """Returns the words that end in nodes, in UTF-8."""
    sequences, lengths = tries.sequences_of(letters, nodes.astype(np.int32))
    text = (
        [bytes([byte]) for byte in range(256)]
        if alphabet == UTF_8
        else [character.encode() for character in alphabet.characters]
    )
    return [
        b"".join([text[label] for label in row[:length]])
        for row, length in zip(sequences.tolist(), lengths.tolist(), strict=True)
    ]
