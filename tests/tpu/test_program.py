"""Lowered functions on devices that stand in for a TPU's cores, and compiled for TPUs."""

import re
from typing import Any

import host_devices  # before jax is imported
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from speech.layers.cross_replica import XlaReplicas
from speech.tpu.cores import Cores, State, described_cores, fetch, fetch_first, host_cores
from speech.tpu.lowering import Lowered, lower
from speech.tpu.program import Program, explained_errors
from utils import UserError

Array = npt.NDArray[Any]

ROWS = 8  # over all cores


class Sums:
    """A function whose variable learns from the whole batch."""

    def __init__(self, cores: int) -> None:
        self.replicas = XlaReplicas(cores)
        self.rows = ROWS // cores
        self.variables = {
            "total": tf.Variable(np.zeros([3], np.float32)),
            "factor": tf.Variable(np.float32(2)),
            "step": tf.Variable(np.int64(2**40)),
        }

    def __call__(self, values: tf.Tensor) -> dict[str, tf.Tensor]:
        total, step = self.variables["total"], self.variables["step"]
        scaled = values * self.variables["factor"]
        (of_batch,) = self.replicas.total([tf.reduce_sum(scaled, axis=0)])
        total.assign_add(of_batch)
        step.assign_add(1)
        return {"scaled": scaled, "norm": tf.norm(of_batch)}

    def lowered(self, for_tpu: bool = False) -> Lowered:
        return lower(self, self.variables, [tf.TensorSpec([self.rows, 3])], for_tpu)

    def state(self, cores: Cores) -> State:
        return cores.replicate({name: each.numpy() for name, each in self.variables.items()})


def batches(count: int) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=[ROWS, 3]).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_variables_learn_from_the_parts_of_all_cores(count: int) -> None:
    sums, cores = Sums(count), host_cores(count)
    lowered = sums.lowered()
    run, state = Program(lowered.hlo, cores), sums.state(cores)
    assert cores.count == count and cores.hosts == 1 and not cores.are_tpu
    given = batches(3)
    expected = np.zeros([3], np.float32)
    for batch in given:
        found, state = run(state, cores.split(lowered.flatten(batch)))
        outputs = lowered.pack(found)
        np.testing.assert_array_equal(outputs["scaled"], 2 * batch)
        np.testing.assert_allclose(outputs["norm"], np.linalg.norm(2 * batch.sum(0)), rtol=1e-6)
        expected += 2 * batch.sum(0)
    values = fetch(state)
    np.testing.assert_allclose(values["total"], expected, rtol=1e-6)
    assert values["step"] == 2**40 + 3 and values["step"].dtype == np.int64
    assert values["factor"] == 2


def test_new_values_take_the_memory_of_the_old_ones() -> None:
    sums, cores = Sums(2), host_cores(2)
    lowered = sums.lowered()
    before = sums.state(cores)
    (batch,) = batches(1)
    _, after = Program(lowered.hlo, cores)(before, cores.split(lowered.flatten(batch)))
    assert {name for name, each in before.items() if each.is_deleted()} == {"total", "step"}
    assert after["factor"] is before["factor"]
    memory = Program(lowered.hlo, cores).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= 3 * 4 + 8


def test_gradients_of_a_sum_come_from_all_cores() -> None:
    replicas = XlaReplicas(2)
    weight = tf.Variable(np.float32(3))

    def gradient(values: tf.Tensor) -> tf.Tensor:
        (total,) = replicas.total([tf.reduce_sum(values * weight)])
        (mean,) = replicas.mean(tf.gradients(tf.square(total), [weight]))
        return mean

    cores = host_cores(2)
    lowered = lower(gradient, {"weight": weight}, [tf.TensorSpec([2])])
    state = cores.replicate({"weight": weight.numpy()})
    values = np.array([1, 2, 3, 4], np.float32)
    (found,), _ = Program(lowered.hlo, cores)(state, cores.split(lowered.flatten(values)))
    # Each of the two replicas has the whole square in its loss, and the mean is over both.
    assert float(found) == pytest.approx(2 * 3 * values.sum() ** 2)


def test_first_core_has_its_part_of_an_output() -> None:
    sums, cores = Sums(2), host_cores(2)
    lowered = sums.lowered()
    (batch,) = batches(1)
    program = Program(lowered.hlo, cores)
    found, _ = program(sums.state(cores), cores.split(lowered.flatten(batch)))
    outputs = lowered.pack(found)
    first = fetch_first(outputs)
    np.testing.assert_array_equal(first["scaled"], 2 * batch[: ROWS // 2])
    assert first["norm"] == outputs["norm"]


def test_want_of_memory_is_explained_and_other_errors_are_not() -> None:
    error = host_devices.jax.errors.JaxRuntimeError
    with pytest.raises(UserError) as explained, explained_errors("Lower --train_batch_size"):
        raise error("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm.\nMore")
    assert str(explained.value) == (
        "A core's memory is too small: RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. "
        "Lower --train_batch_size."
    )
    with pytest.raises(error, match="INTERNAL"), explained_errors("Lower it"):
        raise error("INTERNAL: no idea")


# --- The TPU's compiler ---------------------------------------------------------------------------


@pytest.mark.parametrize("topology", ["v5e:2x2", "v6e:2x2", "v5p:2x2x1", "tpu7x:2x2x1"])
def test_program_of_all_cores_compiles_for_a_tpu(topology: str) -> None:
    pytest.importorskip("libtpu", reason="libtpu is not installed")
    cores = described_cores(topology)
    assert cores.are_tpu and cores.count == (8 if topology.startswith("tpu7x") else 4)
    compiled = Program(Sums(cores.count).lowered(for_tpu=True).hlo, cores).compile()
    text = compiled.as_text()
    assert len(re.findall(r" all-reduce(?:-start)?\(", text)) == 1
    assert f"replica_groups={{{{{','.join(map(str, range(cores.count)))}}}}}" in text, text
    assert compiled.memory_analysis().alias_size_in_bytes
