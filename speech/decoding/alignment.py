"""Finds the time of each word of a known text, by its most probable alignment.

Viterbi's algorithm over CTC's states (Graves et al., "Connectionist Temporal Classification", ICML
2006, section 4.1, with the maximum instead of the sum).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from speech.decoding.beam_search import Hypothesis
from speech.decoding.compilation import compiled
from speech.decoding.scorer import SPACE
from speech.decoding.types import Bytes, Doubles, LogProbs, LongIntegers
from speech.text.characters import written_without_spaces
from utils import UTF_8, Alphabet, UserError


@dataclass(frozen=True)
class TimedWord:
    """A word and its place, in outputs of the network or in seconds."""

    text: str
    start: float  # of its first letter
    duration: float  # to the end of its last letter


def word_times(
    log_probs: LogProbs, text: str, alphabet: Alphabet, output_seconds: float = 1.0
) -> list[TimedWord]:
    """Returns the words of a text with their times, in the text's order.

    Args:
        log_probs: natural-log probabilities, float32 [outputs, classes], blank last.
        text: a hypothesis or a transcript; words are separated by spaces. With an alphabet without
            a space each character is a word, and with UTF_8 each Chinese or Japanese one is. Bytes
            that are no UTF-8 (U+FFFD) take no time.
        output_seconds: length of an output; 1 gives times in outputs.

    Raises:
        UserError: there are fewer outputs than the text needs, or characters outside the alphabet.
    """
    outputs = character_outputs(log_probs, text, alphabet)  # [characters, 2]
    words, last_end = [], 0  # last_end: the output after the word before
    for start, end in _spans(text, alphabet):
        here = outputs[start:end]
        here = here[here[:, 0] < here[:, 1]]  # without what takes no time
        first, last_end = (here[0, 0], here[-1, 1]) if len(here) else (last_end, last_end)
        words.append(
            TimedWord(text[start:end], first * output_seconds, (last_end - first) * output_seconds)
        )
    return words


def hypothesis_times(
    log_probs: LogProbs,
    found: Hypothesis,
    alphabet: Alphabet,
    phones: Alphabet | None,
    output_seconds: float = 1.0,
) -> list[TimedWord]:
    """Returns the words of a beam search's hypothesis with their times, in the text's order.

    Args:
        log_probs: float32 [outputs, classes]: those of the alphabet, then those of the phones.
        phones: ModelConfig.phonetic_alphabet.
        output_seconds: length of an output; 1 gives times in outputs.
    """
    if not phones or not found.pronunciation:
        return word_times(log_probs[:, : alphabet.size], found.text, alphabet, output_seconds)
    labels = np.array(found.pronunciation, np.int64)
    outputs = label_outputs(log_probs[:, -phones.size :], labels)  # [labels, 2]
    spaces = np.flatnonzero(labels == phones.characters.index(SPACE)).tolist()
    words = zip(found.text.split(SPACE), [-1, *spaces], [*spaces, len(labels)], strict=True)
    timed = []
    for word, before, after in words:
        start, end = outputs[before + 1, 0], outputs[after - 1, 1] + 1
        timed.append(TimedWord(word, start * output_seconds, (end - start) * output_seconds))
    return timed


def first_outputs(
    log_probs: LogProbs, found: Hypothesis, alphabet: Alphabet, phones: Alphabet | None
) -> list[int]:
    """Returns the output at which each character of a hypothesis begins.

    The characters of a word that is pronounced share its outputs evenly. The arguments are those of
    `hypothesis_times`.
    """
    if not phones or not found.pronunciation:
        letters = log_probs[:, : alphabet.size]
        return list(map(int, character_outputs(letters, found.text, alphabet)[:, 0]))
    firsts: list[int] = []
    for word in hypothesis_times(log_probs, found, alphabet, phones):
        firsts += [int(word.start)] * bool(firsts)  # the space before it
        length = len(word.text)
        firsts += [int(word.start + word.duration * i / length) for i in range(length)]
    return firsts


def character_outputs(log_probs: LogProbs, text: str, alphabet: Alphabet) -> LongIntegers:
    """Returns each character's first output and the one after its last: int64 [characters, 2].

    Arguments and errors are those of `word_times`.
    """
    # Not Alphabet.encode, whose NFC would join a letter and an accent that are two labels.
    labels, ends = [], [0]  # of the characters so far
    unknown = set()
    for character in alphabet.joined(text):
        try:
            labels += alphabet.labels_of(character)
        except (KeyError, UnicodeEncodeError):
            unknown.add(character)
        # What a letter of several characters has after the first one takes no time.
        ends += [len(labels)] * len(alphabet.written(character))
    if unknown:
        raise UserError(
            f"The text {text!r} has {sorted(unknown)}, which the alphabet doesn't have: leave them "
            "out, or take a model of another alphabet."
        )
    outputs = label_outputs(log_probs, np.array(labels, np.int64))  # [labels, 2]
    found, last_end = np.zeros((len(text), 2), np.int64), 0  # last_end: of the character before
    for i, (start, end) in enumerate(pairwise(ends)):
        here = outputs[start:end]  # [labels of the character, 2]
        first, last_end = (here[0, 0], here[-1, 1] + 1) if len(here) else (last_end, last_end)
        found[i] = first, last_end
    return found


def _spans(text: str, alphabet: Alphabet) -> list[tuple[int, int]]:
    """Returns the places in a text where its words begin and end."""
    if SPACE not in alphabet.characters:
        return [(i, i + 1) for i in range(len(text))]
    spans, start = [], 0
    for i, character in enumerate([*text, SPACE]):
        alone = alphabet == UTF_8 and written_without_spaces(character)
        if alone or character == SPACE:
            spans += [(start, i)] if i > start else []
            spans += [(i, i + 1)] if alone else []
            start = i + 1
    return spans


def label_outputs(log_probs: LogProbs, labels: LongIntegers) -> LongIntegers:
    """Returns each label's first and last output on the most probable path: int64 [labels, 2].

    Args:
        log_probs: natural-log probabilities, float32 [outputs, classes], blank last.
        labels: int64 [labels], without blanks.

    Raises:
        UserError: there are fewer outputs than the labels need.
    """
    needed = len(labels) + int((labels[1:] == labels[:-1]).sum())
    if len(log_probs) < needed:
        raise UserError(
            f"{len(labels)} labels need {needed} outputs of the network, and there are "
            f"{len(log_probs)}: this text was not spoken here."
        )
    if not len(labels):
        return np.zeros((0, 2), np.int64)
    path = _best_path(np.ascontiguousarray(log_probs, np.float32), labels)  # [outputs], states
    states = 2 * np.arange(len(labels)) + 1  # [labels]; the path never goes back
    begins, ends = (np.searchsorted(path, states, side) for side in ("left", "right"))
    return np.stack([begins, ends - 1], axis=1)


class _Room(NamedTuple):
    """What `_advance` writes to while it computes; its values don't last."""

    barrier: Doubles  # [labels]
    blanks: Doubles  # [labels + 1]
    letters: Doubles  # [labels]
    before: Doubles  # [labels + 1]
    spoken: LogProbs  # [labels]
    blank_step: Bytes  # [labels + 1]
    letter_step: Bytes  # [labels]


