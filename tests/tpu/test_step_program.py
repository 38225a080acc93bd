"""The program of a training step: its parts, and the graph that TPUEstimator builds for a TPU."""

from collections import Counter
from typing import Any

import faked_tpu
import pytest
import tensorflow as tf
from tensorflow.compiler.xla import xla_data_pb2
from tensorflow.compiler.xla.service import hlo_pb2
from tiny_shards import random_utterances, write_shards

import model
from speech.engines.devices import has_estimator
from speech.features.front_end import FrontEnd
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.training_input import TrainingInput, training_input_fn
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig
from speech.tpu.estimate import PARTS
from speech.tpu.lowering import lowers_sums
from speech.tpu.random_numbers import RNG_DEFAULT
from speech.tpu.step_program import StepProgram, core_batch
from utils import ENGLISH

if has_estimator():
    from speech.engines import tpu_estimator

BATCH, FRAMES, BINS, LABELS = 4, 40, 8, 12
NETWORK = NetworkConfig.of(
    BINS, ENGLISH.size, conv_channels=(2, 3), recurrent_unit_size=8, context_size=5
)

ARGUMENTS = 7  # of the program, before the variables

# Operations by whose names two graphs are compared.
PRODUCTS = ("Conv2D", "MatMul", "Einsum")

Shape = tuple[str, tuple[int, ...]]  # type, and lengths of the axes


def model_config(bfloat16: bool) -> ModelConfig:
    training = TrainingConfig(train_batch_size=BATCH, bfloat16=bfloat16)
    return ModelConfig(FrontEnd(mel_filters=BINS), ENGLISH, NETWORK, training)


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "bfloat16"])
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return model_config(bfloat16=request.param)


def lowered_step(
    config: ModelConfig, cores: int = 1, frames: int = FRAMES, labels: int = LABELS
) -> Any:
    """Returns the step's HLO module."""
    step = StepProgram(config, cores, on_tpu=True)
    hlo = step.lower(*core_batch(BATCH, frames, config.network, labels)).hlo
    return hlo_pb2.HloModuleProto.FromString(hlo.module)


@pytest.fixture(scope="module")
def program(config: ModelConfig) -> Any:
    """The step's HLO module for one core."""
    return lowered_step(config)


