"""From a network's log-probabilities to text: CTC's best path, and beam search.

All take one utterance's natural-log probabilities, float32 [outputs, classes], without padding and
with the blank as the last class (see utils.Alphabet). Without a scorer the text is the labels',
character by character: leading, trailing and double spaces stay. With a scorer, words are separated
by one space.

Sources: best path, Graves et al., "Connectionist Temporal Classification" (ICML 2006), section 3.2;
beam search, speech/decoding/prefix_search.py; its flags and their defaults, Mozilla DeepSpeech 0.9.
"""

import copy
import math
import os
from collections.abc import Iterable, Sequence
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
from speech.decoding.scorer import LARGEST_GAIN, LETTERS, SPACE, Scorer, first_homophone
from speech.decoding.types import Doubles, Integers, LogProbs, LongIntegers, Probabilities
from utils import INVISIBLE, UTF_8, Alphabet, UserError

HotWords = tuple[tuple[str, float], ...]  # words, each with its bonus in nats

# Largest distance from 1 of an output's sum of probabilities. Wide enough for a network that
# computes in bfloat16, narrow enough to catch logits that never went through log_softmax.
SUM_TOLERANCE = 0.1

# Outputs for whose new prefixes a stream's search has room; then prefixes that the beam can't reach
# any more are removed. A few seconds of speech: the search stays small, and removing is rare.
ROOM_OUTPUTS = 256

# Searches of a batch that run at once.
THREADS = os.cpu_count() or 1


def parse_hot_word(text: str) -> tuple[str, float]:
    """Parses a hot word and its bonus in nats: word:7.5.

    Raises:
        UserError: the text has another form.
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
    """Settings of the beam search."""

    beam_width: int = 100  # prefixes kept at every output
    # At an output the most probable classes are tried, until they sum up to cutoff_prob, and at
    # most cutoff_top_n.
    cutoff_prob: float = 1.0
    cutoff_top_n: int = 300
    alpha: float | None = None  # weight of the language model; None: the scorer's
    beta: float | None = None  # bonus of each word, in nats; None: the scorer's
    # Of a word outside the scorer's vocabulary, in nats; None: the scorer's, which a scorer of
    # pronunciations always has.
    unknown_penalty: float | None = None
    hot_words: HotWords = ()
    # With a scorer, hot words and the sentence's end count as in DeepSpeech's decoder: a boost is
    # multiplied by alpha, counts for every n-gram that holds the word, and not at the end of the
    # text; words outside the vocabulary have none; the probability of </s> doesn't count, and a
    # space after the last word makes another text.
    as_deepspeech: bool = False

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
                "tries all classes."
            )
        if self.cutoff_top_n < 1:
            raise UserError(f"cutoff_top_n is {self.cutoff_top_n}: give 1 class or more.")
        if self.unknown_penalty is not None and not self.unknown_penalty >= 0:
            raise UserError(
                f"The penalty for unknown words is {self.unknown_penalty}: give 0 or more."
            )
        if self.alpha is not None and self.alpha < 0:
            raise UserError(f"alpha is {self.alpha}: give a weight from 0 to {LARGEST_GAIN}.")
        for name, gain in self._gains():
            if not abs(gain) <= LARGEST_GAIN:
                raise UserError(
                    f"{name!r} has the weight {gain}: give one from -{LARGEST_GAIN} to "
                    f"{LARGEST_GAIN}; it is in nats, powers of e."
                )

    def _gains(self) -> list[tuple[str, float]]:
        weights = [("alpha", self.alpha), ("beta", self.beta)]
        given = [(name, weight) for name, weight in weights if weight is not None]
        return [*given, *self.hot_words]

    def _require_types(self) -> None:
        """Checks types, since the compiled search's own errors name no setting."""
        for name in ("beam_width", "cutoff_top_n"):
            if not isinstance(value := getattr(self, name), Integral):
                raise UserError(f"{name} is {value!r}: give a whole number.")
        numbers = [("cutoff_prob", self.cutoff_prob)]
        if self.unknown_penalty is not None:
            numbers.append(("unknown_penalty", self.unknown_penalty))
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
        described["unknown_penalty"] = used_penalty(settings, scorer)
    if settings.hot_words:
        described["hot_words"] = ",".join(f"{word}:{boost:g}" for word, boost in settings.hot_words)
    return described


