"""From a network's log-probabilities to text: CTC's best path, and beam search.

All take one utterance's natural-log probabilities, float32 [frames, labels], cut to the utterance's
real frames, with the blank as the last label (see utils.Alphabet). Frames are the network's
outputs. Without a scorer the text is what the labels say, to the character: leading, trailing and
double spaces stay. With one, words are separated by one space.

Sources: best path, Graves et al., "Connectionist Temporal Classification" (ICML 2006), section 3.2;
beam search, speech/decoding/prefix_search.py; its flags and their defaults, Mozilla DeepSpeech 0.9.
"""

import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

import constants
from speech.decoding import prefix_search, tries
from speech.decoding.prefix_search import Search, Words
from speech.decoding.scorer import LARGEST_GAIN, LETTERS, SPACE, Scorer
from utils import INVISIBLE, UTF_8, Alphabet, UserError

LogProbs = npt.NDArray[np.float32]  # [frames, labels], natural logarithms
Probabilities = npt.NDArray[np.float32]  # [frames, labels]
HotWords = tuple[tuple[str, float], ...]  # words, and nats that they gain

# How far a frame's probabilities may be from summing to 1. Wide enough for a network that computes
# in bfloat16, narrow enough to catch logits that never went through log_softmax.
SUM_TOLERANCE = 0.1

# A stream's search has room for new prefixes of so many frames; then those that lead nowhere are
# thrown away. Often enough to stay small, seldom enough to cost nothing: a few seconds.
ROOM_FRAMES = 256

# Searches of a batch run beside each other; no more of them than cores.
THREADS = os.cpu_count() or 1


def parse_hot_word(text: str) -> tuple[str, float]:
    """A word and what it gains, as people write them: word:7.5.

    Raises:
        UserError: it isn't written so.
    """
    word, _, boost = text.rpartition(":")
    try:
        if word.strip() and math.isfinite(nats := float(boost)):
            return word.strip(), nats
    except ValueError:
        pass
    raise UserError(
        f"hot_words has {text[:80]!r}: give words with a number each, as in word:7.5,other:3"
    )


@dataclass(frozen=True)
class BeamSettings:
    """How the beam search searches."""

    beam_width: int = 100  # prefixes that are kept at every frame
    # Of a frame's labels the most probable ones are tried that sum up to cutoff_prob, and no more
    # than cutoff_top_n.
    cutoff_prob: float = 1.0
    cutoff_top_n: int = 300
    alpha: float | None = None  # weight of the language model; None: the scorer's
    beta: float | None = None  # nats that each word gains; None: the scorer's
    unknown_penalty: float = 10.0  # nats that a word loses that isn't in the scorer's vocabulary
    hot_words: HotWords = ()

    def __post_init__(self) -> None:
        self._require_types()
        if not 1 <= self.beam_width <= constants.LARGEST_BEAM_WIDTH:
            raise UserError(
                f"The beam width is {self.beam_width}: give a number from 1 to "
                f"{constants.LARGEST_BEAM_WIDTH}."
            )
        if not 0 < self.cutoff_prob <= 1:
            raise UserError(
                f"cutoff_prob is {self.cutoff_prob}: give a probability above 0 and up to 1, which "
                "tries all labels."
            )
        if self.cutoff_top_n < 1:
            raise UserError(f"cutoff_top_n is {self.cutoff_top_n}: give 1 label or more.")
        if not self.unknown_penalty >= 0:
            raise UserError(
                f"The penalty for unknown words is {self.unknown_penalty}: give 0 or more."
            )
        for name, gain in self._gains():
            if not abs(gain) <= LARGEST_GAIN:
                raise UserError(
                    f"{name!r} has the weight {gain}: give one from -{LARGEST_GAIN} to "
                    f"{LARGEST_GAIN}; it is in nats, powers of e."
                )

    def _gains(self) -> list[tuple[str, float]]:
        weights = [("alpha", self.alpha), ("beta", self.beta)]
        asked = [(name, weight) for name, weight in weights if weight is not None]
        return [*asked, *self.hot_words]

    def _require_types(self) -> None:
        """What the compiled search would fail of in words of its own."""
        for name in ("beam_width", "cutoff_top_n"):
            if not isinstance(value := getattr(self, name), Integral):
                raise UserError(f"{name} is {value!r}: give a whole number.")
        numbers = [("cutoff_prob", self.cutoff_prob), ("unknown_penalty", self.unknown_penalty)]
        for name, number in [*numbers, *self._gains()]:
            if not isinstance(name, str):
                raise UserError(f"The hot word {name!r} is no text: give a word.")
            if not isinstance(number, Real):
                raise UserError(f"{name!r} has {number!r}, which is no number: give one.")


