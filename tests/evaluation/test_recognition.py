"""A model opens its test sets, and every utterance gets its own output."""

import dataclasses
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import faked_tpu
import numpy as np
import pytest
from tiny_shards import random_utterances, write_shards

import model
from speech.engines.devices import ESTIMATOR, DeviceSettings
from speech.engines.engine import RunSettings
from speech.evaluation import recognition
from speech.evaluation.recogniser import CheckpointRecogniser, on_device
from speech.evaluation.recognition import recognise
from speech.features.front_end import FrontEnd
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.evaluation_input import FILLING
from speech.input_pipeline.parsing import transcripts
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig
from utils import ENGLISH, UserError

SIZES = [2, 2, 1]  # of the batches
ORDER = [0, 1, 2, 3, 4]  # of the utterances


# --- Opening --------------------------------------------------------------------------------------


def config_of(bins: int) -> ModelConfig:
    network = NetworkConfig.of(bins, ENGLISH.size)
    return ModelConfig(FrontEnd(mel_filters=bins), ENGLISH, network, TrainingConfig())


def test_set_of_the_model_s_front_end_is_found(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, random_utterances([30, 20], 4))
    assert recognition.find_set(shards.pattern, config_of(4), "model") == shards


def test_set_of_another_front_end_is_refused(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, random_utterances([30], 4))
    message = "don't match the model in my-model: mel_filters 6 in the model, 4 in the shards"
    with pytest.raises(UserError, match=message):
        recognition.find_set(shards.pattern, config_of(6), "my-model")


@pytest.mark.estimator
def test_tpu_of_several_hosts_is_refused() -> None:
    tpu = DeviceSettings(faked_tpu.settings(cores=32), ESTIMATOR)
    message = "TPU local has 4 hosts.*leave out --use_tpu"
    with faked_tpu.topology(cores=32, hosts=4), pytest.raises(UserError, match=message):
        on_device(tpu, config_of(4), "checkpoint", RunSettings("model", 32), model.model_fn_builder)


# --- Outputs --------------------------------------------------------------------------------------


class Predictor:
    """An estimator whose log-probabilities and losses are an utterance's number."""

    def __init__(self, batches: int = 3, filling: int = 0, order: Sequence[int] = ORDER) -> None:
        self.batches = batches
        self.filling = filling  # rows after the last utterance, as on a TPU
        self.order = order

    def predict(self, *unused: Any, **unused_too: Any) -> Any:
        numbers = np.split(np.array(self.order), np.cumsum(SIZES)[:-1])
        for number, rows in enumerate(numbers[: self.batches]):
            if number == len(SIZES) - 1:
                rows = np.array([*rows, *[FILLING] * self.filling])
            yield {
                "utterance_number": rows.astype(np.int32),
                "log_probs": np.full([len(rows), 9, 4], rows[:, None, None], np.float32),
                "output_length": rows + 1,
                "ctc_loss": 10.0 * rows,
                "aligned": (rows != 3).astype(np.float32),
            }


@pytest.mark.parametrize("filling", [0, 1])
@pytest.mark.parametrize("order", [ORDER, [3, 1, 4, 0, 2]])
def test_every_utterance_has_its_own_output(tmp_path: Path, filling: int, order: list[int]) -> None:
    """Also if the device returns the utterances in another order."""
    shards = write_shards(tmp_path, random_utterances([30] * 5, 4))
    references = transcripts(shards)
    predictor = Predictor(3, filling, order)
    batches = list(recognise(predictor, "", shards, Batching(2, filling > 0), references))
    assert [len(batch) for batch in batches] == SIZES
    for number, each in zip(order, chain(*batches), strict=True):
        assert (each.utterance_id, each.reference) == references[number]
        assert each.log_probs.shape == (number + 1, 4) and (each.log_probs == number).all()
        assert each.loss == (None if number == 3 else 10.0 * number)


@pytest.mark.parametrize(
    "predictor",
    [
        Predictor(batches=2),
        Predictor(order=[0, 1, 2, 3, 3]),
        Predictor(order=[0, 1, 2, 3, FILLING]),
    ],
)
def test_missing_or_double_utterance_is_an_error(tmp_path: Path, predictor: Predictor) -> None:
    """No TPUEstimator should return such batches."""
    shards = write_shards(tmp_path, random_utterances([30] * 5, 4))
    with pytest.raises(AssertionError, match=r"an utterance is missing .*, or came twice"):
        list(recognise(predictor, "", shards, Batching(2, False), transcripts(shards)))


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
    recogniser = CheckpointRecogniser(config_of(4), Reusing(3), "", "model", Batching(2, False))
    found = recogniser.outputs_of(shards)
    assert [each.log_probs[0, 0] for each in found] == [0, 1, 2, 3, 4]
    assert all(each.log_probs.base is None for each in found)
    assert dataclasses.astuple(found[0])[:2] == ("utterance-0000", transcripts(shards)[0][1])
