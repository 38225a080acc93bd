"""Reads and writes scorers of Mozilla DeepSpeech and Coqui STT.

Such a file is a language model of KenLM and, after it, the vocabulary: native_client's
ctcdecode/scorer.cpp. The vocabulary is a finite-state acceptor of OpenFst's type ConstFst, over the
numbers of an alphabet's labels. The alphabet itself isn't in the file: it is the model's.
"""

import mmap
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
WEIGHTS = struct.Struct("<dd")
TRAILER_MAGIC, TRAILER_VERSION = b"EIRT", 6

FST_MAGIC = 2125659606
_FST_TYPES = [b"const", b"standard"]
# Of an acceptor without weights, empty labels and cycles, whose states and arcs are in order.
_FST_PROPERTIES = 0xA56A5A950001
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
    letters["word"][nodes] = numbers = model.numbers_of(texts_of(letters, nodes, alphabet))
    if not are_known(numbers):
        raise ValueError("its words aren't those of its language model: it is of another alphabet")
    begin, end = model.numbers_of([BEGIN.encode(), END.encode()]).tolist()
    return Contents(model, characters, alpha, beta, begin, end, letters)


def are_known(numbers: npt.NDArray[np.int64]) -> bool:
    """Returns whether nearly all words have a number in a language model."""
    return bool(np.count_nonzero(numbers) >= max(1, SMALLEST_SHARE * len(numbers)))


def weights_at(data: mmap.mmap) -> int:
    """Returns the position of alpha and beta, WEIGHTS, in a scorer file.

    Raises:
        ValueError: it is damaged.
    """
    at = kenlm_binary.end_of(data)
    _read_trailer(data, at)
    return at + _TRAILER.size - WEIGHTS.size


def packed(
    binary: bytes, letters: Trie, alphabet: Alphabet, characters: bool, alpha: float, beta: float
) -> list[bytes]:
    """Returns the parts of a scorer file.

    Args:
        binary: content of a file that begins with the language model in KenLM's binary form.
        letters: the vocabulary, as in speech/decoding/scorer.py.
        characters: each character is a word.

    Raises:
        ValueError: DeepSpeech has no scorers of this kind, or the binary is damaged.
    """
    of_bytes = alphabet == UTF_8
    if characters != of_bytes:
        raise ValueError(
            "DeepSpeech has scorers of words, and scorers of characters with --alphabet=utf-8"
        )
    space = alphabet.labels_of(" ")[0]
    if characters and letters["word"][tries.find_child(letters, tries.ROOT, space)] != NONE:
        raise ValueError("a scorer of characters has no space in DeepSpeech: use text without")
    end = kenlm_binary.end_of(binary)
    model = bytearray(binary[:end])
    model[kenlm_binary.HAS_WORDS_AT] = False  # DeepSpeech looks for the vocabulary at `end`
    trailer = _TRAILER.pack(TRAILER_MAGIC, TRAILER_VERSION, characters, alpha, beta)
    states, arcs = _smallest_acceptor(letters, 0 if of_bytes else 1, None if of_bytes else space)
    head = trailer + struct.pack("<i", FST_MAGIC)
    for name in _FST_TYPES:
        head += struct.pack("<i", len(name)) + name
    head += _FST_HEADER.pack(1, _ALIGNED, _FST_PROPERTIES, 0, len(states), len(arcs))
    head += bytes(-(end + len(head)) % _ALIGNMENT)
    padding = bytes(-(end + len(head) + states.nbytes) % _ALIGNMENT)
    return [bytes(model), head, states.tobytes(), padding, arcs.tobytes()]


def _smallest_acceptor(
    letters: Trie, first_label: int, space: int | None
) -> tuple[Records, Records]:
    """Returns the states and arcs of the smallest acceptor of the words, the start first.

    Equal ends of words share their states. A word ends after a space, if there is one.
    """
    label = (letters["label"] + first_label).tolist()
    children, is_word = letters["first_child"].tolist(), (letters["word"] != NONE).tolist()
    state_of: dict[tuple[bool, tuple[tuple[int, int], ...]], int] = {(True, ()): 0}
    node_states = [0] * (len(letters) - 1)
    for node in reversed(range(len(node_states))):  # children first
        below = range(children[node], children[node + 1])
        leaving = [(label[each], node_states[each]) for each in below]
        final = is_word[node]
        if final and space is not None:
            leaving, final = sorted([*leaving, (space + first_label, 0)]), False
        node_states[node] = state_of.setdefault((final, tuple(leaving)), len(state_of))
    states = np.zeros(len(state_of), _STATE)
    following: list[tuple[int, int]] = []
    for number, (final, sorted_arcs) in enumerate(reversed(state_of)):
        states[number] = (0 if final else np.inf, len(following), len(sorted_arcs), 0, 0)
        following += sorted_arcs
    arcs = np.zeros(len(following), _ARC)
    arcs["label"], targets = np.reshape(following, (-1, 2)).T
    arcs["output"], arcs["next"] = arcs["label"], len(states) - 1 - targets
    return states, arcs


def _read_trailer(data: bytes | mmap.mmap, at: int) -> tuple[bool, float, float, _Acceptor]:
    try:
        if data[at : at + len(TRAILER_MAGIC)] != TRAILER_MAGIC:
            raise ValueError(
                "it is a language model of KenLM without a vocabulary, and build_lm.py --lm "
                "--vocab makes a scorer of both"
            )
        _, version, characters, alpha, beta = _TRAILER.unpack_from(data, at)
        if version != TRAILER_VERSION:
            raise ValueError(f"its vocabulary has the version {version}, not {TRAILER_VERSION}")
        return bool(characters), alpha, beta, _read_acceptor(data, at + _TRAILER.size)
    except (struct.error, OverflowError, MemoryError) as error:
        raise ValueError(f"its vocabulary is missing, damaged or cut off: {error}") from None


def _read_acceptor(data: bytes | mmap.mmap, at: int) -> _Acceptor:
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


def texts_of(letters: Trie, nodes: npt.NDArray[np.int64], alphabet: Alphabet) -> list[bytes]:
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
