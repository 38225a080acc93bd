"""Rates of whole sets against jiwer's, and the files of a report."""

import csv
import json
from pathlib import Path

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.evaluation.bootstrap import error_interval
from speech.evaluation.error_rates import character_errors, word_errors
from speech.evaluation.results import (
    SUMMARY_FILE,
    UTTERANCES_FILE,
    Result,
    Summary,
    compare,
    read_results,
    summarise,
    write,
)
from utils import UserError

# Few letters, so that words are often equal and often nearly so.
WORDS = st.text("ab'", min_size=1, max_size=3)
SENTENCES = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)
HYPOTHESES = st.lists(WORDS, max_size=8).map(" ".join)
SETS = st.lists(st.tuples(SENTENCES, HYPOTHESES), min_size=1, max_size=8)


def summary_of(pairs: list[tuple[str, str]], loss: float = 1.0) -> Summary:
    return summarise(results_of(pairs, loss), results_of(pairs, loss), 1.0, 10.0, 100)


def results_of(pairs: list[tuple[str, str]], loss: float = 1.0) -> list[Result]:
    return [compare(f"1-1-{i:04d}", *pair, loss) for i, pair in enumerate(pairs)]


# --- Rates ----------------------------------------------------------------------------------------


@given(SETS)
@settings(deadline=None)
def test_rates_of_a_set_are_jiwers(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = (list(texts) for texts in zip(*pairs, strict=True))
    summary = summary_of(pairs)
    assert summary.wer == pytest.approx(jiwer.wer(references, hypotheses))
    assert summary.cer == pytest.approx(jiwer.cer(references, hypotheses))
    words = jiwer.process_words(references, hypotheses)
    assert summary.substitutions == words.substitutions
    assert summary.deletions == words.deletions
    assert summary.insertions == words.insertions
    assert summary.words == sum(len(reference.split()) for reference in references)


@pytest.mark.parametrize(
    ("pairs", "wer"),
    [
        ([("", "")], 0.0),
        ([("", "a b c")], 1.0),
        ([("a b", "")], 1.0),
        ([("a", "b c d")], 3.0),
        ([("", "x"), ("a b c d", "a b c d")], 0.25),
        ([], 0.0),
    ],
)
def test_empty_texts_give_a_number(pairs: list[tuple[str, str]], wer: float) -> None:
    assert summary_of(pairs).wer == wer


def test_rates_are_of_the_set_and_no_mean_of_rates() -> None:
    summary = summary_of([("a", "b"), ("a b c d e f g h i", "a b c d e f g h i")])
    assert summary.wer == pytest.approx(0.1)  # the mean of 1 and 0 is 0.5
    assert summary.cer == pytest.approx(1 / 18)


def test_loss_is_the_mean_of_utterances_and_speed_is_per_second_of_audio() -> None:
    results = [compare("1", "a b c", "a", 3.0), compare("2", "a", "a", 1.0)]
    summary = summarise(results, results, seconds=5.0, audio_seconds=20.0, checkpoint_step=7)
    assert (summary.loss, summary.real_time_factor, summary.checkpoint_step) == (2.0, 0.25, 7)
    assert summarise([], [], 1.0, 0.0, 0).real_time_factor == 0


def test_utterance_without_loss_is_in_the_rates_and_not_in_the_mean() -> None:
    results = [compare("1", "a b", "a", 3.0), compare("2", "a b", "b", None)]
    summary = summarise(results, results, 1.0, 1.0, 1)
    assert (summary.loss, summary.wer, summary.utterances) == (3.0, 0.5, 2)
    assert summarise(results[1:], results[1:], 1.0, 1.0, 1).loss == 0


@given(SETS)
@settings(deadline=None)
def test_intervals_are_of_the_words_and_the_characters(pairs: list[tuple[str, str]]) -> None:
    summary = summary_of(pairs)
    words = [word_errors(*pair) for pair in pairs]
    characters = [character_errors(*pair) for pair in pairs]
    for found, errors in ((summary.wer_interval, words), (summary.cer_interval, characters)):
        totals, lengths = [each.total for each in errors], [each.length for each in errors]
        assert found == error_interval(totals, lengths)


def test_summary_has_the_mean_cosine_of_utterances() -> None:
    assert summary_of([("a b", "a b"), ("a b", "a c")]).word_count_cosine == pytest.approx(0.75)
    assert summary_of([]).word_count_cosine == 0


# --- The line and the files -----------------------------------------------------------------------


def test_the_line() -> None:
    rates = (0.0706, 0.025, 12.336, 2620, 52576, 1, 2, 3, 0.08, 0.03, 0.1, 100)
    summary = Summary(*rates, (0.0651, 0.0765), (0.02, 0.03004), 0.98)
    assert summary.line() == "WER 7.06% CER 2.50% loss 12.34 (2620 utterances, 52576 words)"
    assert summary.interval_line() == ("95% intervals: WER 6.51% to 7.65%, CER 2.00% to 3.00%")


def test_the_summary_has_these_keys_and_no_others(tmp_path: Path) -> None:
    results = results_of([("the cat sat", "the hat sat on")], loss=2.5)
    greedy = results_of([("the cat sat", "the hat sat off")], loss=2.5)
    summary = summarise(results, greedy, 1.0, 4.0, 1000, {"beam_width": 100, "scorer": None})
    write(str(tmp_path / "report"), summary, results)
    assert json.loads((tmp_path / "report" / SUMMARY_FILE).read_text()) == {
        "wer": 2 / 3,
        "cer": 4 / 11,
        "loss": 2.5,
        "utterances": 1,
        "words": 3,
        "substitutions": 1,
        "deletions": 0,
        "insertions": 1,
        "greedy_wer": 2 / 3,
        "greedy_cer": 5 / 11,
        "real_time_factor": 0.25,
        "checkpoint_step": 1000,
        "wer_interval": [2 / 3, 2 / 3],  # of one utterance, which has no spread
        "cer_interval": [4 / 11, 4 / 11],
        "word_count_cosine": pytest.approx(2 / (3 * 4) ** 0.5),
        "decoder": {"beam_width": 100, "scorer": None},
    }


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / UTTERANCES_FILE, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_the_worst_first_and_equals_by_id(tmp_path: Path) -> None:
    results = results_of([("a b", "a b"), ("a b", "a c"), ("a", "b"), ("a b", "a d")])
    write(str(tmp_path), summarise(results, results, 1, 1, 1), results)
    order = [(row["utterance_id"], row["wer"]) for row in rows(tmp_path)]
    assert order == [
        ("1-1-0002", "1.0000"),
        ("1-1-0001", "0.5000"),
        ("1-1-0003", "0.5000"),
        ("1-1-0000", "0.0000"),
    ]


def test_a_missing_loss_is_an_empty_field(tmp_path: Path) -> None:
    results = [compare("1", "a b", "a", None), compare("2", "a", "a", 0.0)]
    write(str(tmp_path), summarise(results, results, 1, 1, 1), results)
    assert [row["loss"] for row in rows(tmp_path)] == ["", "0.0000"]


def test_commas_quotes_and_any_letter_come_back_from_the_table(tmp_path: Path) -> None:
    pairs = [('he said, "no"', "he, said no"), ("ёж", ""), ("", '"')]
    results = results_of(pairs, loss=1.5)
    write(str(tmp_path), summarise(results, results, 1, 1, 1), results)
    found = {row["utterance_id"]: (row["reference"], row["hypothesis"]) for row in rows(tmp_path)}
    assert [found[result.utterance_id] for result in results] == pairs
    row = rows(tmp_path)[0]
    assert list(row) == [
        *("utterance_id", "wer", "cer", "loss", "words", "substitutions", "deletions"),
        *("insertions", "reference", "hypothesis"),
    ]
    assert row["loss"] == "1.5000"


# --- Reading back ---------------------------------------------------------------------------------


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """The folder of a report of three utterances."""
    pairs = [('he said, "no"', "he, said no"), ("ёж", ""), ("a b", "a b")]
    results = [*results_of(pairs), compare("1-1-0009", "a", "b", None)]
    write(str(tmp_path), summarise(results, results, 1, 1, 1), results)
    return tmp_path


@pytest.mark.parametrize("name", ["", "summary.json"])
def test_results_come_back_as_they_were(report: Path, name: str) -> None:
    found = {result.utterance_id: result for result in read_results(str(report / name))}
    pairs = [('he said, "no"', "he, said no"), ("ёж", ""), ("a b", "a b")]
    expected = [*results_of(pairs), compare("1-1-0009", "a", "b", None)]
    assert found == {result.utterance_id: result for result in expected}


def test_results_are_read_from_the_folder_one_is_in(
    report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(report)
    assert len(read_results("summary.json")) == 4


def test_report_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.*utterances\.csv doesn't exist.*--report_dir"):
        read_results(str(tmp_path / "nowhere" / "summary.json"))


@pytest.mark.parametrize(
    ("whole", "damaged", "message"),
    [
        ("0,0,0,a b,a b", "0,0,0,a b", "line 5, .* no hypothesis"),
        (",loss,", ",lost,", "line 2, .* no loss"),
        ("0.0000,0.0000,1.0000", "0.0000,0.0000,one", "line 5, .*'one'"),
    ],
)
def test_damaged_table_is_named_with_the_line(
    report: Path, whole: str, damaged: str, message: str
) -> None:
    table = report / UTTERANCES_FILE
    text = table.read_text()
    assert whole in text
    table.write_text(text.replace(whole, damaged))
    with pytest.raises(UserError, match=rf"utterances\.csv, {message}"):
        read_results(str(report))