def _best_path(log_probs: LogProbs, labels: LongIntegers) -> LongIntegers:
    """Returns the state of each output, int64 [outputs]: blanks are even, label i is 2i + 1.

    A table of all steps would grow with outputs times labels, to gigabytes for half an hour of
    speech. So only the scores at the beginning of each stretch are kept, and the steps of one
    stretch at a time are computed again from them.
    """
    outputs, count, states = len(log_probs), len(labels), 2 * len(labels) + 1
    # At this length all stretches' scores, 8 bytes each, take as much memory as one's steps.
    length = int(np.sqrt(8 * outputs)) + 1
    stretches = (outputs - 1 + length - 1) // length  # of the outputs after the first one
    room = _Room(
        np.empty(count),
        np.empty(count + 1),
        np.empty(count),
        np.empty(count + 1),
        np.empty(count, np.float32),
        np.empty(count + 1, np.int8),
        np.empty(count, np.int8),
    )
    path = np.empty(outputs, np.int64)
    begins = np.empty((stretches + 1, states))
    _find_path(log_probs, labels, path, begins, np.empty((length, states), np.int8), room)
    return path


@compiled
def _find_path(
    log_probs: LogProbs,
    labels: LongIntegers,
    path: LongIntegers,
    begins: Doubles,
    step: Bytes,
    room: _Room,
) -> None:
    """Sets the path that `_best_path` returns.

    Args:
        begins: float64 [stretches + 1, states], for the scores before each stretch and at the end.
        step: int8 [outputs of a stretch, states], for the steps of one.
    """
    blank, states, length = log_probs.shape[1] - 1, begins.shape[1], len(step)
    begins[0] = -np.inf
    begins[0, 0], begins[0, 1] = log_probs[0, blank], log_probs[0, labels[0]]
    for stretch in range(len(begins) - 1):
        for i in range(states):
            begins[stretch + 1, i] = begins[stretch, i]
        first = 1 + stretch * length
        _advance(begins[stretch + 1], log_probs[first : first + length], labels, step, room)
    best = begins[-1]
    state = states - 1 if best[states - 1] > best[states - 2] else states - 2
    for stretch in range(len(begins) - 2, -1, -1):
        first = 1 + stretch * length
        here = log_probs[first : first + length]
        _advance(begins[stretch], here, labels, step, room)
        for t in range(len(here) - 1, -1, -1):
            path[first + t] = state
            state -= step[t, state]
    path[0] = state


