"""Commands of the chief, queues of messages, and workers that are gone."""

import socket

import pytest
import tensorflow as tf

from speech.engines.cluster import Cluster
from speech.engines.coordinator import Command, Coordinator, MessageQueue
from utils import UserError


def free_address() -> str:
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return f"localhost:{listening.getsockname()[1]}"


def test_worker_with_other_settings_or_checkpoints_is_refused() -> None:
    command = Command(4, 8, 1.0, {"learning_rate": 0.1, "conv_channels": [2, 2]})
    command.check({"learning_rate": 0.1, "conv_channels": (2, 2)}, 4, "model")
    with pytest.raises(UserError, match=r"learning_rate is 0\.2 here and 0\.1 there"):
        command.check({"learning_rate": 0.2, "conv_channels": (2, 2)}, 4, "model")
    with pytest.raises(UserError, match=r"--model_dir=model is of step 0 here, of step 4 for"):
        command.check({"learning_rate": 0.1, "conv_channels": (2, 2)}, 0, "model")


def test_messages_arrive_once_and_in_order() -> None:
    coordinator = Coordinator(Cluster((free_address(),), 0), tf.compat.v1.ConfigProto())
    queue = MessageQueue(coordinator.master, "tests", [0], 0)
    assert queue.receive() == []
    queue.send(0, {"step": 1})
    queue.send(0, None)
    assert queue.receive() == [{"step": 1}, None]
    assert queue.receive() == []


def test_address_that_another_process_has_is_named() -> None:
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        listening.listen()
        address = f"localhost:{listening.getsockname()[1]}"
        with pytest.raises(UserError, match=rf"Worker 0 can't listen at {address}, its address in"):
            Coordinator(Cluster((address,), 0), tf.compat.v1.ConfigProto())


def test_error_that_no_missing_worker_explains_is_raised_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("speech.engines.coordinator.CHECK_SECONDS", 0.01)
    coordinator = Coordinator(Cluster((free_address(),), 0), tf.compat.v1.ConfigProto())
    with pytest.raises(tf.errors.UnavailableError, match="no"), coordinator.explained_errors():
        raise tf.errors.UnavailableError(None, None, "no connection")
