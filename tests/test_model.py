"""The model_fn through a TPUEstimator on the CPU and for a TPU."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import faked_tpu
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tiny_shards import random_utterances, write_shards
from tiny_training import (
    BINS,
    VARIABLES,
    checkpointed,
    curves,
    model_config,
    predictions,
    tiny_shards,
    train,
)

import model
from speech.engines.devices import ESTIMATOR, has_estimator
from speech.engines.engine import Engine, RunSettings
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.evaluation_input import evaluation_input_fn, evaluation_steps
from speech.input_pipeline.training_input import TrainingInput, training_input_fn
from speech.networks.config import TrainingConfig
from speech.optimisation import step_description
from speech.optimisation.curves import SUMMARY_STEPS
from speech.shards.shard_set import ShardSet

pytestmark = pytest.mark.estimator
if has_estimator():
    from speech.engines import tpu_estimator


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    frames = [20, 45, 31, 60, 22, 38, 27, 50, 41, 33, 25]
    return tiny_shards(tmp_path_factory.mktemp("shards"), frames)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Path]:
    """The estimator's engine after three steps on two utterances, and its folder."""
    folder = tmp_path_factory.mktemp("trained")
    two = tiny_shards(tmp_path_factory.mktemp("two"), [30, 40])
    return train(folder, two, 3, kind=ESTIMATOR), folder


# --- Evaluation on the CPU ------------------------------------------------------------------------


@pytest.mark.parametrize("static", [False, True])
def test_evaluation_is_the_mean_over_utterances(
    trained: tuple[Engine, Path], shards: ShardSet, static: bool
) -> None:
    """11 utterances in batches of 4: the last one is short, or filled up where it is static."""
    batching = Batching(4, static)
    engine, folder = trained
    found = engine.mean_loss(
        evaluation_input_fn(shards, batching, for_prediction=False),
        str(folder / "model.ckpt-3"),
        evaluation_steps(shards.index, batching),
    )
    each = [one["ctc_loss"] for one in predictions(engine, folder, shards, static)[:11]]
    assert found.loss == pytest.approx(np.mean(each), rel=1e-5)
    assert found.unalignable_utterances == 0


def test_evaluation_is_over_what_has_a_loss(tmp_path: Path) -> None:
    good, bad = random_utterances([30, 8], BINS)
    shards = write_shards(tmp_path, [good, replace(bad, transcript="aaaaaa")], bins=BINS)
    engine = train(tmp_path / "m", shards, 2, kind=ESTIMATOR)
    input_fn = evaluation_input_fn(shards, Batching(4, False), for_prediction=False)
    found = engine.mean_loss(input_fn, str(tmp_path / "m" / "model.ckpt-2"), 1)
    outputs = predictions(engine, tmp_path / "m", shards)
    assert found.unalignable_utterances == 1
    assert found.loss == pytest.approx(outputs[0]["ctc_loss"], rel=1e-5)


# --- The model_fn for a TPU -----------------------------------------------------------------------

TPU_BATCH = 16


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def tpu_graphs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shards: ShardSet
) -> dict[str, tf.Graph]:
    """The graphs of training, evaluation and prediction on 8 cores."""
    folder = str(tmp_path_factory.mktemp("tpu"))
    training = TrainingConfig(TPU_BATCH, bfloat16=request.param == "bfloat16")
    run = RunSettings(folder, train_batch_size=TPU_BATCH, eval_batch_size=TPU_BATCH)
    batching = Batching(TPU_BATCH, static=True)
    with faked_tpu.topology():
        built = tpu_estimator.build(
            model.model_fn_builder(model_config(training), folder), run, faked_tpu.device()
        )
    enough = tiny_shards(tmp_path_factory.mktemp("enough"), [30] * TPU_BATCH)
    input_fn = training_input_fn(
        TrainingInput(enough, batching, 1, shuffle_buffer_size=8, augmentations=("time_mask",))
    )
    input_fns = [
        evaluation_input_fn(shards, batching, for_prediction) for for_prediction in (False, True)
    ]
    return {
        "train": faked_tpu.graph_of(lambda: built.train(input_fn, max_steps=10)),
        "evaluate": faked_tpu.graph_of(
            lambda: built.evaluate(input_fns[0], steps=1, checkpoint_path="/x")
        ),
        "predict": faked_tpu.graph_of(
            lambda: list(built.predict(input_fns[1], checkpoint_path="/x"))
        ),
    }


MODES = pytest.mark.parametrize("mode", ["train", "evaluate", "predict"])


