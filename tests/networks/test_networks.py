"""Properties of every network: lengths, padding, gradients, learning, the step for a TPU."""

import contextlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import faked_tpu
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tiny_shards import random_utterances, write_shards
from tiny_training import batches, train

import constants
import model
from speech.engines.engine import RunSettings
from speech.features.front_end import FrontEnd
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.evaluation_input import evaluation_input_fn
from speech.input_pipeline.training_input import TrainingInput, training_input_fn
from speech.layers.basic import Dropout
from speech.layers.ctc_loss import ctc_loss
from speech.networks import registry
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig
from speech.networks.prediction import predict
from speech.optimisation import state
from speech.text.lexicon import SPACE, UNKNOWN
from speech.tpu.lowering import lowers_sums
from speech.tpu.step_program import StepProgram, core_batch
from utils import ENGLISH

Array = npt.NDArray[np.float32]

BINS = 8
TINY: dict[str, dict[str, Any]] = {
    "deep_speech_1": {"conv_channels": (2, 3), "context_size": 5, "recurrent_unit_size": 8},
    "deep_speech_paper": {"context_size": 5, "dense_unit_size": 12, "recurrent_unit_size": 8},
    "deep_speech_lstm": {"context_size": 5, "dense_unit_size": 12, "recurrent_unit_size": 8},
    "conv_gru": {"conv_channels": (6,), "context_size": 5, "recurrent_unit_size": 8},
    "conv_gru_dilated": {"conv_channels": (6, 5, 4), "context_size": 3, "recurrent_unit_size": 8},
    "conformer": {
        "conv_channels": (3, 4),
        "context_size": 5,
        "dense_unit_size": 8,
        "blocks": 3,
        "attention_heads": 2,
    },
}


def tiny(name: str, **sizes: Any) -> NetworkConfig:
    return NetworkConfig.of(BINS, ENGLISH.size, name, **{**TINY[name], **sizes})


CONFIGS = {name: tiny(name) for name in TINY}
CONFIGS["deep_speech_lstm with layer norm"] = tiny("deep_speech_lstm", layer_norm=True)
CONFIGS["conformer with phones"] = tiny("conformer", phones=(SPACE, *"abc", UNKNOWN))

every_network = pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
every_type = pytest.mark.parametrize(
    "compute_dtype", [tf.float32, tf.bfloat16], ids=lambda t: t.name
)


def build(config: NetworkConfig) -> registry.Network:
    """Returns a network as if trained: no bias or offset is zero, and no scale is one."""
    network = registry.build(config)
    for number, variable in enumerate(network.variables):
        shift = tf.random.stateless_uniform(variable.shape, [number, 1], 0.0, 0.2)
        variable.assign_add(shift)
    return network


def batch_of(utterances: list[Array], frames: int, padding: float) -> tuple[Array, tf.Tensor]:
    """Returns padded features and lengths; the padding is not zero unless `padding` is."""
    rng = np.random.default_rng(frames)
    features = padding * rng.normal(size=[len(utterances), frames, BINS]).astype(np.float32)
    for row, utterance in enumerate(utterances):
        features[row, : len(utterance)] = utterance
    return features, tf.constant([len(each) for each in utterances])


@pytest.fixture(scope="module")
def utterances() -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=[length, BINS]).astype(np.float32) for length in (23, 30, 1, 29)]


# --- Names and sizes ------------------------------------------------------------------------------


def test_every_network_has_sizes() -> None:
    assert set(registry.NETWORKS) == set(constants.NETWORK_SIZES) == set(TINY)


@every_network
def test_layers_name_every_variable_first_to_last(config: NetworkConfig) -> None:
    network = registry.sketch(config)
    prefixes = {variable.name.partition("/")[0] for variable in network.variables}
    assert prefixes == set(network.layers) and len(network.layers) == len(prefixes)
    phones = ["phones"] if config.phones else []
    after_output = [*phones, "condition"] if config.name == "conformer" else []
    assert network.layers[network.layers.index("output") :] == ["output", *after_output]


