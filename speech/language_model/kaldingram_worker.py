"""Estimates a small n-gram model with kaldingram. Runs by itself, so that its memory is given back.

  python kaldingram_worker.py TEXT MODEL.arpa ORDER 0,0,1,1,1 [VOCABULARY]

The last arguments are Estimation.prune, and a file of the words that the model may know.
"""

import gc
import os
import sys
from collections.abc import Collection, Iterable

os.environ["TQDM_DISABLE"] = "1"  # read when kaldingram imports tqdm

from kaldingram.train import NgramCounts

UNKNOWN = "<unk>"

# Kneser-Ney's discount, from how many n-grams occur once and twice, is that of a text in which many
# do both. Where hardly any does, as in a few sentences, it comes out as 1, which leaves what was
# seen once no probability, or 0, which leaves none for what wasn't. lmplz falls back to this one
# for what was seen once.
DISCOUNTS = (0.1, 0.95)
FALLBACK_DISCOUNT = 0.5


def estimate(
    lines: Iterable[str], order: int, prune: tuple[int, ...], vocabulary: Collection[str] | None
) -> NgramCounts:
    """Probabilities and back-off weights of the n-grams in sentences of tokens between spaces.

    Args:
        prune: an n-gram of order i + 1 that occurs no more than prune[i] times is left out.
        vocabulary: every other token is counted as UNKNOWN; None: there is no other.
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
        # A model has to give some probability to what it doesn't know: as if it had been seen once.
        counts.add_count((), UNKNOWN, UNKNOWN, 1)
    counts.cal_discounting_constants()
    # The first is of single words, from which nothing is taken.
    counts.d[1:] = [
        each if DISCOUNTS[0] <= each <= DISCOUNTS[1] else FALLBACK_DISCOUNT for each in counts.d[1:]
    ]
    counts.cal_f()
    _prune(counts, prune)
    counts.cal_bow()
    return counts


def _prune(counts: NgramCounts, prune: tuple[int, ...]) -> None:
    """Leaves n-grams out, as lmplz does: what probability they had goes to shorter ones.

    kaldingram's own way, before the discounts are found, leaves next to nothing for what wasn't
    seen, and a probability of 0 to pairs of words whose triples are all left out.
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
    gc.disable()  # millions of objects without a cycle
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
