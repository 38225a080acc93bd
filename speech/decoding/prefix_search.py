"""CTC's prefix beam search with a language model, compiled.

Graves et al., "Connectionist Temporal Classification" (ICML 2006), section 4.2, with a beam instead
of a threshold; the language model comes in where a word ends, as in Hannun et al., "First-Pass
Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs" (arXiv
1408.2873).

A prefix's probability is the sum over all its alignments, kept in two parts: those that end in the
blank, and those that end in the prefix's last label. The language model's factor is multiplied into
both as soon as it is known. Probabilities are float64 and rescaled at every output of the network,
so that nothing underflows without a logarithm.

Prefixes are the nodes of a tree, and the beam has the most probable ones. A prefix that leaves
the beam and comes back is the same node again, so no text is in the beam twice. A prefix that
leaves while a child of it stays is held until the child leaves: it isn't extended, but alignments
that reach the child through it still count. A textbook's search loses these, which is some nats in
an unsure utterance.
"""

# WHY not a library: ctc-beam-decoder 0.2.0 (C++) ranks a prefix's alignments with and without a
# final blank separately, as pyctcdecode does, and so misses texts that TensorFlow's operation
# finds; it has neither language models of characters nor DeepSpeech's cutoffs. fast-ctc-decode has
# no language model. benchmarks/decode.py compares with others.

from typing import Any, NamedTuple

import numpy as np

from speech.decoding import tries
from speech.decoding.compilation import compiled
from speech.decoding.ngrams import DTYPE as NGRAMS
from speech.decoding.ngrams import NGrams, log_probability
from speech.decoding.scorer import LETTERS
from speech.decoding.tries import NONE, ROOT, Trie, find_child
from speech.decoding.types import (
    Bools,
    Doubles,
    Integers,
    LongIntegers,
    Probabilities,
    Records,
)

# Indices into `Search.counts`.
NODES, HISTORIES, BEAM, HELD = 0, 1, 2, 3

# Letters of a word, roughly. If an unknown word had a single penalty, an unsure utterance would
# become one unknown word, which has no cost of the language model for further words.
UNKNOWN_LETTERS = 6

SMALLEST = np.float32(1e-37)  # a probability

# A prefix, a node of the tree.
NODE = np.dtype(
    [
        ("parent", "i4"),
        ("label", "i4"),  # the last one
        ("first_child", "i4"),
        ("sibling", "i4"),
        ("position", "i4"),  # in `Search.beam`, or NONE
        # The current word's node in Words.letters; NONE: outside the vocabulary. A character that
        # is a word ends at its node, as no character's labels begin with another's.
        ("letters", "i4"),
        ("history", "i4"),  # of the words before
        ("factor", "f8"),  # the language model's, of the step from the parent
        ("gain", "f8"),  # natural log of the product of all factors since the root
        # Factors of possible next steps, NaN until they are computed: of a space, and of a letter
        # that leaves the vocabulary.
        ("space_factor", "f8"),
        ("strange_factor", "f8"),
    ],
    align=True,
)
# Words before: the last one, and the history before it.
HISTORY = np.dtype([("word", "i4"), ("earlier", "i4")])
# Of the beam: probability of the alignments that end in the blank, and in the last label.
PLACE = np.dtype([("node", "i4"), ("blank", "f8"), ("spoken", "f8")], align=True)
# A candidate for the next beam: a place in the current one, unchanged (label NONE) or with one more
# label.
CANDIDATE = np.dtype([("place", "i4"), ("label", "i4"), ("blank", "f8"), ("spoken", "f8")])

# First and last of the labels that begin no character: UTF-8's continuation bytes.
CONTINUATION_BYTES = (0x80, 0xBF)
NO_LABELS = (NONE, NONE)
NO_HOMOPHONE = 2**31 - 1


