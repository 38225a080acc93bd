"""When each word was said: the most probable alignment of a text that is known.

Viterbi's algorithm over CTC's states (Graves et al., "Connectionist Temporal Classification", ICML
2006, section 4.1, with the maximum instead of the sum).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from speech.decoding.compilation import compiled
from speech.decoding.scorer import SPACE
from speech.text.characters import written_without_spaces
from utils import UTF_8, Alphabet, UserError

LogProbs = npt.NDArray[np.float32]  # [frames, labels], natural logarithms
Integers = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]  # [states], natural logarithms
Steps = npt.NDArray[np.int8]  # [frames, states]


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
    states = 2 * np.arange(len(labels)) + 1  # [labels]; the path never goes back
    begins, ends = (np.searchsorted(path, states, side) for side in ("left", "right"))
    return np.stack([begins, ends - 1], axis=1)


@compiled()
def _advance(best: Scores, log_probs: LogProbs, labels: Integers, step: Steps) -> None:
    """Takes the states' scores over some frames; step: how many states were passed to each.

    Blanks and letters lie apart, and loops have no branches, for the processor to take several
    states at a time.
    """
    count = len(labels)
    # A blank may be left out, save between two of the same label.
    barrier = np.zeros(count)
    barrier[0] = -np.inf
    barrier[1:][labels[1:] == labels[:-1]] = -np.inf
    blanks, letters = best[::2].copy(), best[1::2].copy()  # [labels + 1], [labels]
    before = np.full(count + 1, -np.inf)  # of each blank the letter before, one frame ago
    blank_step, letter_step = np.empty(count + 1, np.int8), np.empty(count, np.int8)
    for t in range(len(log_probs)):
        silent, said = log_probs[t, -1], log_probs[t][labels]
        before[1:] = letters
        for i in range(count):
            stays, enters, skips = letters[i], blanks[i], before[i] + barrier[i]
            value = enters if enters > stays else stays
            letter_step[i] = np.int8(2) if skips > value else np.int8(enters > stays)
            letters[i] = (skips if skips > value else value) + said[i]
        for i in range(count + 1):
            stays, enters = blanks[i], before[i]
            blank_step[i] = np.int8(enters > stays)
            blanks[i] = (enters if enters > stays else stays) + silent
        step[t, ::2], step[t, 1::2] = blank_step, letter_step
    best[::2], best[1::2] = blanks, letters


@compiled()
def _best_path(log_probs: LogProbs, labels: Integers) -> Integers:
    """The state of each frame, int64 [frames]: blanks are even, label i is 2i + 1.

    The table of all steps would grow with frames times labels, to gigabytes for half an hour of
    speech. So scores are kept at the beginning of each stretch, and the steps of one stretch at a
    time are computed again from there.
    """
    frames, blank, states = len(log_probs), log_probs.shape[1] - 1, 2 * len(labels) + 1
    # So long that the stretches' scores, 8 bytes each, are as large as the steps of one.
    length = int(np.sqrt(8 * frames)) + 1
    stretches = (frames - 1 + length - 1) // length  # of the frames behind the first one
    step = np.empty((length, states), np.int8)
    best = np.full(states, -np.inf)
    best[0], best[1] = log_probs[0, blank], log_probs[0, labels[0]]
    begins = np.empty((stretches, states))
    for stretch in range(stretches):
        begins[stretch] = best
        first = 1 + stretch * length
        _advance(best, log_probs[first : first + length], labels, step)
    state = states - 1 if best[states - 1] > best[states - 2] else states - 2
    path = np.empty(frames, np.int64)
    for stretch in range(stretches - 1, -1, -1):
        first = 1 + stretch * length
        here = log_probs[first : first + length]
        _advance(begins[stretch], here, labels, step)
        for t in range(len(here) - 1, -1, -1):
            path[first + t] = state
            state -= step[t, state]
    path[0] = state
    return path
