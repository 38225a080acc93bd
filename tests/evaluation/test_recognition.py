"""A model opens its test sets, and every utterance gets its own output."""

import dataclasses
from itertools import chain
from pathlib import Path
from typing import Any

import faked_tpu
import numpy as np
import pytest
from tiny_shards import random_utterances, write_shards

from speech.engines.tpu_estimator import TpuSettings
from speech.evaluation import recognition
from speech.evaluation.recognition import Recogniser, recognise
from speech.features.front_end import FrontEnd
from speech.input_pipeline.training_input import Batching, transcripts
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig
from utils import ENGLISH, UserError

SIZES = [2, 2, 1]  # of the batches


# --- Opening --------------------------------------------------------------------------------------


def config_of(bins: int) -> ModelConfig:
    network = NetworkConfig(bins, ENGLISH.size)
    return ModelConfig(FrontEnd(mel_filters=bins), ENGLISH, network, TrainingConfig())


def test_set_of_the_model_s_front_end_is_found(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, random_utterances([30, 20], 4))
    assert recognition.find_set(shards.pattern, config_of(4), "model") == shards


def test_set_of_another_front_end_is_refused(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, random_utterances([30], 4))
    message = "don't match the model in my-model: mel_filters 6 in the model, 4 in the shards"
    with pytest.raises(UserError, match=message):
        recognition.find_set(shards.pattern, config_of(6), "my-model")


def test_tpu_of_several_hosts_is_refused() -> None:
    tpu = TpuSettings(use_tpu=True, name="local", zone=None, project=None, cores=32)
    message = "TPU local has 4 hosts.*leave out --use_tpu"
    with faked_tpu.topology(cores=32, hosts=4), pytest.raises(UserError, match=message):
        recognition.on_device(None, config_of(4), "checkpoint", "model", 32, tpu)


# --- Outputs --------------------------------------------------------------------------------------


class Predictor:
    """An estimator whose log-probabilities and losses are an utterance's number."""

    def __init__(self, batches: int, filling: int = 0) -> None:
        self.batches = batches
        self.filling = filling  # rows after the last utterance, as on a TPU

    def predict(self, *unused: Any, **unused_too: Any) -> Any:
        number = 0
        for size in SIZES[: self.batches]:
            rows = np.arange(number, number + size + (self.filling if size == 1 else 0))
            number += size
            yield {
                "log_probs": np.full([len(rows), 9, 4], rows[:, None, None], np.float32),
                "output_length": rows + 1,
                "ctc_loss": 10.0 * rows,
                "aligned": (rows != 3).astype(np.float32),
            }


@pytest.mark.parametrize("filling", [0, 1])
def test_every_utterance_has_its_own_output(tmp_path: Path, filling: int) -> None:
    shards = write_shards(tmp_path, random_utterances([30] * 5, 4))
    references = transcripts(shards)
    batches = list(
        recognise(Predictor(3, filling), "", shards, Batching(2, filling > 0), references)
    )
    assert [len(batch) for batch in batches] == SIZES
    for number, each in enumerate(chain(*batches)):
        assert (each.utterance_id, each.reference) == references[number]
        assert each.log_probs.shape == (number + 1, 4) and (each.log_probs == number).all()
        assert each.loss == (None if number == 3 else 10.0 * number)


def test_lost_utterance_is_an_error(tmp_path: Path) -> None:
    """Batches end too early, which no TPUEstimator should do."""
    shards = write_shards(tmp_path, random_utterances([30] * 5, 4))
    with pytest.raises(AssertionError, match="an utterance was lost"):
        list(recognise(Predictor(2), "", shards, Batching(2, False), transcripts(shards)))


def test_nan_in_an_output_names_the_utterance(tmp_path: Path) -> None:
    class Broken(Predictor):
        def predict(self, *unused: Any, **unused_too: Any) -> Any:
            for number, batch in enumerate(super().predict()):
                if number == 1:
                    batch["log_probs"][1, 0] = np.nan
                yield batch

    shards = write_shards(tmp_path, random_utterances([30] * 5, 4))
    with pytest.raises(UserError, match="utterance-0003") as error:
        list(recognise(Broken(3), "", shards, Batching(2, False), transcripts(shards)))
    assert shards.pattern in str(error.value)


def test_outputs_of_a_set_are_no_views_into_batches(tmp_path: Path) -> None:
    """Batches may use their memory again, and a view would keep their padding."""

    class Reusing(Predictor):
        def predict(self, *unused: Any, **unused_too: Any) -> Any:
            log_probs = np.empty([2, 9, 4], np.float32)
            for batch in super().predict():
                size = len(batch["log_probs"])
                log_probs[:size] = batch["log_probs"]
                yield {**batch, "log_probs": log_probs[:size]}

    shards = write_shards(tmp_path, random_utterances([30] * 5, 4))
    recogniser = Recogniser(config_of(4), Reusing(3), "", "model", Batching(2, False))
    found = recogniser.outputs_of(shards)
    assert [each.log_probs[0, 0] for each in found] == [0, 1, 2, 3, 4]
    assert all(each.log_probs.base is None for each in found)
    assert dataclasses.astuple(found[0])[:2] == ("utterance-0000", transcripts(shards)[0][1])
