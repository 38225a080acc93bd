"""The acoustic models by name.

A network is a tf.Module, so that the same object serves training, evaluation and export.
"""

import tensorflow as tf
from tabulate import tabulate

import constants
from speech.layers.cross_replica import ALONE, Replicas
from speech.networks.config import NetworkConfig
from speech.networks.conformer import Conformer
from speech.networks.conv_gru import ConvGru, ConvGruDilated
from speech.networks.deep_speech_1 import DeepSpeech1
from speech.networks.deep_speech_lstm import DeepSpeechLstm
from speech.networks.deep_speech_paper import DeepSpeechPaper
from speech.networks.network import Network
from utils import lines_of

# Name -> class. constants.NETWORK_SIZES has their sizes.
NETWORKS: dict[str, type[Network]] = {
    "deep_speech_1": DeepSpeech1,
    "deep_speech_paper": DeepSpeechPaper,
    "deep_speech_lstm": DeepSpeechLstm,
    "conv_gru": ConvGru,
    "conv_gru_dilated": ConvGruDilated,
    "conformer": Conformer,
}


def build(
    config: NetworkConfig,
    random_seed: int = constants.RANDOM_SEED,
    on_tpu: bool = False,
    replicas: Replicas = ALONE,
) -> Network:
    """Builds the network of a configuration.

    Args:
        config: name and sizes.
        random_seed: decides the initial values.
        on_tpu: whether to compute in the form that is fastest on a TPU.
        replicas: those that train the network together.
    """
    return NETWORKS[config.name](config, random_seed, on_tpu, replicas)


def carries_state(config: NetworkConfig) -> bool:
    """Returns whether the network has a method `stream`, for utterances piece by piece."""
    return hasattr(NETWORKS[config.name], "stream")


def sketch(config: NetworkConfig) -> Network:
    """Builds a network without values: names, shapes and `forward_flops`, at no cost."""
    with tf.Graph().as_default():
        return build(config)


def parameters(network: Network) -> int:
    """Returns the number of trainable parameters."""
    return sum(each.shape.num_elements() for each in network.trainable_variables)


def table(network: Network) -> list[str]:
    """Returns a line for each layer: its name, the shapes of its variables, its parameters."""
    rows = [("layer", "shapes", "parameters")]
    for layer in network.layers:
        own = {
            each.name.partition(":")[0].removeprefix(f"{layer}/"): each
            for each in network.trainable_variables
            if each.name.startswith(f"{layer}/")
        }
        shapes = ", ".join(
            f"{name} {' x '.join(map(str, each.shape))}" for name, each in own.items()
        )
        count = sum(each.shape.num_elements() for each in own.values())
        rows.append((layer, shapes, f"{count:,}"))
    rows.append(("total", "", f"{parameters(network):,}"))
    aligned = tabulate(
        rows, tablefmt="plain", colalign=("left", "left", "right"), disable_numparse=True
    )
    return lines_of(aligned)
