"""Defines the training step of a network: the model_fn that TPUEstimator trains."""

from collections.abc import Callable
from typing import Any

import constants  # noqa: F401 - sets what TensorFlow reads when it is imported

try:
    import tensorflow as tf
except ModuleNotFoundError:
    raise SystemExit(
        "error: TensorFlow is not installed. On a CPU: pip install -e '.[cpu]', with an Nvidia "
        "GPU: pip install -e '.[gpu]'; a TPU VM has its own."
    ) from None

from speech.engines import step_state
from speech.layers import cross_replica
from speech.layers.basic import NO_DROPOUT, Dropout
from speech.layers.ctc_loss import alignable, ctc_loss
from speech.networks import registry
from speech.networks.config import ModelConfig
from speech.training import step_description
from speech.training.learning_rate import learning_rate_tensor

Tensors = dict[str, tf.Tensor]

# Steps between two points of a TensorBoard curve.
SUMMARY_STEPS = 50


# --- The model_fn ---------------------------------------------------------------------------------


def model_fn_builder(
    config: ModelConfig, model_dir: str, learning_rate_scale: float = 1.0, described: bool = False
) -> Callable[..., Any]:
    """Builds a model_fn for TPUEstimator.

    Args:
        model_dir: where TensorBoard's curves go.
        learning_rate_scale: factor on the schedule's learning rate.
        described: whether to print gradients and logits of some steps, see
            training/step_description.py.

    The model_fn takes

    features: {"features": float32 [batch, frames, bins], "feature_length": int32 [batch]}
    labels: {"label": int32 [batch, labels], "label_length": int32 [batch],
             "weight": float32 [batch], 0 for an example that only fills up a batch}

    For prediction the labels are among the features, and so is "utterance_number" int32 [batch],
    which comes back with the predictions (see input_pipeline/evaluation_input.py).
    """

    def model_fn(features: Tensors, labels: Tensors | None, mode: str, params: Any) -> Any:
        training = mode == tf.estimator.ModeKeys.TRAIN
        targets = features if labels is None else labels
        random_seed = config.training.random_seed
        network = registry.build(config.network, random_seed, params["use_tpu"])
        dropout = NO_DROPOUT
        if training:
            seed = _dropout_seed(random_seed, features["feature_length"])
            dropout = Dropout(config.training.dropout, seed)
        logits, output_length = network(
            features["features"],
            features["feature_length"],
            dropout,
            compute_dtype=tf.bfloat16 if config.training.bfloat16 else tf.float32,
            training=training,
        )
        label, label_length = targets["label"], targets["label_length"]
        with tf.name_scope("loss"):
            losses = ctc_loss(logits, output_length, label, label_length)  # [batch]
        aligned = tf.cast(alignable(label, label_length, output_length), tf.float32)  # [batch]
        spec = tf.compat.v1.estimator.tpu.TPUEstimatorSpec
        if mode == tf.estimator.ModeKeys.PREDICT:
            predictions = _predictions(logits, output_length, losses, aligned)
            predictions["utterance_number"] = features["utterance_number"]
            return spec(mode, predictions=predictions)
        weight = targets["weight"]
        utterances, unaligned = cross_replica.total(
            [tf.reduce_sum(weight), tf.reduce_sum((1.0 - aligned) * weight)]
        )
        # The mean over replicas of this loss is that of the batch, also if their parts of the batch
        # have different numbers of utterances.
        summed = tf.reduce_sum(losses * weight) * cross_replica.count()
        loss = tf.math.divide_no_nan(summed, utterances)
        if not training:
            return spec(mode, loss=loss, eval_metrics=(_metrics, [losses, weight, aligned]))
        cores = config.training.train_batch_size // params["batch_size"]
        cores = cores if params["use_tpu"] else 1
        step = tf.cast(tf.compat.v1.train.get_global_step(), tf.float32)
        learning_rate = learning_rate_scale * learning_rate_tensor(config.training, step)
        train_op, curves, gradients = _optimise(
            loss, network, learning_rate, config.training.clip_gradients, cores
        )
        curves["unalignable_utterances"] = tf.cast(unaligned, tf.int32)
        host_call = _summaries(curves, model_dir)
        if described:
            values = step_description.StepValues(
                {name: tf.norm(each) for name, each in gradients.items()},
                features["features"],
                features["feature_length"],
                logits,
                output_length,
                label,
                label_length,
            )
            host_call = step_description.describe_too(host_call, values, config.alphabet)
        return spec(mode, loss=curves["loss"], train_op=train_op, host_call=host_call)

    return model_fn


