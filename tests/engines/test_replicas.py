"""Values of --distribution that aren't possible."""

import pytest
import tensorflow as tf

from speech.engines.replicas import find_replicas
from utils import UserError


def test_cluster_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match="--distribution=multi_worker"):
        find_replicas("multi_worker")


def test_mirrored_requires_gpus() -> None:
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there are GPUs")
    with pytest.raises(UserError, match=r"--distribution=mirrored is for GPUs.*none here"):
        find_replicas("mirrored")
