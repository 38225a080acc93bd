"""The network's flags."""

from types import SimpleNamespace
from typing import Any

import pytest

import constants
from speech.features.front_end import FrontEnd
from speech.flags.network import NETWORK_FLAGS, network_from_flags
from speech.networks.config import NetworkConfig
from utils import ENGLISH, UserError


def config_of(front_end: FrontEnd, **given: Any) -> NetworkConfig:
    values = SimpleNamespace(**{**dict.fromkeys(NETWORK_FLAGS), **given})
    return network_from_flags(values).config(front_end, ENGLISH)


def test_flags_are_the_sizes_that_are_given() -> None:
    found = config_of(FrontEnd(), network="deep_speech_lstm", dense_unit_size=64, layer_norm=True)
    assert found == NetworkConfig.of(
        80, 29, "deep_speech_lstm", dense_unit_size=64, layer_norm=True
    )
    found = config_of(FrontEnd(mel_filters=13), network="conv_gru", conv_channels=["4", "5"])
    assert found == NetworkConfig.of(13, 29, "conv_gru", conv_channels=(4, 5))


@pytest.mark.parametrize("name", constants.NETWORK_SIZES)
def test_without_sizes_they_are_the_networks_own(name: str) -> None:
    assert config_of(FrontEnd(), network=name) == NetworkConfig.of(80, 29, name)


def test_channels_that_are_no_numbers_are_named() -> None:
    with pytest.raises(UserError, match="--conv_channels=32,many must be whole numbers"):
        config_of(FrontEnd(), network="conv_gru", conv_channels=["32", "many"])
