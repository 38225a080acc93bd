"""The acoustic model: the network, its loss, and the model_fn that TPUEstimator trains.

Deep Speech (arXiv 1412.5567) with convolutions in front: features -> convolutions over time and
frequency -> bidirectional recurrent layer -> letters. A network is a tf.Module, so that the same
object serves training, evaluation and export.
"""

from collections.abc import Callable
from typing import Any

try:
    import tensorflow as tf
except ModuleNotFoundError:
    raise SystemExit(
        "error: TensorFlow is not installed. On a CPU: pip install -e '.[cpu]', with an Nvidia "
        "GPU: pip install -e '.[gpu]'; a TPU VM brings its own."
    ) from None

import constants
from speech.config import ModelConfig, NetworkConfig, TrainingConfig
from speech.convolutions import convolutions, strided, taps_of
from speech.ctc import alignable, ctc_loss
from speech.rnn import bidirectional_rnn

Tensors = dict[str, tf.Tensor]

# Steps between two points of a TensorBoard curve.
SUMMARY_STEPS = 50


class DeepSpeech1(tf.Module):
    """Convolutions over time x frequency, a bidirectional clipped-ReLU RNN, a dense layer.

    The convolutions' kernels are [context, frequencies, channels in, channels out]. Padding never
    reaches a real frame: an utterance's logits are the same alone, in a batch, and behind any
    padding.
    """

    def __init__(
        self,
        config: NetworkConfig,
        random_seed: int = constants.RANDOM_SEED,
        on_tpu: bool = False,
    ) -> None:
        """on_tpu: computes as a TPU does it fastest; the same variables, the same numbers."""
        super().__init__()
        self.config = config
        self._on_tpu = on_tpu
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
            bins, channels = strided(bins), channels_out
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
        # First to last, each the prefix of its variables' names.
        self.layers = [*(f"conv_{each}" for each in range(len(self.convolutions))), "rnn", "output"]

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
        # The scopes' names are the parts by which check_tpu.py estimates a step.
        with tf.name_scope("convolutions"):
            hidden = convolutions(
                tf.cast(features, compute_dtype),
                feature_length,
                self.convolutions,
                self.config.stride_size,
                self._on_tpu,
            )  # [batch, outputs, bins * channels]
            hidden = _dropped(hidden, dropout)
        with tf.name_scope("recurrent"):
            hidden = bidirectional_rnn(
                hidden,
                output_length,
                self.rnn_kernel,
                self.rnn_recurrent_kernel,
                self.rnn_bias,
                compute_dtype,
            )  # [outputs, batch, units]
            hidden = tf.cast(_dropped(hidden, dropout), compute_dtype)
        with tf.name_scope("output"):
            logits = tf.einsum("obu,ul->obl", hidden, tf.cast(self.output_kernel, compute_dtype))
            logits = tf.transpose(tf.cast(logits, tf.float32) + self.output_bias, [1, 0, 2])
        return logits, output_length

    def forward_flops(self, outputs: int) -> float:
        """Multiplications and additions that an utterance of so many outputs asks for.

        Kernels count as far as they reach real bins; activations don't count.
        """
        flops, bins = 0.0, self.config.bins
        for kernel, _ in self.convolutions:
            context, frequencies, channels_in, channels_out = kernel.shape
            taps = float(taps_of(bins, frequencies).sum())
            flops += 2 * outputs * context * channels_in * channels_out * taps
            bins = strided(bins)
        for kernel in (self.rnn_kernel, self.rnn_recurrent_kernel, self.output_kernel):
            flops += 2 * outputs * kernel.shape.num_elements()
        return flops


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
        network = DeepSpeech1(config.network, config.training.random_seed, params["use_tpu"])
        logits, output_length = network(
            features["features"],
            features["feature_length"],
            dropout=config.training.dropout if training else 0.0,
            compute_dtype=tf.bfloat16 if config.training.bfloat16 else tf.float32,
        )
        label, label_length = targets["label"], targets["label_length"]
        with tf.name_scope("loss"):
            losses = ctc_loss(logits, output_length, label, label_length)  # [batch]
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
    if on_tpu and cores > 1:
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
