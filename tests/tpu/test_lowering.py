"""Functions that TensorFlow lowers: parameters, results and what is assigned."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.compiler.xla.service import hlo_pb2

from speech.tpu.hlo import Array
from speech.tpu.lowering import Lowered, lower
from speech.tpu.random_numbers import RNG_DEFAULT

VARIABLES = {
    "read": tf.Variable(2.0, name="read"),
    "kernel": tf.Variable(np.ones([3], np.float32), name="kernel"),
    "unused": tf.Variable(np.ones([4], np.float32), name="unused"),
    "step": tf.Variable(np.int64(0), name="step"),
}
BATCH = {"values": tf.TensorSpec([2, 3]), "length": tf.TensorSpec([2], tf.int32)}


def step(batch: dict[str, tf.Tensor], scale: tf.Tensor) -> dict[str, tf.Tensor]:
    kernel, count = VARIABLES["kernel"], VARIABLES["step"]
    rows = tf.reduce_sum(batch["values"] * kernel, axis=1) * scale  # [2]
    tf.raw_ops.AssignVariableOp(resource=kernel.handle, value=kernel * VARIABLES["read"])
    count.assign_add(1)
    return {"rows": rows, "constant": tf.constant(7), "length": batch["length"]}


@pytest.fixture(scope="module")
def lowered() -> Lowered:
    return lower(step, VARIABLES, [BATCH, tf.TensorSpec([])])


def test_parameters_are_the_arguments_and_the_variables_in_use(lowered: Lowered) -> None:
    module = hlo_pb2.HloModuleProto.FromString(lowered.hlo.module)
    shapes = [tuple(each.dimensions) for each in module.host_program_shape.parameters]
    assert shapes[:3] == [(2,), (2, 3), ()]  # length, values, scale
    hlo = lowered.hlo
    assert shapes == [each.shape for each in (*hlo.arguments, *hlo.variables.values())]
    assert set(hlo.variables) == {"read", "kernel", "step"}
    assert hlo.variables["step"] == Array((), "int64")


def test_results_are_the_outputs_and_the_assigned_variables(lowered: Lowered) -> None:
    assert set(lowered.hlo.written) == {"kernel", "step"}
    assert lowered.outputs == {
        "rows": tf.TensorSpec([2]),
        "constant": tf.TensorSpec([], tf.int32),
        "length": tf.TensorSpec([2], tf.int32),
    }
    module = hlo_pb2.HloModuleProto.FromString(lowered.hlo.module)
    results = module.host_program_shape.result.tuple_shapes
    assert [tuple(each.dimensions) for each in results] == [
        each.shape for each in lowered.hlo.results
    ]


def test_arguments_and_outputs_keep_their_structure(lowered: Lowered) -> None:
    assert lowered.flatten({"values": 1, "length": 2}, 3) == [2, 1, 3]
    assert lowered.pack([5, 6, 7]) == {"constant": 5, "length": 6, "rows": 7}
    with pytest.raises(ValueError, match="same nested structure"):
        lowered.flatten({"values": 1}, 3)


def test_nothing_runs_while_it_is_lowered(lowered: Lowered) -> None:
    assert VARIABLES["step"].numpy() == 0


def test_variables_that_are_not_given_are_refused() -> None:
    with pytest.raises(KeyError):
        lower(step, {"step": VARIABLES["step"]}, [BATCH, tf.TensorSpec([])])


@pytest.mark.parametrize("for_tpu", [False, True])
def test_random_numbers_are_drawn_by_the_tpus_generator_on_a_tpu_alone(for_tpu: bool) -> None:
    def draw(seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform([5, 7], seed)

    lowered = lower(draw, {}, [tf.TensorSpec([2], tf.int32)], for_tpu=for_tpu)
    module = hlo_pb2.HloModuleProto.FromString(lowered.hlo.module)
    drawn = [
        each
        for computation in module.computations
        for each in computation.instructions
        if each.opcode == "rng-bit-generator"
    ]
    assert [each.rng_algorithm == RNG_DEFAULT for each in drawn] == [for_tpu]