class Words(NamedTuple):
    """The search's data about words. All arrays are read-only."""

    known: bool  # False: no word is scored, and nothing below counts
    letters: Trie  # words as sequences of labels, scorer.LETTERS
    ngrams: NGrams
    order: int
    begin: int  # numbers of <s>, </s> and <unk> in the n-grams
    end: int  # NONE: the end of the sentence isn't scored
    unknown: int
    space: int  # the label between words; NONE: every character is a word
    # Labels from the first to the second begin no character; see CONTINUATION_BYTES.
    inner: tuple[int, int]
    # Labels from this one on are spaces that end the second word of a pronunciation, the third, and
    # so on; see scorer.Scorer.texts. Greater than all labels: each pronunciation has one word.
    homophone: int
    homophones: int  # number of these labels
    alpha: float  # weight of the language model
    beta: float  # bonus of each word, in nats
    # Penalty in nats of the first letter that leaves the vocabulary, and of every UNKNOWN_LETTERS
    # further letters.
    unknown_penalty: float
    largest_boost: float  # of hot words at the end of a word, in nats
    # Of the n-grams' words, in nats, float64 [words], each time that a word is in an n-gram.
    # Empty: none.
    boosts: Doubles


class Search(NamedTuple):
    """The state of a search."""

    counts: LongIntegers  # of nodes; histories; prefixes in the beam; those and the held prefixes
    log_scale: Doubles  # [1], natural log of the divisor of the beam's probabilities so far
    tree: Records  # [nodes], NODE
    histories: Records  # [nodes], HISTORY
    # The beam, then the prefixes that are held for their children: [2 beam width], PLACE.
    beam: Records


class Room(NamedTuple):
    """What `_advance` writes to while it computes; its values don't last."""

    has_child: Bools  # [2 beam width, labels]
    candidates: Records  # [beam width * (labels + 2)], CANDIDATE
    total: Doubles  # likewise, each candidate's probability
    scratch: Doubles
    chosen: Integers  # [2 beam width]
    taken: Bools
    nodes: Integers


def begin(words: Words, width: int, nodes: int) -> Search:
    """Returns a search before the first output, with room for `nodes` prefixes."""
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
    probabilities: Probabilities,
    cutoff_prob: float,
    cutoff_top_n: int,
) -> None:
    """Advances a search by some outputs of the network.

    Args:
        search: with room for outputs times beam width more prefixes; changed in place.
        probabilities: float32 [outputs, classes], the blank last.
        cutoff_prob: an output's most probable classes are tried until they sum up to it.
        cutoff_top_n: maximum number of classes that are tried.
    """
    order = np.argsort(-probabilities[:, :-1], axis=1, kind="stable")[:, :cutoff_top_n]
    width, labels = len(search.beam) // 2, probabilities.shape[1] + words.homophones
    candidates = np.empty(width * (labels + 2), CANDIDATE)
    room = Room(
        np.empty((2 * width, labels), np.bool_),
        candidates,
        np.empty(len(candidates)),
        np.empty(len(candidates)),
        np.empty(2 * width, np.int32),
        np.empty(2 * width, np.bool_),
        np.empty(2 * width, np.int32),
    )
    _advance(
        search,
        words,
        np.ascontiguousarray(probabilities),
        np.ascontiguousarray(order, np.int32),
        cutoff_prob,
        room,
        _room_for_context(words),
    )


def _room_for_context(words: Words) -> Integers:
    return np.empty(max(words.order - 1, 1), np.int32)


@compiled
def _advance(
    search: Search,
    words: Words,
    probabilities: Probabilities,
    order: Integers,
    cutoff_prob: float,
    room: Room,
    context: Integers,
) -> None:
    """Advances the search output by output.

    Args:
        order: int32 [outputs, classes to try], each output's most probable class first.
    """
    width = len(search.beam) // 2
    has_child, candidates, total, chosen = room.has_child, room.candidates, room.total, room.chosen
    for i in range(len(probabilities)):
        output = probabilities[i]
        tried = order[i, : _tried(output, order[i], cutoff_prob)]
        count = _stay(search, words, output, has_child, candidates, total)
        count = _extend(search, words, output, tried, has_child, context, candidates, total, count)
        limit = _largest_but(total[:count], width, room.scratch)
        best = _choose_best(total[:count], limit, width, chosen)
        held = _hold_parents(search, candidates, chosen, best, room.taken)
        _renew(search, words, context, candidates, total, chosen, best, held, room.nodes)


