"""Measures a training step on a CPU, against the graph of the project this one began from.

  python benchmarks/step.py

Both steps are TensorFlow 1 graphs and run in this process in turns, from the same weights on the
same batch of random features. Losses and gradients must agree before the clock starts.

  original  the graph of github.com/mangushev/deep_speech, training.py: 2-D convolutions over
            [batch, bins, frames, channels] with "SAME" padding; one tf.while_loop over the frames
            that calls a SimpleRNNCell of Keras for each direction; tf.compat.v1.nn.ctc_loss of
            sparse labels; tf.gradients through all of it; Adam
  this      the training step of model.py as training.py runs it on a CPU

So that both compute the same numbers, all utterances have full length (the original's backward
direction starts in the padding of others), and the last frame is zeros: where "SAME" would align
the original's first layer differently, its features are shifted by one frame. It has neither its
dropout of 10 % nor its computations outside the step: a softmax, a loop that makes labels sparse,
gradients and outputs copied to Python. It clips gradients as here, by its flag --clip_gradients.

Below the steps are their parts, the convolutions alone and the loss alone. All times are medians of
the rounds.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import constants

# isort: split
# After constants, which sets TensorFlow's environment.
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from absl import flags, logging

from model import model_fn_builder
from speech.features.front_end import FrontEnd
from speech.flags import kinds
from speech.layers.convolutions import convolutions
from speech.layers.ctc_loss import ctc_loss
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig
from speech.system import command_line, tensorflow_import
from utils import ENGLISH, UserError

Array = npt.NDArray[Any]
Weights = dict[str, Array]

FLAGS = flags.FLAGS

NETWORK = NetworkConfig.of(constants.MEL_FILTERS, ENGLISH.size)

# Minimum and maximum characters of an utterance; LibriSpeech has 15 per second.
LABEL_LENGTHS = (100, 130)

# Relative differences of the loss and of a variable's gradient that another order of float32 sums
# can cause. The first kernel's gradient nearly cancels over random features: rounding the weights
# again, by one part in ten million, changes the original's own gradient by 6e-4.
LOSS_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-2


def define_flags() -> None:
    kinds.define_integer("batch_size", 16, "Utterances per batch.", lower_bound=1)
    kinds.define_integer("frames", 800, "Frames of every utterance.", lower_bound=500)
    kinds.define_integer(
        "rounds", 5, "Number of rounds; the table shows their medians.", lower_bound=1
    )
    command_line.define_logging_flag()


@dataclass(frozen=True)
class Batch:
    """Input of one step."""

    features: Array  # float32 [batch, frames, bins]
    feature_length: Array  # int32 [batch]
    label: Array  # int32 [batch, labels], padded
    label_length: Array  # int32 [batch]


def random_batch() -> Batch:
    """Returns utterances of full length, the last frame zeros."""
    rng = np.random.default_rng(constants.RANDOM_SEED)
    size, longest = FLAGS.batch_size, LABEL_LENGTHS[1]
    features = rng.normal(size=[size, FLAGS.frames, NETWORK.bins]).astype(np.float32)
    features[:, -1] = 0.0
    return Batch(
        features,
        np.full([size], FLAGS.frames, np.int32),
        rng.integers(NETWORK.labels - 1, size=[size, longest], dtype=np.int32),
        rng.integers(LABEL_LENGTHS[0], longest + 1, size=[size], dtype=np.int32),
    )


@dataclass(frozen=True)
class Step:
    """A training step of one side in its own session."""

    session: tf.compat.v1.Session
    feeds: dict[tf.Tensor, Array]
    loss: tf.Tensor
    train_op: tf.Operation
    variables: list[Any]  # the trainable ones

    def forward(self) -> float:
        return float(self.session.run(self.loss, self.feeds))

    def train(self) -> float:
        loss, _ = self.session.run([self.loss, self.train_op], self.feeds)
        return float(loss)

    def weights(self) -> list[Array]:
        values: list[Array] = self.session.run(self.variables)
        return values

    def first_moments(self) -> list[Array]:
        """Returns Adam's first moments by variable: after one step a tenth of the gradient."""
        everything = self.session.graph.get_collection(tf.compat.v1.GraphKeys.GLOBAL_VARIABLES)
        slots = {each.op.name: each for each in everything}
        moments: list[Array] = self.session.run(
            [slots[f"{each.op.name}/Adam"] for each in self.variables]
        )
        return moments


