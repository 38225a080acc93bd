"""CTC's prefix beam search with a language model, compiled.

Graves et al., "Connectionist Temporal Classification" (ICML 2006), section 4.2, with a beam instead
of a threshold; the language model comes in where a word ends, as in Hannun et al., "First-Pass
Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs" (arXiv
1408.2873).

A prefix's probability is the sum over all its alignments, kept in two parts: those that end in the
blank, and those that end in the prefix's last label. The language model's share is multiplied into
both as soon as it is known. Probabilities are float64 and rescaled at every frame, so that nothing
underflows, and no logarithm is taken on the way.

Prefixes are the nodes of a tree, of which the beam has the most probable ones. A prefix that falls
out of the beam and comes back is the same node again, so no text is ever in the beam twice. One
that falls out while a child of it stays is held as long: it isn't made longer, but what reaches the
child through it still counts. A textbook's search loses that, some nats in an unsure utterance.
"""

# WHY not a library: ctc-beam-decoder 0.2.0 (C++) ranks a prefix's alignments with and without an
# ending blank apart, as pyctcdecode does, and so misses texts that TensorFlow's operation finds; it
# has neither language models of characters nor DeepSpeech's cutoffs. fast-ctc-decode takes no
# language model. benchmarks/decode.py compares with others.

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from speech.decoding import tries
from speech.decoding.compilation import compiled
from speech.decoding.ngrams import DTYPE as NGRAMS
from speech.decoding.ngrams import NGrams, log_probability
from speech.decoding.scorer import LETTERS
from speech.decoding.tries import NONE, ROOT, Trie, find_child, without_arrays

Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]
Records = npt.NDArray[Any]

# Where in `Search.counts` something stands.
NODES, HISTORIES, BEAM, HELD = 0, 1, 2, 3

# Letters of a word, roughly. If a word paid for leaving the vocabulary once only, unsure utterances
# would become a single unknown word, which saves the language model's cost of all the others.
UNKNOWN_LETTERS = 6

SMALLEST = np.float32(1e-37)  # a probability

# A prefix, a node of the tree.
NODE = np.dtype(
    [
        ("parent", "i4"),
        ("label", "i4"),  # the last one
        ("first_child", "i4"),
        ("sibling", "i4"),
        ("position", "i4"),  # in the beam or behind it, or NONE
        # The present word's node in Words.letters; NONE: outside of it. A character that is a word
        # ends where the trie knows it, as no character's labels begin with another's.
        ("letters", "i4"),
        ("history", "i4"),  # of the words before
        ("factor", "f8"),  # the language model's share of the step from the parent
        ("gain", "f8"),  # natural log of all its shares since the root
        # Shares of what may come, NaN where they aren't known yet: of a space, and of a letter that
        # leaves the vocabulary.
        ("space_factor", "f8"),
        ("strange_factor", "f8"),
    ],
    align=True,
)
# Words before: the last one, and the history before it.
HISTORY = np.dtype([("word", "i4"), ("earlier", "i4")])
# Of the beam: probability of the alignments that end in the blank, and in the last label.
PLACE = np.dtype([("node", "i4"), ("blank", "f8"), ("spoken", "f8")], align=True)
# What may be the next beam: a place in the present one, as it is (NONE) or with a label more.
CANDIDATE = np.dtype([("place", "i4"), ("label", "i4"), ("blank", "f8"), ("spoken", "f8")])

# Labels with which no character begins, first and last: in UTF-8 the further bytes of one.
CONTINUATION_BYTES = (0x80, 0xBF)
NO_LABELS = (NONE, NONE)


class Words(NamedTuple):
    """What the search knows of words. All arrays are read-only."""

    known: bool  # False: no word is scored, and nothing below counts
    letters: Trie  # words as sequences of labels, scorer.LETTERS
    ngrams: NGrams
    order: int
    begin: int  # the n-grams' numbers of <s>, </s> and <unk>
    end: int
    unknown: int
    space: int  # the label between words; NONE: every character is a word
    # Labels from the first to the second only go on with a character; see CONTINUATION_BYTES.
    inner: tuple[int, int]
    alpha: float  # weight of the language model
    beta: float  # nats that each word gains
    # Nats that a word loses with the first letter that leaves the vocabulary, and with every
    # UNKNOWN_LETTERS letters more.
    unknown_penalty: float
    largest_boost: float  # of a hot word, in nats