DEFAULTS = BeamSettings()


def describe_settings(settings: BeamSettings, scorer: Scorer | None) -> dict[str, Any]:
    """Returns the settings that a search used, name -> value, for a report."""
    described: dict[str, Any] = {"beam_width": settings.beam_width}
    if settings.cutoff_prob < 1:
        described["cutoff_prob"] = settings.cutoff_prob
    if settings.cutoff_top_n != DEFAULTS.cutoff_top_n:
        described["cutoff_top_n"] = settings.cutoff_top_n
    if scorer:
        alpha, beta = used_weights(settings, scorer)
        described |= {"scorer": scorer.path, "alpha": alpha, "beta": beta}
        described["unknown_penalty"] = settings.unknown_penalty
    if settings.hot_words:
        described["hot_words"] = ",".join(f"{word}:{boost:g}" for word, boost in settings.hot_words)
    return described


def used_weights(settings: BeamSettings, scorer: Scorer) -> tuple[float, float]:
    """Returns the alpha and beta that a search uses: the settings', or else the scorer's."""
    return (
        scorer.alpha if settings.alpha is None else settings.alpha,
        scorer.beta if settings.beta is None else settings.beta,
    )


@dataclass(frozen=True)
class Hypothesis:
    """A text that the beam search found."""

    text: str
    # Natural log of the text's probability times the language model's share.
    score: float
    acoustic_score: float  # natural log of the text's probability, over the alignments searched
    confidence: float  # the score's share among all that the beam holds, 0 to 1


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
    """CTC's prefix beam search, with a scorer or without. Threads may share one."""

    def __init__(
        self,
        alphabet: Alphabet,
        settings: BeamSettings | None = None,
        scorer: Scorer | None = None,
    ) -> None:
        """scorer: of the same alphabet, see scorer.check_alphabet.

        Raises:
            UserError: a hot word can't be written with the alphabet.
        """
        self.alphabet = alphabet
        self._settings = settings or BeamSettings()
        self._words = _words(alphabet, self._settings, scorer)

    def decode(self, log_probs: LogProbs) -> str:
        """The best text.

        Args:
            log_probs: natural-log probabilities, float32 [frames, labels], blank last. No frames
                give the empty text.

        Raises:
            UserError: `log_probs` has the wrong shape, NaN, or frames that don't sum to 1.
        """
        return self.n_best(log_probs, 1)[0].text

    def n_best(self, log_probs: LogProbs, n: int) -> list[Hypothesis]:
        """The best texts, the best one first; fewer than n, if the beam holds no more.

        Args and errors are `decode`'s.
        """
        probabilities = _checked_probabilities(log_probs, self.alphabet)  # [frames, labels]
        width = self._settings.beam_width
        search = prefix_search.begin(self._words, width, 1 + len(probabilities) * width)
        self._take(search, probabilities)
        return self._best(search, n)

    def stream(self) -> "BeamStream":
        """A search that takes an utterance piece by piece."""
        return BeamStream(self)

    def _take(self, search: Search, probabilities: Probabilities) -> None:
        settings = self._settings
        prefix_search.advance(
            search, self._words, probabilities, float(settings.cutoff_prob), settings.cutoff_top_n
        )

    def _best(self, search: Search, n: int) -> list[Hypothesis]:
        nodes, scores, gains = prefix_search.finish(search, self._words)
        nodes, scores, gains = _join_same(nodes, scores, gains)
        whole = np.logaddexp.reduce(scores)
        return [
            Hypothesis(
                self.alphabet.decode(prefix_search.labels_of(search, nodes[i]).tolist()),
                float(scores[i]),
                float(scores[i] - gains[i]),
                float(np.exp(scores[i] - whole)),
            )
            for i in np.argsort(-scores, kind="stable")[:n]
        ]

    def decode_batch(self, batch: Iterable[LogProbs]) -> list[str]:
        """`decode` of each utterance in `batch`, in its order, on all cores.

        Raises:
            UserError: as `decode`, for the first utterance that is bad.
        """
        # Threads are enough, since the search runs without the GIL.
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(self.decode, batch))


