"""Steps whose loss or gradient isn't finite: names their utterances, and refuses too many.

Such a step is skipped in model.py.
"""

from collections.abc import Callable

from absl import logging

from speech.engines.engine import StepState
from utils import UserError


class BadSteps:
    """Watches a training for skipped steps."""

    def __init__(self, step: int, most: int, utterances_of: Callable[[int], list[str]]) -> None:
        """
        Args:
            step: the one that training continues from.
            most: steps that may be skipped in all of the training.
            utterances_of: returns the ids of a step's utterances.
        """
        self._step = step
        self._most = most
        self._utterances_of = utterances_of

    def check(self, state: StepState) -> None:
        """Names the utterances of a step that was skipped since the last call.

        Raises:
            UserError: there are too many such steps.
        """
        seen, self._step = self._step, state.step
        if state.latest_bad_step <= seen:
            return
        names = ", ".join(self._utterances_of(state.latest_bad_step))
        message = (
            f"The loss or gradient of step {state.latest_bad_step} isn't finite: it is skipped. "
            f"Its utterances{f': {names}' if names else ' can be named only on one host'}."
        )
        if state.bad_steps <= self._most:
            logging.warning("%s", message)
            return
        raise UserError(
            f"{message} That makes {state.bad_steps} such steps, more than "
            f"--max_bad_steps={self._most}. Listen to these recordings and prepare the shards "
            "without the broken ones, or lower --learning_rate, or raise --max_bad_steps; then run "
            "the same command again."
        )