class Search(NamedTuple):
    """A search on its way."""

    counts: npt.NDArray[np.int64]  # of nodes, histories, prefixes in the beam, and also held ones
    log_scale: Doubles  # [1], natural log of what the beam's probabilities were divided by
    tree: Records  # [nodes], NODE
    histories: Records  # [nodes], HISTORY
    # The beam, and behind it the prefixes that are held for their children: [2 beam width], PLACE.
    beam: Records


def begin(words: Words, width: int, nodes: int) -> Search:
    """A search that has seen no frame, with room for `nodes` prefixes."""
    search = Search(
        np.array([1, 1, 1, 1], np.int64),
        np.zeros(1),
        np.empty(nodes, NODE),
        np.empty(nodes + 1, HISTORY),
        np.zeros(2 * width, PLACE),
    )
    search.tree[ROOT] = (NONE, NONE, NONE, NONE, 0, 0, 0, 1.0, 0.0, np.nan, np.nan)
    search.histories[0] = (words.begin, NONE)
    search.beam[0] = (ROOT, 1.0, 0.0)
    return search


def advance(
    search: Search,
    words: Words,
    probabilities: Floats,
    cutoff_prob: float,
    cutoff_top_n: int,
) -> None:
    """Takes frames in.

    Args:
        search: has room for frames times beam width more prefixes.
        probabilities: float32 [frames, labels], the blank last.
        cutoff_prob: of a frame's labels the most probable ones are tried that sum up to it,
        cutoff_top_n: and no more than so many.
    """
    order = np.argsort(-probabilities[:, :-1], axis=1, kind="stable").astype(np.int32)
    _advance(search, words, probabilities, order[:, :cutoff_top_n], cutoff_prob)


@compiled()
def _advance(
    search: Search, words: Words, probabilities: Floats, order: Integers, cutoff_prob: float
) -> None:
    """Goes through the frames; order: labels, each frame's most probable one first."""
    width, labels = len(search.beam) // 2, probabilities.shape[1] - 1
    has_child = np.empty((2 * width, labels), np.bool_)
    candidates = np.empty(width * (labels + 2), CANDIDATE)
    total = np.empty(len(candidates))
    scratch = np.empty(len(candidates))
    chosen = np.empty(2 * width, np.int32)
    taken = np.empty(2 * width, np.bool_)
    nodes = np.empty(2 * width, np.int32)
    context = np.empty(max(words.order - 1, 1), np.int32)
    for i in range(len(probabilities)):
        frame = probabilities[i]
        tried = order[i, : _tried(frame, order[i], cutoff_prob)]
        count = _stay(search, frame, has_child, candidates, total)
        count = _extend(search, words, frame, tried, has_child, context, candidates, total, count)
        limit = _largest_but(total[:count], width, scratch)
        best = _choose_best(total[:count], limit, width, chosen)
        held = _hold_parents(search, candidates, chosen, best, taken)
        _renew(search, words, context, candidates, total, chosen, best, held, nodes)


@without_arrays
def _tried(frame: Floats, order: Integers, cutoff_prob: float) -> Any:
    """How many labels of the order are to be tried; the blank counts, and is always tried."""
    if cutoff_prob == 1.0:
        return len(order)
    total, blank = 0.0, frame[-1]
    for i in range(len(order)):
        if blank >= frame[order[i]]:
            total, blank = total + blank, -1.0
            if total >= cutoff_prob:
                return i
        total += frame[order[i]]
        if total >= cutoff_prob:
            return i + 1
    return len(order)


