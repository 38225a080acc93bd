"""Opening a model and its test sets."""

from pathlib import Path

import faked_tpu
import pytest
from tiny_shards import random_utterances, write_shards

from speech.engines.devices import TpuSettings
from speech.evaluation import recogniser
from speech.features.front_end import FrontEnd
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig
from utils import ENGLISH, UserError


def config_of(bins: int) -> ModelConfig:
    network = NetworkConfig.of(bins, ENGLISH.size)
    return ModelConfig(FrontEnd(mel_filters=bins), ENGLISH, network, TrainingConfig())


def test_set_of_the_model_s_front_end_is_found(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, random_utterances([30, 20], 4))
    assert recogniser.find_set(shards.pattern, config_of(4), "model") == shards


def test_set_of_another_front_end_is_refused(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, random_utterances([30], 4))
    told = "don't match the model in my-model: mel_filters 6 in the model, 4 in the shards"
    with pytest.raises(UserError, match=told):
        recogniser.find_set(shards.pattern, config_of(6), "my-model")


def test_tpu_of_several_hosts_is_refused() -> None:
    tpu = TpuSettings(use_tpu=True, name="local", zone=None, project=None, cores=32)
    told = "TPU local has 4 hosts.*leave out --use_tpu"
    with faked_tpu.topology(cores=32, hosts=4), pytest.raises(UserError, match=told):
        recogniser.on_device(None, config_of(4), "checkpoint", "model", 32, tpu)