@every_network
def test_table_has_every_layer_and_the_parameters(config: NetworkConfig) -> None:
    network = registry.build(config)
    headings, *rows, total = registry.table(network)
    assert headings.split() == ["layer", "shapes", "parameters"]
    assert [row.split()[0] for row in rows] == network.layers
    counts = [int(row.split()[-1].replace(",", "")) for row in (*rows, total)]
    numbers = sum(int(np.prod(each.shape)) for each in network.trainable_variables)
    assert counts[-1] == sum(counts[:-1]) == registry.parameters(network) == numbers


def test_table_names_shapes() -> None:
    rows = registry.table(registry.sketch(CONFIGS["deep_speech_paper"]))
    assert rows[1].split() == ["dense_0", "bias", "12,", "kernel", "40", "x", "12", "492"]


@every_network
def test_sketch_is_the_network_without_values(config: NetworkConfig) -> None:
    sketch, network = registry.sketch(config), registry.build(config)
    assert [(v.name, v.shape) for v in sketch.variables] == [
        (v.name, v.shape) for v in network.variables
    ]
    assert sketch.forward_flops(10) == network.forward_flops(10)


@every_network
def test_random_seed_determines_the_weights(config: NetworkConfig) -> None:
    one, same, other = (registry.build(config, seed).variables for seed in (1, 1, 2))
    for left, right in zip(one, same, strict=True):
        np.testing.assert_array_equal(left, right)
    for left, right in zip(one, other, strict=True):
        assert np.array_equal(left, right) == ("kernel" not in left.name), left.name


@pytest.mark.parametrize("name", ["deep_speech_paper", "deep_speech_lstm", "conv_gru"])
def test_forward_flops_are_two_for_each_element_of_a_kernel(name: str) -> None:
    bins, classes = 8, ENGLISH.size
    by_hand = {
        "deep_speech_paper": 5 * bins * 12 + 2 * 12 * 12 + (12 + 2 * 8) * 8 + 8 * 12 + 12 * classes,
        "deep_speech_lstm": 5 * bins * 12 + 2 * 12 * 12 + (12 + 8) * 32 + 8 * 12 + 12 * classes,
        "conv_gru": 5 * bins * 6 + 2 * (6 + 8 + 16 + 8) * 24 + 16 * classes,
    }
    assert registry.sketch(CONFIGS[name]).forward_flops(7) == 7 * 2 * by_hand[name]


# --- Lengths and padding --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stride", "context"),
    [
        pytest.param(*sizes, marks=[] if sizes in [(3, 1), (2, 4), (1, 11)] else [pytest.mark.slow])
        for sizes in itertools.product([1, 2, 3], [1, 4, 11])
    ],
)
@pytest.mark.parametrize("name", TINY)
def test_logits_are_the_same_alone_in_a_batch_and_with_any_padding(
    name: str, stride: int, context: int, utterances: list[Array]
) -> None:
    network = build(tiny(name, stride_size=stride, context_size=context))
    alone = []
    for utterance in utterances:
        logits, output_length = network(utterance[np.newaxis], tf.constant([len(utterance)]))
        assert output_length.numpy().tolist() == [math.ceil(len(utterance) / stride)]
        assert logits.shape == (1, math.ceil(len(utterance) / stride), ENGLISH.size)
        alone.append(logits.numpy()[0])
    for padded in (30, 31, 37, 64):
        logits, output_length = network(*batch_of(utterances, padded, 100.0))
        for row, expected in enumerate(alone):
            assert output_length[row] == len(expected)
            np.testing.assert_allclose(logits[row, : len(expected)], expected, atol=1e-4)


@every_network
def test_training_is_the_same_with_any_padding(
    config: NetworkConfig, utterances: list[Array]
) -> None:
    """Batch normalisation takes the statistics of the real frames."""
    network = build(config)
    found = []
    for padded, padding in ((30, 0.0), (41, 100.0)):
        logits, length = network(*batch_of(utterances, padded, padding), training=True)
        updates = {variable.name: value for variable, value in network.moving_updates}
        rows = zip(logits, length.numpy(), strict=True)
        found.append(([row[:outputs] for row, outputs in rows], updates))
    for one, other in zip(*(logits for logits, _ in found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    first, second = (updates for _, updates in found)
    moving = {each.name for each in network.variables if not each.trainable}
    assert set(first) == set(second) == moving
    assert bool(moving) == config.name.startswith("conv_gru")
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], rtol=1e-5, atol=1e-6)


