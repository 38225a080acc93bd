"""Generates text for language models, and reads models from ARPA files."""

import random
from pathlib import Path

import pytest

import constants
from speech.language_model import kenlm_programs

SUBJECTS = ["the cat", "a dog", "my sister", "the old man", "nobody", "the teacher"]
VERBS = ["saw", "liked", "painted", "forgot", "carried", "found"]
OBJECTS = ["the river", "a letter", "two apples", "his coat", "the moon", "an umbrella"]
TIMES = ["yesterday", "in the morning", "again", "last year", "before the rain came", "once"]

# n-gram -> base 10 logarithms of its probability and of its back-off weight.
Model = dict[str, tuple[float, float]]

needs_kenlm = pytest.mark.skipif(
    kenlm_programs.find(None, constants.KENLM_BINS) is None, reason="no lmplz: make kenlm"
)

# Environment in which a door finds no KenLM.
WITHOUT_KENLM = {"DEEP_SPEECH_KENLM_BINS": "/nowhere", "PATH": "/nowhere"}


def sentences(number: int, seed: int = 1) -> list[str]:
    """Returns `number` sentences of 5 to 10 words, with capitals and punctuation."""
    rng = random.Random(seed)
    parts = SUBJECTS, VERBS, OBJECTS, TIMES
    return [
        " ".join(rng.choice(part) for part in parts).capitalize() + rng.choice(".!?")
        for _ in range(number)
    ]


def write_lines(path: Path, lines: list[str]) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def read_model(arpa: Path) -> Model:
    found = {}
    for line in arpa.read_text(encoding="utf-8").splitlines():
        if "\t" in line:
            probability, ngram, *backoff = line.split("\t")
            found[ngram] = float(probability), float(backoff[0]) if backoff else 0.0
    return found


def probability(model: Model, words: list[str]) -> float:
    """Returns the probability of the last word after the others."""
    if (ngram := " ".join(words)) in model:
        return float(10 ** model[ngram][0])
    backoff = model.get(" ".join(words[:-1]), (0.0, 0.0))[1]
    return float(10**backoff) * probability(model, words[1:])


def sum_of_probabilities(model: Model, history: list[str]) -> float:
    """Returns the sum of the probabilities of all next words; it is 1 in a complete model."""
    following = [ngram for ngram in model if " " not in ngram and ngram != "<s>"]
    return sum(probability(model, [*history, word]) for word in following)