@pytest.fixture(scope="module")
def graph(config: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> tf.Graph:
    """The graph that TPUEstimator builds to train on one core."""
    folder = tmp_path_factory.mktemp("graph")
    run = tpu_estimator.RunSettings(str(folder), train_batch_size=BATCH, eval_batch_size=BATCH)
    batching = Batching(BATCH, static=True)
    shards = write_shards(
        folder, random_utterances([30] * BATCH, BINS), bins=BINS, longest=(FRAMES, LABELS)
    )
    input_fn = training_input_fn(TrainingInput(shards, batching, 1, shuffle_buffer_size=8))
    with faked_tpu.topology(cores=1):
        built = tpu_estimator.build(
            model.model_fn_builder(config, str(folder)), run, faked_tpu.device(cores=1)
        )
    return faked_tpu.graph_of(lambda: built.train(input_fn, max_steps=1), cores=1)


def instructions(program: Any) -> list[Any]:
    return [each for computation in program.computations for each in computation.instructions]


def shape_of(shape: Any) -> Shape:
    return xla_data_pb2.PrimitiveType.Name(shape.element_type), tuple(shape.dimensions)


def test_arguments_are_a_cores_batch_the_rates_factor_and_a_wish_to_stop(program: Any) -> None:
    assert [shape_of(each) for each in program.host_program_shape.parameters[:ARGUMENTS]] == [
        ("S32", (BATCH,)),
        ("F32", (BATCH, FRAMES, BINS)),
        ("S32", (BATCH, LABELS)),
        ("S32", (BATCH,)),
        ("F32", (BATCH,)),
        ("F32", (1,)),
        ("F32", (1,)),
    ]


@pytest.mark.estimator
def test_variables_are_those_of_the_graph(program: Any, graph: tf.Graph) -> None:
    """The variables, including Adam's, are float32 whatever the type of the products."""
    variables = [shape_of(each) for each in program.host_program_shape.parameters[ARGUMENTS:]]
    types = {tf.float32: "F32", tf.int32: "S32", tf.int64: "S64"}
    of_graph = [
        (types[each.dtype], tuple(each.shape.as_list()))
        for each in graph.get_collection("variables")
    ]
    assert Counter(variables) == Counter(of_graph)
    counters = sorted(each for each in variables if each[0] != "F32")
    assert counters == [("S32", ()), ("S32", ()), ("S64", ())]  # skipped steps, and the step


def test_results_are_the_curves_and_all_variables(program: Any) -> None:
    shape = program.host_program_shape
    results = [shape_of(each) for each in shape.result.tuple_shapes]
    arguments = [shape_of(each) for each in shape.parameters]
    # Norm, learning rate, loss and utterances without an alignment.
    assert [kind for kind, _ in results[:4]] == ["F32", "F32", "F32", "S32"]
    # The step before; step, loss, bad steps and the latest of them; wishes to stop.
    assert [kind for kind, _ in results[4:10]] == ["S64", "S64", "F32", "S32", "S32", "F32"]
    assert Counter(results[10:]) == Counter(arguments[ARGUMENTS:])


@pytest.mark.estimator
def test_products_are_those_of_the_graph(program: Any, graph: tf.Graph) -> None:
    # Lowering may add a name: `name;StatefulPartitionedCall/name`.
    names = {
        each.metadata.op_name.split("StatefulPartitionedCall/")[-1]
        for each in instructions(program)
    }
    in_loops = {name for name in names if "/while/" in name}
    in_step = {
        name for name in names - in_loops if any(op in name.rpartition("/")[2] for op in PRODUCTS)
    }
    in_graph = {
        node.name
        for node in faked_tpu.computation(graph)
        # Those of loops are in separate functions, without scopes.
        if any(op in node.op for op in PRODUCTS) and "/" in node.name
    }
    assert in_step <= in_graph
    # Only unused gradients are left out: those of the features and of constants.
    assert all(name.startswith("gradients/convolutions/") for name in in_graph - in_step)
    backward = "gradients/convolutions/Conv2D_grad/Conv2DBackpropFilter"
    assert {"convolutions/Conv2D", "loss/MatMul", "output/einsum/Einsum", backward} <= in_step
    # The recurrence, its gradient, and the loss.
    assert {name.partition("/while/")[0] for name in in_loops if "MatMul" in name} == {
        *("recurrent", "gradients/recurrent/IdentityN_grad", "loss")
    }


def test_products_are_in_the_compute_type(program: Any, config: ModelConfig) -> None:
    expected = "BF16" if config.training.bfloat16 else "F32"
    kinds: dict[str, set[str]] = {}
    for each in instructions(program):
        if each.opcode in ("dot", "convolution"):
            part = next((part for part in PARTS if PARTS[part].search(each.metadata.op_name)), "")
            kinds.setdefault(part, set()).add(shape_of(each.shape)[0])
    assert kinds["convolutions"] == {expected}
    # Some of a gradient's products are float32, from factors in bfloat16.
    assert expected in kinds["recurrent"] and kinds["recurrent"] <= {expected, "F32"}


def test_dropout_draws_with_the_tpus_generator(program: Any) -> None:
    """Once for the inputs of the recurrent layer, and once for its outputs."""
    drawn = [each for each in instructions(program) if each.opcode == "rng-bit-generator"]
    assert [shape_of(each.shape.tuple_shapes[0]) for each in drawn] == 2 * [("U64", (2,))]
    assert {shape_of(each.shape.tuple_shapes[1]) for each in drawn} == {
        ("U32", (BATCH, FRAMES // 2, 2 * 3)),
        ("U32", (FRAMES // 2, BATCH, 8)),
    }
    assert {each.rng_algorithm for each in drawn} == {RNG_DEFAULT}


def test_one_core_has_nothing_to_sum_with_others(program: Any) -> None:
    assert not {"all-reduce", "cross-replica-sum"} & {each.opcode for each in instructions(program)}


@pytest.mark.estimator
def test_graph_of_one_core_sums_nothing_either(graph: tf.Graph) -> None:
    assert "CrossReplicaSum" not in {node.op for node in faked_tpu.computation(graph)}


@pytest.mark.skipif(not lowers_sums(), reason="this TensorFlow lowers no sums over cores")
def test_several_cores_sum_gradients_loss_utterances_and_wishes() -> None:
    program = lowered_step(model_config(bfloat16=True), cores=4)
    summed = [each for each in instructions(program) if each.opcode == "all-reduce"]
    groups = [each.collective_device_list.replica_groups for each in summed]
    assert {tuple(each.replica_ids) for group in groups for each in group} == {(0, 1, 2, 3)}
    step = StepProgram(model_config(bfloat16=True), cores=4, on_tpu=True)
    gradients = [("F32", tuple(each.shape)) for each in step.network.trainable_variables]
    # The loss, the utterances, those without an alignment, and the wishes to stop.
    expected = gradients + 4 * [("F32", ())]
    assert Counter(shape_of(each.shape) for each in summed) == Counter(expected)


def test_every_part_of_the_estimate_is_named_in_the_step(program: Any) -> None:
    """In the forward pass and in the gradients, so that no part's time counts elsewhere."""
    names = {each.metadata.op_name for each in instructions(program)}
    for part, pattern in PARTS.items():
        found = {name for name in names if pattern.search(name)}
        backward = {name for name in found if "gradients/" in name}
        assert found - backward, part
        assert part == "optimizer" or backward, part


def test_step_has_the_given_shapes() -> None:
    program = lowered_step(model_config(bfloat16=False), frames=51, labels=3)
    _, features, label, *_ = map(shape_of, program.host_program_shape.parameters)
    assert features == ("F32", (BATCH, 51, BINS)) and label == ("S32", (BATCH, 3))
    # The logits have 26 outputs.
    assert ("F32", (BATCH, 26, ENGLISH.size)) in {
        shape_of(each.shape) for each in instructions(program)
    }
