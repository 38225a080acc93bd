"""When each word was said: the most probable alignment of a text that is known.

Viterbi's algorithm over CTC's states (Graves et al., "Connectionist Temporal Classification", ICML
2006, section 4.1, with the maximum instead of the sum).
"""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from speech.scorer import SPACE
from utils import Alphabet, UserError

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
            alphabet without a space each character is a word.
        frame_seconds: how long a frame is; 1 gives times in frames.

    Raises:
        UserError: there are fewer frames than the text wants, or characters that the alphabet has
            not.
    """
    # Not Alphabet.encode, whose NFC would join a letter and an accent that are two labels.
    label_of = {character: label for label, character in enumerate(alphabet.characters)}
    strange = sorted(set(text) - set(label_of))
    if strange:
        raise UserError(f"The text {text!r} has {strange}, which the alphabet has not.")
    labels = np.array([label_of[character] for character in text], np.int64)
    frames = letter_frames(log_probs, labels)  # [letters, 2]
    spaced = SPACE in alphabet.characters
    ends = [i for i, letter in enumerate(text) if spaced and letter == SPACE]
    words, start = [], 0
    for end in [*ends, len(text)] if spaced else range(1, len(text) + 1):
        if end > start:
            first, last = frames[start, 0], frames[end - 1, 1]
            words.append(
                TimedWord(
                    text[start:end], first * frame_seconds, (last + 1 - first) * frame_seconds
                )
            )
        start = end + spaced
    return words


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
