"""A recogniser opens its device, and its outputs are its own."""

import dataclasses
from pathlib import Path
from typing import Any

import faked_tpu
import numpy as np
import pytest
from tiny_shards import random_utterances, write_shards

from speech.engines.devices import TpuSettings
from speech.evaluation.recogniser import Recogniser, open_recogniser
from speech.features.front_end import FrontEnd
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.parsing import transcripts
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig
from utils import ENGLISH, UserError


def config_of(bins: int) -> ModelConfig:
    network = NetworkConfig.of(bins, ENGLISH.size)
    return ModelConfig(FrontEnd(mel_filters=bins), ENGLISH, network, TrainingConfig())


def test_tpu_of_several_hosts_is_refused() -> None:
    tpu = TpuSettings(use_tpu=True, name="local", zone=None, project=None, cores=32)
    message = "TPU local has 4 hosts.*leave out --use_tpu"
    with faked_tpu.topology(cores=32, hosts=4), pytest.raises(UserError, match=message):
        open_recogniser(None, config_of(4), "checkpoint", "model", 32, tpu)


class Reusing:
    """An engine whose batches use the same memory; log-probabilities are utterances' numbers."""

    def predict(self, *unused: Any, **unused_too: Any) -> Any:
        log_probs = np.empty([2, 9, 4], np.float32)  # [batch, outputs, classes]
        for numbers in ([0, 1], [2, 3]):
            log_probs[:] = np.array(numbers)[:, None, None]
            yield {
                "utterance_number": np.array(numbers, np.int32),
                "log_probs": log_probs,
                "output_length": np.array([4, 4]),
                "ctc_loss": np.ones(2),
                "aligned": np.ones(2),
            }


def test_outputs_of_a_set_are_no_views_into_batches(tmp_path: Path) -> None:
    """Batches may use their memory again, and a view would keep their padding."""

    shards = write_shards(tmp_path, random_utterances([30] * 4, 4))
    recogniser = Recogniser(config_of(4), Reusing(), "", "model", Batching(2, False))
    found = recogniser.outputs_of(shards)
    assert [each.log_probs[0, 0] for each in found] == [0, 1, 2, 3]
    assert all(each.log_probs.base is None for each in found)
    assert dataclasses.astuple(found[0])[:2] == ("utterance-0000", transcripts(shards)[0][1])