@compiled
def _tried(output: Probabilities, order: Integers, cutoff_prob: float) -> Any:
    """Returns how many classes of the order to try; the blank counts, and is always tried."""
    if cutoff_prob == 1.0:
        return len(order)
    total, blank = 0.0, output[-1]
    for i in range(len(order)):
        if blank >= output[order[i]]:
            total, blank = total + blank, -1.0
            if total >= cutoff_prob:
                return i
        total += output[order[i]]
        if total >= cutoff_prob:
            return i + 1
    return len(order)


@compiled
def _stay(
    search: Search,
    words: Words,
    output: Probabilities,
    has_child: Bools,
    candidates: Records,
    total: Doubles,
) -> Any:
    """Adds the prefixes of the beam as candidates; returns the number of candidates.

    A prefix stays by a blank, by a repeat of its last label, or by its parent's extension.
    """
    count = search.counts[HELD]
    has_child[:count] = False
    for i in range(count):
        here, node = search.beam[i], search.tree[search.beam[i].node]
        # A blank is never impossible: if everything else is, the beam stays as it is.
        blank, spoken = (here.blank + here.spoken) * max(output[-1], SMALLEST), 0.0
        if here.node != ROOT:
            last = node.label
            probability = output[_heard(words, last)]
            spoken = here.spoken * probability
            above = search.tree[node.parent].position
            if above >= 0:
                has_child[above, last] = True
                spoken += _source(search, above, last) * probability * node.factor
        candidates[i].place, candidates[i].label = i, NONE
        candidates[i].blank, candidates[i].spoken = blank, spoken
        total[i] = blank + spoken
    return count


@compiled
def _heard(words: Words, label: int) -> Any:
    """Returns the network's class of a label."""
    return words.space if label >= words.homophone else label


@compiled
def _source(search: Search, i: int, label: int) -> Any:
    """Returns the probability of the alignments of the prefix at i that a label can extend."""
    here = search.beam[i]
    if search.tree[here.node].label == label:
        return here.blank  # without a blank between, the label would be a repeat
    return here.blank + here.spoken


@compiled
def _extend(
    search: Search,
    words: Words,
    output: Probabilities,
    tried: Integers,
    has_child: Bools,
    context: Integers,
    candidates: Records,
    total: Doubles,
    count: int,
) -> Any:
    """Adds the beam's extensions that may be among the best; returns the number of candidates."""
    beam, threshold = search.counts[BEAM], 0.0
    if 2 * beam == len(search.beam):
        # The whole beam may stay: what is less probable than all of it can't enter.
        threshold = np.inf
        for i in range(beam):
            threshold = min(threshold, total[i])
    # The largest factor of a label: only a label that ends a word has one above 1.
    largest = np.exp(max(words.beta, 0.0) + words.largest_boost) if words.known else 1.0
    for i in range(beam):
        here = search.beam[i]
        node, blank, both = here.node, here.blank, here.blank + here.spoken
        last = search.tree[node].label
        for c in tried:
            if both * output[c] * largest <= threshold:
                break
            # The last label again is a repeat unless a blank is between.
            new = (blank if c == last else both) * output[c]
            ends_word = c == words.space or words.space == NONE
            if new * (largest if ends_word else 1.0) <= threshold:
                continue
            for variant in range(_variants(search, words, node, c)):
                label = c if variant == 0 else words.homophone + variant - 1
                if has_child[i, label]:
                    continue
                factor = _factor(search, words, node, label, context) if words.known else 1.0
                if new * factor > threshold:
                    candidates[count].place, candidates[count].label = i, label
                    candidates[count].blank, candidates[count].spoken = 0.0, new * factor
                    total[count] = new * factor
                    count += 1
    return count


@compiled
def _variants(search: Search, words: Words, node: int, label: int) -> Any:
    """Returns the number of prefixes that are longer by a label: of a space, one for each word."""
    if label != words.space or words.homophones == 0 or search.tree[node].letters <= ROOT:
        return 1
    letters, variants = search.tree[node].letters, 1
    while find_child(words.letters, letters, words.homophone + variants - 1) != NONE:
        variants += 1
    return variants


