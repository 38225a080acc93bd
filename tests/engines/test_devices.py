"""Devices, and the messages where a TPU is requested and there is none."""

import socket
import time
from pathlib import Path

import faked_tpu
import pytest
import tensorflow as tf
from doors import assert_error, run_door
from tiny_shards import random_utterances, write_shards

from speech.engines import devices
from speech.engines.devices import (
    AUTO,
    EAGER,
    ESTIMATOR,
    PJRT,
    DeviceSettings,
    TpuSettings,
    choose_engine,
    find_device,
)
from speech.engines.engine import RunSettings
from utils import UserError

REMOTE = faked_tpu.settings(name="my-tpu")
HERE = (
    faked_tpu.settings(name="local"),
    faked_tpu.settings(name="grpc://localhost:8470"),
    faked_tpu.settings(name="grpc://127.0.0.1:8470"),
    faked_tpu.settings(use_tpu=False, name="my-tpu"),
)


def not_called(features: object, labels: object, mode: str, params: object) -> None:
    """A model_fn."""
    raise AssertionError("not called")


def message(tpu: TpuSettings) -> str:
    """Returns the message where the TPU can't be used."""
    with pytest.raises(UserError) as error:
        find_device(DeviceSettings(tpu, ESTIMATOR))
    assert "\n" not in str(error.value)
    return str(error.value)


# --- Batch sizes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["train_batch_size", "eval_batch_size"])
@pytest.mark.parametrize(("size", "cores"), [(12, 8), (4, 8), (24, 32)])
def test_batch_that_the_cores_do_not_divide_names_both(flag: str, size: int, cores: int) -> None:
    sizes = {"train_batch_size": 64, "eval_batch_size": 64, flag: size}
    with pytest.raises(UserError) as error:
        devices.check_batch_sizes(faked_tpu.settings(cores=cores), **sizes)
    text = str(error.value)
    assert f"--{flag}={size} can't be divided among {cores} cores" in text
    assert f"multiple of {cores}" in text and "--num_tpu_cores" in text


def test_any_batch_size_will_do_without_a_tpu_and_a_multiple_with_one() -> None:
    devices.check_batch_sizes(faked_tpu.settings(use_tpu=False), train_batch_size=13)
    devices.check_batch_sizes(faked_tpu.settings(), train_batch_size=8, eval_batch_size=64)


# --- Paths ----------------------------------------------------------------------------------------


def test_tpu_of_another_machine_reads_and_writes_in_buckets_alone() -> None:
    for tpu in (REMOTE, faked_tpu.settings(name="grpc://10.0.0.2:8470")):
        with pytest.raises(UserError) as error:
            devices.check_paths(tpu, train_data="gs://bucket/t.*", model_dir="my/model")
        text = str(error.value)
        assert "--model_dir=my/model" in text and f"--tpu_name={tpu.name}" in text
        assert "gs://" in text and "--upload_to" in text and "--tpu_name=local" in text
        devices.check_paths(tpu, train_data="gs://bucket/t.*", dev_data="", model_dir="gs://b/m")


@pytest.mark.parametrize("tpu", HERE, ids=["local", "localhost", "127.0.0.1", "none"])
def test_any_path_will_do_where_this_machine_feeds(tpu: TpuSettings) -> None:
    assert not tpu.remote
    devices.check_paths(tpu, train_data="data/t.*", model_dir="gs://bucket/model")


# --- Choosing the engine --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use_tpu", "has_estimator", "chosen"),
    [(False, True, EAGER), (False, False, EAGER), (True, True, ESTIMATOR), (True, False, PJRT)],
)
def test_auto_chooses_by_device_and_tensorflow_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    use_tpu: bool,
    has_estimator: bool,
    chosen: str,
) -> None:
    monkeypatch.setattr(devices, "has_estimator", lambda: has_estimator)
    with caplog.at_level("INFO", logger="absl"):
        assert choose_engine(DeviceSettings(faked_tpu.settings(use_tpu), AUTO)) == chosen
    (message,) = caplog.messages
    assert message.startswith(f"Engine {chosen}: ")


@pytest.mark.parametrize(
    ("engine", "use_tpu", "distribution", "says"),
    [
        (ESTIMATOR, False, None, r"--engine=estimator needs tf.estimator.*Python 3\.11"),
        (EAGER, True, None, "--engine=eager is for CPUs and GPUs.*--use_tpu"),
        (AUTO, True, "mirrored", "--distribution=mirrored is for.*--use_tpu"),
        (PJRT, False, "mirrored", "--distribution=mirrored is for.*--engine=pjrt"),
    ],
)
def test_engine_that_cannot_run_is_refused_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, engine: str, use_tpu: bool, distribution: str | None, says: str
) -> None:
    monkeypatch.setattr(devices, "has_estimator", lambda: False)
    with pytest.raises(UserError, match=says):
        choose_engine(DeviceSettings(faked_tpu.settings(use_tpu), engine, distribution))


