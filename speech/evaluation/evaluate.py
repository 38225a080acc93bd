"""Evaluates a model on test sets: recognises them, prints their rates, writes reports."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from speech.corpora.recordings import Audio
from speech.decoding.beam_search import (
    BeamSearchDecoder,
    BeamSettings,
    describe_settings,
    greedy_decode,
    used_weights,
)
from speech.decoding.scorer import Scorer
from speech.evaluation import comparison, logits_cache, report_page, results, sweeps
from speech.evaluation.network_output import NetworkOutput
from speech.evaluation.recogniser import Recogniser
from speech.evaluation.recognition import find_set
from speech.evaluation.results import Result, Summary
from speech.evaluation.sweeps import BeamPoint, WeightPoint
from speech.networks.config import ModelConfig
from speech.shards.shard_set import ShardSet
from speech.system import storage
from speech.system.progress_bar import progress_bar
from utils import UserError


@dataclass(frozen=True)
class Decoding:
    """The beam search, with its settings."""

    settings: BeamSettings
    scorer: Scorer | None
    decoder: BeamSearchDecoder

    @property
    def weights(self) -> tuple[float, float] | None:
        """The alpha and beta that the search uses; None without a scorer."""
        return used_weights(self.settings, self.scorer) if self.scorer else None


@dataclass(frozen=True)
class TestSet:
    """A set to recognise, and the folder of its report."""

    name: str
    shards: ShardSet
    report_dir: str  # empty: no report


@dataclass(frozen=True)
class OtherRun:
    """Another evaluation of the same set, to compare with."""

    path: str  # of its summary.json or its folder
    results: Sequence[Result]


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of an evaluation besides its sets, network and decoder."""

    report_dir: str  # of all sets; empty: no reports
    logits_cache: str  # folder of the network's outputs; empty: they aren't kept
    sweep: bool  # also decode with other settings
    other: OtherRun | None  # None: no comparison
    audio: Audio | None  # recordings for the report; None: no players


def find_test_sets(
    patterns: Sequence[str], config: ModelConfig, model_dir: str, report_dir: str
) -> list[TestSet]:
    """Finds the sets of several patterns, in their order.

    Args:
        report_dir: each of several sets gets a folder of its name in it; empty: no reports.

    Raises:
        UserError: a set has no shards, isn't of the model, or has another's name.
    """
    if not patterns:
        raise UserError("--test_data is empty: name the shards to evaluate with, a glob.")
    sets: list[TestSet] = []
    for pattern in patterns:
        shards = find_set(pattern, config, model_dir)
        name = shards.name
        if name in (each.name for each in sets):
            raise UserError(f"--test_data has two sets {name}: evaluate them one after the other.")
        folder = report_dir
        if folder and len(patterns) > 1:
            folder = storage.join(folder, name)
        sets.append(TestSet(name, shards, folder))
    return sets


def evaluate_sets(
    test_sets: Sequence[TestSet],
    recogniser: Recogniser,
    decoding: Decoding,
    settings: EvaluationSettings,
) -> None:
    """Evaluates sets one after another; reports of several sets get an index.

    Raises:
        UserError: see `evaluate`.
    """
    # A folder that can't be written is an error now, not after minutes of recognition.
    for folder in (*(each.report_dir for each in test_sets), settings.logits_cache):
        if folder:
            storage.make_folder(folder)
    summaries = []
    for test_set in test_sets:
        if len(test_sets) > 1:
            print(f"{test_set.name}:")
        summaries.append(evaluate(test_set, recogniser, decoding, settings))
    if settings.report_dir and len(test_sets) > 1:
        links = [
            (each.name, f"{each.name}/{report_page.REPORT_FILE}", summary)
            for each, summary in zip(test_sets, summaries, strict=True)
        ]
        print(f"All sets: {report_page.write_index(settings.report_dir, links)}")


def evaluate(
    test_set: TestSet,
    recogniser: Recogniser,
    decoding: Decoding,
    settings: EvaluationSettings,
) -> Summary:
    """Recognises a set, prints its rates and writes its report.

    Raises:
        UserError: a file can't be read or written, the network's output is broken, or the other
            run is of another set.
    """
    shards = test_set.shards
    started = time.monotonic()
    outputs = logits_cache.read(settings.logits_cache, recogniser.path, shards)
    if outputs is None:
        outputs = recogniser.outputs_of(shards)
        logits_cache.write(settings.logits_cache, recogniser.path, shards, outputs)
    found, greedy = decode_set(outputs, decoding.decoder)
    summary = results.summarise(
        found,
        greedy,
        time.monotonic() - started,
        shards.index.audio_seconds,
        recogniser.step,
        describe_settings(decoding.settings, decoding.scorer),
    )
    other = settings.other
    against = comparison.compare_runs(found, other.results, other.path) if other else None
    points = sweep(outputs, decoding) if settings.sweep else ([], [])
    if test_set.report_dir:
        page = report_page.Page(
            test_set.name, summary, found, settings.audio, *points, decoding.weights, against
        )
        _write_report(test_set.report_dir, page)
    print(f"Greedily: WER {summary.greedy_wer:.2%} CER {summary.greedy_cer:.2%}")
    if against:
        print(against.line())
    print(summary.interval_line())
    print(summary.line())
    return summary


def decode_set(
    outputs: Sequence[NetworkOutput], decoder: BeamSearchDecoder
) -> tuple[list[Result], list[Result]]:
    """Returns the results of the beam search, and those of the best path, in the set's order."""
    found, greedy = [], []
    hypotheses = decoder.decode_batch(each.log_probs for each in outputs)
    for each, hypothesis in zip(outputs, hypotheses, strict=True):
        known = each.utterance_id, each.reference
        best_path = greedy_decode(each.log_probs, decoder.alphabet)
        found.append(results.compare(*known, hypothesis, each.loss))
        greedy.append(results.compare(*known, best_path, each.loss))
    return found, greedy


def sweep(
    outputs: Sequence[NetworkOutput], decoding: Decoding
) -> tuple[list[BeamPoint], list[WeightPoint]]:
    """Computes the WER over beam widths, and with a scorer over its weights."""
    alphabet, settings, scorer = decoding.decoder.alphabet, decoding.settings, decoding.scorer
    total = len({*sweeps.BEAM_WIDTHS, settings.beam_width})
    total += len(sweeps.ALPHAS) * len(sweeps.BETAS) if scorer else 0
    with progress_bar(total, " settings") as bar:
        beams = sweeps.beam_points(outputs, alphabet, settings, scorer, bar.update)
        if not scorer:
            return beams, []
        return beams, sweeps.weight_points(outputs, alphabet, settings, scorer, bar.update)


def _write_report(folder: str, page: report_page.Page) -> None:
    results.write(folder, page.summary, page.results)
    print(f"Every utterance: {folder}/{results.UTTERANCES_FILE}")
    print(f"The report: {report_page.write(folder, page)}")
