"""A look at the development data, through a TPUEstimator on the CPU."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_training import model_config, predictions, tiny_shards, train

from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings, greedy_decode
from speech.engines import checkpoints
from speech.evaluation import results as report
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.parsing import transcripts
from speech.shards.shard_set import ShardSet
from speech.training.dev_evaluation import Looker, told
from speech.training.history import Look
from utils import ENGLISH

STEPS = 40


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return tiny_shards(tmp_path_factory.mktemp("shards"), [30, 40, 50, 33, 60])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet) -> tuple[Any, str]:
    """An estimator and its checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    estimator = train(folder, shards, STEPS)
    return estimator, checkpoints.find_checkpoint(str(folder), None)


def looker(shards: ShardSet, best_by: str = "wer", hosts: int = 1) -> Looker:
    return Looker(shards, Batching(2, False, hosts), model_config(), best_by)


def test_look_is_what_decoding_every_utterance_gives(
    trained: tuple[Any, str], shards: ShardSet
) -> None:
    seen = looker(shards).look(*trained, STEPS, None, lambda: False)
    assert seen and seen.look.best and seen.look.step == STEPS
    known = predictions(trained[0], shards)
    references = [text for _, text in transcripts(shards)]
    log_probs = [each["log_probs"][: each["output_length"]] for each in known]
    beams = BeamSearchDecoder(ENGLISH, BeamSettings(100)).decode_batch(log_probs)
    greedy = [greedy_decode(each, ENGLISH) for each in log_probs]
    losses = [float(each["ctc_loss"]) for each in known]
    for texts, wer, cer in (
        (greedy, seen.look.wer, seen.look.cer),
        (beams, seen.look.beam_wer, seen.look.beam_cer),
    ):
        results = [report.compare("", *pair, None) for pair in zip(references, texts, strict=True)]
        summary = report.summarise(results, results, 1, 1, 1)
        assert (wer, cer) == (summary.wer, summary.cer)
    assert seen.look.loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert [(each.reference, each.greedy, each.beam) for each in seen.samples] == list(
        zip(references, greedy, beams, strict=True)
    )
    assert seen.samples[0].output_seconds == pytest.approx(0.02)


def test_look_of_a_pod_has_the_loss_alone(trained: tuple[Any, str], shards: ShardSet) -> None:
    whole = looker(shards).look(*trained, STEPS, None, lambda: False)
    # Two hosts only by name: the shards are read whole.
    alone = looker(shards, hosts=2).look(*trained, STEPS, None, lambda: False)
    assert whole and alone and alone.samples == []
    assert alone.look == replace(
        whole.look, loss=alone.look.loss, wer=None, cer=None, beam_wer=None, beam_cer=None
    )
    assert alone.look.loss == pytest.approx(whole.look.loss, rel=1e-5)


def test_look_is_given_up_when_training_is_to_stop(
    trained: tuple[Any, str], shards: ShardSet
) -> None:
    assert looker(shards).look(*trained, STEPS, None, lambda: True) is None


@pytest.mark.parametrize(
    ("best_by", "worse", "better"),
    [
        ("wer", {"wer": -0.1, "loss": 0}, {"wer": 2.0, "loss": 0}),
        ("cer", {"cer": -0.1, "loss": 0}, {"cer": 2.0, "loss": 0}),
        ("loss", {"wer": 2.0, "loss": 0}, {"wer": -0.1, "loss": 999}),
    ],
)
def test_best_is_by_what_is_asked_for(
    trained: tuple[Any, str],
    shards: ShardSet,
    best_by: str,
    worse: dict[str, Any],
    better: dict[str, Any],
) -> None:
    """worse, better: whether the look now is so, beside the best one before."""
    look = Look(1, 50.0, 0.5, 0.5, None, None, best=True)
    for before, expected in ((replace(look, **worse), False), (replace(look, **better), True)):
        seen = looker(shards, best_by).look(*trained, STEPS, before, lambda: False)
        assert seen and seen.look.best == expected


def test_equal_rates_are_told_apart_by_loss(trained: tuple[Any, str], shards: ShardSet) -> None:
    seen = looker(shards).look(*trained, STEPS, None, lambda: False)
    assert seen
    for loss, best in ((seen.look.loss + 1, True), (seen.look.loss - 1, False)):
        again = looker(shards).look(*trained, STEPS, replace(seen.look, loss=loss), lambda: False)
        assert again and again.look.best == best


def test_loss_that_is_no_number_is_never_the_best(
    trained: tuple[Any, str], shards: ShardSet
) -> None:
    before = Look(1, float("nan"), None, None, None, None, best=True)
    seen = looker(shards, "loss").look(*trained, STEPS, before, lambda: False)
    assert seen and seen.look.best


def test_line_of_a_look() -> None:
    look = Look(30, 12.345, 0.5, 0.25, 0.4, 0.2, best=True)
    assert told(look, 20) == (
        "epoch 1.50  step 30  dev loss 12.35  WER 50.00%  CER 25.00%  by beam search, of a "
        "sample: WER 40.00%  CER 20.00%  the best so far"
    )
    alone = replace(look, wer=None, cer=None, beam_wer=None, beam_cer=None, best=False)
    assert told(alone, 20) == "epoch 1.50  step 30  dev loss 12.35"


def test_model_dir_of_a_look_is_untouched(trained: tuple[Any, str], shards: ShardSet) -> None:
    folder = Path(trained[1]).parent
    before = sorted(path.name for path in folder.iterdir())
    looker(shards).look(*trained, STEPS, None, lambda: False)
    assert sorted(path.name for path in folder.iterdir()) == before
