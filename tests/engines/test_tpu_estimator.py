"""The engine that TPUEstimator drives, and the settings of the estimator."""

import logging
from pathlib import Path

import faked_tpu
import numpy as np
import pytest
import tensorflow as tf
from tiny_training import batches, engine_in, tiny_shards

from speech.engines.devices import ESTIMATOR, Device, has_estimator
from speech.engines.engine import Callbacks, RunSettings
from speech.engines.stopping import Stopping
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.evaluation_input import evaluation_input_fn
from utils import UserError

pytestmark = pytest.mark.estimator
if has_estimator():
    from speech.engines.tpu_estimator import build


def not_called(features: object, labels: object, mode: str, params: object) -> None:
    """A model_fn."""
    raise AssertionError("not called")


def test_input_fn_gets_the_batch_size_of_a_core(tmp_path: Path) -> None:
    sizes = []

    def input_fn(params: dict[str, int]) -> tf.data.Dataset:
        sizes.append(params["batch_size"])
        raise StopIteration

    run = RunSettings(str(tmp_path), train_batch_size=64, eval_batch_size=32)
    for cores, hosts in ((8, 1), (32, 4)):
        with faked_tpu.topology(cores, hosts):
            built = build(not_called, run, faked_tpu.device(cores))
            for call in (
                lambda built=built: built.train(input_fn, max_steps=1),
                lambda built=built: built.evaluate(input_fn, steps=1, checkpoint_path="/x"),
            ):
                with pytest.raises(StopIteration):
                    call()
    assert sizes == [8, 4, 2, 1]


def test_mean_loss_is_that_of_the_outputs(tmp_path: Path) -> None:
    shards = tiny_shards(tmp_path / "shards", [30, 40, 20])
    engine = engine_in(tmp_path / "model", kind=ESTIMATOR)
    engine.train(batches(shards), 1, 1.0, Callbacks(Stopping(), on_step=lambda state: None))
    checkpoint = str(tmp_path / "model" / "model.ckpt-1")
    batching = Batching(4, static=False)
    loss = engine.mean_loss(
        evaluation_input_fn(shards, batching, for_prediction=False), checkpoint, 1
    )
    input_fn = evaluation_input_fn(shards, batching, for_prediction=True)
    (outputs,) = engine.predict(input_fn, checkpoint)
    assert outputs["log_probs"].shape[0] == len(outputs["output_length"]) == 3
    assert loss.loss == pytest.approx(np.mean(outputs["ctc_loss"]), rel=1e-5)
    assert loss.unalignable_utterances == 0


# --- Loops and checkpoints ------------------------------------------------------------------------


def loop_of(folder: Path, loop: int, save: int, device: Device | None = None) -> int:
    """Returns the steps that a built TPUEstimator has a TPU take by itself."""
    run = RunSettings(
        str(folder), eval_batch_size=8, iterations_per_loop=loop, save_checkpoints_steps=save
    )
    with faked_tpu.topology():
        built = build(not_called, run, device or faked_tpu.device())
    assert built.config.save_checkpoints_steps == save
    return int(built.config.tpu_config.iterations_per_loop)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "absl"]


@pytest.mark.parametrize(("loop", "save"), [(100, 500), (100, 100), (1, 7)])
def test_loops_that_align_with_checkpoints_are_accepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, loop: int, save: int
) -> None:
    with caplog.at_level(logging.INFO, "absl"):
        assert loop_of(tmp_path, loop, save) == loop
    assert not logged(caplog)


def test_loop_longer_than_between_checkpoints_is_cut_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "absl"):
        assert loop_of(tmp_path, loop=100, save=30) == 30
    (line,) = logged(caplog)
    assert "30 steps" in line and "--iterations_per_loop=100" in line
    assert "--save_checkpoints_steps=30" in line


@pytest.mark.parametrize(
    ("loop", "save", "more", "fitting"), [(100, 250, 300, 50), (100, 499, 500, 1), (6, 9, 12, 3)]
)
def test_loops_that_would_miss_a_checkpoint_are_refused(
    tmp_path: Path, loop: int, save: int, more: int, fitting: int
) -> None:
    with pytest.raises(UserError) as error:
        loop_of(tmp_path, loop, save)
    text = str(error.value)
    assert f"--save_checkpoints_steps={save} is no multiple of --iterations_per_loop={loop}" in text
    assert text.endswith(
        f"give --save_checkpoints_steps={more} or --iterations_per_loop={fitting}."
    )
    assert loop_of(tmp_path, loop, more) == loop and loop_of(tmp_path, fitting, save) == fitting


def test_without_a_tpu_checkpoints_need_not_fit(tmp_path: Path) -> None:
    loop_of(tmp_path, loop=100, save=250, device=Device())