def used_weights(settings: BeamSettings, scorer: Scorer) -> tuple[float, float]:
    """Returns the alpha and beta that a search uses: the settings', or else the scorer's."""
    return (
        scorer.alpha if settings.alpha is None else settings.alpha,
        scorer.beta if settings.beta is None else settings.beta,
    )


def used_penalty(settings: BeamSettings, scorer: Scorer) -> float:
    """Returns the penalty of a word outside the vocabulary: the settings', or the scorer's."""
    given = settings.unknown_penalty
    # What is outside a vocabulary of pronunciations has no letters that could be written.
    return scorer.unknown_penalty if given is None or scorer.texts else given


@dataclass(frozen=True)
class Hypothesis:
    """A text that the beam search found."""

    text: str
    score: float  # natural log of the text's probability times the language model's factor
    acoustic_score: float  # natural log of the text's probability, over the alignments searched
    confidence: float  # this text's share of the probability in the beam, 0 to 1
    # With a scorer of pronunciations: labels of the words' phones, and of a space between words.
    pronunciation: tuple[int, ...] = ()


def greedy_decode(log_probs: LogProbs, alphabet: Alphabet) -> str:
    """Returns the text of the best path: repeats collapsed, then blanks dropped.

    Args:
        log_probs: natural-log probabilities, float32 [outputs, classes], blank last. No outputs
            give the empty text.
        alphabet: the characters of the classes.

    Raises:
        UserError: `log_probs` has the wrong shape, NaN, or outputs that don't sum to 1.
    """
    probabilities = Output(alphabet).probabilities(log_probs)  # [outputs, classes]
    best_path = probabilities.argmax(axis=1).tolist()  # [outputs]
    return alphabet.decode(label for label, _ in groupby(best_path))


class Output:
    """The part of a network's output that a search reads, and how it becomes text.

    A network with a lexicon has the classes of its alphabet first, then those of its phones; see
    speech/networks/network.py.
    """

    def __init__(self, alphabet: Alphabet, scorer: Scorer | None = None) -> None:
        """
        Args:
            alphabet: of the letters, which count unless the scorer is one of pronunciations.
        """
        self._texts = scorer.texts if scorer else ()
        self.alphabet = scorer.alphabet if scorer and scorer.texts else alphabet

    def probabilities(self, log_probs: LogProbs) -> Probabilities:
        """Checks log-probabilities and returns their probabilities, float32 [outputs, classes].

        Raises:
            UserError: the shape is wrong, there is NaN, or an output doesn't sum to 1.
        """
        size = self.alphabet.size
        if log_probs.ndim != 2 or log_probs.shape[1] < size:
            raise UserError(
                f"The log-probabilities have the shape {list(log_probs.shape)}, not "
                f"[outputs, {size}] for the alphabet's {self.alphabet.blank} characters "
                "and the blank: decode with the alphabet that the network was trained with."
            )
        part = log_probs[:, -size:] if self._texts else log_probs[:, :size]
        # Logits may overflow here; _require_normalised reports them.
        with np.errstate(over="ignore"):
            probabilities = np.exp(part, dtype=np.float32)  # [outputs, classes]
            sums = probabilities.sum(axis=1)  # [outputs]
        _require_numbers(sums)
        _require_normalised(sums)
        return probabilities

    def keys(self, search: Search, nodes: Integers, last: Integers) -> list[Any]:
        """Returns a key of each prefix, the same for prefixes of the same text.

        These are a prefix and the prefix with a space after it, which are the same node, and with a
        scorer of pronunciations the same words in several pronunciations.
        """
        if not self._texts:
            return list(map(int, nodes))
        return [self.text(search, *each) for each in zip(nodes, last, strict=True)]

    def text(self, search: Search, node: int, last: int) -> str:
        """Returns a prefix's text.

        Args:
            last: the language model's number of the word that hasn't ended yet, or NONE.
        """
        if not self._texts:
            return self.alphabet.decode(prefix_search.labels_of(search, node).tolist())
        numbers = prefix_search.words_of(search, node).tolist()
        ended = [self._texts[number] for number in numbers]
        return SPACE.join([*ended, self._texts[last]] if last != tries.NONE else ended)

    def pronunciation(self, search: Search, node: int, last: int) -> tuple[int, ...]:
        """Returns `Hypothesis.pronunciation` of a prefix; last: see `text`."""
        if not self._texts:
            return ()
        labels, space = prefix_search.labels_of(search, node), self.alphabet.characters.index(SPACE)
        spoken = np.where(labels > self.alphabet.blank, space, labels)
        if last == tries.NONE:  # it ends in a space, or within a word, which isn't in the text
            ends = np.flatnonzero(spoken == space)
            spoken = spoken[: ends[-1] if len(ends) else 0]
        return tuple(spoken.tolist())