@every_network
def test_call_in_training_changes_no_variable(
    config: NetworkConfig, utterances: list[Array]
) -> None:
    network = registry.build(config)
    before = [variable.numpy() for variable in network.variables]
    network(*batch_of(utterances, 30, 1.0), training=True)
    for old, new in zip(before, network.variables, strict=True):
        np.testing.assert_array_equal(old, new)


@every_network
def test_dropout_changes_logits_only_if_it_is_passed(
    config: NetworkConfig, utterances: list[Array]
) -> None:
    network = build(config)
    batch = batch_of(utterances, 30, 0.0)
    plain = network(*batch)[0]
    np.testing.assert_array_equal(plain, network(*batch)[0])
    dropped, same, other = (
        network(*batch, Dropout(0.5, tf.constant([1, seed])))[0] for seed in (2, 2, 3)
    )
    np.testing.assert_array_equal(dropped, same)
    assert not np.allclose(plain, dropped) and not np.allclose(dropped, other)


# --- Letters and phones ---------------------------------------------------------------------------


@every_network
def test_predicted_letters_and_phones_are_each_certain_together(
    config: NetworkConfig, utterances: list[Array]
) -> None:
    """And the loss is that of the letters."""
    network = build(config)
    features, length = batch_of(utterances, 30, 0.0)
    label = tf.constant([[3, 9, 3], [8, 1, 0], [4, 0, 0], [2, 2, 0]])
    batch = {
        "features": features,
        "feature_length": length,
        "label": label,
        "label_length": tf.constant([3, 2, 1, 2]),
        "utterance_number": tf.range(4),
    }
    outputs = predict(network, batch, bfloat16=False)
    probabilities = np.exp(outputs["log_probs"])
    assert config.classes == ENGLISH.size + (6 if config.phones else 0)
    assert probabilities.shape[2] == config.classes
    letters, phones = np.split(probabilities, [ENGLISH.size], axis=2)
    np.testing.assert_allclose(letters.sum(axis=2), 1.0, rtol=1e-5)
    np.testing.assert_allclose(phones.sum(axis=2), 1.0 if config.phones else 0.0, rtol=1e-5)
    losses = ctc_loss(np.log(letters), outputs["output_length"], label, batch["label_length"])
    np.testing.assert_allclose(outputs["ctc_loss"], losses, rtol=1e-5)


@every_network
def test_intermediate_logits_have_the_classes_of_the_last(
    config: NetworkConfig, utterances: list[Array]
) -> None:
    network = build(config)
    logits, _ = network(*batch_of(utterances, 30, 0.0))
    assert [each.shape for each in network.intermediate_logits] == (
        [logits.shape] if config.name == "conformer" else []
    )


# --- Gradients and learning -----------------------------------------------------------------------


