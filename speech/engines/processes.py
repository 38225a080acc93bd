"""How processes that train together agree on what to train.

The leader sends a command for each stretch of training, and the others execute it.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from utils import UserError


@dataclass(frozen=True)
class Command:
    """A stretch of training that the leader has all processes execute."""

    step: int  # of the checkpoint that it starts from
    until: int  # its last step
    learning_rate_scale: float
    settings: dict[str, Any]  # that must be the same in all processes, as JSON represents them

    def encode(self) -> bytes:
        """Returns the command as a message, which isn't empty."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, message: bytes) -> "Command":
        """Returns the command that `encode` made the message of."""
        return cls(**json.loads(message))

    def check(self, settings: dict[str, Any], step: int, model_dir: str) -> None:
        """Checks that this process trains as the leader does.

        Args:
            settings: of this process.
            step: of the latest checkpoint that this process sees.

        Raises:
            UserError: this process has other settings, or another model directory.
        """
        own = json.loads(json.dumps(settings))
        differences = [
            f"{key} is {own.get(key)} here and {self.settings.get(key)} there"
            for key in (*self.settings, *(own.keys() - self.settings.keys()))
            if own.get(key) != self.settings.get(key)
        ]
        if differences:
            raise UserError(
                f"The settings of this worker differ from worker 0's: {'; '.join(differences)}. "
                "Give all workers the same flags and shards."
            )
        if step != self.step:
            raise UserError(
                f"The latest checkpoint in --model_dir={model_dir} is of step {step} here, of step "
                f"{self.step} for worker 0: give a folder or bucket that all workers share."
            )


class Processes:
    """The processes that train together: only this one."""

    @property
    def is_leader(self) -> bool:
        """Whether this process sends the commands, evaluates and saves."""
        return True

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return False

    def broadcast(self, message: bytes) -> bytes:
        """Returns the leader's message in all processes, which call it together."""
        return message

    def close(self) -> None:
        """Ends the training in all processes, if this one leads; needn't return."""
        return