class BeamStream:
    """A beam search on its way, which `BeamSearchDecoder.stream` begins.

    What it finds is exactly what `n_best` finds of all frames at once. Memory grows with the text,
    not with the time: some 10 MB for an hour of speech. Not for several threads at once.
    """

    def __init__(self, decoder: BeamSearchDecoder) -> None:
        self._decoder = decoder
        self._width = decoder._settings.beam_width
        self._room = self._width * ROOM_FRAMES
        self._search = prefix_search.begin(decoder._words, self._width, 1 + self._room)

    def advance(self, log_probs: LogProbs) -> None:
        """Takes frames in; `log_probs` and errors are `decode`'s."""
        probabilities = _checked_probabilities(log_probs, self._decoder.alphabet)
        for start in range(0, len(probabilities), ROOM_FRAMES):
            piece = probabilities[start : start + ROOM_FRAMES]  # [frames, labels]
            free = len(self._search.tree) - self._search.counts[prefix_search.NODES]
            if free < len(piece) * self._width:
                self._search = prefix_search.compacted(self._search, self._room)
            self._decoder._take(self._search, piece)

    def n_best(self, n: int) -> list[Hypothesis]:
        """The best texts, if the utterance ended here; it may go on. As of `decode`."""
        return self._decoder._best(self._search, n)


def _join_same(
    nodes: prefix_search.Integers, scores: prefix_search.Doubles, gains: prefix_search.Doubles
) -> tuple[prefix_search.Integers, prefix_search.Doubles, prefix_search.Doubles]:
    """Adds up what is one text: a prefix, and the same with a space behind it.

    They stay in the beam's order, which, unlike nodes' numbers, doesn't tell of compactions.
    """
    _, first, which = np.unique(nodes, return_index=True, return_inverse=True)
    joined = np.full(len(first), -np.inf)
    np.logaddexp.at(joined, which, scores)
    order = np.argsort(first)
    first = first[order]
    return nodes[first], joined[order], gains[first]


def _words(alphabet: Alphabet, settings: BeamSettings, scorer: Scorer | None) -> Words:
    """What the search is to know of words."""
    if not scorer:
        return _hot_words_alone(alphabet, settings.hot_words)
    letters = scorer.letters
    if settings.hot_words:
        letters = _with_hot_words(alphabet, settings.hot_words, scorer)
    return Words(
        True,
        letters,
        scorer.ngrams,
        scorer.order,
        scorer.begin,
        scorer.end,
        scorer.unknown,
        tries.NONE if scorer.characters else alphabet.characters.index(SPACE),
        prefix_search.CONTINUATION_BYTES if alphabet == UTF_8 else prefix_search.NO_LABELS,
        # Of other types than float the search would be compiled again.
        float(scorer.alpha if settings.alpha is None else settings.alpha),
        float(scorer.beta if settings.beta is None else settings.beta),
        float(settings.unknown_penalty),
        _largest_boost(settings.hot_words),
    )


def _largest_boost(hot_words: HotWords) -> float:
    return max([0.0, *(float(boost) for _, boost in hot_words)])