def started(
    feeds: dict[tf.Tensor, Array], loss: tf.Tensor, train_op: tf.Operation, variables: list[Any]
) -> Step:
    """Starts a step of the current graph in a new session with initial variables."""
    session = tf.compat.v1.Session()
    session.run(tf.compat.v1.global_variables_initializer())
    return Step(session, feeds, loss, train_op, variables)


# --- This project's step --------------------------------------------------------------------------


def this_step(batch: Batch, model_dir: str) -> Step:
    """Builds and feeds the step as TPUEstimator: on a CPU neither batch nor frames are static."""
    training = TrainingConfig(train_batch_size=len(batch.label), dropout=0.0)
    config = ModelConfig(FrontEnd(), ENGLISH, NETWORK, training)
    with tf.Graph().as_default():
        tf.compat.v1.train.create_global_step()
        placeholder = tf.compat.v1.placeholder
        features = {
            "features": placeholder(tf.float32, [None, None, NETWORK.bins]),
            "feature_length": placeholder(tf.int32, [None]),
        }
        labels = {
            "label": placeholder(tf.int32, [None, None]),
            "label_length": placeholder(tf.int32, [None]),
            "weight": placeholder(tf.float32, [None]),
        }
        feeds = {
            features["features"]: batch.features,
            features["feature_length"]: batch.feature_length,
            labels["label"]: batch.label,
            labels["label_length"]: batch.label_length,
            labels["weight"]: np.ones([len(batch.label)], np.float32),
        }
        params = {"batch_size": training.train_batch_size, "use_tpu": False}
        model_fn = model_fn_builder(config, model_dir)
        spec = model_fn(features, labels, tf.estimator.ModeKeys.TRAIN, params)
        return started(feeds, spec.loss, spec.train_op, tf.compat.v1.trainable_variables())


# --- The original's step --------------------------------------------------------------------------


def as_original(values: list[Array]) -> list[Array]:
    """Returns this project's weights, or their gradients, in the form of the original's variables.

    Returns:
        Kernel [frequencies, context, channels in, channels out] and bias of each convolution;
        kernel, recurrent kernel and bias of each direction's cell; kernel and bias of the outputs.
    """
    *convolutions, kernel, recurrent_kernel, bias, output_kernel, output_bias = values
    return [
        *(each.transpose(1, 0, 2, 3) if each.ndim == 4 else each for each in convolutions),
        *(each[direction] for direction in (0, 1) for each in (kernel, recurrent_kernel, bias)),
        output_kernel,
        output_bias,
    ]