@compiled
def _largest_but(total: Doubles, width: int, scratch: Doubles) -> Any:
    """Returns the candidates' total of rank `width`, the largest first; 0 if there are fewer.

    Hoare, "Algorithm 65: find" (Communications of the ACM 4, 1961). np.partition does the same, but
    compiles for as long as the rest of this module.
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


@compiled
def _choose_best(total: Doubles, limit: float, width: int, chosen: Integers) -> int:
    """Puts the most probable candidates' indices into `chosen`; returns their number.

    Args:
        limit: all candidates above it are chosen, and of those equal to it as many as there is room
            for.
    """
    equal = width
    for i in range(len(total)):
        equal -= total[i] > limit
    best = 0
    for i in range(len(total)):
        if total[i] < limit or (total[i] == limit and equal == 0):
            continue
        if best == width:  # NaN has no order
            break
        equal -= total[i] == limit
        chosen[best] = i
        best += 1
    return best


@compiled
def _hold_parents(
    search: Search, candidates: Records, chosen: Integers, best: int, taken: Bools
) -> Any:
    """Appends parents that aren't chosen themselves to `chosen`; returns the number of both."""
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


@compiled
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
    """Replaces the beam by the chosen candidates, and the held prefixes by those after them."""
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


@compiled
def _child(search: Search, words: Words, node: int, label: int, context: Integers) -> Any:
    """Returns the prefix that is longer by `label`; makes it if it doesn't exist."""
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


@compiled
def _follow_words(search: Search, words: Words, node: int) -> None:
    """Updates a new node's current word and history, which are its parent's so far."""
    letters, label = search.tree[node].letters, search.tree[node].label
    if words.space == NONE:
        letters = _so_far(words, letters, label)
        if letters == NONE:
            return
        letters = find_child(words.letters, letters, label)
        if letters == NONE:
            # It counts as a word at once; its further labels are outside the vocabulary too.
            _begin_word(search, node, words.unknown)
            search.tree[node].letters = NONE
        elif words.letters[letters].word != NONE:
            _begin_word(search, node, words.letters[letters].word)
        else:
            search.tree[node].letters = letters
    elif label >= words.homophone:
        _begin_word(search, node, _known_word(words, find_child(words.letters, letters, label)))
    elif label == words.space:
        _begin_word(search, node, _known_word(words, letters))
    elif letters != NONE:
        search.tree[node].letters = find_child(words.letters, letters, label)


@compiled
def _so_far(words: Words, letters: int, label: int) -> Any:
    """Returns the node of the character that a label continues, where characters are words.

    ROOT if the label begins a character; NONE if it continues one outside the vocabulary.
    """
    return ROOT if letters == NONE and not _goes_on(words, label) else letters


@compiled
def _goes_on(words: Words, label: int) -> Any:
    """Says whether a label continues a character and never begins one."""
    return words.inner[0] <= label <= words.inner[1]


@compiled
def _begin_word(search: Search, node: int, word: int) -> None:
    """Begins a new word after this prefix; `word` is the word before it."""
    history = search.counts[HISTORIES]
    search.counts[HISTORIES] += 1
    search.histories[history].word = word
    search.histories[history].earlier = search.tree[node].history
    search.tree[node].history, search.tree[node].letters = history, ROOT


@compiled
def _known_word(words: Words, letters: int) -> Any:
    """Returns the language model's number of the word whose letters end in this node."""
    if letters > ROOT and words.letters[letters].word != NONE:
        return words.letters[letters].word
    return words.unknown


@compiled
def _factor(search: Search, words: Words, node: int, label: int, context: Integers) -> Any:
    """Returns the language model's factor for a label after a prefix; words are known."""
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
    if label >= words.homophone:
        letters = find_child(words.letters, here.letters, label)
        return np.exp(_word_gain(search, words, letters, here.history, context))
    if here.letters == NONE:
        # A letter of several labels counts with its first one.
        return 1.0 if _goes_on(words, label) else np.exp(-words.unknown_penalty / UNKNOWN_LETTERS)
    if find_child(words.letters, here.letters, label) != NONE:
        return 1.0
    if np.isnan(here.strange_factor):
        # An unknown word costs as soon as it is one: a cost at its end would keep it from ending.
        gain = _log_factor(search, words, words.unknown, here.history, context)
        here.strange_factor = np.exp(gain - words.unknown_penalty)
    return here.strange_factor


