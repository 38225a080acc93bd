"""The devices that programs run on, found and missed."""

from collections.abc import Iterator

import host_devices  # before jax is imported
import numpy as np
import pytest

from speech.tpu import cores
from utils import UserError

jax = host_devices.jax


@pytest.fixture
def restored_platforms() -> Iterator[None]:
    before = jax.config.jax_platforms
    yield
    jax.config.update("jax_platforms", before)


def test_cpu_plays_several_cores_of_one_host() -> None:
    found = cores.host_cores(2)
    assert found.count == 2 and found.hosts == 1 and found.host == 0 and not found.are_tpu
    assert found.own == found


def test_values_that_were_copied_to_the_cores_may_change() -> None:
    value = np.zeros([5], np.float32)
    state = cores.host_cores(2).replicate({"value": value})
    value[:] = 1
    np.testing.assert_array_equal(cores.fetch(state)["value"], np.zeros([5]))


def test_batch_is_divided_among_the_cores_in_order() -> None:
    batch = np.arange(8).reshape(4, 2)
    (array,) = cores.host_cores(2).split([batch])
    np.testing.assert_array_equal(cores.fetch(array), batch)
    np.testing.assert_array_equal(cores.fetch_first(array), batch[:2])


def test_one_host_gets_its_own_message() -> None:
    assert cores.broadcast(b"{}") == b"{}" and cores.broadcast(b"") == b""
    cores.leave()


@pytest.mark.usefixtures("restored_platforms")
def test_machine_without_a_tpu_is_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_cluster() -> None:
        raise ValueError("coordinator_address should be defined.")

    def no_tpu(platform: str) -> list[object]:
        raise RuntimeError(
            "Unable to initialize backend 'tpu': NOT_FOUND: No jellyfish device found. "
            "(set JAX_PLATFORMS='' to automatically choose an available backend)"
        )

    monkeypatch.setattr(jax.distributed, "initialize", no_cluster)
    monkeypatch.setattr(jax, "devices", no_tpu)
    with pytest.raises(UserError) as error:
        cores.tpu_cores()
    text = str(error.value)
    assert "No jellyfish device found. Run this on a TPU VM with a v5e" in text
    assert "leave out --use_tpu" in text and "JAX_PLATFORMS" not in text


@pytest.mark.usefixtures("restored_platforms")
def test_hosts_that_do_not_find_each_other_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def late() -> None:
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out.\nMore")

    monkeypatch.setattr(jax.distributed, "initialize", late)
    with pytest.raises(UserError, match=r"Barrier timed out\. Run the same command on all of them"):
        cores.tpu_cores()