@contextlib.contextmanager
def skipped_without_gradients() -> Iterator[None]:
    """Skips where TensorFlow has no oneDNN: then it computes none of dilated convolutions."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if "dilation rates" in str(error):
            pytest.skip("TensorFlow computes no gradients of dilated convolutions on this CPU")
        raise


@every_type
@every_network
def test_every_variable_has_a_finite_gradient(
    config: NetworkConfig, compute_dtype: tf.DType, utterances: list[Array]
) -> None:
    network = build(config)
    batch = batch_of([each for each in utterances if len(each) > 1], 30, 1.0)
    labels = tf.constant([[1, 2, 3]] * 3)
    dropout = Dropout(0.2, tf.constant([1, 2]))
    with tf.GradientTape() as tape:
        logits, length = network(*batch, dropout, compute_dtype, training=True)
        letters = logits[..., : config.labels]
        loss = tf.reduce_sum(ctc_loss(letters, length, labels, tf.constant([3, 2, 1])))
    assert logits.dtype == tf.float32 and logits.shape[2] == config.classes
    with skipped_without_gradients():
        gradients = tape.gradient(loss, network.trainable_variables)
    for variable, gradient in zip(network.trainable_variables, gradients, strict=True):
        assert gradient.dtype == tf.float32
        assert np.isfinite(gradient).all() and np.any(gradient != 0.0), variable.name


@every_network
def test_bfloat16_logits_are_close(config: NetworkConfig, utterances: list[Array]) -> None:
    network = build(config)
    batch = batch_of(utterances, 30, 1.0)
    fine, rough = (network(*batch, compute_dtype=each)[0] for each in (tf.float32, tf.bfloat16))
    scale = np.abs(fine).max()
    assert 0 < np.abs(fine[0, :10] - rough[0, :10]).max() < 0.1 * scale


@every_network
def test_two_utterances_can_be_memorised(
    config: NetworkConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learnt with a batch's statistics, and recognised in inference with their averages."""
    monkeypatch.setattr(constants, "BATCH_NORM_MOMENTUM", 0.9)  # there are few steps
    units = ("dense_unit_size", "recurrent_unit_size")
    sizes: Any = {size: 64 for size in units if size in config.sizes}
    network = registry.build(replace(config, **sizes))
    rng = np.random.default_rng(5)
    batch = batch_of([rng.normal(size=[n, BINS]).astype(np.float32) for n in (20, 16)], 20, 1.0)
    label, label_length = tf.constant([[3, 9, 3], [8, 1, 0]]), tf.constant([3, 2])
    optimizer = tf.keras.optimizers.Adam(0.005)
    optimizer.build(network.trainable_variables)

    def losses(training: bool = False) -> tf.Tensor:
        logits, length = network(*batch, training=training)
        return ctc_loss(logits[..., : config.labels], length, label, label_length)

    @tf.function
    def train(steps: int) -> None:
        for _ in tf.range(steps):
            with tf.GradientTape() as tape:
                loss = losses(training=True)
            gradients = tape.gradient(loss, network.trainable_variables)
            gradients, _ = tf.clip_by_global_norm(gradients, 10.0)
            optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
            for moving, value in network.moving_updates:
                moving.assign(value)

    before = losses().numpy()
    with skipped_without_gradients():
        train(200)
    assert np.all(losses().numpy() < 0.1 * before)
    logits, length = network(*batch)
    letters = tf.transpose(logits[..., : config.labels], [1, 0, 2])
    (best,), _ = tf.nn.ctc_greedy_decoder(letters, length)
    assert tf.sparse.to_dense(best, default_value=-1).numpy().tolist() == [[3, 9, 3], [8, 1, -1]]


# --- For a TPU ------------------------------------------------------------------------------------

BATCH = 16


def model_config(config: NetworkConfig, batch: int = BATCH) -> ModelConfig:
    training = TrainingConfig(batch, bfloat16=True, dropout=0.1)
    return ModelConfig(FrontEnd(mel_filters=BINS), ENGLISH, config, training)


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=list(CONFIGS))
def tpu_graphs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[NetworkConfig, dict[str, tf.Graph]]:
    """A network, and the graphs of training, evaluation and prediction on 8 cores."""
    folder = tmp_path_factory.mktemp("tpu")
    shards = write_shards(folder, random_utterances([30] * BATCH, BINS), bins=BINS)
    batching = Batching(BATCH, static=True)
    run = RunSettings(str(folder), train_batch_size=BATCH, eval_batch_size=BATCH)
    model_fn = model.model_fn_builder(model_config(request.param), str(folder))
    from speech.engines import tpu_estimator

    with faked_tpu.topology():
        built = tpu_estimator.build(model_fn, run, faked_tpu.device())
    training = training_input_fn(TrainingInput(shards, batching, 1, shuffle_buffer_size=8))
    evaluation, prediction = (
        evaluation_input_fn(shards, batching, for_prediction) for for_prediction in (False, True)
    )
    return request.param, {
        "train": faked_tpu.graph_of(lambda: built.train(training, max_steps=10)),
        "evaluate": faked_tpu.graph_of(
            lambda: built.evaluate(evaluation, steps=1, checkpoint_path="/x")
        ),
        "predict": faked_tpu.graph_of(
            lambda: list(built.predict(prediction, checkpoint_path="/x"))
        ),
    }


