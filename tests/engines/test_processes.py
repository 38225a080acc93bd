"""Commands of the leader."""

import pytest

from speech.engines.processes import Command
from utils import UserError


def test_worker_with_other_settings_or_checkpoints_is_refused() -> None:
    command = Command(4, 8, 1.0, {"learning_rate": 0.1, "conv_channels": [2, 2]})
    assert Command.decode(command.encode()) == command
    command.check({"learning_rate": 0.1, "conv_channels": (2, 2)}, 4, "model")
    with pytest.raises(UserError, match=r"learning_rate is 0\.2 here and 0\.1 there"):
        command.check({"learning_rate": 0.2, "conv_channels": (2, 2)}, 4, "model")
    with pytest.raises(UserError, match=r"--model_dir=model is of step 0 here, of step 4 for"):
        command.check({"learning_rate": 0.1, "conv_channels": (2, 2)}, 0, "model")