@without_arrays
def _stay(
    search: Search, frame: Floats, has_child: Bools, candidates: Records, total: Doubles
) -> Any:
    """The prefixes that stay, by a blank, a repeat, or as a child of another one."""
    count = search.counts[HELD]
    has_child[:count] = False
    for i in range(count):
        here, node = search.beam[i], search.tree[search.beam[i].node]
        # A blank is never impossible: if all else is, the beam is to stay as it is.
        blank, spoken = (here.blank + here.spoken) * max(frame[-1], SMALLEST), 0.0
        if here.node != ROOT:
            last = node.label
            spoken = here.spoken * frame[last]
            above = search.tree[node.parent].position
            if above >= 0:
                has_child[above, last] = True
                spoken += _source(search, above, last) * frame[last] * node.factor
        candidates[i].place, candidates[i].label = i, NONE
        candidates[i].blank, candidates[i].spoken = blank, spoken
        total[i] = blank + spoken
    return count


@without_arrays
def _source(search: Search, i: int, label: int) -> Any:
    """The probability of the prefix at place i from which a label can be added."""
    here = search.beam[i]
    if search.tree[here.node].label == label:
        return here.blank  # without a blank between it would be a repeat
    return here.blank + here.spoken


@without_arrays
def _extend(
    search: Search,
    words: Words,
    frame: Floats,
    tried: Integers,
    has_child: Bools,
    context: Integers,
    candidates: Records,
    total: Doubles,
    count: int,
) -> Any:
    """Adds the prefixes of the beam with a label more, where they may be among the best."""
    beam, threshold = search.counts[BEAM], 0.0
    if 2 * beam == len(search.beam):
        # All of the beam may stay: what is less probable than each of it can't come in.
        threshold = np.inf
        for i in range(beam):
            threshold = min(threshold, total[i])
    # What a label may gain: only one that ends a word gains anything.
    largest = np.exp(max(words.beta, 0.0) + words.largest_boost) if words.known else 1.0
    for i in range(beam):
        here = search.beam[i]
        node, blank, both = here.node, here.blank, here.blank + here.spoken
        last = search.tree[node].label
        for c in tried:
            if both * frame[c] * largest <= threshold:
                break
            if has_child[i, c]:
                continue
            # Without a blank between it the last label again would be a repeat.
            new = (blank if c == last else both) * frame[c]
            ends_word = c == words.space or words.space == NONE
            if new * (largest if ends_word else 1.0) <= threshold:
                continue
            if words.known:
                new *= _factor(search, words, node, c, context)
            if new > threshold:
                candidates[count].place, candidates[count].label = i, c
                candidates[count].blank, candidates[count].spoken = 0.0, new
                total[count] = new
                count += 1
    return count


