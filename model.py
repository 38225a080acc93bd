"""The loss of a network of speech.networks, and the model_fn that TPUEstimator trains."""

from collections.abc import Callable
from typing import Any

try:
    import tensorflow as tf
except ModuleNotFoundError:
    raise SystemExit(
        "error: TensorFlow is not installed. On a CPU: pip install -e '.[cpu]', with an Nvidia "
        "GPU: pip install -e '.[gpu]'; a TPU VM brings its own."
    ) from None

from speech.layers import cross_replica
from speech.layers.basic import NO_DROPOUT, Dropout
from speech.layers.ctc_loss import alignable, ctc_loss
from speech.networks import registry
from speech.networks.config import ModelConfig
from speech.training import step_description, step_state

Tensors = dict[str, tf.Tensor]

# Steps between two points of a TensorBoard curve.
SUMMARY_STEPS = 50


# --- The model_fn ---------------------------------------------------------------------------------


def model_fn_builder(
    config: ModelConfig, model_dir: str, learning_rate_scale: float = 1.0, described: bool = False
) -> Callable[..., Any]:
    """A model_fn for TPUEstimator.

    learning_rate_scale: factor on the schedule's learning rate, of training/early_stopping.py.
    described: gradients and logits of some steps are printed, see training/step_description.py.

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
        # Replicas have parts of a batch, incomplete ones, too: the mean of their losses is its own.
        own = tf.reduce_sum(losses * weight) * cross_replica.count()
        loss = tf.math.divide_no_nan(own, utterances)
        if not training:
            return spec(mode, loss=loss, eval_metrics=(_metrics, [losses, weight, aligned]))
        cores = config.training.train_batch_size // params["batch_size"]
        cores = cores if params["use_tpu"] else 1
        step = tf.cast(tf.compat.v1.train.get_global_step(), tf.float32)
        learning_rate = learning_rate_scale * config.training.learning_rate_at(step, tf)
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
    """int32 [2], of the random seed, the step and the lengths of a batch, int32 [batch].

    The same for the same step of a run that was resumed, another one for each core.
    """
    step = tf.cast(tf.compat.v1.train.get_global_step(), tf.int32)
    # Squared so that few batches have the same sum; what overflows wraps around.
    places = 2 * tf.range(tf.size(feature_length)) + 1
    return tf.stack([random_seed + step, tf.reduce_sum(tf.square(feature_length) * places)])


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
    loss: tf.Tensor,
    network: registry.Network,
    learning_rate: tf.Tensor,
    clip_gradients: float,
    cores: int,
) -> tuple[tf.Operation, Tensors, Tensors]:
    """One step of Adam (arXiv 1412.6980); also returns the training's curves and the gradients.

    The gradients are by their variables' names, before they are clipped.

    A step whose loss or gradient isn't finite leaves the network as it is and is counted; its loss
    is told as 0, since the estimator would end the training.
    """
    variables = network.trainable_variables
    gradients = tf.gradients(loss, variables)
    if cores > 1:
        # Summed over the cores before they are clipped: the norm that counts is that of the whole
        # batch. CrossShardOptimizer would sum afterwards.
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
    # The optimizer sums what the replicas bring, and they bring the same.
    gradients = [
        tf.where(finite, each, tf.zeros_like(each)) / cross_replica.count() for each in gradients
    ]
    # With a rate of 0 the momentum of the steps before moves nothing either.
    optimizer = tf.compat.v1.train.AdamOptimizer(tf.where(finite, learning_rate, 0.0))
    step = tf.compat.v1.train.get_global_step()
    loss, norm = tf.where(finite, loss, 0.0), tf.where(finite, norm, 0.0)
    moved = [
        moving.assign(tf.where(finite, value, moving), read_value=False)
        for moving, value in network.moving_updates
    ]
    # Before the step is counted.
    with tf.control_dependencies([step_state.updated(step, loss, finite), *moved]):
        train_op = optimizer.apply_gradients(zip(gradients, variables, strict=True), step)
    curves = {"loss": loss, "learning_rate": learning_rate, "gradient_norm": norm}
    return train_op, curves, unclipped


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
