"""Evaluations on the development set, by TPUEstimator on the CPU."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_training import engine_in, model_config, predictions, tiny_shards, train

from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings, greedy_decode
from speech.engines import checkpoints
from speech.engines.devices import ESTIMATOR
from speech.engines.engine import Engine
from speech.evaluation import results as report
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.parsing import transcripts
from speech.shards.shard_set import ShardSet
from speech.training.dev_evaluation import DevEvaluator, format_result
from speech.training.history import DevResult
from utils import ENGLISH

STEPS = 40


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return tiny_shards(tmp_path_factory.mktemp("shards"), [30, 40, 50, 33, 60])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet) -> tuple[Engine, str]:
    """An engine and its checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    return train(folder, shards, STEPS), checkpoints.find_checkpoint(str(folder), None)


def evaluator(shards: ShardSet, best_by: str = "wer", hosts: int = 1) -> DevEvaluator:
    return DevEvaluator(shards, Batching(2, False, hosts), model_config(), best_by)


def test_evaluation_agrees_with_decoding_every_utterance(
    trained: tuple[Engine, str], shards: ShardSet
) -> None:
    found = evaluator(shards).evaluate(*trained, STEPS, None, lambda: False)
    assert found and found.result.best and found.result.step == STEPS
    known = predictions(trained[0], Path(trained[1]).parent, shards)
    references = [text for _, text in transcripts(shards)]
    log_probs = [each["log_probs"][: each["output_length"]] for each in known]
    beams = BeamSearchDecoder(ENGLISH, BeamSettings(100)).decode_batch(log_probs)
    greedy = [greedy_decode(each, ENGLISH) for each in log_probs]
    losses = [float(each["ctc_loss"]) for each in known]
    for texts, wer, cer in (
        (greedy, found.result.wer, found.result.cer),
        (beams, found.result.beam_wer, found.result.beam_cer),
    ):
        results = [report.compare("", *pair, None) for pair in zip(references, texts, strict=True)]
        summary = report.summarise(results, results, 1, 1, 1)
        assert (wer, cer) == (summary.wer, summary.cer)
    assert found.result.loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert [(each.reference, each.greedy, each.beam) for each in found.samples] == list(
        zip(references, greedy, beams, strict=True)
    )
    assert found.samples[0].output_seconds == pytest.approx(0.02)


@pytest.mark.estimator
def test_evaluation_on_a_pod_has_the_loss_alone(
    trained: tuple[Engine, str], shards: ShardSet
) -> None:
    whole = evaluator(shards).evaluate(*trained, STEPS, None, lambda: False)
    # Two hosts only by name: the shards are read whole.
    pod = engine_in(Path(trained[1]).parent, kind=ESTIMATOR)
    alone = evaluator(shards, hosts=2).evaluate(pod, trained[1], STEPS, None, lambda: False)
    assert whole and alone and alone.samples == []
    assert alone.result == replace(
        whole.result, loss=alone.result.loss, wer=None, cer=None, beam_wer=None, beam_cer=None
    )
    assert alone.result.loss == pytest.approx(whole.result.loss, rel=1e-5)


def test_evaluation_ends_without_a_result_when_training_is_to_stop(
    trained: tuple[Engine, str], shards: ShardSet
) -> None:
    assert evaluator(shards).evaluate(*trained, STEPS, None, lambda: True) is None


@pytest.mark.parametrize(
    ("best_by", "worse", "better"),
    [
        ("wer", {"wer": -0.1, "loss": 0}, {"wer": 2.0, "loss": 0}),
        ("cer", {"cer": -0.1, "loss": 0}, {"cer": 2.0, "loss": 0}),
        ("loss", {"wer": 2.0, "loss": 0}, {"wer": -0.1, "loss": 999}),
    ],
)
def test_best_is_by_the_metric_that_was_chosen(
    trained: tuple[Engine, str],
    shards: ShardSet,
    best_by: str,
    worse: dict[str, Any],
    better: dict[str, Any],
) -> None:
    """worse, better: whether the new result is so, compared with the best one before."""
    result = DevResult(1, 50.0, 0.5, 0.5, None, None, best=True)
    for before, expected in ((replace(result, **worse), False), (replace(result, **better), True)):
        found = evaluator(shards, best_by).evaluate(*trained, STEPS, before, lambda: False)
        assert found and found.result.best == expected


def test_equal_rates_are_ranked_by_loss(trained: tuple[Engine, str], shards: ShardSet) -> None:
    found = evaluator(shards).evaluate(*trained, STEPS, None, lambda: False)
    assert found
    for loss, best in ((found.result.loss + 1, True), (found.result.loss - 1, False)):
        again = evaluator(shards).evaluate(
            *trained, STEPS, replace(found.result, loss=loss), lambda: False
        )
        assert again and again.result.best == best


def test_loss_that_is_no_number_is_never_the_best(
    trained: tuple[Engine, str], shards: ShardSet
) -> None:
    before = DevResult(1, float("nan"), None, None, None, None, best=True)
    found = evaluator(shards, "loss").evaluate(*trained, STEPS, before, lambda: False)
    assert found and found.result.best


def test_line_of_a_result() -> None:
    result = DevResult(30, 12.345, 0.5, 0.25, 0.4, 0.2, best=True)
    assert format_result(result, 20) == (
        "epoch 1.50  step 30  dev loss 12.35  WER 50.00%  CER 25.00%  by beam search, of a "
        "sample: WER 40.00%  CER 20.00%  the best so far"
    )
    alone = replace(result, wer=None, cer=None, beam_wer=None, beam_cer=None, best=False)
    assert format_result(alone, 20) == "epoch 1.50  step 30  dev loss 12.35"


def test_evaluation_writes_nothing_into_the_model_directory(
    trained: tuple[Engine, str], shards: ShardSet
) -> None:
    folder = Path(trained[1]).parent
    before = sorted(path.name for path in folder.iterdir())
    evaluator(shards).evaluate(*trained, STEPS, None, lambda: False)
    assert sorted(path.name for path in folder.iterdir()) == before
