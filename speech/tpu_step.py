"""The program that one TPU core runs in a training step, as XLA's compiler is given it."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def training_step(
    model_fn: Callable[..., Any], batch: int, frames: int, bins: int, labels: int
) -> bytes:
    """A serialized HLO module of what `model_fn` builds to train on a TPU with one core.

    TensorFlow lowers it for XLA on this machine's CPU; what a TPU's own lowering would do otherwise
    (random numbers of the dropout) is little. The sum of gradients over cores isn't in it.

    Args:
        model_fn: from model.model_fn_builder, of a configuration whose train_batch_size is `batch`.
        batch: utterances.
        frames: that each is padded to.
        bins: of the features.
        labels: that each transcript is padded to.
    """
    shapes = [
        tf.TensorSpec([batch, frames, bins], tf.float32),
        tf.TensorSpec([batch], tf.int32),
        tf.TensorSpec([batch, labels], tf.int32),
        tf.TensorSpec([batch], tf.int32),
        tf.TensorSpec([batch], tf.float32),
    ]

    def step(
        features: tf.Tensor,
        feature_length: tf.Tensor,
        label: tf.Tensor,
        label_length: tf.Tensor,
        weight: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        tf.compat.v1.train.get_or_create_global_step()
        spec = model_fn(
            {"features": features, "feature_length": feature_length},
            {"label": label, "label_length": label_length, "weight": weight},
            tf.estimator.ModeKeys.TRAIN,
            {"batch_size": batch, "use_tpu": True},
        )
        with tf.control_dependencies([spec.train_op]):
            return tuple(tf.identity(each) for each in spec.host_call[1])

    # Variables are made where the step is traced, as in TPUEstimator's graph.
    wrapped = tf.compat.v1.wrap_function(step, shapes)
    compilable = tf.function(
        lambda *arguments: wrapped(*arguments), jit_compile=True, autograph=False
    )
    lowered = compilable.experimental_get_compiler_ir(*shapes)
    return lowered(stage="hlo_serialized", device_name="/device:CPU:0")