@MODES
def test_tpu_core_gets_its_share_of_the_batch(tpu_graphs: dict[str, tf.Graph], mode: str) -> None:
    (infeed,) = (
        node for node in faked_tpu.computation(tpu_graphs[mode]) if node.op == "InfeedDequeueTuple"
    )
    shapes = [
        [dimension.size for dimension in shape.dim] for shape in infeed.attr["shapes"].list.shape
    ]
    share = TPU_BATCH // faked_tpu.CORES
    assert [share, 64, BINS] in shapes and [share, 12] in shapes
    assert {shape[0] for shape in shapes} == {share}


@MODES
def test_tpu_computation_is_of_ops_that_xla_compiles(
    tpu_graphs: dict[str, tf.Graph], mode: str
) -> None:
    nodes = faked_tpu.computation(tpu_graphs[mode])
    assert {"Conv2D", "BatchMatMulV2", "LogSoftmax"} <= {node.op for node in nodes}
    assert not faked_tpu.ops_without_xla_kernel(tpu_graphs[mode])


def test_fake_sees_an_op_without_xla_kernel() -> None:
    with (
        tf.Graph().as_default() as graph,
        tf.compat.v1.Graph._attr_scope(
            graph, {"_tpu_replicate": tf.compat.v1.AttrValue(s=b"cluster")}
        ),
    ):
        tf.strings.length(tf.constant("text"))
        tf.abs(tf.constant(1.0))
    assert set(faked_tpu.ops_without_xla_kernel(graph)) == {"StringLength"}


def test_tpu_and_cpu_have_the_same_variables(
    tpu_graphs: dict[str, tf.Graph], trained: tuple[Engine, Path]
) -> None:
    """So that a checkpoint of one serves the other."""
    of_graph = {
        mode: {variable.op.name for variable in graph.get_collection("variables")}
        for mode, graph in tpu_graphs.items()
    }
    assert of_graph["train"] == set(checkpointed(trained[1]))
    assert of_graph["evaluate"] == of_graph["predict"] == VARIABLES | {"global_step"}


def test_tpu_sums_gradients_over_cores_before_their_norm_is_taken(
    tpu_graphs: dict[str, tf.Graph],
) -> None:
    nodes = {node.name: node for node in faked_tpu.computation(tpu_graphs["train"])}
    sums = [node for node in nodes.values() if node.op == "CrossReplicaSum"]
    # And the loss, the utterances, those without an alignment.
    assert len(sums) == len(VARIABLES) + 3
    normed = [nodes[node.input[0].split(":")[0]] for node in nodes.values() if node.op == "L2Loss"]
    assert {node.name for node in normed} < {node.name for node in sums}
    assert len(normed) == len(VARIABLES)
    assert len([node for node in nodes.values() if node.op == "ResourceApplyAdam"]) == len(
        VARIABLES
    )


@pytest.mark.parametrize("mode", ["evaluate", "predict"])
def test_tpu_sums_nothing_outside_training(tpu_graphs: dict[str, tf.Graph], mode: str) -> None:
    operations = {node.op for node in faked_tpu.computation(tpu_graphs[mode])}
    assert not operations & {"CrossReplicaSum", "ResourceApplyAdam"}


# --- What a TPU's host computes from what the cores send ------------------------------------------


def session_of(graph: tf.Graph) -> tf.compat.v1.Session:
    """Returns a session that runs parts of a graph that it can't run completely."""
    options = tf.compat.v1.GraphOptions(place_pruned_graph=True)
    return tf.compat.v1.Session(graph=graph, config=tf.compat.v1.ConfigProto(graph_options=options))


def sent_by_cores(graph: tf.Graph, values: list[npt.NDArray[Any]]) -> dict[tf.Tensor, Any]:
    """A session's feeds: each core has sent its part of each of `values`, which are [batch]."""
    received = [op for op in graph.get_operations() if op.type == "OutfeedDequeueTuple"]
    assert len(received) == faked_tpu.CORES
    parts = zip(*(np.split(value, len(received)) for value in values), strict=True)
    return {
        tensor: part
        for op, own in zip(received, parts, strict=True)
        for tensor, part in zip(op.outputs, own, strict=True)
    }


