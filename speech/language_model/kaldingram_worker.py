"""Estimates a small n-gram model with kaldingram, as a separate process that frees its memory.

  python kaldingram_worker.py TEXT MODEL.arpa ORDER 0,0,1,1,1 [VOCABULARY]

The last arguments are Estimation.prune, and a file with the vocabulary.
"""

import gc
import os
import sys
from collections.abc import Collection, Iterable

os.environ["TQDM_DISABLE"] = "1"  # read when kaldingram imports tqdm

from kaldingram.train import NgramCounts

UNKNOWN = "<unk>"

# The Kneser-Ney discount is estimated from the numbers of n-grams that occur once and twice. In a
# few sentences it may become 1, which leaves no probability to n-grams that occur once, or 0, which
# leaves none to unseen ones. The fallback is the one of lmplz for n-grams that occur once.
DISCOUNTS = (0.1, 0.95)
FALLBACK_DISCOUNT = 0.5


def estimate(
    lines: Iterable[str], order: int, prune: tuple[int, ...], vocabulary: Collection[str] | None
) -> NgramCounts:
    """Estimates probabilities and back-off weights of n-grams.

    Args:
        lines: sentences of tokens, separated by spaces.
        prune: an n-gram of order i + 1 that occurs at most prune[i] times is left out.
        vocabulary: other tokens count as UNKNOWN; None: all tokens are in the vocabulary.
    """
    counts = NgramCounts(order)
    unknown = False
    for line in lines:
        words = line.split()
        if vocabulary is not None:
            words = [word if word in vocabulary else UNKNOWN for word in words]
            unknown = unknown or UNKNOWN in words
        counts.add_raw_counts_from_line(" ".join(words))
    if not unknown:
        # Unknown words need some probability: they count as seen once.
        counts.add_count((), UNKNOWN, UNKNOWN, 1)
    counts.cal_discounting_constants()
    # The first discount, of single words, isn't used.
    counts.d[1:] = [
        each if DISCOUNTS[0] <= each <= DISCOUNTS[1] else FALLBACK_DISCOUNT for each in counts.d[1:]
    ]
    counts.cal_f()
    _prune(counts, prune)
    counts.cal_bow()
    return counts


def _prune(counts: NgramCounts, prune: tuple[int, ...]) -> None:
    """Drops n-grams as lmplz does: their probability goes to shorter ones.

    kaldingram's own pruning precedes the estimation of the discounts. It leaves hardly any
    probability to unseen n-grams, and 0 to pairs of words whose triples are all dropped.
    """
    for at, histories in enumerate(counts.counts):
        for history, following in list(histories.items()):
            rare = [
                word
                for word, count in following.word_to_count.items()
                if count <= prune[at] and word != UNKNOWN
            ]
            for word in rare:
                del following.word_to_count[word], following.word_to_f[word]
            if not following.word_to_count:
                del histories[history]


def main(text: str, arpa: str, order: str, prune: str, vocabulary: str | None = None) -> None:
    gc.disable()  # millions of objects without reference cycles
    allowed = None
    if vocabulary is not None:
        with open(vocabulary, encoding="utf-8") as file:
            allowed = frozenset(file.read().split())
    with open(text, encoding="utf-8") as lines:
        counts = estimate(lines, int(order), tuple(map(int, prune.split(","))), allowed)
    with open(arpa, "w", encoding="utf-8") as file:
        counts.print_as_arpa(file)


if __name__ == "__main__":
    main(*sys.argv[1:])