@compiled
def _advance(
    best: Doubles, log_probs: LogProbs, labels: LongIntegers, step: Bytes, room: _Room
) -> None:
    """Advances the states' scores by some outputs.

    Blanks and letters have separate arrays, and loops have no branches, so that the processor
    computes several states at a time.

    Args:
        best: float64 [states], natural logarithms; changed in place.
        step: int8 [outputs, states], set to the number of states by which each was reached.
    """
    barrier, blanks, letters, before, spoken, blank_step, letter_step = room
    count = len(labels)
    for i in range(count):
        # A blank may be left out, except between two equal labels.
        barrier[i] = -np.inf if i == 0 or labels[i] == labels[i - 1] else 0.0
        blanks[i], letters[i] = best[2 * i], best[2 * i + 1]
    blanks[count] = best[2 * count]
    before[0] = -np.inf  # of each blank the letter before, one output ago
    for t in range(len(log_probs)):
        blank = log_probs[t, -1]
        for i in range(count):
            spoken[i] = log_probs[t, labels[i]]
            before[i + 1] = letters[i]
        for i in range(count):
            stays, enters, skips = letters[i], blanks[i], before[i] + barrier[i]
            value = enters if enters > stays else stays
            letter_step[i] = np.int8(2) if skips > value else np.int8(enters > stays)
            letters[i] = (skips if skips > value else value) + spoken[i]
        for i in range(count + 1):
            stays, enters = blanks[i], before[i]
            blank_step[i] = np.int8(enters > stays)
            blanks[i] = (enters if enters > stays else stays) + blank
        for i in range(count):
            step[t, 2 * i], step[t, 2 * i + 1] = blank_step[i], letter_step[i]
        step[t, 2 * count] = blank_step[count]
    for i in range(count):
        best[2 * i], best[2 * i + 1] = blanks[i], letters[i]
    best[2 * count] = blanks[count]
