"""TPUEstimator's settings, and what is said where a TPU is asked for and there is none."""

from dataclasses import replace
from pathlib import Path

import faked_tpu
import pytest
import tensorflow as tf
from doors import assert_error, run_door
from tiny_shards import random_utterances, write_shards

from speech import estimator
from speech.estimator import RunSettings, TpuSettings, build
from utils import UserError

BOTH_16 = RunSettings("model", train_batch_size=16, eval_batch_size=16)


def not_called(features: object, labels: object, mode: str, params: object) -> None:
    """A model_fn."""
    raise AssertionError("not called")


def message(run: RunSettings, tpu: TpuSettings) -> str:
    with pytest.raises(UserError) as error:
        build(not_called, run, tpu)
    return str(error.value)


@pytest.mark.parametrize("flag", ["train_batch_size", "eval_batch_size"])
def test_batch_that_the_cores_do_not_divide_names_both(flag: str) -> None:
    sizes = {"train_batch_size": 16, "eval_batch_size": 16, flag: 12}
    text = message(RunSettings("model", **sizes), faked_tpu.settings(cores=8))
    assert f"--{flag}=12" in text
    assert "8 cores" in text
    assert "multiple of 8" in text and "--num_tpu_cores" in text


def test_any_batch_size_will_do_without_a_tpu(tmp_path: Path) -> None:
    run = RunSettings(str(tmp_path), train_batch_size=13, eval_batch_size=7)
    build(not_called, run, faked_tpu.settings(use_tpu=False, cores=8))


def test_training_batch_is_not_named_where_nothing_trains(tmp_path: Path) -> None:
    text = message(RunSettings("model", eval_batch_size=12), faked_tpu.settings(cores=8))
    assert "--eval_batch_size=12" in text and "--train_batch_size" not in text
    with faked_tpu.topology():
        build(not_called, RunSettings(str(tmp_path), eval_batch_size=16), faked_tpu.settings())


def test_missing_tpu_is_told_with_what_to_do() -> None:
    text = message(BOTH_16, faked_tpu.settings())
    assert "no TPU cores" in text and "--tpu_name=local" in text
    assert "Leave out --use_tpu" in text
    # Why a TPU VM may say so too.
    assert "keep the TensorFlow" in text and "PyPI" in text
    assert "v5e" in text and "PJRT" in text and "90807" in text


def test_topology_with_cores_is_taken(tmp_path: Path) -> None:
    with faked_tpu.topology(cores=8):
        build(not_called, replace(BOTH_16, model_dir=str(tmp_path)), faked_tpu.settings(cores=8))


@pytest.mark.parametrize(("there", "asked"), [(4, 8), (32, 8), (8, 4)])
def test_tpu_of_another_number_of_cores_is_refused_with_both(there: int, asked: int) -> None:
    run = RunSettings("model", train_batch_size=32, eval_batch_size=32)
    with faked_tpu.topology(cores=there):
        text = message(run, faked_tpu.settings(cores=asked))
    assert f"The TPU local has {there} cores" in text
    assert f"--num_tpu_cores={there} instead of {asked}" in text


def test_tpu_that_the_cloud_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(*unused: object) -> None:
        raise RuntimeError("404 no such node")

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", find)
    text = message(BOTH_16, faked_tpu.settings(name="no-such-tpu"))
    assert "no-such-tpu" in text and "404 no such node" in text
    assert "--tpu_name" in text and "--tpu_zone" in text and "--gcp_project" in text


def test_training_without_a_tpu_stops_at_once_and_writes_nothing(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, random_utterances([20] * 16, 4))
    folder = tmp_path / "model"
    flags = [f"--train_data={shards.pattern}", "--dev_data=", f"--model_dir={folder}"]
    result = run_door("training.py", "--use_tpu", "--train_batch_size=8", *flags)
    assert_error(result, "no TPU cores", "Leave out --use_tpu", "PJRT")
    assert not folder.exists()


def test_folder_without_checkpoint_has_none_and_no_steps(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        assert estimator.latest_checkpoint(str(folder)) is None
    assert estimator.steps_of(None) == 0


def test_latest_checkpoint_of_a_folder_knows_its_steps(tmp_path: Path) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        step = tf.compat.v1.train.get_or_create_global_step()
        saver = tf.compat.v1.train.Saver()
        for number in (3, 40):
            session.run(step.assign(number))
            saver.save(session, str(tmp_path / "model.ckpt"), global_step=step)
    checkpoint = estimator.latest_checkpoint(str(tmp_path))
    assert checkpoint == str(tmp_path / "model.ckpt-40")
    assert estimator.steps_of(checkpoint) == 40
    assert estimator.steps_of(str(tmp_path / "model.ckpt-3")) == 3


def test_hosts_are_those_that_the_tpu_names() -> None:
    assert estimator.hosts(faked_tpu.settings(use_tpu=False)) == 1
    with faked_tpu.topology():
        assert estimator.hosts(faked_tpu.settings()) == 1
    with faked_tpu.topology(cores=32, hosts=4):
        assert estimator.hosts(faked_tpu.settings(cores=32)) == 4
