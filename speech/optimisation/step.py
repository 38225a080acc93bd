"""The training step: network, loss, gradients, Adam. Every engine runs this one.

A replica computes the step of its part of a batch; sums over the replicas make the result that of
the whole batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from speech.layers.basic import Dropout
from speech.layers.cross_replica import Replicas
from speech.layers.ctc_loss import alignable, ctc_loss
from speech.networks.config import TrainingConfig
from speech.networks.network import Network
from speech.optimisation.adam import assign, name_of
from speech.optimisation.learning_rate import learning_rate_tensor
from speech.optimisation.state import TrainingState

Tensors = dict[str, tf.Tensor]

INTERMEDIATE_LOSS = 0.3  # weight of a loss of intermediate logits (arXiv 2102.03216, section 4.2)


@dataclass(frozen=True)
class Step:
    """The tensors of a training step, as one replica has them."""

    number: tf.Tensor  # int64 scalar, the steps before this one
    # Scalars, the same on all replicas: loss, learning_rate, gradient_norm (float32) and
    # unalignable_utterances (int32).
    curves: Tensors
    update: tf.Operation  # assigns the new values
    gradients: Tensors  # by their variables' names, of the whole batch, before clipping
    logits: tf.Tensor  # float32 [batch, outputs, classes]
    output_length: tf.Tensor  # int32 [batch]


def training_step(
    network: Network,
    state: TrainingState,
    config: TrainingConfig,
    features: Tensors,
    labels: Tensors,
    learning_rate_scale: float | tf.Tensor,
    replicas: Replicas,
) -> Step:
    """Takes one step.

    A step whose loss or gradient isn't finite leaves the network as it is and is counted; the curve
    of its loss has 0.

    Args:
        features: "features" float32 [batch, frames, bins], "feature_length" int32 [batch].
        labels: "label" int32 [batch, labels], "label_length" int32 [batch], "weight" float32
            [batch], 0 for an utterance that only fills up a batch; with a lexicon also "phone"
            int32 [batch, phones] and "phone_length" int32 [batch].
        learning_rate_scale: factor on the schedule's learning rate.
        replicas: those that take the step together, each with its part of the batch.
    """
    number = state.step.read_value()
    logits, output_length = network(
        features["features"],
        features["feature_length"],
        Dropout(config.dropout, dropout_seed(config.random_seed, number, features)),
        compute_dtype=tf.bfloat16 if config.bfloat16 else tf.float32,
        training=True,
    )
    loss, unaligned = batch_loss(
        logits, network.intermediate_logits, output_length, labels, network.config.labels, replicas
    )
    trained = state.optimiser.trained
    *gradients, loss = replicas.mean([*tf.gradients(loss, trained), loss])
    named = {name_of(each): gradient for each, gradient in zip(trained, gradients, strict=True)}
    norm = tf.linalg.global_norm(gradients)
    finite = tf.math.is_finite(loss + norm)
    if config.clip_gradients:
        gradients, _ = tf.clip_by_global_norm(gradients, config.clip_gradients, norm)
    gradients = [tf.where(finite, each, tf.zeros_like(each)) for each in gradients]
    rate = learning_rate_scale * learning_rate_tensor(config, tf.cast(number, tf.float32))
    loss, norm = tf.where(finite, loss, 0.0), tf.where(finite, norm, 0.0)
    # With a rate of 0 the momentum of earlier steps changes nothing either.
    updates = state.optimiser.apply(gradients, tf.where(finite, rate, 0.0))
    for average, value in network.moving_updates:
        updates.append(assign(average, tf.where(finite, value, average.read_value())))
    with tf.control_dependencies(updates):  # counted when it is taken
        update = tf.group(state.count_step(number, loss, finite))
    curves = {
        "loss": loss,
        "learning_rate": rate,
        "gradient_norm": norm,
        "unalignable_utterances": unaligned,
    }
    return Step(number, curves, update, named, logits, output_length)


def batch_loss(
    logits: tf.Tensor,
    intermediate: Sequence[tf.Tensor],
    output_length: tf.Tensor,
    labels: Tensors,
    label_classes: int,
    replicas: Replicas,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes the mean CTC loss of a batch's utterances.

    Args:
        logits: float32 [batch, outputs, classes], of this replica's part of the batch.
        intermediate: logits of layers before the last.
        output_length: int32 [batch].
        labels: see `training_step`.
        label_classes: number of classes of the labels; those of the phones follow.

    Returns:
        float32 scalar, whose mean over the replicas is the loss of the whole batch, also if their
        parts have different numbers of utterances; int32 scalar, the number of utterances of the
        whole batch that have more labels than outputs, and so no loss.
    """
    label, label_length, weight = labels["label"], labels["label_length"], labels["weight"]
    with tf.name_scope("loss"):
        losses = output_loss(logits, output_length, labels, label_classes)  # [batch]
        for others in intermediate:
            of_others = output_loss(others, output_length, labels, label_classes)
            losses += INTERMEDIATE_LOSS * (of_others - losses)
    aligned = tf.cast(alignable(label, label_length, output_length), tf.float32)  # [batch]
    utterances, unaligned = replicas.total(
        [tf.reduce_sum(weight), tf.reduce_sum((1.0 - aligned) * weight)]
    )
    summed = tf.reduce_sum(losses * weight) * replicas.count
    return tf.math.divide_no_nan(summed, utterances), tf.cast(unaligned, tf.int32)


def output_loss(
    logits: tf.Tensor, output_length: tf.Tensor, labels: Tensors, label_classes: int
) -> tf.Tensor:
    """Returns the CTC loss of each utterance, float32 [batch]: the mean over letters and phones.

    The arguments are those of `batch_loss`. Without a lexicon only the letters count.
    """
    letters = logits[..., :label_classes]
    losses = ctc_loss(letters, output_length, labels["label"], labels["label_length"])
    if "phone" not in labels:
        return losses
    phones = logits[..., label_classes:]
    of_phones = ctc_loss(phones, output_length, labels["phone"], labels["phone_length"])
    return (losses + of_phones) / 2


def dropout_seed(random_seed: int, step: tf.Tensor, features: Tensors) -> tf.Tensor:
    """Returns the seed of a step's dropout, int32 [2].

    It is the same for the same step of a resumed training, and differs between replicas.

    Args:
        step: int64 scalar.
        features: see `training_step`.
    """
    feature_length = features["feature_length"]
    # Squared so that few batches have the same sum; an overflow wraps around.
    places = 2 * tf.range(tf.size(feature_length)) + 1
    own = tf.reduce_sum(tf.square(feature_length) * places)
    return tf.stack([random_seed + tf.cast(step, tf.int32), own])
