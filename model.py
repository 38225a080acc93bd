"""The acoustic model: the network, its loss, and the model_fn that TPUEstimator trains.

Deep Speech (arXiv 1412.5567) with convolutions in front: features -> convolutions over time and
frequency -> bidirectional recurrent layer -> letters. A network is a tf.Module, so that the same
object serves training, evaluation and export.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

try:
    import tensorflow as tf
except ModuleNotFoundError:
    raise SystemExit(
        "error: TensorFlow is not installed. On a CPU: pip install -e '.[cpu]', with an Nvidia "
        "GPU: pip install -e '.[gpu]'; a TPU VM brings its own."
    ) from None

import constants
from speech.config import ModelConfig, NetworkConfig, TrainingConfig
from speech.ctc import alignable, ctc_loss
from speech.rnn import bidirectional_rnn, clipped_relu

Tensors = dict[str, tf.Tensor]

# Rows and columns of a TPU's matrix unit: what one pass multiplies (v6e's has 256).
MATRIX_UNIT = 128

# Steps between two points of a TensorBoard curve.
SUMMARY_STEPS = 50


class DeepSpeech1(tf.Module):
    """Convolutions over time x frequency, a bidirectional clipped-ReLU RNN, a dense layer.

    The convolutions' kernels are [context, frequencies, channels in, channels out]; see
    `convolve` for how they are computed. Padding never reaches a real frame: an utterance's
    logits are the same alone, in a batch, and behind any padding.
    """

    def __init__(self, config: NetworkConfig, random_seed: int = constants.RANDOM_SEED) -> None:
        super().__init__()
        self.config = config
        self._initializers = _Initializers(random_seed)
        self.convolutions = []
        bins, channels = config.bins, 1
        for layer, channels_out in enumerate(config.conv_channels):
            kernels = constants.CONV_FREQUENCY_KERNELS
            frequencies = kernels[min(layer, len(kernels) - 1)]
            shape = [config.context_size, frequencies, channels, channels_out]
            self.convolutions.append(
                (
                    self._variable(f"conv_{layer}/kernel", shape, self._initializers.he()),
                    self._variable(f"conv_{layer}/bias", [channels_out], tf.zeros),
                )
            )
            bins, channels = _strided(bins), channels_out
        inputs, units = bins * channels, config.recurrent_unit_size
        self.rnn_kernel = self._variable(
            "rnn/kernel", [2, inputs, units], self._initializers.each(2, "he_normal")
        )
        self.rnn_recurrent_kernel = self._variable(
            "rnn/recurrent_kernel", [2, units, units], self._initializers.each(2, "orthogonal")
        )
        self.rnn_bias = self._variable("rnn/bias", [2, units], tf.zeros)
        self.output_kernel = self._variable(
            "output/kernel", [units, config.labels], self._initializers.glorot()
        )
        self.output_bias = self._variable("output/bias", [config.labels], tf.zeros)

    @staticmethod
    def _variable(name: str, shape: list[int], initializer: Callable[..., tf.Tensor]) -> Any:
        # The initial value is a function because TPUEstimator builds the network inside a loop,
        # from which a value could not be taken out.
        return tf.Variable(lambda: initializer(shape), name=name, dtype=tf.float32)

    def __call__(
        self,
        features: tf.Tensor,
        feature_length: tf.Tensor,
        dropout: float = 0.0,
        compute_dtype: tf.DType = tf.float32,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits of a batch of utterances.

        Args:
            features: float32 [batch, frames, bins], padded.
            feature_length: int32 [batch], real frames.
            dropout: share of the non-recurrent layers' outputs that is dropped; 0 outside training.
            compute_dtype: of the matrix products and convolutions.

        Returns:
            logits float32 [batch, outputs, labels] and their lengths int32 [batch].
        """
        output_length = self.config.output_frames(feature_length)  # [batch]
        hidden = _zero_padding(tf.cast(features, compute_dtype), feature_length)
        bins, stride = self.config.bins, self.config.stride_size
        for kernel, bias in self.convolutions:
            # [batch, outputs, bins * channels]
            hidden = convolve(hidden, tf.cast(kernel, compute_dtype), bins, stride)
            bins, stride = _strided(bins), 1
            hidden += tf.tile(tf.cast(bias, compute_dtype), [bins])
            # What a bias and a kernel's reach put behind an utterance's end is zeroed again.
            hidden = _zero_padding(clipped_relu(hidden), output_length)
        hidden = _dropped(hidden, dropout)
        hidden = bidirectional_rnn(
            hidden,
            output_length,
            self.rnn_kernel,
            self.rnn_recurrent_kernel,
            self.rnn_bias,
            compute_dtype,
        )  # [outputs, batch, units]
        hidden = tf.cast(_dropped(hidden, dropout), compute_dtype)
        logits = tf.einsum("obu,ul->obl", hidden, tf.cast(self.output_kernel, compute_dtype))
        logits = tf.transpose(tf.cast(logits, tf.float32) + self.output_bias, [1, 0, 2])
        return logits, output_length