# --- Finding the TPU ------------------------------------------------------------------------------


@pytest.mark.estimator
def test_missing_tpu_is_named_with_a_remedy() -> None:
    text = message(faked_tpu.settings())
    assert "no TPU cores" in text and "--tpu_name=local" in text
    assert "Leave out --use_tpu" in text
    # Why a TPU VM may say so too.
    assert "keep the TensorFlow" in text and "PyPI" in text
    assert "v5e" in text and "--engine=pjrt" in text and "90807" in text


def test_without_use_tpu_no_tpu_is_searched() -> None:
    device = find_device(DeviceSettings())
    assert device.engine == EAGER and device.distribution and not device.is_tpu
    assert (device.cores, device.hosts, device.distribution.count) == (1, 1, 1)


@pytest.mark.estimator
@pytest.mark.parametrize(("cores", "hosts"), [(8, 1), (32, 4)])
def test_tpu_is_asked_once_for_its_cores_and_hosts(tmp_path: Path, cores: int, hosts: int) -> None:
    from speech.engines import tpu_estimator

    with faked_tpu.topology(cores, hosts) as query:
        device = faked_tpu.device(cores)
        tpu_estimator.build(not_called, RunSettings(str(tmp_path), eval_batch_size=cores), device)
    assert query.call_count == 1
    assert device.is_tpu and (device.cores, device.hosts) == (cores, hosts)


@pytest.mark.estimator
@pytest.mark.parametrize(("there", "given"), [(4, 8), (32, 8), (8, 4)])
def test_tpu_of_another_number_of_cores_is_refused_with_both(there: int, given: int) -> None:
    with faked_tpu.topology(cores=there):
        text = message(faked_tpu.settings(cores=given))
    assert f"The TPU local has {there} cores" in text
    assert f"--num_tpu_cores={there} instead of {given}" in text


@pytest.mark.estimator
def test_tpu_that_the_cloud_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(*unused: object) -> None:
        raise RuntimeError("404 no such node\nsee https://cloud.google.com")

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", find)
    text = message(faked_tpu.settings(name="no-such-tpu"))
    assert "no-such-tpu" in text and "404 no such node." in text
    assert "--tpu_name" in text and "--tpu_zone" in text and "--gcp_project" in text


@pytest.mark.estimator
def test_clouds_answer_about_a_tpu_that_is_not_ready_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Starting:
        def __init__(self, *unused: object) -> None: ...

        def cluster_spec(self) -> None:
            raise RuntimeError('TPU "my-tpu" is not yet ready; state: "CREATING"')

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", Starting)
    assert 'state: "CREATING"' in message(REMOTE)


@pytest.mark.estimator
def test_address_where_nobody_listens_is_named_at_once() -> None:
    """TensorFlow tries for a day."""
    with socket.socket() as closed:
        closed.bind(("localhost", 0))
        name = f"grpc://localhost:{closed.getsockname()[1]}"
        started = time.monotonic()
        text = message(faked_tpu.settings(name=name))
    assert time.monotonic() - started < devices.CONNECT_SECONDS
    assert f"The TPU {name} doesn't answer" in text and "refused" in text


@pytest.mark.estimator
def test_server_at_an_address_is_asked_for_its_own_cores() -> None:
    """A server of TensorFlow's, which has a processor and no TPU."""
    server = tf.distribute.Server.create_local_server()
    assert f"no TPU cores (--tpu_name={server.target})" in message(
        faked_tpu.settings(name=server.target)
    )


# --- As people run it -----------------------------------------------------------------------------


@pytest.mark.estimator
def test_training_without_a_tpu_stops_at_once_and_writes_nothing(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, random_utterances([20] * 16, 4))
    folder = tmp_path / "model"
    flags = [f"--train_data={shards.pattern}", "--dev_data=", f"--model_dir={folder}"]
    result = run_door("training.py", "--use_tpu", "--train_batch_size=8", *flags, seconds=30)
    assert_error(result, "no TPU cores", "Leave out --use_tpu", "--engine=pjrt")
    assert len(result.stderr.splitlines()) == 2  # the first one names the engine
    assert not folder.exists()


def test_training_from_this_machine_on_another_ones_tpu_stops_at_once(tmp_path: Path) -> None:
    """Before the TPU is searched, and though there are no shards."""
    remote = ["--use_tpu", "--tpu_name=my-tpu", "--train_data=gs://bucket/train.tfrecords.*"]
    flags = [f"--dev_data={tmp_path}/dev.*", "--model_dir=gs://bucket/model"]
    result = run_door("training.py", *remote, *flags, seconds=30)
    assert_error(result, f"--dev_data={tmp_path}/dev.*", "--tpu_name=my-tpu", "--upload_to")
    assert len(result.stderr.splitlines()) == 1
