"""When each word was said: the most probable alignment of a text that is known.

Viterbi's algorithm over CTC's states (Graves et al., "Connectionist Temporal Classification", ICML
2006, section 4.1, with the maximum instead of the sum).
"""

from dataclasses import dataclass
from itertools import pairwise

import numba
import numpy as np
import numpy.typing as npt

from speech.scorer import SPACE
from speech.scripts import written_without_spaces
from utils import UTF_8, Alphabet, UserError

LogProbs = npt.NDArray[np.float32]  # [frames, labels], natural logarithms
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TimedWord:
    """A word and where it lies, in the network's output frames or in seconds."""

    text: str
    start: float  # of its first letter
    duration: float  # to the end of its last letter


def word_times(
    log_probs: LogProbs, text: str, alphabet: Alphabet, frame_seconds: float = 1.0
) -> list[TimedWord]:
    """The words of a text, in their order.

    Args:
        log_probs: natural-log probabilities, float32 [frames, labels], blank last.
        text: what was recognised, or is known to be said; words are separated by spaces. Of an
            alphabet without a space each character is a word, and so is each Chinese or Japanese
            one of UTF_8. What UTF_8 couldn't read (U+FFFD) takes no time.
        frame_seconds: how long a frame is; 1 gives times in frames.

    Raises:
        UserError: there are fewer frames than the text wants, or characters that the alphabet has
            not.
    """
    frames = character_frames(log_probs, text, alphabet)  # [characters, 2]
    words, behind = [], 0  # behind: the frame behind the last word
    for start, end in _spans(text, alphabet):
        here = frames[start:end]
        here = here[here[:, 0] < here[:, 1]]  # without what takes no time
        first, behind = (here[0, 0], here[-1, 1]) if len(here) else (behind, behind)
        words.append(
            TimedWord(text[start:end], first * frame_seconds, (behind - first) * frame_seconds)
        )
    return words


def character_frames(log_probs: LogProbs, text: str, alphabet: Alphabet) -> Integers:
    """First frame of each character, and the one behind its last: int64 [characters, 2].

    Arguments and errors are those of `word_times`.
    """
    # Not Alphabet.encode, whose NFC would join a letter and an accent that are two labels.
    labels, ends = [], [0]  # of the characters so far
    strange = set()
    for character in text:
        try:
            labels += alphabet.labels_of(character)
        except (KeyError, UnicodeEncodeError):
            strange.add(character)
        ends.append(len(labels))
    if strange:
        raise UserError(f"The text {text!r} has {sorted(strange)}, which the alphabet has not.")
    frames = letter_frames(log_probs, np.array(labels, np.int64))  # [labels, 2]
    found, behind = np.zeros((len(text), 2), np.int64), 0  # behind: the character before
    for i, (start, end) in enumerate(pairwise(ends)):
        here = frames[start:end]  # [labels of the character, 2]
        first, behind = (here[0, 0], here[-1, 1] + 1) if len(here) else (behind, behind)
        found[i] = first, behind
    return found


def _spans(text: str, alphabet: Alphabet) -> list[tuple[int, int]]:
    """Where in a text its words begin and end."""
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


def letter_frames(log_probs: LogProbs, labels: Integers) -> Integers:
    """First and last frame of each label on the most probable path: int64 [labels, 2].

    Raises:
        UserError: there are fewer frames than the labels want.
    """
    wanted = len(labels) + int((labels[1:] == labels[:-1]).sum())
    if len(log_probs) < wanted:
        raise UserError(
            f"{len(labels)} letters want {wanted} frames, and there are {len(log_probs)}: this "
            "text was not said here."
        )
    if not len(labels):
        return np.zeros((0, 2), np.int64)
    path = _best_path(np.ascontiguousarray(log_probs, np.float32), labels)  # [frames], states
    return np.array([np.flatnonzero(path == 2 * i + 1)[[0, -1]] for i in range(len(labels))])


@numba.njit(cache=True, nogil=True)
def _best_path(log_probs: LogProbs, labels: Integers) -> Integers:
    """The state of each frame, int64 [frames]: blanks are even, label i is 2i + 1."""
    frames, blank, states = len(log_probs), log_probs.shape[1] - 1, 2 * len(labels) + 1
    step = np.zeros((frames, states), np.int8)  # how many states were passed on the way here
    best = np.full(states, -np.inf)
    best[0], best[1] = log_probs[0, blank], log_probs[0, labels[0]]
    for t in range(1, frames):
        # Backwards, so that the states before are still those of the frame before.
        for state in range(states - 1, -1, -1):
            label = blank if state % 2 == 0 else labels[state // 2]
            value = best[state]
            if state > 0 and best[state - 1] > value:
                value, step[t, state] = best[state - 1], 1
            # A blank may be left out, save between two of the same label.
            skips = state > 2 and state % 2 == 1 and label != labels[state // 2 - 1]
            if skips and best[state - 2] > value:
                value, step[t, state] = best[state - 2], 2
            best[state] = value + log_probs[t, label]
    state = states - 1 if best[states - 1] > best[states - 2] else states - 2
    path = np.empty(frames, np.int64)
    for t in range(frames - 1, -1, -1):
        path[t] = state
        state -= step[t, state]
    return path
