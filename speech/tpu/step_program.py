"""The program that one TPU core runs in a training step, in the form that XLA compiles."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.compiler.xla.service import hlo_pb2

# HLO's number of the random generator that is the machine's fastest.
RNG_DEFAULT = 0


def training_step(
    model_fn: Callable[..., Any], batch: int, frames: int, bins: int, labels: int
) -> bytes:
    """Lowers the training step that `model_fn` builds for a TPU with one core.

    TensorFlow lowers it for this machine's CPU. On a TPU only the random numbers of the dropout
    differ, and they are replaced. The sum of gradients over cores is not part of the program.

    Args:
        model_fn: from model.model_fn_builder, with a train_batch_size of `batch`.
        batch: number of utterances.
        frames: length that utterances are padded to.
        bins: bins of the features.
        labels: length that transcripts are padded to.

    Returns:
        A serialized HLO module. Its first arguments are the batch: features float32 [batch, frames,
        bins], their lengths int32 [batch], labels int32 [batch, labels], their lengths int32
        [batch], weights float32 [batch].
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

    # Variables are created where the step is traced, as in TPUEstimator's graph.
    wrapped = tf.compat.v1.wrap_function(step, shapes)
    compilable = tf.function(
        lambda *arguments: wrapped(*arguments), jit_compile=True, autograph=False
    )
    lowered = compilable.experimental_get_compiler_ir(*shapes)
    return with_own_generator(lowered(stage="hlo_serialized", device_name="/device:CPU:0"))


def with_own_generator(hlo: bytes) -> bytes:
    """Replaces the random generator of a CPU by that of a TPU.

    Stateless random numbers are drawn by Philox on a CPU and by the hardware on a TPU
    (DefaultRngAlgForDeviceType in TensorFlow's stateless_random_ops.cc), whose state has two words,
    not three. Philox on a TPU's vector unit would take half of the default network's step.
    """
    module = hlo_pb2.HloModuleProto.FromString(hlo)
    new_id = 1 + max(each.id for part in module.computations for each in part.instructions)
    for computation in module.computations:
        shapes = {each.id: each.shape for each in computation.instructions}
        states: dict[int, int] = {}  # id of what draws -> id of the state it draws from
        ordered = []
        for each in computation.instructions:
            if each.opcode == "rng-bit-generator":
                states[each.id] = state = each.operand_ids[0]
                words = hlo_pb2.HloInstructionProto(
                    name=f"slice.{new_id}", opcode="slice", id=new_id, operand_ids=[state]
                )
                words.shape.CopyFrom(shapes[state])
                words.shape.dimensions[0] = each.shape.tuple_shapes[0].dimensions[0] = 2
                words.slice_dimensions.add(start=0, limit=2, stride=1)
                each.rng_algorithm, each.operand_ids[0] = RNG_DEFAULT, new_id
                ordered.append(words)
                new_id += 1
            elif _is_first(each) and each.operand_ids[0] in states:
                # The state after drawing, which nothing uses; a copy keeps its shape.
                each.opcode, each.operand_ids[0] = "copy", states[each.operand_ids[0]]
            ordered.append(each)
        # Serialized first, because clearing a message's list invalidates its elements.
        serialized = [each.SerializeToString() for each in ordered]
        del computation.instructions[:]
        for each in serialized:
            computation.instructions.add().ParseFromString(each)
    return module.SerializeToString()


def _is_first(instruction: Any) -> bool:
    """Returns whether an instruction takes the first element of a tuple."""
    return instruction.opcode == "get-tuple-element" and instruction.tuple_index == 0
