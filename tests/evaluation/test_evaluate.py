"""Evaluation of sets by a network that is made up, with a cache and without."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_shards import random_utterances, write_shards

from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings
from speech.evaluation import evaluate
from speech.evaluation.evaluate import Decoding, EvaluationSettings, decode_set, evaluate_sets
from speech.evaluation.network_output import NetworkOutput
from speech.shards.shard_set import ShardSet
from utils import ENGLISH, UserError

SETTINGS = BeamSettings(8)
DECODING = Decoding(SETTINGS, None, BeamSearchDecoder(ENGLISH, SETTINGS))


class Recogniser:
    """Knows its outputs, and counts how often it computes them."""

    step = 3

    def __init__(self, path: str, outputs: list[NetworkOutput] | None) -> None:
        self.path = path
        self.outputs = outputs  # None: it fails
        self.runs = 0

    def outputs_of(self, shards: ShardSet) -> list[NetworkOutput]:
        self.runs += 1
        if self.outputs is None:
            raise UserError("The network's output has NaN.")
        return self.outputs


def output_of(utterance_id: str, reference: str, path: str) -> NetworkOutput:
    """Its best path is `path`, one character an output, `_` for the blank."""
    classes = [ENGLISH.blank if c == "_" else ENGLISH.characters.index(c) for c in path]
    logits = 12.0 * np.eye(ENGLISH.size)[classes]  # [outputs, classes]
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return NetworkOutput(utterance_id, reference, log_probs.astype(np.float32), 1.5)


OUTPUTS = [output_of("1-1-1", "cab", "ca_b"), output_of("1-1-2", "a b", "a_ _a")]


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    return write_shards(tmp_path / "shards", random_utterances([20, 10], 4))


@pytest.fixture
def recogniser(tmp_path: Path) -> Recogniser:
    (tmp_path / "model.ckpt-3.index").write_bytes(b"weights")
    return Recogniser(str(tmp_path / "model.ckpt-3"), OUTPUTS)


def settings_of(report_dir: str, cache: str) -> EvaluationSettings:
    return EvaluationSettings(report_dir, cache, sweep=False, other=None, audio=None)


def test_results_are_the_beam_searchs_and_the_best_paths_in_the_sets_order() -> None:
    found, greedy = decode_set(OUTPUTS, DECODING.decoder)
    expected = [("1-1-1", "cab", "cab", 1.5), ("1-1-2", "a b", "a a", 1.5)]
    for results in (found, greedy):
        assert [
            (each.utterance_id, each.reference, each.hypothesis, each.loss) for each in results
        ] == expected


def test_a_cached_set_is_recognised_once_and_has_the_same_rates(
    tmp_path: Path, shards: ShardSet, recogniser: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []
    for folder in ("first", "second"):
        report = str(tmp_path / folder)
        sets = [evaluate.TestSet("tiny", shards, report)]
        evaluate_sets(sets, recogniser, DECODING, settings_of(report, str(tmp_path / "logits")))
        printed.append(capsys.readouterr().out.splitlines()[-1])
        summary = json.loads((tmp_path / folder / "summary.json").read_text())
        assert (summary["wer"], summary["checkpoint_step"]) == (1 / 3, 3)
    assert printed[0] == printed[1] == "WER 33.33% CER 16.67% loss 1.50 (2 utterances, 3 words)"
    assert recogniser.runs == 1 and len(os.listdir(tmp_path / "logits")) == 1


def test_without_a_cache_a_set_is_recognised_every_time(shards: ShardSet, recogniser: Any) -> None:
    for runs in (1, 2):
        sets = [evaluate.TestSet("tiny", shards, "")]
        evaluate_sets(sets, recogniser, DECODING, settings_of("", ""))
        assert recogniser.runs == runs


@pytest.mark.parametrize("folder", ["report", "logits"])
def test_folder_that_can_not_be_made_is_an_error_before_recognition(
    tmp_path: Path, shards: ShardSet, recogniser: Any, folder: str
) -> None:
    (tmp_path / "file").write_text("")
    report = f"{tmp_path}/file/report" if folder == "report" else ""
    cache = f"{tmp_path}/file/logits" if folder == "logits" else ""
    sets = [evaluate.TestSet("tiny", shards, report)]
    with pytest.raises(UserError, match=f"file/{folder} can't be made"):
        evaluate_sets(sets, recogniser, DECODING, settings_of(report, cache))
    assert recogniser.runs == 0


def test_failed_recognition_leaves_no_file_in_the_cache(
    tmp_path: Path, shards: ShardSet, recogniser: Any
) -> None:
    recogniser.outputs = None
    cache = tmp_path / "logits"
    sets = [evaluate.TestSet("tiny", shards, "")]
    with pytest.raises(UserError, match="has NaN"):
        evaluate_sets(sets, recogniser, DECODING, settings_of("", str(cache)))
    assert os.listdir(cache) == []