def _dropout_seed(random_seed: int, feature_length: tf.Tensor) -> tf.Tensor:
    """Returns a seed, int32 [2]; feature_length: int32 [batch].

    It is the same for the same step of a resumed training, and differs between cores.
    """
    step = tf.cast(tf.compat.v1.train.get_global_step(), tf.int32)
    # Squared so that few batches have the same sum; an overflow wraps around.
    places = 2 * tf.range(tf.size(feature_length)) + 1
    return tf.stack([random_seed + step, tf.reduce_sum(tf.square(feature_length) * places)])


def _predictions(
    logits: tf.Tensor, output_length: tf.Tensor, losses: tf.Tensor, aligned: tf.Tensor
) -> Tensors:
    return {
        "log_probs": tf.nn.log_softmax(logits),  # [batch, outputs, classes]
        "output_length": output_length,  # [batch]
        "ctc_loss": losses,  # [batch]
        "aligned": aligned,  # [batch], 0 where there is no loss
    }


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


def _optimise(
    loss: tf.Tensor,
    network: registry.Network,
    learning_rate: tf.Tensor,
    clip_gradients: float,
    cores: int,
) -> tuple[tf.Operation, Tensors, Tensors]:
    """Takes one step of Adam (arXiv 1412.6980).

    A step whose loss or gradient isn't finite leaves the network as it is and is counted; the curve
    of its loss has 0, since the estimator would end the training.

    Args:
        loss: of this core's or replica's part of the batch, a scalar.
        cores: of a TPU, among which the batch is divided.

    Returns:
        The step's operation; the training's curves, scalars; the gradients before clipping, by
        their variables' names.
    """
    variables = network.trainable_variables
    gradients = tf.gradients(loss, variables)
    if cores > 1:
        # Summed over the cores before clipping, which is by the norm of the whole batch's gradient.
        # CrossShardOptimizer would sum afterwards.
        loss = tf.compat.v1.tpu.cross_replica_sum(loss / cores)
        gradients = [tf.compat.v1.tpu.cross_replica_sum(each / cores) for each in gradients]
    *gradients, loss = cross_replica.mean([*gradients, loss])
    unclipped = {
        each.name.removesuffix(":0"): gradient
        for each, gradient in zip(variables, gradients, strict=True)
    }
    norm = tf.linalg.global_norm(gradients)
    finite = tf.math.is_finite(loss + norm)
    if clip_gradients:
        gradients, _ = tf.clip_by_global_norm(gradients, clip_gradients, norm)
    # The optimizer sums the replicas' gradients, which are the same.
    gradients = [
        tf.where(finite, each, tf.zeros_like(each)) / cross_replica.count() for each in gradients
    ]
    # With a rate of 0 the momentum of earlier steps changes nothing either.
    optimizer = tf.compat.v1.train.AdamOptimizer(tf.where(finite, learning_rate, 0.0))
    step = tf.compat.v1.train.get_global_step()
    loss, norm = tf.where(finite, loss, 0.0), tf.where(finite, norm, 0.0)
    averages = [
        moving.assign(tf.where(finite, value, moving), read_value=False)
        for moving, value in network.moving_updates
    ]
    # Before the step is counted.
    with tf.control_dependencies([step_state.update(step, loss, finite), *averages]):
        train_op = optimizer.apply_gradients(zip(gradients, variables, strict=True), step)
    curves = {"loss": loss, "learning_rate": learning_rate, "gradient_norm": norm}
    return train_op, curves, unclipped


def _summaries(curves: Tensors, model_dir: str) -> tuple[Callable[..., Any], list[tf.Tensor]]:
    """Makes TPUEstimator's host_call, which writes TensorBoard's curves on the host.

    Each core has its value of a curve. Integers, which count, are summed over the cores. Of the
    rest the mean is taken: that of the losses is the batch's, since all cores have the same number
    of utterances, and learning rate and norm are the same on all.

    curves: name -> scalar.
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