def _hot_words_alone(alphabet: Alphabet, hot_words: HotWords) -> Words:
    """Hot words without a language model: all words are the same to it."""
    if not hot_words:
        return prefix_search.no_words()
    if SPACE not in alphabet.characters:
        raise UserError("Hot words want an alphabet with a space, which words are told apart by.")
    # Every node ends a word; which one is all the same.
    letters, nodes = tries.build(*_labels(alphabet, hot_words), LETTERS)
    letters["boost"][nodes] = [boost for _, boost in hot_words]
    return prefix_search.no_words()._replace(
        known=True,
        letters=prefix_search.read_only(letters),
        space=alphabet.characters.index(SPACE),
        largest_boost=_largest_boost(hot_words),
    )


def _with_hot_words(alphabet: Alphabet, hot_words: HotWords, scorer: Scorer) -> tries.Trie:
    """The vocabulary with hot words in it."""
    if scorer.characters and any(len(word) > 1 for word, _ in hot_words):
        raise UserError(
            f"The scorer {scorer.path} is one of characters, to which each is a word: give single "
            "characters as hot words, or a scorer of words."
        )
    ends = np.flatnonzero(scorer.letters["word"] != tries.NONE).astype(np.int32)  # [words]
    known, lengths = tries.sequences_of(scorer.letters, ends)
    hot, hot_lengths = _labels(alphabet, hot_words)
    longest = max(known.shape[1], hot.shape[1])
    both = np.concatenate(
        [np.pad(each, ((0, 0), (0, longest - each.shape[1]))) for each in (known, hot)]
    )
    letters, nodes = tries.build(both, np.concatenate([lengths, hot_lengths]), LETTERS)
    letters["word"] = tries.NONE
    # What the language model knows it keeps; the others are unknown to it, without a penalty.
    letters["word"][nodes[len(known) :]] = scorer.unknown
    letters["word"][nodes[: len(known)]] = scorer.letters["word"][ends]
    letters["boost"][nodes[len(known) :]] = [boost for _, boost in hot_words]
    return prefix_search.read_only(letters)


def _labels(
    alphabet: Alphabet, hot_words: HotWords
) -> tuple[prefix_search.Integers, npt.NDArray[np.int64]]:
    """Hot words as labels, int32 [words, longest], and their lengths, [words].

    Raises:
        UserError: a word has other characters than the alphabet, a space, or none.
    """
    labels = []
    for given, _ in hot_words:
        word = INVISIBLE.sub("", given)
        strange = _not_in_words(alphabet, word)
        if strange or not word:
            raise UserError(
                f"The hot word {given!r} has {strange or 'no letters'}: {_remedy(alphabet, word)}"
            )
        labels.append(alphabet.encode(word))
    return tries.padded(labels)


def _not_in_words(alphabet: Alphabet, text: str) -> list[str]:
    """The characters of a text that no word of the alphabet has, sorted."""
    return sorted({*alphabet.missing(text), *set(text) & {SPACE}})


def _remedy(alphabet: Alphabet, word: str) -> str:
    """What to do about a hot word that the alphabet can't write."""
    for case, cased in (("lower case", word.lower()), ("capitals", word.upper())):
        if word and not _not_in_words(alphabet, cased):
            return f"write it in {case}, {cased}, as the model writes."
    return "give single words, of the letters that the model writes."


def _checked_probabilities(log_probs: LogProbs, alphabet: Alphabet) -> Probabilities:
    """Probabilities of `log_probs`, float32 [frames, labels], once they are known to be sound.

    Raises:
        UserError: the shape is wrong, there is NaN, or a frame doesn't sum to 1.
    """
    if log_probs.ndim != 2 or log_probs.shape[1] != alphabet.size:
        raise UserError(
            f"The log-probabilities have the shape {list(log_probs.shape)}, not "
            f"[frames, {alphabet.size}] for the alphabet's {alphabet.blank} labels "
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
