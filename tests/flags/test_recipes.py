"""Recipes: defaults of several flags at once."""

from absl import flags
from doors import parse_flags

from speech.features.front_end import deepspeech
from speech.flags.preparation import (
    define_front_end_flags,
    define_shard_flags,
    front_end_from_flags,
    shard_settings_from_flags,
)
from speech.flags.recipes import apply_recipe, define_recipe_flag
from speech.flags.training import define_training_flags, training_from_flags
from speech.networks.config import TrainingConfig
from speech.training.settings import TrainingSettings
from utils import ENGLISH


def preparation(*given: str) -> flags.FlagValues:
    def define() -> None:
        define_shard_flags()
        define_front_end_flags()
        define_recipe_flag()

    values = parse_flags(define, *given)
    apply_recipe(values)
    return values


def training(*given: str) -> TrainingSettings:
    def define() -> None:
        define_training_flags()
        define_recipe_flag()

    values = parse_flags(define, *given)
    apply_recipe(values)
    return training_from_flags(values)


def test_deepspeech_prepares_its_features_for_an_output_each_frame() -> None:
    settings = shard_settings_from_flags(preparation("--recipe=DeepSpeech"), ENGLISH, False)
    assert (settings.front_end, settings.stride) == (deepspeech(), 1)


def test_deepspeech_trains_as_its_flags_default() -> None:
    found = training("--recipe=deepspeech", "--train_batch_size=16")
    assert found.network.name == "deep_speech_lstm"
    assert found.network.config(deepspeech(), ENGLISH).layer_norm_epsilon == 1e-12
    assert found.optimisation == TrainingConfig(
        train_batch_size=16,
        learning_rate=1e-3,
        learning_rate_schedule="constant",
        clip_gradients=0.0,
        dropout=0.05,
    )


def test_given_flags_replace_those_of_a_recipe() -> None:
    values = preparation("--recipe=deepspeech", "--features=mfcc", "--stride_size=3")
    assert front_end_from_flags(values).features == "mfcc"
    assert shard_settings_from_flags(values, ENGLISH, False).stride == 3
    assert training("--recipe=deepspeech", "--dropout=0.3").optimisation.dropout == 0.3


def test_another_network_gets_no_sizes_of_the_recipes() -> None:
    found = training("--recipe=deepspeech", "--network=conv_gru")
    assert found.network.config(deepspeech(), ENGLISH).name == "conv_gru"


def test_without_a_recipe_nothing_changes() -> None:
    assert training().optimisation == TrainingConfig()
    assert shard_settings_from_flags(preparation(), ENGLISH, False).stride == 2
