"""Scorers of a handful of words, packed in milliseconds."""

from collections.abc import Mapping
from pathlib import Path

from arpa_models import write_lines

from speech.scorer import write_scorer
from utils import ENGLISH, Alphabet


def pack_unigrams(
    folder: Path,
    log_probs: Mapping[str, float],
    alphabet: Alphabet = ENGLISH,
    alpha: float = 1.0,
    beta: float = 0.0,
) -> str:
    """Path of a scorer that knows each word's probability alone; log_probs: to base 10."""
    lines = [f"{log_prob}\t{word}\t0" for word, log_prob in log_probs.items()]
    arpa = write_lines(
        folder / "lm.arpa",
        ["\\data\\", f"ngram 1={len(lines) + 3}", "", "\\1-grams:"]
        + ["-99\t<s>\t0", "-1\t</s>\t0", "-3\t<unk>\t0", *lines, "", "\\end\\"],
    )
    path = str(folder / "kenlm.scorer")
    write_scorer(path, arpa, list(log_probs), alphabet, alpha, beta, characters=False)
    return path