@compiled
def _character_factor(
    search: Search, words: Words, node: int, label: int, context: Integers
) -> Any:
    """Returns `_factor` where each character is a word, and may have several labels."""
    here = search.tree[node]
    letters = _so_far(words, here.letters, label)
    if letters == NONE:
        return 1.0
    letters = find_child(words.letters, letters, label)
    if letters != NONE and words.letters[letters].word == NONE:
        return 1.0  # the character has more labels
    return np.exp(_word_gain(search, words, letters, here.history, context))


@compiled
def _word_gain(search: Search, words: Words, letters: int, history: int, context: Integers) -> Any:
    """Returns the nats that a prefix gains at the end of the word with this node."""
    if letters == NONE and words.space != NONE:
        return words.beta  # the letter that left the vocabulary has the other costs
    gain = words.beta + _log_factor(search, words, _known_word(words, letters), history, context)
    if letters == NONE or words.letters[letters].word == NONE:
        return gain - words.unknown_penalty
    return gain + words.letters[letters].boost


@compiled
def _log_factor(search: Search, words: Words, word: int, history: int, context: Integers) -> Any:
    """Returns the weighted natural log of a word's probability after a history, with boosts."""
    length = 0
    while length < words.order - 1 and history != NONE:
        context[length] = search.histories[history].word
        history = search.histories[history].earlier
        length += 1
    gain = words.alpha * log_probability(words.ngrams, word, context, length)
    if len(words.boosts):
        gain += words.boosts[word]
        for i in range(length):
            gain += words.boosts[context[i]]
    return gain


def finish(search: Search, words: Words) -> tuple[Integers, Integers, Doubles, Doubles]:
    """Returns the beam as if the utterance ended here; the search can continue.

    Returns:
        nodes: int32 [prefixes], without a space at their ends if words and the sentence's end are
            scored, and words are written in the alphabet.
        last: int32 [prefixes], the language model's number of the word without a space after it,
            the most probable one of its pronunciation, or NONE.
        scores: float64 [prefixes], natural log of probability times the language model's factor.
        gains: float64 [prefixes], natural log of that factor alone.
    """
    count = search.counts[BEAM]
    nodes, last = np.empty(count, np.int32), np.empty(count, np.int32)
    scores, gains = np.empty(count), np.empty(count)
    _finish(search, words, nodes, last, scores, gains, _room_for_context(words))
    return nodes, last, scores, gains


@compiled
def _finish(
    search: Search,
    words: Words,
    nodes: Integers,
    last: Integers,
    scores: Doubles,
    gains: Doubles,
    context: Integers,
) -> None:
    """Sets what `finish` returns."""
    for i in range(len(nodes)):
        node = search.beam[i].node
        nodes[i], last[i], gains[i] = node, NONE, search.tree[node].gain
        total = search.beam[i].blank + search.beam[i].spoken
        scores[i] = (np.log(total) if total > 0 else -np.inf) + search.log_scale[0]
        if words.known:
            letters = search.tree[node].letters
            gain = _last_gain(search, words, node, letters, context)
            if letters > ROOT and words.letters[letters].word != NONE:
                last[i] = words.letters[letters].word
                for variant in range(1, _variants(search, words, node, words.space)):
                    other = find_child(words.letters, letters, words.homophone + variant - 1)
                    other_gain = _last_gain(search, words, node, other, context)
                    if other_gain > gain:
                        gain, last[i] = other_gain, words.letters[other].word
            gains[i] += gain
            scores[i] += gain
            ends_word = node != ROOT and search.tree[node].label == words.space
            if words.end != NONE and ends_word and words.homophone == NO_HOMOPHONE:
                nodes[i] = search.tree[node].parent


@compiled
def _last_gain(search: Search, words: Words, node: int, letters: int, context: Integers) -> Any:
    """Returns the nats that a prefix gains at the end of the sentence.

    Args:
        letters: node of the current word in Words.letters.
    """
    history = search.tree[node].history
    gain = 0.0
    # The factor of a character outside the vocabulary is part of the prefix's gain already.
    if letters != ROOT and not (letters == NONE and words.space == NONE):
        gain = _word_gain(search, words, letters, history, context)
        # A temporary history, as if a word began here.
        new = search.counts[HISTORIES]
        search.histories[new].word = _known_word(words, letters)
        search.histories[new].earlier = history
        history = new
    if words.end == NONE:
        return gain
    return gain + _log_factor(search, words, words.end, history, context)


