"""Makes a scorer of a few words, with given probabilities."""

import math
from collections.abc import Mapping
from pathlib import Path

from speech.decoding.scorer import write_scorer
from utils import ENGLISH, Alphabet

# Natural logs of the words' probabilities.
CAT_AND_BAT = {"cat": -0.5, "bat": -2.5}


def write_tiny_scorer(
    path: Path,
    words: Mapping[str, float] | None = None,
    alpha: float = 0.0,
    beta: float = 0.0,
    alphabet: Alphabet = ENGLISH,
    characters: bool = False,
) -> str:
    """Writes a unigram model; words: natural logs of their probabilities."""
    words = words or CAT_AND_BAT
    unigrams = {"<s>": -99.0, "</s>": -1.0, "<unk>": -9.0, **words}
    lines = [f"{each / math.log(10):.6f}\t{word}" for word, each in unigrams.items()]
    arpa = path.with_suffix(".arpa")
    arpa.write_text(
        "\n".join(["\\data\\", f"ngram 1={len(lines)}", "", "\\1-grams:", *lines, "\\end\\", ""])
    )
    write_scorer(str(path), str(arpa), list(words), alphabet, alpha, beta, characters)
    return str(path)