class BeamSearchDecoder:
    """CTC's prefix beam search, with or without a scorer. Threads may share one."""

    def __init__(
        self,
        alphabet: Alphabet,
        settings: BeamSettings | None = None,
        scorer: Scorer | None = None,
    ) -> None:
        """
        Args:
            scorer: of the same alphabet, or of the network's phones, see scorer.check_alphabet.

        Raises:
            UserError: a hot word can't be written with the alphabet.
        """
        self.alphabet = alphabet
        self._settings = settings or BeamSettings()
        self._output = Output(alphabet, scorer)
        self._words = _words(self._output.alphabet, self._settings, scorer)

    def decode(self, log_probs: LogProbs) -> str:
        """Returns the best text.

        Args:
            log_probs: natural-log probabilities, float32 [outputs, classes], blank last. No outputs
                give the empty text.

        Raises:
            UserError: `log_probs` has the wrong shape, NaN, or outputs that don't sum to 1.
        """
        return self.n_best(log_probs, 1)[0].text

    def n_best(self, log_probs: LogProbs, n: int) -> list[Hypothesis]:
        """Returns the n best texts, the best one first; fewer, if the beam holds fewer.

        Args and errors are `decode`'s.
        """
        probabilities = self._output.probabilities(log_probs)  # [outputs, classes]
        width = self._settings.beam_width
        search = prefix_search.begin(self._words, width, 1 + len(probabilities) * width)
        _advance(search, self._words, self._settings, probabilities)
        return _best(search, self._words, self._output, n)

    def stream(self) -> "BeamStream":
        """Begins a search that takes an utterance in pieces."""
        return BeamStream(self._words, self._settings, self._output)

    def decode_batch(self, batch: Iterable[LogProbs]) -> list[str]:
        """Returns `decode` of each utterance in `batch`, in its order, computed on all cores.

        Raises:
            UserError: as `decode`, for the first bad utterance.
        """
        # Threads are enough, since the search runs without the GIL.
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(self.decode, batch))


class BeamStream:
    """A beam search in progress, which `BeamSearchDecoder.stream` begins.

    It finds exactly what `n_best` finds in all outputs at once. Memory grows with the text, not
    with time: some 10 MB for an hour of speech. Threads may not share one.
    """

    def __init__(self, words: Words, settings: BeamSettings, output: "Output") -> None:
        self._words = words
        self._settings = settings
        self._output = output
        self._room = settings.beam_width * ROOM_OUTPUTS
        self._search = prefix_search.begin(words, settings.beam_width, 1 + self._room)

    def advance(self, log_probs: LogProbs) -> None:
        """Continues the search with more outputs; `log_probs` and errors are `decode`'s."""
        probabilities = self._output.probabilities(log_probs)  # [outputs, classes]
        for start in range(0, len(probabilities), ROOM_OUTPUTS):
            piece = probabilities[start : start + ROOM_OUTPUTS]  # [outputs, classes]
            free = len(self._search.tree) - self._search.counts[prefix_search.NODES]
            if free < len(piece) * self._settings.beam_width:
                self._search = prefix_search.compacted(self._search, self._room)
            _advance(self._search, self._words, self._settings, piece)

    def n_best(self, n: int) -> list[Hypothesis]:
        """Returns the best texts, as if the utterance ended here; the search can continue."""
        return _best(self._search, self._words, self._output, n)

    def copy(self) -> "BeamStream":
        """Returns a search that continues by itself from here."""
        new = copy.copy(self)
        new._search = prefix_search.compacted(self._search, self._room)
        return new


def _advance(
    search: Search, words: Words, settings: BeamSettings, probabilities: Probabilities
) -> None:
    prefix_search.advance(
        search, words, probabilities, float(settings.cutoff_prob), settings.cutoff_top_n
    )


