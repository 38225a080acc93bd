"""The acoustic models by name.

A network is a tf.Module, so that the same object serves training, evaluation and export.
"""

import tensorflow as tf
from tabulate import tabulate

import constants
from speech.networks.config import NetworkConfig
from speech.networks.conv_gru import ConvGru, ConvGruDilated
from speech.networks.deep_speech_1 import DeepSpeech1
from speech.networks.deep_speech_lstm import DeepSpeechLstm
from speech.networks.deep_speech_paper import DeepSpeechPaper
from speech.networks.network import Network

# Their sizes are in constants.NETWORK_SIZES.
NETWORKS: dict[str, type[Network]] = {
    "deep_speech_1": DeepSpeech1,
    "deep_speech_paper": DeepSpeechPaper,
    "deep_speech_lstm": DeepSpeechLstm,
    "conv_gru": ConvGru,
    "conv_gru_dilated": ConvGruDilated,
}


def build(
    config: NetworkConfig, random_seed: int = constants.RANDOM_SEED, on_tpu: bool = False
) -> Network:
    """The network of a configuration, with first values drawn from the random seed."""
    return NETWORKS[config.name](config, random_seed, on_tpu)


def carries_state(config: NetworkConfig) -> bool:
    """Whether the network has `stream`, which takes an utterance piece by piece."""
    return hasattr(NETWORKS[config.name], "stream")


def sketch(config: NetworkConfig) -> Network:
    """The network without its values: names, shapes and `forward_flops`, at no cost."""
    with tf.Graph().as_default():
        return build(config)


def parameters(network: Network) -> int:
    """Numbers that training changes."""
    return sum(each.shape.num_elements() for each in network.trainable_variables)


def table(network: Network) -> list[str]:
    """A line for each layer, with the shapes of its variables and how many parameters they are."""
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
    return aligned.splitlines()