def compacted(search: Search, more: int) -> Search:
    """Returns a copy of the search without prefixes that the beam doesn't need.

    The copy has the prefixes in the beam, the held ones, and all that lead to them. Others are
    computed again, with the same values, if the search finds them again.

    Args:
        more: room for new prefixes, at least; as much as the copy's prefixes take if that is more,
            so that the work of copying doesn't grow with a search's length.
    """
    # New numbers; NONE: left out. Parents keep smaller numbers than their children.
    node_numbers = np.full(search.counts[NODES], NONE, np.int32)
    history_numbers = np.full(search.counts[HISTORIES], NONE, np.int32)
    _mark_needed(search, node_numbers, history_numbers)
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


@compiled
def _mark_needed(search: Search, node_numbers: Integers, history_numbers: Integers) -> None:
    """Marks the prefixes in the beam and the held ones, with all that lead to them."""
    for i in range(search.counts[HELD]):
        _mark(search, search.beam[i].node, node_numbers, history_numbers)


@compiled
def _mark(search: Search, node: int, node_numbers: Integers, history_numbers: Integers) -> None:
    """Marks a prefix, its ancestors and their histories by a 0."""
    while node != NONE and node_numbers[node] == NONE:
        node_numbers[node] = 0
        history = search.tree[node].history
        while history != NONE and history_numbers[history] == NONE:
            history_numbers[history] = 0
            history = search.histories[history].earlier
        node = search.tree[node].parent


def _number(marks: Integers) -> int:
    """Numbers the marked entries in their order; returns how many there are."""
    marked = np.flatnonzero(marks != NONE)
    marks[marked] = np.arange(len(marked))
    return len(marked)


@compiled
def _copy(search: Search, new: Search, node_numbers: Integers, history_numbers: Integers) -> None:
    """Copies numbered prefixes and histories to another search, and numbers its beam."""
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
            # Before the older children, as when it was made.
            node.sibling = new.tree[node.parent].first_child
            new.tree[node.parent].first_child = number
    for i in range(new.counts[HELD]):
        new.beam[i].node = node_numbers[new.beam[i].node]


def labels_of(search: Search, node: int) -> Integers:
    """Returns the labels of a prefix, int32 [labels]."""
    labels = np.empty(_length(search, node), np.int32)
    _set_labels(search, node, labels)
    return labels


def words_of(search: Search, node: int) -> Integers:
    """Returns the language model's numbers of a prefix's words that have ended, int32 [words]."""
    numbers = np.empty(_ended(search, node), np.int32)
    _set_words(search, node, numbers)
    return numbers


@compiled
def _ended(search: Search, node: int) -> int:
    """Returns the number of a prefix's words that have ended."""
    history, count = search.tree[node].history, 0
    while search.histories[history].earlier != NONE:
        history = search.histories[history].earlier
        count += 1
    return count


@compiled
def _set_words(search: Search, node: int, numbers: Integers) -> None:
    """Sets the numbers of a prefix's words that have ended."""
    history = search.tree[node].history
    for i in range(len(numbers) - 1, -1, -1):
        numbers[i] = search.histories[history].word
        history = search.histories[history].earlier


@compiled
def _length(search: Search, node: int) -> int:
    length = 0
    while node != ROOT:
        node = search.tree[node].parent
        length += 1
    return length


@compiled
def _set_labels(search: Search, node: int, labels: Integers) -> None:
    """Sets the labels of a prefix."""
    for i in range(len(labels) - 1, -1, -1):
        labels[i] = search.tree[node].label
        node = search.tree[node].parent


def no_words() -> Words:
    """Returns the data of a search without a language model."""
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
        homophone=NO_HOMOPHONE,
        homophones=0,
        alpha=0.0,
        beta=0.0,
        unknown_penalty=0.0,
        largest_boost=0.0,
        boosts=NO_BOOSTS,
    )


def read_only(array: Records) -> Records:
    """Returns the array as read-only, like a file's."""
    array.flags.writeable = False
    return array


NO_BOOSTS = read_only(np.zeros(0))