def _best(search: Search, words: Words, output: Output, n: int) -> list[Hypothesis]:
    # Words that may follow have no boosts: DeepSpeech's count in the n-grams before alone.
    words = words._replace(boosts=prefix_search.NO_BOOSTS)
    nodes, last, scores, gains = prefix_search.finish(search, words)
    chosen, joined = _join_same(output.keys(search, nodes, last), scores)
    whole = np.logaddexp.reduce(scores)
    best = np.argsort(-joined, kind="stable")[:n]
    return [
        Hypothesis(
            output.text(search, nodes[chosen[i]], last[chosen[i]]),
            float(joined[i]),
            float(joined[i] - gains[chosen[i]]),
            float(np.exp(joined[i] - whole)),
            output.pronunciation(search, nodes[chosen[i]], last[chosen[i]]),
        )
        for i in best
    ]


def _join_same(keys: Sequence[Any], scores: Doubles) -> tuple[LongIntegers, Doubles]:
    """Adds up the scores of prefixes that have the same key.

    Returns:
        the index of each key's best prefix, int64 [keys], in the beam's order, and its score,
        float64 [keys].
    """
    place = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    which = np.array([place[key] for key in keys], np.int64)  # [prefixes]
    joined = np.full(len(place), -np.inf)
    np.logaddexp.at(joined, which, scores)
    order = np.argsort(-scores, kind="stable")
    return order[np.unique(which[order], return_index=True)[1]], joined


def _words(alphabet: Alphabet, settings: BeamSettings, scorer: Scorer | None) -> Words:
    """Returns the search's data about words."""
    hot_words = () if settings.as_deepspeech else settings.hot_words
    if not scorer:
        return _hot_words_alone(alphabet, hot_words)
    letters = scorer.letters
    if hot_words:
        letters = _with_hot_words(alphabet, hot_words, scorer)
    alpha, beta = used_weights(settings, scorer)
    largest_boost, boosts = _largest_boost(hot_words), prefix_search.NO_BOOSTS
    if settings.as_deepspeech and settings.hot_words:
        boosts = _boosts(alphabet, settings.hot_words, scorer, float(alpha))
        largest_boost = scorer.order * boosts.max()
    return Words(
        True,
        letters,
        scorer.ngrams,
        scorer.order,
        scorer.begin,
        tries.NONE if settings.as_deepspeech else scorer.end,
        scorer.unknown,
        tries.NONE if scorer.characters else alphabet.characters.index(SPACE),
        prefix_search.CONTINUATION_BYTES if alphabet == UTF_8 else prefix_search.NO_LABELS,
        first_homophone(alphabet) if scorer.texts else prefix_search.NO_HOMOPHONE,
        scorer.homophones,
        # Floats: for other types the search would be compiled again.
        float(alpha),
        float(beta),
        float(used_penalty(settings, scorer)),
        float(largest_boost),
        boosts,
    )


def _boosts(alphabet: Alphabet, hot_words: HotWords, scorer: Scorer, alpha: float) -> Doubles:
    """Returns DeepSpeech's boosts of the n-grams' words, in nats, float64 [words]."""
    most = max(scorer.letters["word"].max(), scorer.begin, scorer.end, scorer.unknown)
    boosts = np.zeros(most + 1)
    for word, boost in hot_words:
        number = _number_of(alphabet, word, scorer)
        if number not in (tries.NONE, scorer.unknown):
            boosts[number] = np.clip(boost * alpha, -LARGEST_GAIN, LARGEST_GAIN)
    return prefix_search.read_only(boosts)


def _number_of(alphabet: Alphabet, word: str, scorer: Scorer) -> int:
    """Returns the language model's number of a word of the vocabulary, or NONE."""
    if scorer.texts:
        number = scorer.texts.index(word) if word in scorer.texts else tries.NONE
        return number if (scorer.letters["word"] == number).any() else tries.NONE
    node = tries.NONE
    if not alphabet.missing(word):
        node = tries.node_of(scorer.letters, alphabet.encode(word))
    # The record after the last node, which NONE finds, ends no word.
    return int(scorer.letters["word"][node])


def _largest_boost(hot_words: HotWords) -> float:
    return max([0.0, *(float(boost) for _, boost in hot_words)])


