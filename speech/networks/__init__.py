"""The acoustic models by name.

A network is a tf.Module, so that the same object serves training, evaluation and export.
"""

import constants
from speech.config import NetworkConfig
from speech.networks.deep_speech_1 import DeepSpeech1
from speech.networks.layers import Network

NETWORKS: dict[str, type[Network]] = {"deep_speech_1": DeepSpeech1}


def build(
    config: NetworkConfig, random_seed: int = constants.RANDOM_SEED, on_tpu: bool = False
) -> Network:
    """The network of a configuration, with first values drawn from the random seed."""
    return NETWORKS[config.name](config, random_seed, on_tpu)