@without_arrays
def _largest_but(total: Doubles, width: int, scratch: Doubles) -> Any:
    """The value that width - 1 of the candidates exceed or equal; 0, if there are fewer.

    Hoare, "Algorithm 65: find" (Communications of the ACM 4, 1961). np.partition does the same, but
    is compiled for as long as the rest of this module.
    """
    low, high, rank = 0, len(total) - 1, width - 1
    if rank > high:
        return 0.0
    for i in range(len(total)):
        scratch[i] = total[i]
    while low < high:
        pivot = scratch[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while scratch[i] > pivot:
                i += 1
            while scratch[j] < pivot:
                j -= 1
            if i <= j:
                scratch[i], scratch[j] = scratch[j], scratch[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return scratch[rank]


@without_arrays
def _choose_best(total: Doubles, limit: float, width: int, chosen: Integers) -> Any:
    """Puts the places of the most probable candidates into `chosen`; how many they are.

    Args:
        limit: all above it are chosen, and as many of those equal to it as have room.
    """
    equal = width
    for i in range(len(total)):
        equal -= total[i] > limit
    best = 0
    for i in range(len(total)):
        if total[i] < limit or (total[i] == limit and equal == 0):
            continue
        if best == width:  # there is no order among NaN
            break
        equal -= total[i] == limit
        chosen[best] = i
        best += 1
    return best


@without_arrays
def _hold_parents(
    search: Search, candidates: Records, chosen: Integers, best: int, taken: Bools
) -> Any:
    """Puts the chosen ones' parents behind them where they aren't chosen; how many all are."""
    taken[: search.counts[HELD]] = False
    for i in range(best):
        if candidates[chosen[i]].label == NONE:
            taken[chosen[i]] = True
    held = best
    for i in range(best):
        place = candidates[chosen[i]].place
        node = search.beam[place].node
        if candidates[chosen[i]].label == NONE and node != ROOT:
            place = search.tree[search.tree[node].parent].position
        if place >= 0 and not taken[place]:
            taken[place] = True
            chosen[held] = place
            held += 1
    return held


@without_arrays
def _renew(
    search: Search,
    words: Words,
    context: Integers,
    candidates: Records,
    total: Doubles,
    chosen: Integers,
    best: int,
    held: int,
    nodes: Integers,
) -> None:
    """Makes the chosen candidates the beam, and those behind them the held ones."""
    scale = 0.0
    for i in range(held):
        candidate = candidates[chosen[i]]
        nodes[i] = search.beam[candidate.place].node
        if candidate.label != NONE:
            nodes[i] = _child(search, words, nodes[i], candidate.label, context)
        scale = max(scale, total[chosen[i]])
    for i in range(search.counts[HELD]):
        search.tree[search.beam[i].node].position = NONE
    search.log_scale[0] += np.log(scale)
    for i in range(held):
        search.tree[nodes[i]].position = i
        search.beam[i].node = nodes[i]
        search.beam[i].blank = candidates[chosen[i]].blank / scale
        search.beam[i].spoken = candidates[chosen[i]].spoken / scale
    search.counts[BEAM], search.counts[HELD] = best, held


@without_arrays
def _child(search: Search, words: Words, node: int, label: int, context: Integers) -> Any:
    """The prefix that is `label` longer, made if it isn't there."""
    child = search.tree[node].first_child
    while child != NONE:
        if search.tree[child].label == label:
            return child
        child = search.tree[child].sibling
    child = search.counts[NODES]
    search.counts[NODES] += 1
    new, parent = search.tree[child], search.tree[node]
    new.parent, new.label, new.first_child, new.position = node, label, NONE, NONE
    new.sibling, parent.first_child = parent.first_child, child
    new.letters, new.history = parent.letters, parent.history
    new.factor, new.gain = 1.0, parent.gain
    new.space_factor, new.strange_factor = np.nan, np.nan
    if words.known:
        new.factor = _factor(search, words, node, label, context)
        new.gain += np.log(new.factor)
        _follow_words(search, words, child)
    return child


@without_arrays
def _follow_words(search: Search, words: Words, node: int) -> None:
    """Sets the present word and the ones before, which are the parent's so far."""
    letters, label = search.tree[node].letters, search.tree[node].label
    if words.space == NONE:
        letters = _so_far(words, letters, label)
        if letters == NONE:
            return
        letters = find_child(words.letters, letters, label)
        if letters == NONE:
            # It counts as a word at once; further labels of it are still outside.
            _begin_word(search, node, words.unknown)
            search.tree[node].letters = NONE
        elif words.letters[letters].word != NONE:
            _begin_word(search, node, words.letters[letters].word)
        else:
            search.tree[node].letters = letters
    elif label == words.space:
        _begin_word(search, node, _known_word(words, letters))
    elif letters != NONE:
        search.tree[node].letters = find_child(words.letters, letters, label)


@without_arrays
def _so_far(words: Words, letters: int, label: int) -> Any:
    """The node of a character, which is a word, that a label goes on with: ROOT if it begins one,
    NONE if it goes on with one outside of the vocabulary."""
    return ROOT if letters == NONE and not _goes_on(words, label) else letters


@without_arrays
def _goes_on(words: Words, label: int) -> Any:
    """Whether no character begins with a label."""
    return words.inner[0] <= label <= words.inner[1]


@without_arrays
def _begin_word(search: Search, node: int, word: int) -> None:
    """A word begins behind this prefix, and `word` lies before it."""
    history = search.counts[HISTORIES]
    search.counts[HISTORIES] += 1
    search.histories[history].word = word
    search.histories[history].earlier = search.tree[node].history
    search.tree[node].history, search.tree[node].letters = history, ROOT


@without_arrays
def _known_word(words: Words, letters: int) -> Any:
    """The language model's number of the word whose letters end in this node."""
    if letters > ROOT and words.letters[letters].word != NONE:
        return words.letters[letters].word
    return words.unknown


@without_arrays
def _factor(search: Search, words: Words, node: int, label: int, context: Integers) -> Any:
    """The language model's share, where words are known, when a prefix is followed by a label."""
    here = search.tree[node]
    if words.space == NONE:
        return _character_factor(search, words, node, label, context)
    if label == words.space:
        if here.letters == ROOT:
            return 0.0  # a word has letters
        if np.isnan(here.space_factor):
            gain = _word_gain(search, words, here.letters, here.history, context)
            here.space_factor = np.exp(gain)
        return here.space_factor
    if here.letters == NONE:
        # A letter of several labels counts with its first one.
        return 1.0 if _goes_on(words, label) else np.exp(-words.unknown_penalty / UNKNOWN_LETTERS)
    if find_child(words.letters, here.letters, label) != NONE:
        return 1.0
    if np.isnan(here.strange_factor):
        # What an unknown word costs is told as soon as it is one. Told at its end, it would keep
        # the word from ending.
        gain = _log_share(search, words, words.unknown, here.history, context)
        here.strange_factor = np.exp(gain - words.unknown_penalty)
    return here.strange_factor


@without_arrays
def _character_factor(
    search: Search, words: Words, node: int, label: int, context: Integers
) -> Any:
    """`_factor` where each character is a word, and may have several labels."""
    here = search.tree[node]
    letters = _so_far(words, here.letters, label)
    if letters == NONE:
        return 1.0
    letters = find_child(words.letters, letters, label)
    if letters != NONE and words.letters[letters].word == NONE:
        return 1.0  # the character has more labels
    return np.exp(_word_gain(search, words, letters, here.history, context))


@without_arrays
def _word_gain(search: Search, words: Words, letters: int, history: int, context: Integers) -> Any:
    """Nats that a prefix gains when the word whose letters end in this node ends."""
    if letters == NONE and words.space != NONE:
        return words.beta  # what else it costs was told with the letter that left the vocabulary
    gain = words.beta + _log_share(search, words, _known_word(words, letters), history, context)
    if letters == NONE or words.letters[letters].word == NONE:
        return gain - words.unknown_penalty
    return gain + words.letters[letters].boost


@without_arrays
def _log_share(search: Search, words: Words, word: int, history: int, context: Integers) -> Any:
    """Natural log of a word's probability behind a history, weighted."""
    length = 0
    while length < words.order - 1 and history != NONE:
        context[length] = search.histories[history].word
        history = search.histories[history].earlier
        length += 1
    return words.alpha * log_probability(words.ngrams, word, context, length)


@compiled()
def finish(search: Search, words: Words) -> tuple[Integers, Doubles, Doubles]:
    """What the beam would be if the utterance ended here; the search can go on after it.

    Returns:
        nodes: int32 [prefixes], without a space at their ends if words are scored.
        scores: float64 [prefixes], natural log of the probability times the language model's share.
        gains: float64 [prefixes], natural log of that share alone.
    """
    count = search.counts[BEAM]
    nodes, scores, gains = np.empty(count, np.int32), np.empty(count), np.empty(count)
    context = np.empty(max(words.order - 1, 1), np.int32)
    for i in range(count):
        node = search.beam[i].node
        nodes[i], gains[i] = node, search.tree[node].gain
        total = search.beam[i].blank + search.beam[i].spoken
        scores[i] = (np.log(total) if total > 0 else -np.inf) + search.log_scale[0]
        if words.known:
            last = _last_gain(search, words, node, context)
            gains[i] += last
            scores[i] += last
            if node != ROOT and search.tree[node].label == words.space:
                nodes[i] = search.tree[node].parent
    return nodes, scores, gains


@without_arrays
def _last_gain(search: Search, words: Words, node: int, context: Integers) -> Any:
    """Nats of the present word and the sentence's end."""
    letters, history = search.tree[node].letters, search.tree[node].history
    gain = 0.0
    # A character outside of the vocabulary has been told of already.
    if letters != ROOT and not (letters == NONE and words.space == NONE):
        gain = _word_gain(search, words, letters, history, context)
        # For a moment, as if a word began here.
        new = search.counts[HISTORIES]
        search.histories[new].word = _known_word(words, letters)
        search.histories[new].earlier = history
        history = new
    return gain + _log_share(search, words, words.end, history, context)


@compiled()
def compacted(search: Search, more: int) -> Search:
    """The same search in a tree of its own, without the prefixes that it can't come back to.

    What stays are those in the beam, those that are held, and all that lead to them. Others are
    made anew, and alike, if they are found again.

    Args:
        more: prefixes that there is room for, at least; as many again as stay, if these are more,
            so that the work of copying them doesn't grow with a search's length.
    """
    # New numbers; of what is left out NONE. Parents have smaller ones than their children, as ever.
    node_numbers = np.full(search.counts[NODES], NONE, np.int32)
    history_numbers = np.full(search.counts[HISTORIES], NONE, np.int32)
    for i in range(search.counts[HELD]):
        _mark(search, search.beam[i].node, node_numbers, history_numbers)
    nodes, histories = _number(node_numbers), _number(history_numbers)
    room = nodes + max(more, nodes)
    new = Search(
        search.counts.copy(),
        search.log_scale.copy(),
        np.empty(room, NODE),
        np.empty(room + 1, HISTORY),
        search.beam.copy(),
    )
    new.counts[NODES], new.counts[HISTORIES] = nodes, histories
    _copy(search, new, node_numbers, history_numbers)
    return new


@without_arrays
def _mark(search: Search, node: int, node_numbers: Integers, history_numbers: Integers) -> None:
    """Marks a prefix, those before it, and their histories, by a 0."""
    while node != NONE and node_numbers[node] == NONE:
        node_numbers[node] = 0
        history = search.tree[node].history
        while history != NONE and history_numbers[history] == NONE:
            history_numbers[history] = 0
            history = search.histories[history].earlier
        node = search.tree[node].parent


@without_arrays
def _number(marks: Integers) -> Any:
    """Numbers what is marked, in its order; how many they are."""
    count = 0
    for i in range(len(marks)):
        if marks[i] != NONE:
            marks[i] = count
            count += 1
    return count


@without_arrays
def _copy(search: Search, new: Search, node_numbers: Integers, history_numbers: Integers) -> None:
    """Writes what has a number into another tree, and its numbers into the other beam."""
    for old in range(len(history_numbers)):
        if history_numbers[old] != NONE:
            history, earlier = new.histories[history_numbers[old]], search.histories[old].earlier
            history.word = search.histories[old].word
            history.earlier = NONE if earlier == NONE else history_numbers[earlier]
    for old in range(len(node_numbers)):
        number = node_numbers[old]
        if number == NONE:
            continue
        new.tree[number] = search.tree[old]
        node = new.tree[number]
        node.history = history_numbers[node.history]
        node.first_child, node.sibling = NONE, NONE
        if node.parent != NONE:
            node.parent = node_numbers[node.parent]
            # In front of the older ones, as when it was made.
            node.sibling = new.tree[node.parent].first_child
            new.tree[node.parent].first_child = number
    for i in range(new.counts[HELD]):
        new.beam[i].node = node_numbers[new.beam[i].node]


@compiled()
def labels_of(search: Search, node: int) -> Integers:
    """The labels of a prefix, int32 [labels]."""
    length, each = 0, node
    while each != ROOT:
        each = search.tree[each].parent
        length += 1
    labels = np.empty(length, np.int32)
    for i in range(length - 1, -1, -1):
        labels[i] = search.tree[node].label
        node = search.tree[node].parent
    return labels


def no_words() -> Words:
    """Words for a search without a language model."""
    nothing = np.zeros((1, 1), np.int32), np.ones(1, np.int64)
    letters, _ = tries.build(*nothing, LETTERS)
    ngrams, _ = tries.build(*nothing, NGRAMS)
    return Words(
        False,
        read_only(letters),
        read_only(ngrams),
        order=1,
        begin=0,
        end=0,
        unknown=0,
        space=NONE,
        inner=NO_LABELS,
        alpha=0.0,
        beta=0.0,
        unknown_penalty=0.0,
        largest_boost=0.0,
    )


def read_only(array: Records) -> Records:
    """The same array, as a file's is: what is compiled is compiled for such ones."""
    array.flags.writeable = False
    return array