def test_tpu_evaluation_counts_each_utterance_once(
    tpu_graphs: dict[str, tf.Graph], trained: tuple[Engine, Path], tmp_path: Path
) -> None:
    """11 utterances in a batch of 16, of which the last two cores get nothing real.

    What the cores send is computed on the CPU. The utterance that fills up has no alignment.
    """
    first, *others = random_utterances([8, 45, 31, 60, 22, 38, 27, 50, 41, 33, 25], BINS)
    shards = write_shards(tmp_path, [replace(first, transcript="aaaaaa"), *others], bins=BINS)
    batching = Batching(TPU_BATCH, static=True)
    found = list(
        trained[0].predict(
            evaluation_input_fn(shards, batching, True), str(trained[1] / "model.ckpt-3")
        )
    )
    losses, aligned = (
        np.concatenate([each[key] for each in found]) for key in ("ctc_loss", "aligned")
    )
    assert aligned.tolist() == [0] + 10 * [1] + 5 * [0]
    weight = np.array(11 * [1.0] + 5 * [0.0], np.float32)
    graph = tpu_graphs["evaluate"]
    updates = ["mean/update_op:0", "false_negatives/AssignAddVariableOp"]
    with session_of(graph) as session:
        session.run([each.initializer for each in graph.get_collection("metric_variables")])
        session.run(updates, sent_by_cores(graph, [losses, weight, aligned]))
        mean, unalignable = session.run(["mean/value:0", "false_negatives/Identity:0"])
    assert mean == pytest.approx(losses[1:11].mean(), rel=1e-5)
    assert unalignable == 1


def test_curves_of_a_tpu_are_of_the_whole_batch(
    tpu_graphs: dict[str, tf.Graph], tmp_path: Path
) -> None:
    """Losses of equally large parts are averaged, utterances counted by each core added up."""
    graph = tpu_graphs["train"]
    cores = np.arange(faked_tpu.CORES)
    values: dict[str, npt.NDArray[Any]] = {
        "step": np.full_like(cores, SUMMARY_STEPS),
        "loss": np.full(len(cores), 3.5, np.float32),
        "learning_rate": np.full(len(cores), 0.5, np.float32),
        "gradient_norm": np.full(len(cores), 7.0, np.float32),
        "unalignable_utterances": np.full(len(cores), 28, np.int32),
    }
    feeds = sent_by_cores(graph, list(values.values()))
    (create,) = (op for op in graph.get_operations() if op.type == "CreateSummaryFileWriter")
    (flush,) = (op for op in graph.get_operations() if op.type == "FlushSummaryWriter")
    with session_of(graph) as session:
        session.run(create, {create.inputs[1]: str(tmp_path)})
        session.run(graph.get_collection("_SUMMARY_V2"), feeds)
        session.run(flush)
    assert curves(tmp_path) == {
        "loss": [(SUMMARY_STEPS, 3.5)],
        "learning_rate": [(SUMMARY_STEPS, 0.5)],
        "gradient_norm": [(SUMMARY_STEPS, 7.0)],
        "unalignable_utterances": [(SUMMARY_STEPS, 28)],
    }


def test_a_tpus_host_describes_the_first_cores_utterance(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    training = TrainingConfig(TPU_BATCH)
    run = RunSettings(str(tmp_path / "m"), TPU_BATCH, TPU_BATCH)
    model_fn = model.model_fn_builder(model_config(training), str(tmp_path / "m"), described=True)
    with faked_tpu.topology():
        built = tpu_estimator.build(model_fn, run, faked_tpu.device())
    enough = tiny_shards(tmp_path, [30] * TPU_BATCH)
    batching = Batching(TPU_BATCH, static=True)
    input_fn = training_input_fn(TrainingInput(enough, batching, 1, shuffle_buffer_size=8))
    graph = faked_tpu.graph_of(lambda: built.train(input_fn, max_steps=10))
    received = [op for op in graph.get_operations() if op.type == "OutfeedDequeueTuple"]
    values = [
        np.ones([len(received), *output.shape[1:]], output.dtype.as_numpy_dtype)
        for output in received[0].outputs
    ]
    values[0][:] = step_description.STEPS
    values[5][:] = np.arange(len(VARIABLES))  # the norms come after the step and four curves
    with session_of(graph) as session:
        session.run("describe_step/Identity", sent_by_cores(graph, values))
    description = capfd.readouterr().err
    assert f"D step {step_description.STEPS}\n" in description
    norms = re.findall(r"gradient norm ([\d.]+)  (\S+)", description)
    assert {name for _, name in norms} == VARIABLES
    assert sorted(float(norm) for norm, _ in norms) == list(range(len(VARIABLES)))
    assert "features [frames, bins] [1 8]" in description and "label: b\n" in description
