"""Values of --distribution that aren't possible, and batches that replicas can't divide."""

import pytest
import tensorflow as tf

from speech.engines.strategies import Distribution, find_distribution
from speech.input_pipeline.batching import Batching
from utils import UserError


def test_cluster_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match="--distribution=multi_worker"):
        find_distribution("multi_worker")


def test_mirrored_requires_gpus() -> None:
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there are GPUs")
    with pytest.raises(UserError, match=r"--distribution=mirrored is for GPUs.*none here"):
        find_distribution("mirrored")


def test_batch_must_be_divisible_by_the_replicas() -> None:
    two = Distribution(tf.distribute.get_strategy(), 2, range(2))
    assert two.cut(Batching(6, static=False)).own_replicas == range(2)
    with pytest.raises(UserError, match=r"--train_batch_size=7.*2 devices.*multiple of 2"):
        two.cut(Batching(7, static=False))
