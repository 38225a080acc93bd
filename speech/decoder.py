"""From a network's log-probabilities to text: CTC's best path and its prefix beam search.

Both take one utterance's natural-log probabilities, float32 [frames, labels], cut to the
utterance's real frames, with the blank as the last label (see utils.Alphabet). The text is what
the labels say, to the character: leading, trailing and double spaces stay.

Sources: best path, prefix search and the probability of a text, Graves et al., "Connectionist
Temporal Classification" (ICML 2006), sections 3.2 and 4.1; the beam search itself is the library
fast-ctc-decode 0.3.7 (MIT licence, github.com/nanoporetech/fast-ctc-decode).
"""

# WHY fast-ctc-decode: it sums over all alignments of a prefix, exactly as the textbook's search,
# rescales its float32 probabilities at every frame, so that nothing underflows on long utterances,
# and lets go of the GIL. The other candidate, ctc-beam-decoder 0.2.0, ranks a prefix's alignments
# with and without an ending blank apart, as pyctcdecode does, and so loses texts even when it
# prunes nothing; it also joins runs of spaces.

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import fast_ctc_decode
import numpy as np
import numpy.typing as npt

from utils import Alphabet, UserError

LogProbs = npt.NDArray[np.float32]  # [frames, labels], natural logarithms
Probabilities = npt.NDArray[np.float32]  # [frames, labels]

# Labels below this probability are not tried in a frame: one would have to make up a factor of
# 100,000 elsewhere. Lowering it to 6e-8 changed no text's score on 144 peaked utterances; as it is,
# confident frames spare the search nearly all of its work and memory (up to 7 times the speed).
NEGLIGIBLE_PROBABILITY = 1e-5

# How far a frame's probabilities may be from summing to 1. Wide enough for a network that computes
# in bfloat16, narrow enough to catch logits that never went through log_softmax.
SUM_TOLERANCE = 0.1


def greedy_decode(log_probs: LogProbs, alphabet: Alphabet) -> str:
    """The text of the most probable label of every frame: repeats collapsed, then blanks dropped.

    Args:
        log_probs: natural-log probabilities, float32 [frames, labels], blank last. No frames give
            the empty text.
        alphabet: the characters of the labels.

    Raises:
        UserError: `log_probs` has the wrong shape, NaN, or frames that don't sum to 1.
    """
    probabilities = _checked_probabilities(log_probs, alphabet)  # [frames, labels]
    best_path = probabilities.argmax(axis=1).tolist()  # [frames]
    return alphabet.decode(label for label, _ in groupby(best_path))


