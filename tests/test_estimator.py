"""TPUEstimator's settings, and what is said where a TPU is asked for and there is none."""

from pathlib import Path

import faked_tpu
import pytest
import tensorflow as tf
from doors import assert_error, run_door
from tiny_shards import random_utterances, write_shards

from speech import estimator
from speech.estimator import RunSettings, TpuSettings
from utils import UserError


def message(run: RunSettings, tpu: TpuSettings) -> str:
    with pytest.raises(UserError) as error:
        estimator.build(lambda: None, run, tpu)
    return str(error.value)


@pytest.mark.parametrize(
    ("flag", "sizes"), [("train_batch_size", (12, 16)), ("eval_batch_size", (16, 12))]
)
def test_batch_that_the_cores_do_not_divide_names_both(flag: str, sizes: tuple[int, int]) -> None:
    text = message(RunSettings("model", *sizes), TpuSettings(use_tpu=True, cores=8))
    assert f"--{flag}=12" in text
    assert "8 cores" in text
    assert "multiple of 8" in text and "--num_tpu_cores" in text


def test_any_batch_size_will_do_without_a_tpu(tmp_path: Path) -> None:
    def model_fn(features: object, labels: object, mode: str, params: object) -> None:
        raise AssertionError("not called")

    estimator.build(model_fn, RunSettings(str(tmp_path), 13, 7), TpuSettings(cores=8))


def test_missing_tpu_is_told_with_what_to_do() -> None:
    text = message(RunSettings("model", 16, 16), TpuSettings(use_tpu=True))
    assert "no TPU cores" in text and "--tpu_name=local" in text
    assert "Leave out --use_tpu" in text
    # Why a TPU VM may say so too.
    assert "keep the TensorFlow" in text and "PyPI" in text
    assert "v5e" in text and "PJRT" in text and "90807" in text


def test_topology_with_cores_is_taken(tmp_path: Path) -> None:
    def model_fn(features: object, labels: object, mode: str, params: object) -> None:
        raise AssertionError("not called")

    with faked_tpu.topology():
        estimator.build(
            model_fn, RunSettings(str(tmp_path), 16, 16), TpuSettings(use_tpu=True, cores=8)
        )


def test_tpu_that_the_cloud_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(*unused: object) -> None:
        raise RuntimeError("404 no such node")

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", find)
    text = message(RunSettings("model", 16, 16), TpuSettings(True, "no-such-tpu"))
    assert "no-such-tpu" in text and "404 no such node" in text
    assert "--tpu_name" in text and "--tpu_zone" in text and "--gcp_project" in text


def test_training_without_a_tpu_stops_at_once_and_writes_nothing(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, random_utterances([20] * 16, 4))
    folder = tmp_path / "model"
    flags = [f"--train_data={shards.pattern}", "--dev_data=", f"--model_dir={folder}"]
    result = run_door("training.py", "--use_tpu", "--train_batch_size=8", *flags)
    assert_error(result, "no TPU cores", "Leave out --use_tpu", "PJRT")
    assert not folder.exists()


def test_steps_of_a_folder_without_checkpoint_are_none(tmp_path: Path) -> None:
    assert estimator.trained_steps(str(tmp_path)) == 0
    assert estimator.trained_steps(str(tmp_path / "missing")) == 0


def test_steps_of_a_folder_are_those_of_its_latest_checkpoint(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        step = tf.compat.v1.train.get_or_create_global_step()
        saver = tf.compat.v1.train.Saver()
        for number in (3, 40):
            session.run(step.assign(number))
            saver.save(session, str(tmp_path / "model.ckpt"), global_step=step)
    assert estimator.trained_steps(str(tmp_path)) == 40