@pytest.mark.estimator
def test_tpu_computation_has_only_ops_that_xla_compiles(
    tpu_graphs: tuple[NetworkConfig, dict[str, tf.Graph]],
) -> None:
    for mode, graph in tpu_graphs[1].items():
        assert not faked_tpu.ops_without_xla_kernel(graph), mode


@pytest.mark.estimator
def test_tpu_graph_has_the_networks_variables(
    tpu_graphs: tuple[NetworkConfig, dict[str, tf.Graph]],
) -> None:
    """And the optimizer's and the step's state in training alone."""
    config, graphs = tpu_graphs
    network = registry.sketch(config)
    names = {variable.op.name for variable in network.variables}
    moving = {variable.op.name for variable in network.variables if not variable.trainable}
    for mode, graph in graphs.items():
        found = {variable.op.name for variable in graph.get_collection("variables")}
        optimizer = {name for name in found if "Adam" in name or name.startswith("beta")}
        of_steps = {state.LOSS, state.BAD_STEPS, state.LATEST_BAD_STEP}
        others = {"global_step", *(of_steps if mode == "train" else ())}
        assert found - optimizer == names | others, mode
        slots = {name.removesuffix("/Adam") for name in optimizer if name.endswith("/Adam")}
        assert slots == (names - moving if mode == "train" else set())


@pytest.mark.estimator
def test_statistics_are_summed_over_cores_in_training(
    tpu_graphs: tuple[NetworkConfig, dict[str, tf.Graph]],
) -> None:
    """Besides gradients: frames, sums and squares of each batch normalisation, and backward."""
    config, graphs = tpu_graphs
    network = registry.sketch(config)
    norms = sum("moving_mean" in variable.name for variable in network.variables)
    sums = {
        mode: [n.name for n in faked_tpu.computation(graph) if n.op == "CrossReplicaSum"]
        for mode, graph in graphs.items()
    }
    forward = [name for name in sums["train"] if name.startswith(("convolutions/", "recurrent/"))]
    backward = [name for name in sums["train"] if name.startswith("gradients/")]
    assert len(forward) == 3 * norms and len(backward) == 2 * norms
    # And the loss, the utterances, those without an alignment.
    assert len(sums["train"]) == 5 * norms + len(network.trainable_variables) + 3
    assert not sums["evaluate"] and not sums["predict"]


@every_network
def test_step_lowers_to_a_program_for_a_tpus_compiler(config: NetworkConfig) -> None:
    """As check_tpu.py compiles it."""
    cores = 4 if lowers_sums() else 1
    step = StepProgram(model_config(config, batch=2), cores, on_tpu=True)
    features, labels = core_batch(2, 40, config, 12)
    assert ("phone" in labels) == bool(config.phones)
    assert step.lower(features, labels).hlo.module


# --- In training ----------------------------------------------------------------------------------


def test_each_step_of_training_updates_the_moving_averages(tmp_path: Path) -> None:
    config = CONFIGS["conv_gru"]
    shards = write_shards(tmp_path, random_utterances([30, 40], BINS), bins=BINS)
    training = TrainingConfig(train_batch_size=2, learning_rate=0.0, dropout=0.0)
    whole = ModelConfig(FrontEnd(mel_filters=BINS), ENGLISH, config, training)
    train(tmp_path / "m", shards, 3, training, config=whole)
    input_fn = batches(shards, training)

    # At a learning rate of 0 the statistics are the same in all three steps.
    network = registry.build(config, training.random_seed)
    features, _ = next(iter(input_fn({"batch_size": 2})))
    for _ in range(3):
        network(features["features"], features["feature_length"], training=True)
        for variable, value in network.moving_updates:
            variable.assign(value)
    reader = tf.train.load_checkpoint(str(tmp_path / "m"))
    moving = [variable for variable in network.variables if not variable.trainable]
    assert len(moving) == 2 * 3
    for variable in moving:
        name = variable.name.partition(":")[0]
        found = reader.get_tensor(name)
        np.testing.assert_allclose(found, variable, rtol=1e-4, atol=1e-6)
        start = 0.0 if name.endswith("moving_mean") else 1.0
        assert np.abs(found - start).max() > 1e-3, name