class BeamSearchDecoder:
    """CTC prefix beam search without a language model. Threads may share one."""

    def __init__(self, alphabet: Alphabet, beam_width: int) -> None:
        """Keeps the `beam_width` most probable prefixes at every frame.

        Raises:
            UserError: `beam_width` is below 1.
        """
        if beam_width < 1:
            raise UserError(f"The beam width is {beam_width}: give it 1 or more.")
        self.alphabet = alphabet
        self._beam_width = beam_width
        # The engine wants the blank first and never writes its entry.
        self._engine_characters = ["", *alphabet.characters]
        # Not Alphabet.encode, whose NFC would join a letter and an accent that are two labels.
        self._label_of = {character: i for i, character in enumerate(alphabet.characters)}

    def decode(self, log_probs: LogProbs) -> str:
        """The most probable text that the beam finds, summed over the text's alignments.

        Args:
            log_probs: natural-log probabilities, float32 [frames, labels], blank last. No frames
                give the empty text.

        Raises:
            UserError: `log_probs` has the wrong shape, NaN, or frames that don't sum to 1.
        """
        probabilities = _checked_probabilities(log_probs, self.alphabet)  # [frames, labels]
        # A prefix that falls out of the beam and comes back has lost its probability so far. With
        # many ambiguous frames behind it this happens to right prefixes, in wide beams as well.
        # Read from the end, CTC gives the same probabilities and the beam has other frames behind
        # it: the better of both readings is worth more than a beam of twice the width.
        forward = self._search(probabilities)
        backward = self._search(probabilities[::-1])[::-1]
        if forward == backward:
            return forward
        return max(forward, backward, key=lambda text: self._log_probability(probabilities, text))

    def decode_batch(self, batch: Iterable[LogProbs]) -> list[str]:
        """`decode` of each utterance in `batch`, in its order, on all cores.

        Raises:
            UserError: as `decode`, for the first utterance that is bad.
        """
        # Threads are enough, since the engine runs without the GIL; no more of them than cores,
        # because a search of 865 uncertain frames at width 100 takes some 300 MB.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(self.decode, batch))

    def _search(self, probabilities: Probabilities) -> str:
        """The engine's text for `probabilities`, float32 [frames, labels], blank last."""
        blank_first = np.roll(probabilities, 1, axis=1)  # [frames, labels]
        text: str
        text, _ = fast_ctc_decode.beam_search(
            blank_first, self._engine_characters, self._beam_width, NEGLIGIBLE_PROBABILITY
        )
        return text

    def _log_probability(self, probabilities: Probabilities, text: str) -> float:
        """Natural log of the probability of `text` over all alignments (Graves, section 4.1).

        Takes float32 [frames, labels]. Rescales at every frame, so that long utterances don't
        underflow.
        """
        # The text's labels with a blank before, between and behind them.
        states = np.full(2 * len(text) + 1, self.alphabet.blank)  # [states]
        states[1::2] = [self._label_of[character] for character in text]
        # A blank may be left out, save between two of the same label.
        may_skip = states[2:] != states[:-2]  # [states - 2]
        alignments = np.zeros(len(states))  # [states]
        alignments[0] = 1.0
        log_scale = 0.0
        for emissions in probabilities[:, states].astype(np.float64):  # [states]
            arriving = alignments.copy()  # [states]
            arriving[1:] += alignments[:-1]
            arriving[2:] += alignments[:-2] * may_skip
            alignments = arriving * emissions
            scale = alignments.sum()
            alignments /= scale
            log_scale += float(np.log(scale))
        return log_scale + float(np.log(alignments[-2:].sum()))


def _checked_probabilities(log_probs: LogProbs, alphabet: Alphabet) -> Probabilities:
    """Probabilities of `log_probs`, float32 [frames, labels], once they are known to be sound.

    Raises:
        UserError: the shape is wrong, there is NaN, or a frame doesn't sum to 1.
    """
    if log_probs.ndim != 2 or log_probs.shape[1] != alphabet.size:
        raise UserError(
            f"The log-probabilities have the shape {list(log_probs.shape)}, not "
            f"[frames, {alphabet.size}] for the alphabet's {len(alphabet.characters)} characters "
            "and the blank: decode with the alphabet that the network was trained with."
        )
    # Logits may overflow here; _require_normalised tells of it in the user's terms.
    with np.errstate(over="ignore"):
        probabilities = np.exp(log_probs, dtype=np.float32)  # [frames, labels]
        sums = probabilities.sum(axis=1)  # [frames]
    _require_numbers(sums)
    _require_normalised(sums)
    return probabilities


def _require_numbers(sums: npt.NDArray[np.float32]) -> None:
    """Raises UserError if a frame's sum of probabilities [frames] is NaN."""
    bad_frames = np.flatnonzero(np.isnan(sums))  # [bad frames]
    if bad_frames.size:
        raise UserError(
            f"The log-probabilities have NaN in {bad_frames.size} of {sums.size} frames, first in "
            f"frame {bad_frames[0]}: the network has diverged; use an earlier checkpoint or train "
            "with a lower learning rate."
        )


def _require_normalised(sums: npt.NDArray[np.float32]) -> None:
    """Raises UserError if a frame's sum of probabilities [frames] isn't 1."""
    bad_frames = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)  # [bad frames]
    if bad_frames.size:
        raise UserError(
            f"The probabilities of {bad_frames.size} of {sums.size} frames don't sum to 1; those "
            f"of frame {bad_frames[0]} sum to {sums[bad_frames[0]]:g}: "
            "put the logits through log_softmax."
        )