class _Initializers:
    """Keras' initializers, each drawn with a seed of its own from one random seed."""

    def __init__(self, random_seed: int) -> None:
        self._next_seed = random_seed * 1000

    def _seed(self) -> int:
        self._next_seed += 1
        return self._next_seed

    def he(self) -> Callable[..., tf.Tensor]:
        return tf.keras.initializers.HeNormal(self._seed())

    def glorot(self) -> Callable[..., tf.Tensor]:
        return tf.keras.initializers.GlorotUniform(self._seed())

    def each(self, count: int, name: str) -> Callable[..., tf.Tensor]:
        """`count` matrices, each initialised by itself and stacked along the first axis."""
        draws = [
            tf.keras.initializers.get({"class_name": name, "config": {"seed": self._seed()}})
            for _ in range(count)
        ]
        return lambda shape: tf.stack([draw(shape[1:]) for draw in draws])


def _strided(bins: int) -> int:
    """Bins that a convolution puts out for `bins`."""
    return -(-bins // constants.FREQUENCY_STRIDE)


def convolve(inputs: tf.Tensor, kernel: tf.Tensor, bins: int, stride: int) -> tf.Tensor:
    """A convolution over time and frequency as ones over time alone, for the matrix unit's sake.

    The frequency axis is only 80, 40 or 20 wide and the channels are few, which leaves a TPU's
    matrix unit almost empty. Spread into a matrix over (frequency x channels) the same kernel
    gives the same outputs from dense products. Far from its diagonal such a matrix is zero, so the
    bins that come out are computed in blocks, each from the bins that its kernels reach.

    Args:
        inputs: [batch, frames, bins * channels in].
        kernel: [context, frequencies, channels in, channels out].
        bins: width of the frequency axis; the convolution pads it ("SAME") and strides by 2.
        stride: frames between two outputs.

    Returns:
        [batch, ceil(frames / stride), ceil(bins / 2) * channels out].
    """
    context, frequencies, channels_in, channels_out = kernel.shape
    outputs = []
    for band in _bands(bins, frequencies, channels_in, channels_out):
        reached, made, _ = band.taps.shape
        folded = tf.einsum("iof,tfcd->ticod", tf.constant(band.taps, kernel.dtype), kernel)
        folded = tf.reshape(folded, [context, reached * channels_in, made * channels_out])
        begin = band.first * channels_in
        block = inputs[:, :, begin : begin + reached * channels_in]
        outputs.append(convolve_time(block, folded, stride))
    return tf.concat(outputs, axis=2)


class _Band(NamedTuple):
    """A block of the bins that a convolution puts out, and the bins that their kernels reach."""

    first: int  # of the bins reached
    taps: npt.NDArray[np.float32]  # [reached, made, frequencies], 1 where a kernel's tap lies


def _bands(bins: int, frequencies: int, channels_in: int, channels_out: int) -> list[_Band]:
    """Blocks that fill the matrix unit's columns, reaching for bins that fill its rows."""
    stride, bins_out = constants.FREQUENCY_STRIDE, _strided(bins)
    padding = max((bins_out - 1) * stride + frequencies - bins, 0) // 2
    tap = np.arange(bins)[:, np.newaxis] - stride * np.arange(bins_out) + padding
    taps = np.float32(tap[:, :, np.newaxis] == np.arange(frequencies))
    columns = max(MATRIX_UNIT // channels_out, 1)  # bins
    rows = max(MATRIX_UNIT // channels_in, 1)  # bins
    if bins <= rows:
        return [_Band(0, taps)]  # the unit has room for all of them at once
    bands = []
    for begin in range(0, bins_out, columns):
        block = taps[:, begin : begin + columns]
        reached = np.flatnonzero(block.any(axis=(1, 2)))
        first = reached[0] // rows * rows
        bands.append(_Band(first, block[first : reached[-1] + 1]))
    return bands


def convolve_time(inputs: tf.Tensor, kernel: tf.Tensor, stride: int) -> tf.Tensor:
    """Convolution over time whose alignment doesn't depend on how far the batch is padded.

    "SAME" padding would put one frame more or less in front according to the parity of the length.

    Args:
        inputs: [batch, frames, channels].
        kernel: [context, channels, channels out].

    Returns:
        [batch, ceil(frames / stride), channels out]; output t is centred on frame t * stride.
    """
    before = (kernel.shape[0] - 1) // 2
    after = kernel.shape[0] - 1 - before
    # As a 2-D convolution of height one: CPUs have a faster kernel for it than for 1-D ones.
    outputs = tf.nn.conv2d(
        tf.expand_dims(inputs, 1),
        tf.expand_dims(kernel, 0),
        [1, 1, stride, 1],
        padding=[[0, 0], [0, 0], [before, after], [0, 0]],
    )
    return tf.squeeze(outputs, axis=1)


def _zero_padding(values: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Zeroes [batch, frames, channels] behind each utterance's length."""
    real = tf.sequence_mask(length, tf.shape(values)[1], values.dtype)  # [batch, frames]
    return values * real[:, :, tf.newaxis]


def _dropped(values: tf.Tensor, rate: float) -> tf.Tensor:
    return tf.nn.dropout(values, rate) if rate else values


# --- The model_fn ---------------------------------------------------------------------------------


def model_fn_builder(config: ModelConfig, model_dir: str) -> Callable[..., Any]:
    """A model_fn for TPUEstimator.

    features: {"features": float32 [batch, frames, bins], "feature_length": int32 [batch]}
    labels: {"label": int32 [batch, labels], "label_length": int32 [batch],
             "weight": float32 [batch], 0 for an example that only fills up a batch}
    For prediction the labels stand among the features.
    """

    def model_fn(features: Tensors, labels: Tensors | None, mode: str, params: Any) -> Any:
        training = mode == tf.estimator.ModeKeys.TRAIN
        targets = features if labels is None else labels
        network = DeepSpeech1(config.network, config.training.random_seed)
        logits, output_length = network(
            features["features"],
            features["feature_length"],
            dropout=config.training.dropout if training else 0.0,
            compute_dtype=tf.bfloat16 if config.training.bfloat16 else tf.float32,
        )
        label, label_length = targets["label"], targets["label_length"]
        losses = ctc_loss(logits, output_length, label, label_length, params["use_tpu"])  # [batch]
        aligned = tf.cast(alignable(label, label_length, output_length), tf.float32)  # [batch]
        spec = tf.compat.v1.estimator.tpu.TPUEstimatorSpec
        if mode == tf.estimator.ModeKeys.PREDICT:
            return spec(mode, predictions=_predictions(logits, output_length, losses, aligned))
        weight = targets["weight"]
        loss = tf.math.divide_no_nan(tf.reduce_sum(losses * weight), tf.reduce_sum(weight))
        if not training:
            return spec(mode, loss=loss, eval_metrics=(_metrics, [losses, weight, aligned]))
        cores = config.training.train_batch_size // params["batch_size"]
        train_op, curves = _optimise(loss, network, config.training, cores, params["use_tpu"])
        curves["unalignable_utterances"] = tf.reduce_sum(tf.cast(1.0 - aligned, tf.int32))
        return spec(mode, loss=loss, train_op=train_op, host_call=_summaries(curves, model_dir))

    return model_fn


def _predictions(
    logits: tf.Tensor, output_length: tf.Tensor, losses: tf.Tensor, aligned: tf.Tensor
) -> Tensors:
    return {
        "log_probs": tf.nn.log_softmax(logits),  # [batch, outputs, labels]
        "output_length": output_length,  # [batch]
        "ctc_loss": losses,  # [batch]
        "aligned": aligned,  # [batch], 0 where there is no loss
    }


def _metrics(losses: tf.Tensor, weight: tf.Tensor, aligned: tf.Tensor) -> dict[str, Any]:
    """Exact over the whole set: examples that fill up the last batch weigh nothing."""
    return {
        "ctc_loss": tf.compat.v1.metrics.mean(losses, weights=weight * aligned),
        # How many utterances ought to be aligned and aren't.
        "unalignable_utterances": tf.compat.v1.metrics.false_negatives(
            tf.ones_like(aligned), aligned, weight
        ),
    }


def _optimise(
    loss: tf.Tensor, network: tf.Module, training: TrainingConfig, cores: int, on_tpu: bool
) -> tuple[tf.Operation, Tensors]:
    """One step of Adam (arXiv 1412.6980); also returns what the training's curves show."""
    step = tf.compat.v1.train.get_global_step()
    learning_rate = training.learning_rate_at(tf.cast(step, tf.float32))
    variables = network.trainable_variables
    gradients = tf.gradients(loss, variables)
    if on_tpu:
        # Summed over the cores before they are clipped: the norm that counts is that of the whole
        # batch. CrossShardOptimizer would sum afterwards.
        gradients = [tf.compat.v1.tpu.cross_replica_sum(each / cores) for each in gradients]
    norm = tf.linalg.global_norm(gradients)
    if training.clip_gradients:
        gradients, _ = tf.clip_by_global_norm(gradients, training.clip_gradients, norm)
    optimizer = tf.compat.v1.train.AdamOptimizer(learning_rate)
    train_op = optimizer.apply_gradients(zip(gradients, variables, strict=True), step)
    return train_op, {"loss": loss, "learning_rate": learning_rate, "gradient_norm": norm}


def _summaries(curves: Tensors, model_dir: str) -> tuple[Callable[..., Any], list[tf.Tensor]]:
    """TPUEstimator's host_call: TensorBoard curves, written on the host.

    Each curve's value is a core's own. What counts, an integer, is summed over the cores; of the
    rest the mean is taken: of the losses it is that of the batch, since all cores have equally
    many utterances, and learning rate and norm are the same on all.
    """
    names = list(curves)

    def write(step: tf.Tensor, *values: tf.Tensor) -> Any:
        step = step[0]
        writer = tf.summary.create_file_writer(model_dir)
        with writer.as_default(), tf.summary.record_if(tf.equal(step % SUMMARY_STEPS, 0)):
            for name, value in zip(names, values, strict=True):
                combine = tf.reduce_sum if value.dtype.is_integer else tf.reduce_mean
                tf.summary.scalar(name, combine(value), step=step)  # value: [cores]
            return tf.compat.v1.summary.all_v2_summary_ops()

    # A TPU sends only tensors with an axis of cores to its host.
    step = tf.compat.v1.train.get_global_step()
    return write, [tf.reshape(value, [1]) for value in (step, *curves.values())]