def original_features(features: Array) -> Array:
    """Turns [batch, frames, bins] into [batch, bins, frames, 1], shifted to where "SAME" aligns."""
    frames, stride = features.shape[1], NETWORK.stride_size
    reach = NETWORK.context_size - 1
    padding = max((NETWORK.output_frames(frames) - 1) * stride + reach + 1 - frames, 0)
    moved = np.roll(features, reach // 2 - padding // 2, axis=1)  # the values shifted out are zeros
    return moved.transpose(0, 2, 1)[..., np.newaxis]


def original_clipped_relu(values: tf.Tensor) -> tf.Tensor:
    return tf.minimum(tf.maximum(values, 0.0), constants.RELU_CLIP)


def original_convolutions(hidden: tf.Tensor, variables: Sequence[Any]) -> tf.Tensor:
    """Turns [batch, bins, frames, 1] into [batch, bins, outputs, channels]."""
    stride = NETWORK.stride_size
    for kernel, bias in zip(variables[::2], variables[1::2], strict=True):
        strides = [1, constants.FREQUENCY_STRIDE, stride, 1]
        hidden = tf.nn.conv2d(hidden, kernel, strides, padding="SAME")
        hidden, stride = original_clipped_relu(tf.nn.bias_add(hidden, bias)), 1
    return hidden


def original_cell(kernel: Array, recurrent_kernel: Array, bias: Array) -> Any:
    cell = tf.keras.layers.SimpleRNNCell(
        kernel.shape[1],
        activation=original_clipped_relu,
        kernel_initializer=tf.constant_initializer(kernel),
        recurrent_initializer=tf.constant_initializer(recurrent_kernel),
        bias_initializer=tf.constant_initializer(bias),
    )
    cell.build([None, len(kernel)])
    return cell


def original_recurrence(inputs: tf.Tensor, forward_cell: Any, backward_cell: Any) -> tf.Tensor:
    """Turns [outputs, batch, inputs] into the sum of both directions, [outputs, batch, units]."""
    frames, batch, _ = inputs.shape

    def body(frame: tf.Tensor, tables: tuple, states: tuple) -> tuple[tf.Tensor, tuple, tuple]:
        written, after = [], []
        for cell, at, table, state in zip(
            (forward_cell, backward_cell), (frame, frames - 1 - frame), tables, states, strict=True
        ):
            values = tf.squeeze(tf.slice(inputs, [at, 0, 0], [1, -1, -1]), axis=0)
            output, state = cell(values, state, training=True)
            written.append(table.write(at, output))
            after.append(state)
        return frame + 1, tuple(written), tuple(after)

    zeros = tf.zeros([batch, forward_cell.units])
    _, tables, _ = tf.while_loop(
        lambda frame, *unused: frame < frames,
        body,
        (
            tf.constant(0),
            tuple(tf.TensorArray(tf.float32, frames) for _ in range(2)),
            ([zeros], [zeros]),
        ),
    )
    return tf.add(*(table.stack() for table in tables))


def original_loss(
    logits: tf.Tensor, output_length: Any, label: tf.Tensor, label_length: tf.Tensor
) -> tf.Tensor:
    """Returns the loss of TensorFlow's op on [outputs, batch, classes]: [batch]."""
    present = tf.sequence_mask(label_length, tf.shape(label)[1])
    sparse = tf.SparseTensor(
        tf.where(present), tf.boolean_mask(label, present), tf.shape(label, out_type=tf.int64)
    )
    return tf.compat.v1.nn.ctc_loss(sparse, logits, output_length)


def original_step(batch: Batch, weights: list[Array]) -> Step:
    """Builds the original's step, from weights of `as_original`."""
    *layers, output_kernel, output_bias = weights
    layers, cells = layers[:-6], layers[-6:]
    with tf.Graph().as_default():
        spectrogram = original_features(batch.features)  # [batch, bins, frames, 1]
        features = tf.compat.v1.placeholder(tf.float32, spectrogram.shape)
        label = tf.compat.v1.placeholder(tf.int32, batch.label.shape)
        label_length = tf.compat.v1.placeholder(tf.int32, batch.label_length.shape)
        step = tf.compat.v1.train.create_global_step()
        hidden = original_convolutions(features, [tf.Variable(each) for each in layers])
        hidden = tf.transpose(hidden, [2, 0, 1, 3])  # [outputs, batch, bins, channels]
        hidden = tf.reshape(hidden, [*hidden.shape[:2], -1])
        forward_cell, backward_cell = original_cell(*cells[:3]), original_cell(*cells[3:])
        hidden = original_recurrence(hidden, forward_cell, backward_cell)
        kernel, bias = tf.Variable(output_kernel), tf.Variable(output_bias)
        logits = tf.tensordot(hidden, kernel, 1) + bias  # [outputs, batch, classes]
        lengths = np.full([logits.shape[1]], logits.shape[0], np.int32)
        loss = tf.reduce_mean(original_loss(logits, lengths, label, label_length))
        variables = tf.compat.v1.trainable_variables()
        gradients = tf.gradients(loss, variables)
        gradients, _ = tf.clip_by_global_norm(gradients, constants.CLIP_GRADIENTS)
        optimizer = tf.compat.v1.train.AdamOptimizer(constants.LEARNING_RATE)
        train_op = optimizer.apply_gradients(zip(gradients, variables, strict=True), step)
        feeds = {
            features: spectrogram,
            label: batch.label,
            label_length: batch.label_length,
        }
        return started(feeds, loss, train_op, variables)


# --- Agreement ------------------------------------------------------------------------------------


def check_agreement(original: Step, this: Step) -> None:
    """Runs one step of both from the same weights.

    Raises:
        UserError: their losses or gradients differ.
    """
    losses = original.train(), this.train()
    loss_error = abs(losses[1] / losses[0] - 1)
    pairs = zip(original.first_moments(), as_original(this.first_moments()), strict=True)
    gradient_error = max(float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in pairs)
    says = (
        f"loss {losses[0]:.4f} (original), {losses[1]:.4f} (this): {loss_error:.1e} apart; "
        f"gradients of {len(original.variables)} variables at most {gradient_error:.1e} apart"
    )
    if not (loss_error < LOSS_TOLERANCE and gradient_error < GRADIENT_TOLERANCE):
        raise UserError(f"The two steps differ: {says}. Their times can't be compared.")
    print(f"The two steps agree: {says}.")


# --- Parts ----------------------------------------------------------------------------------------


def with_gradients(
    function: Callable[..., tf.Tensor], arguments: Sequence[Any], **options: Any
) -> Callable[[], Any]:
    """Returns the value of a function and the gradients of its sum, in one graph."""
    variables = [tf.Variable(each) for each in arguments]

    @tf.function(**options)
    def both() -> Any:
        with tf.GradientTape() as tape:
            value = function(*variables)
        return value, tape.gradient(value, variables)

    return both


def parts_of_convolutions(batch: Batch, weights: list[Array]) -> dict[str, Callable[[], Any]]:
    """Returns the convolutions with gradients of their kernels and biases."""
    layers = 2 * len(NETWORK.conv_channels)
    features = tf.constant(batch.features)
    spectrogram = tf.constant(original_features(batch.features))

    def by_this(on_tpu: bool) -> Callable[..., tf.Tensor]:
        def outputs(*variables: Any) -> tf.Tensor:
            pairs = list(zip(variables[::2], variables[1::2], strict=True))
            return convolutions(features, batch.feature_length, pairs, NETWORK.stride_size, on_tpu)

        return outputs

    return {
        "original": with_gradients(
            lambda *variables: original_convolutions(spectrogram, variables),
            as_original(weights)[:layers],
        ),
        "this": with_gradients(by_this(on_tpu=False), weights[:layers]),
        "this as on a TPU, folded": with_gradients(by_this(on_tpu=True), weights[:layers]),
    }


def parts_of_loss(batch: Batch) -> dict[str, Callable[[], Any]]:
    """Returns the loss with its gradient."""
    rng = np.random.default_rng(constants.RANDOM_SEED)
    outputs = NETWORK.output_frames(FLAGS.frames)
    logits = rng.normal(size=[len(batch.label), outputs, NETWORK.labels]).astype(np.float32)
    # Variables, because constants would be folded before the clock starts.
    length, label, label_length = (
        tf.Variable(each, trainable=False)
        for each in (NETWORK.output_frames(batch.feature_length), batch.label, batch.label_length)
    )

    def original(logits: tf.Tensor) -> tf.Tensor:
        return original_loss(tf.transpose(logits, [1, 0, 2]), length, label, label_length)

    def this(logits: tf.Tensor) -> tf.Tensor:
        targets = (tf.convert_to_tensor(each) for each in (length, label, label_length))
        return ctc_loss(tf.convert_to_tensor(logits), *targets)

    return {
        "original": with_gradients(original, [logits]),
        "this": with_gradients(this, [logits]),
        "this, compiled by XLA": with_gradients(this, [logits], jit_compile=True),
    }


# --- Time -----------------------------------------------------------------------------------------


def measure(groups: dict[str, dict[str, Callable[[], Any]]]) -> dict[str, dict[str, float]]:
    """Returns median milliseconds of everything; the rounds take turns."""
    rows = [(group, name, run) for group, runs in groups.items() for name, run in runs.items()]
    for _, _, run in rows:
        run()  # warms up
    seconds: list[list[float]] = []
    for number in range(FLAGS.rounds):
        logging.info("Round %d of %d", number + 1, FLAGS.rounds)
        seconds.append([seconds_of(run) for _, _, run in rows])
    medians: dict[str, dict[str, float]] = {group: {} for group in groups}
    for (group, name, _), times in zip(rows, zip(*seconds, strict=True), strict=True):
        medians[group][name] = 1000 * statistics.median(times)
    return medians


def seconds_of(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def table(medians: dict[str, dict[str, float]]) -> str:
    """Returns the lines of the table; each group is relative to its first row."""
    lines = []
    for group, rows in medians.items():
        lines.append(f"{group:<40}{'ms':>10}{'speed':>10}")
        first = next(iter(rows.values()))
        for name, value in rows.items():
            lines.append(f"  {name:<38}{value:>10.1f}{first / value:>9.2f}x")
    return "\n".join(lines)


def main() -> None:
    tensorflow_import.quieten(FLAGS.logging)
    batch = random_batch()
    with tempfile.TemporaryDirectory() as model_dir:
        this = this_step(batch, model_dir)
    weights = this.weights()
    original = original_step(batch, as_original(weights))
    print(f"{FLAGS.batch_size} utterances of {FLAGS.frames} frames, {FLAGS.rounds} rounds")
    check_agreement(original, this)
    groups = {
        "training step": {"original": original.train, "this": this.train},
        "forward and loss": {"original": original.forward, "this": this.forward},
        "convolutions and their gradients": parts_of_convolutions(batch, weights),
        "loss and its gradient": parts_of_loss(batch),
    }
    print(table(measure(groups)))


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
