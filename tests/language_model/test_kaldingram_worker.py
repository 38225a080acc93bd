"""The embedded estimator gives a language model that is whole."""

import io
from pathlib import Path

import pytest
from arpa_models import Model, read_model, sentences, sum_of_probabilities

from speech.language_model.kaldingram_worker import FALLBACK_DISCOUNT, estimate

UNPRUNED = (0, 0, 0)
HISTORIES = [[], ["<s>"], ["the"], ["the", "cat"], ["found", "his"], ["again", "again"]]


def words(number: int) -> list[str]:
    return [sentence.lower().rstrip(".!?") for sentence in sentences(number)]


def model(lines: list[str], prune: tuple[int, ...], vocabulary: set[str] | None = None) -> Model:
    written = io.StringIO()
    estimate(lines, len(prune), prune, vocabulary).print_as_arpa(written)
    return {
        ngram: (float(probability), float(backoff[0]) if backoff else 0.0)
        for probability, ngram, *backoff in (
            line.split("\t") for line in written.getvalue().splitlines() if "\t" in line
        )
    }


@pytest.mark.parametrize("prune", [UNPRUNED, (0, 0, 1), (0, 2, 3)])
def test_probabilities_add_up_to_one(prune: tuple[int, ...]) -> None:
    estimated = model(words(200), prune)
    for history in HISTORIES:
        assert sum_of_probabilities(estimated, history) == pytest.approx(1, abs=1e-5)


def test_pruning_drops_exactly_the_rare_n_grams() -> None:
    lines = words(60)
    runs = [
        run
        for line in lines
        for run in zip(*(["<s>", *line.split(), "</s>"][at:] for at in range(3)), strict=False)
    ]
    often = {" ".join(run) for run in runs if runs.count(run) > 2}
    triples = {ngram for ngram in model(lines, (0, 0, 2)) if ngram.count(" ") == 2}
    assert triples == often
    assert len(often) < len(set(runs))


def test_n_grams_seen_once_in_a_few_sentences_keep_a_probability() -> None:
    counts = estimate(["the cat sat", "a dog ran"], 3, UNPRUNED, None)
    assert counts.d[1:] == [FALLBACK_DISCOUNT, FALLBACK_DISCOUNT]
    estimated = model(["the cat sat", "a dog ran"], UNPRUNED)
    assert min(probability for ngram, (probability, _) in estimated.items() if ngram != "<s>") > -3


def test_words_outside_the_vocabulary_are_unknown() -> None:
    estimated = model(words(200), UNPRUNED, {"the", "cat", "saw"})
    assert {ngram for ngram in estimated if " " not in ngram} == {
        *("<s>", "</s>", "<unk>"),
        *("the", "cat", "saw"),
    }
    assert sum_of_probabilities(estimated, ["the"]) == pytest.approx(1, abs=1e-5)


def test_letters_of_any_script_are_kept(tmp_path: Path) -> None:
    from speech.language_model import kaldingram_worker

    (tmp_path / "text").write_text("так и есть\nnaïve œuvre 今天\n" * 3, encoding="utf-8")
    kaldingram_worker.main(str(tmp_path / "text"), str(tmp_path / "arpa"), "2", "0,0")
    assert {"так", "naïve", "œuvre", "今天", "так и"} <= read_model(tmp_path / "arpa").keys()