def _hot_words_alone(alphabet: Alphabet, hot_words: HotWords) -> Words:
    """Returns the data of hot words without a language model, in which all words are alike."""
    if not hot_words:
        return prefix_search.no_words()
    if SPACE not in alphabet.characters:
        raise UserError(
            "Hot words require an alphabet that contains the space character: leave them out."
        )
    # Every node ends a word; which word doesn't matter.
    letters, nodes = tries.build(*_labels(alphabet, hot_words), LETTERS)
    letters["boost"][nodes] = [boost for _, boost in hot_words]
    return prefix_search.no_words()._replace(
        known=True,
        letters=prefix_search.read_only(letters),
        space=alphabet.characters.index(SPACE),
        largest_boost=_largest_boost(hot_words),
    )


def _with_hot_words(alphabet: Alphabet, hot_words: HotWords, scorer: Scorer) -> tries.Trie:
    """Returns the trie of the vocabulary and the hot words."""
    if scorer.characters and any(len(word) > 1 for word, _ in hot_words):
        raise UserError(
            f"The scorer {scorer.path} is one of characters, where each character is a word: give "
            "single characters as hot words, or a scorer of words."
        )
    if scorer.texts:
        return _with_spoken_hot_words(alphabet, hot_words, scorer)
    ends = np.flatnonzero(scorer.letters["word"] != tries.NONE).astype(np.int32)  # [words]
    known, lengths = tries.sequences_of(scorer.letters, ends)
    hot, hot_lengths = _labels(alphabet, hot_words)
    longest = max(known.shape[1], hot.shape[1])
    both = np.concatenate(
        [np.pad(each, ((0, 0), (0, longest - each.shape[1]))) for each in (known, hot)]
    )
    letters, nodes = tries.build(both, np.concatenate([lengths, hot_lengths]), LETTERS)
    letters["word"] = tries.NONE
    # The language model's own words keep their numbers; other hot words are unknown to it, but have
    # no penalty.
    letters["word"][nodes[len(known) :]] = scorer.unknown
    letters["word"][nodes[: len(known)]] = scorer.letters["word"][ends]
    letters["boost"][nodes[len(known) :]] = [boost for _, boost in hot_words]
    return prefix_search.read_only(letters)


def _with_spoken_hot_words(alphabet: Alphabet, hot_words: HotWords, scorer: Scorer) -> tries.Trie:
    """Returns the trie of pronunciations with the hot words' boosts."""
    letters = scorer.letters.copy()
    for word, boost in hot_words:
        number = _number_of(alphabet, word, scorer)
        if number == tries.NONE:
            raise UserError(
                f"The hot word {word!r} has no pronunciation in {scorer.path}: write it as the "
                "model writes, or add it to the lexicon and the text and make the scorer again."
            )
        letters["boost"][letters["word"] == number] = boost
    return prefix_search.read_only(letters)


def _labels(alphabet: Alphabet, hot_words: HotWords) -> tuple[Integers, LongIntegers]:
    """Returns the labels of hot words, int32 [words, longest], and their lengths, int64 [words].

    Raises:
        UserError: a word has a space or characters outside the alphabet, or is empty.
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
    """Returns the characters of a text that no word of the alphabet has, sorted."""
    return sorted({*alphabet.missing(text), *set(text) & {SPACE}})


def _remedy(alphabet: Alphabet, word: str) -> str:
    """Returns the remedy for a hot word that the alphabet can't write."""
    for case, cased in (("lower case", word.lower()), ("capitals", word.upper())):
        if word and not _not_in_words(alphabet, cased):
            return f"write it in {case}, {cased}, as the model writes."
    return "give single words, in the letters that the model writes."


def _require_numbers(sums: npt.NDArray[np.float32]) -> None:
    """Raises UserError if an output's sum of probabilities, float32 [outputs], is NaN."""
    bad = np.flatnonzero(np.isnan(sums))  # [bad outputs]
    if bad.size:
        raise UserError(
            f"The log-probabilities have NaN in {bad.size} of {sums.size} outputs, first in output "
            f"{bad[0]}: the network has diverged; use an earlier checkpoint or train with a lower "
            "learning rate."
        )


def _require_normalised(sums: npt.NDArray[np.float32]) -> None:
    """Raises UserError if an output's sum of probabilities, float32 [outputs], isn't 1."""
    bad = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)  # [bad outputs]
    if bad.size:
        raise UserError(
            f"The probabilities of {bad.size} of {sums.size} outputs don't sum to 1; those of "
            f"output {bad[0]} sum to {sums[bad[0]]:g}: put the logits through log_softmax, and "
            "decode with the alphabet that the network was trained with."
        )
