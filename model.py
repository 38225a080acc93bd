"""Defines the model_fn with which TPUEstimator trains a network, measures its loss and predicts.

It wraps the training step of speech/optimisation/step.py, which the other engines run as it is.
"""

from collections.abc import Callable, Sequence
from typing import Any

from speech.system import tensorflow_import

try:
    import tensorflow as tf
except ModuleNotFoundError:
    raise SystemExit(f"error: {tensorflow_import.MISSING}") from None

from speech.layers.cross_replica import ALONE, TpuCores
from speech.layers.ctc_loss import alignable, ctc_loss
from speech.networks import registry
from speech.networks.config import ModelConfig
from speech.networks.prediction import predict
from speech.optimisation import curves, step_description
from speech.optimisation.state import TrainingState
from speech.optimisation.step import Step, Tensors, training_step

# A function that runs on a TPU's host, and the tensors that the cores send it: [1, ...] each, of
# which it receives [cores, ...]. A TPU sends only tensors with an axis of cores.
HostCall = tuple[Callable[..., Any], list[tf.Tensor]]


def model_fn_builder(
    config: ModelConfig, model_dir: str, learning_rate_scale: float = 1.0, described: bool = False
) -> Callable[..., Any]:
    """Builds a model_fn for TPUEstimator.

    Args:
        model_dir: where TensorBoard's curves go.
        learning_rate_scale: factor on the schedule's learning rate.
        described: whether to print gradients and logits of some steps, see
            optimisation/step_description.py.

    The model_fn takes the features and labels of optimisation/step.py. For prediction the labels
    are among the features, see networks/prediction.py.
    """

    def model_fn(features: Tensors, labels: Tensors | None, mode: str, params: Any) -> Any:
        modes = tf.estimator.ModeKeys
        spec = tf.compat.v1.estimator.tpu.TPUEstimatorSpec
        cores = config.training.train_batch_size // params["batch_size"]
        several = mode == modes.TRAIN and params["use_tpu"] and cores > 1
        replicas = TpuCores(cores) if several else ALONE
        network = registry.build(
            config.network, config.training.random_seed, params["use_tpu"], replicas
        )
        if mode == modes.PREDICT:
            return spec(mode, predictions=predict(network, features, config.training.bfloat16))
        assert labels is not None
        if mode == modes.EVAL:
            loss, metrics = _evaluate(network, config, features, labels)
            return spec(mode, loss=loss, eval_metrics=metrics)
        state = TrainingState(network, tf.compat.v1.train.get_global_step())
        step = training_step(
            network, state, config.training, features, labels, learning_rate_scale, replicas
        )
        host_call = _curves(step, model_dir)
        if described:
            host_call = _describe_too(host_call, step, features, labels, config)
        return spec(mode, loss=step.curves["loss"], train_op=step.update, host_call=host_call)

    return model_fn


# --- Evaluation -----------------------------------------------------------------------------------


def _evaluate(
    network: registry.Network, config: ModelConfig, features: Tensors, labels: Tensors
) -> tuple[tf.Tensor, Any]:
    """Returns the loss of a batch, and the metrics of the whole set as TPUEstimator takes them."""
    logits, output_length = network(
        features["features"],
        features["feature_length"],
        compute_dtype=tf.bfloat16 if config.training.bfloat16 else tf.float32,
    )
    label, label_length, weight = labels["label"], labels["label_length"], labels["weight"]
    letters = logits[..., : network.config.labels]
    losses = ctc_loss(letters, output_length, label, label_length)  # [batch]
    aligned = tf.cast(alignable(label, label_length, output_length), tf.float32)  # [batch]
    loss = tf.math.divide_no_nan(tf.reduce_sum(losses * weight), tf.reduce_sum(weight))
    return loss, (_metrics, [losses, weight, aligned])


def _metrics(losses: tf.Tensor, weight: tf.Tensor, aligned: tf.Tensor) -> dict[str, Any]:
    """Computes exact means over the whole set; losses, weight, aligned: [batch].

    Examples that fill up the last batch have the weight 0.
    """
    return {
        "ctc_loss": tf.compat.v1.metrics.mean(losses, weights=weight * aligned),
        # Number of utterances too short for their transcript.
        "unalignable_utterances": tf.compat.v1.metrics.false_negatives(
            tf.ones_like(aligned), aligned, weight
        ),
    }


# --- What a step reports to the host --------------------------------------------------------------


def _curves(step: Step, model_dir: str) -> HostCall:
    """Makes the host_call that writes TensorBoard's curves, whose first tensor is the step."""
    names = list(step.curves)

    def write(*received: tf.Tensor) -> Any:
        number, *values = (each[0] for each in received)  # the same on all cores
        writer = tf.summary.create_file_writer(model_dir)
        curves.write(writer, number, dict(zip(names, values, strict=True)))
        return tf.compat.v1.summary.all_v2_summary_ops()

    return write, [tf.reshape(value, [1]) for value in (step.number, *step.curves.values())]


def _describe_too(
    host_call: HostCall, step: Step, features: Tensors, labels: Tensors, config: ModelConfig
) -> HostCall:
    """Extends a host_call by a description of the first core's part of some steps."""
    write, tensors = host_call
    values = step_description.described_values(step, features, labels)

    def write_and_describe(*received: tf.Tensor) -> Any:
        number = received[0][0]
        description = tf.cond(
            tf.equal(number % step_description.STEPS, 0),
            lambda: step_description.describe(
                number,
                _of_first_core(received[len(tensors) :]),
                step.gradients,
                config.alphabet,
            ),
            tf.no_op,
            name="describe_step",
        )
        return tf.group(*tf.nest.flatten(write(*received[: len(tensors)])), description)

    norms, *utterance = values
    return write_and_describe, [*tensors, norms[tf.newaxis], *utterance]


def _of_first_core(received: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    norms, *utterance = received
    return [norms[0], *(each[:1] for each in utterance)]
