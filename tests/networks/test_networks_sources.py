"""The networks against their sources: parameter counts, and outputs of other programs."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from speech.layers.convolutions import centred
from speech.networks import registry
from speech.networks.config import NetworkConfig
from speech.text.lexicon import SPACE, UNKNOWN

Array = npt.NDArray[Any]
layers = tf.keras.layers


def shake(network: registry.Network) -> registry.Network:
    """Adds a random amount to every variable, so that none is zero or one."""
    for number, variable in enumerate(network.variables):
        variable.assign_add(tf.random.stateless_uniform(variable.shape, [number, 1], 0.0, 0.1))
    return network


def by_name(network: registry.Network) -> dict[str, Array]:
    return {variable.name.partition(":")[0]: variable.numpy() for variable in network.variables}


def parameters_of(name: str, bins: int, **sizes: Any) -> tuple[int, int]:
    """Returns the numbers of trainable parameters and of moving averages, for 29 classes."""
    network = registry.sketch(NetworkConfig.of(bins, 29, name, **sizes))
    trained = registry.parameters(network)
    everything = sum(each.shape.num_elements() for each in network.variables)
    return trained, everything - trained


def random_features(frames: int, bins: int, batch: int = 1) -> Array:
    return np.random.default_rng(frames).normal(size=[batch, frames, bins]).astype(np.float32)


def logits_of(network: registry.Network, features: Array) -> Array:
    """Returns the logits of utterances without padding."""
    return network(features, tf.fill([len(features)], features.shape[1]))[0].numpy()


# --- deep_speech_paper ----------------------------------------------------------------------------


def test_paper_has_the_parameters_of_its_equations() -> None:
    """Counted in equations 1 to 5 of arXiv 1412.5567, which states the width, 2048, and no sum.

    Its features are 80 filters and an energy, with a context of 9 frames to each side.
    """
    h1 = 2048 * (81 * 19) + 2048
    h2 = h3 = h5 = 2048 * 2048 + 2048
    h4 = 2048 * 2048 + 2 * 2048 * 2048 + 2048  # one W4 and b4, one Wr for each direction
    h6 = 29 * 2048 + 29
    assert h1 + h2 + h3 + h4 + h5 + h6 == 28_387_357
    assert parameters_of("deep_speech_paper", 81) == (28_387_357, 0)


def test_paper_computes_its_equations() -> None:
    config = NetworkConfig.of(
        3, 5, "deep_speech_paper", context_size=5, dense_unit_size=7, recurrent_unit_size=6
    )
    network = shake(registry.build(config))
    v = by_name(network)
    x = 10 * random_features(9, 3)  # some units are clipped at 20

    def g(z: Array) -> Array:
        return np.minimum(np.maximum(z, 0), 20)

    around = np.pad(x[0], [[2, 2], [0, 0]])
    h3 = []
    for t in range(0, 9, 2):
        h = around[t : t + 5].reshape(-1)
        for layer in ("dense_0", "dense_1", "dense_2"):
            h = g(h @ v[f"{layer}/kernel"] + v[f"{layer}/bias"])
        h3.append(h)

    def recurrent(direction: int, inputs: list[Array]) -> list[Array]:
        h, outputs = np.zeros(6), []
        for each in inputs:
            h = g(
                each @ v["rnn/kernel"][0]
                + h @ v["rnn/recurrent_kernel"][direction]
                + v["rnn/bias"][0]
            )
            outputs.append(h)
        return outputs

    h4 = np.array(recurrent(0, h3)) + np.array(recurrent(1, h3[::-1])[::-1])
    h5 = g(h4 @ v["dense_3/kernel"] + v["dense_3/bias"])
    expected = h5 @ v["output/kernel"] + v["output/bias"]
    assert (h4 > 20).any() and (h5 > 0).any()
    np.testing.assert_allclose(logits_of(network, x)[0], expected, rtol=1e-4, atol=1e-3)


# --- deep_speech_lstm -----------------------------------------------------------------------------


@pytest.mark.parametrize("layer_norm", [False, True])
def test_lstm_has_as_many_parameters_as_mozillas(layer_norm: bool) -> None:
    """For 26 features (util/config.py), 9 frames to each side, --n_hidden=2048 (util/flags.py).

    deepspeech_model.py has the layers and states no sum. Its LSTM has no peepholes; its norms, with
    a scale and an offset for each unit, follow layers 1, 2, 3 and 5.
    """
    layer_1 = (26 + 2 * 26 * 9) * 2048 + 2048
    layer_2 = layer_3 = layer_5 = 2048 * 2048 + 2048
    cell = (2048 + 2048) * 4 * 2048 + 4 * 2048
    layer_6 = 2048 * 29 + 29
    by_hand = layer_1 + layer_2 + layer_3 + cell + layer_5 + layer_6
    assert by_hand == 47_224_861
    norms = 4 * 2 * 2048 if layer_norm else 0
    assert parameters_of("deep_speech_lstm", 26, layer_norm=layer_norm) == (by_hand + norms, 0)


def keras_lstm(network: registry.Network) -> tf.keras.Model:
    """Builds Mozilla's layers in Keras, with the network's weights."""
    config, v = network.config, by_name(network)

    def dense(name: str) -> list[Any]:
        own = [layers.Dense(config.dense_unit_size), layers.ReLU(max_value=20.0)]
        weights[own[0]] = [v[f"{name}/kernel"], v[f"{name}/bias"]]
        if config.layer_norm:
            own.append(layers.LayerNormalization(epsilon=1e-5))
            weights[own[2]] = [v[f"{name}/scale"], v[f"{name}/offset"]]
        return own

    weights: dict[Any, list[Array]] = {}
    windows = layers.Lambda(
        lambda x: tf.concat([x[:, i : i + 20 : 1] for i in range(config.context_size)], axis=2)
    )
    cell = layers.LSTM(config.recurrent_unit_size, return_sequences=True)
    weights[cell] = [v[f"lstm/{part}"][0] for part in ("kernel", "recurrent_kernel", "bias")]
    last = layers.Dense(config.labels)
    weights[last] = [v["output/kernel"], v["output/bias"]]
    model = tf.keras.Sequential(
        [
            layers.ZeroPadding1D(tuple(centred(config.context_size))),
            windows,
            *(layer for name in ("dense_0", "dense_1", "dense_2") for layer in dense(name)),
            cell,
            *dense("dense_3"),
            last,
        ]
    )
    model.build([None, 20, config.bins])
    for layer, own in weights.items():
        layer.set_weights(own)
    return model


LSTM_SIZES: dict[str, Any] = {"context_size": 5, "dense_unit_size": 9, "recurrent_unit_size": 7}


@pytest.mark.parametrize("layer_norm", [False, True])
def test_lstm_equals_keras(layer_norm: bool) -> None:
    config = NetworkConfig.of(6, 5, "deep_speech_lstm", layer_norm=layer_norm, **LSTM_SIZES)
    network = shake(registry.build(config))
    reference = keras_lstm(network)
    assert reference.count_params() == registry.parameters(network)
    features = 5 * random_features(20, 6, batch=3)
    np.testing.assert_allclose(logits_of(network, features), reference(features), atol=1e-4)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize(("context", "stride"), [(5, 1), (4, 1), (5, 2), (5, 3), (1, 1)])
def test_lstm_fed_in_pieces_equals_the_whole(context: int, stride: int, layer_norm: bool) -> None:
    sizes = {**LSTM_SIZES, "context_size": context, "stride_size": stride}
    config = NetworkConfig.of(6, 5, "deep_speech_lstm", layer_norm=layer_norm, **sizes)
    network = shake(registry.build(config))
    features = random_features(30, 6, batch=2)
    whole = logits_of(network, features)
    around = np.pad(features, [[0, 0], centred(context), [0, 0]])
    state, pieces, first = network.initial_state(2), [], 0
    for outputs in (1, 4, 2, 3):
        begin, frames = first * stride, context + (outputs - 1) * stride
        logits, state = network.stream(around[:, begin : begin + frames], state)
        assert logits.shape == (2, outputs, 5)
        pieces.append(logits)
        first += outputs
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole[:, :first], atol=1e-5)


def test_lstm_sees_no_further_ahead_than_its_window() -> None:
    network = shake(registry.build(NetworkConfig.of(6, 5, "deep_speech_lstm", **LSTM_SIZES)))
    features = random_features(20, 6)
    changed = features.copy()
    changed[:, 12:] += 1.0
    before, after = logits_of(network, features)[0], logits_of(network, changed)[0]
    np.testing.assert_array_equal(before[:10], after[:10])  # sees 2 frames ahead
    assert np.all(np.any(before[10:] != after[10:], axis=1))


# --- conv_gru -------------------------------------------------------------------------------------

# Keras' GRU of 2018 had one bias; cuDNN's, and this project's, has another one for the states.
SECOND_BIAS = {"conv_gru": 2 * 2 * 3 * 256, "conv_gru_dilated": 2 * 2 * 3 * 200}


@pytest.mark.parametrize(
    ("name", "trained", "moving"),
    [("conv_gru", 2_440_221, 2_560), ("conv_gru_dilated", 2_011_029, 2_400)],
)
def test_conv_gru_has_as_many_parameters_as_hey_jetsons(
    name: str, trained: int, moving: int
) -> None:
    """For 161 features: the summaries of model_8 and model_7 in its Speech.ipynb.

    "Total params: 2,442,781, Trainable params: 2,440,221, Non-trainable params: 2,560", and
    2,013,429, 2,011,029 and 2,400.
    """
    found, averages = parameters_of(name, 161)
    assert (found - SECOND_BIAS[name], averages) == (trained, moving)


def keras_conv_gru(network: registry.Network) -> tf.keras.Model:
    """Builds Hey Jetson's layers in Keras, with tanh in the GRUs and the network's weights."""
    config, v = network.config, by_name(network)
    stack: list[Any] = []
    weights: list[list[Array]] = []

    def add(layer: Any, *own: Array) -> None:
        stack.append(layer)
        weights.append(list(own))

    def norm(name: str) -> None:
        parts = ("scale", "offset", "moving_mean", "moving_variance")
        add(layers.BatchNormalization(), *(v[f"{name}/{part}"] for part in parts))

    causal = config.name == "conv_gru_dilated"
    if not causal:
        add(layers.ZeroPadding1D(tuple(centred(config.context_size))))
    for number, channels in enumerate(config.conv_channels):
        name = f"conv_{number}"
        convolution = layers.Conv1D(
            channels,
            config.context_size,
            strides=1 if number else config.stride_size,
            padding="causal" if causal else "valid",
            dilation_rate=2**number if causal else 1,
            activation="relu",
        )
        add(convolution, v[f"{name}/kernel"], v[f"{name}/bias"])
        norm(name)
    for number in range(config.recurrent_layers):
        name = f"gru_{number}"
        recurrent = layers.GRU(config.recurrent_unit_size, return_sequences=True)
        parts = [
            v[f"{name}/{part}"][direction]
            for direction in (0, 1)
            for part in ("kernel", "recurrent_kernel", "bias")
        ]
        add(layers.Bidirectional(recurrent), *parts)
        norm(name)
    last = layers.Dense(config.labels)
    add(layers.TimeDistributed(last), v["output/kernel"], v["output/bias"])
    model = tf.keras.Sequential(stack)
    model.build([None, 40, config.bins])
    for layer, own in zip(stack, weights, strict=True):
        layer.set_weights(own)
    return model


@pytest.mark.parametrize("name", ["conv_gru", "conv_gru_dilated"])
def test_conv_gru_equals_keras(name: str) -> None:
    """At its full size; Keras counts moving averages as parameters."""
    network = shake(registry.build(NetworkConfig.of(80, 29, name)))
    reference = keras_conv_gru(network)
    assert reference.count_params() == sum(each.shape.num_elements() for each in network.variables)
    features = random_features(40, 80, batch=2)
    expected = reference(features, training=False).numpy()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(logits_of(network, features), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["conv_gru", "conv_gru_dilated"])
def test_conv_gru_equals_keras_in_training(name: str) -> None:
    """With the same statistics, and the same new moving averages."""
    sizes: Any = {"conv_channels": (5,), "context_size": 3, "recurrent_unit_size": 4}
    network = shake(registry.build(NetworkConfig.of(6, 5, name, recurrent_layers=1, **sizes)))
    reference = keras_conv_gru(network)
    features = random_features(40, 6, batch=3)
    logits, _ = network(features, tf.fill([3], 40), training=True)
    np.testing.assert_allclose(logits, reference(features, training=True), atol=1e-4)
    moved = {variable.name.partition(":")[0]: value for variable, value in network.moving_updates}
    norms = [each for each in reference.layers if isinstance(each, layers.BatchNormalization)]
    for layer, norm in zip(("conv_0", "gru_0"), norms, strict=True):
        np.testing.assert_allclose(moved[f"{layer}/moving_mean"], norm.moving_mean, atol=1e-6)
        np.testing.assert_allclose(
            moved[f"{layer}/moving_variance"], norm.moving_variance, atol=1e-6
        )


# --- conformer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("phones", [(), (SPACE, *"abcde", UNKNOWN)])
def test_conformer_has_the_parameters_of_the_sources_layers(phones: tuple[str, ...]) -> None:
    """Counted by arXiv 2005.08100, section 2, for its small model's width, 16 blocks and kernel.

    The source states 10.3 million with a decoder, and with positions that have parameters.
    """
    width, blocks, kernel = 144, 16, 31
    norm = 2 * width
    feed_forward = norm + (width + 1) * 4 * width + (4 * width + 1) * width
    attention = norm + (width + 1) * 3 * width + (width + 1) * width
    convolution = 2 * norm + (width + 1) * 2 * width + kernel * width + (width + 1) * width
    block = 2 * feed_forward + attention + convolution + norm
    front = 10 * 32 + (9 * 32 + 1) * 32 + (20 * 32 + 1) * width + norm
    classes = 29 + 8 if phones else 29  # with the blank of the phones
    outputs = (width + 1) * classes + (classes + 1) * width
    sizes = {"phones": phones, "blocks": blocks, "dense_unit_size": width, "context_size": kernel}
    assert parameters_of("conformer", 80, **sizes) == (
        blocks * block + front + outputs,
        0,
    )


@pytest.mark.parametrize("phones", [(), (SPACE, *"abcde", UNKNOWN)])
@pytest.mark.parametrize("blocks", [1, 3])
def test_conformer_computes_its_layers(blocks: int, phones: tuple[str, ...]) -> None:
    sizes: dict[str, Any] = {"conv_channels": (3, 4), "dense_unit_size": 8, "attention_heads": 2}
    config = NetworkConfig.of(6, 5, "conformer", phones, blocks=blocks, context_size=5, **sizes)
    network = shake(registry.build(config))
    v = by_name(network)

    def dense(name: str, x: Array) -> Array:
        return x @ v[f"{name}/kernel"] + v[f"{name}/bias"]

    def norm(name: str, x: Array) -> Array:
        shifted = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return shifted / deviation * v[f"{name}/scale"] + v[f"{name}/offset"]

    def feed_forward(name: str, x: Array) -> Array:
        wide = dense(f"{name}/wide", norm(f"{name}/norm", x))
        return dense(f"{name}/narrow", wide * sigmoid(wide))

    def convolution(name: str, x: Array) -> Array:
        gated = dense(f"{name}/gated", norm(f"{name}/norm", x))
        layer = layers.DepthwiseConv1D(5, padding="same", use_bias=False)
        layer.build([1, None, 8])
        layer.set_weights([v[f"{name}/kernel"].reshape(5, 8, 1)])
        x = layer((gated[:, :8] * sigmoid(gated[:, 8:]))[np.newaxis])[0].numpy()
        x = norm(f"{name}/inner_norm", x)
        return dense(f"{name}/outputs", x * sigmoid(x))

    outputs = ["output", "phones"] if phones else ["output"]

    def logits(x: Array) -> list[Array]:
        return [dense(name, x) for name in outputs]

    x = random_features(19, 6)[..., np.newaxis]
    for number, channels in enumerate(config.conv_channels):
        layer = layers.Conv2D(channels, 3, 2, activation="relu")
        x = np.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        layer.build(x.shape)
        layer.set_weights([v[f"front/conv_{number}/{part}"] for part in ("kernel", "bias")])
        x = layer(x).numpy()
    x = norm("front/norm", dense("front/dense", x[0].reshape(len(x[0]), -1)))
    for number, block in enumerate(network.blocks):
        name = f"block_{number}"
        if number == blocks // 2:
            middle = logits(x)
            found = [tf.nn.softmax(each).numpy() for each in middle]
            x = x + dense("condition", np.concatenate(found, axis=1))
        x = x + 0.5 * feed_forward(f"{name}/feed_forward_0", x)
        attended = norm(f"{name}/attention/norm", x)[np.newaxis]
        # tests/layers/test_attention.py has its equations.
        x = x + block.attention(attended, [len(x)], tf.float32)[0].numpy()
        x = x + convolution(f"{name}/convolution", x)
        x = norm(f"{name}/norm", x + 0.5 * feed_forward(f"{name}/feed_forward_1", x))
    found = logits_of(network, random_features(19, 6))[0]
    assert found.shape[1] == config.classes
    np.testing.assert_allclose(found, np.concatenate(logits(x), axis=1), atol=1e-3)
    (intermediate,) = network.intermediate_logits
    np.testing.assert_allclose(intermediate[0], np.concatenate(middle, axis=1), atol=1e-3)


def sigmoid(values: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-values))
