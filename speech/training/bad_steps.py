"""Steps whose loss or gradient isn't finite: their utterances are named, and too many are an error.

The step itself is skipped in model.py.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from absl import logging

from speech.training.step_state import StepReader
from utils import UserError


class BadStepHook(tf.estimator.SessionRunHook):
    """Names the utterances of a skipped step; ends training when there are too many."""

    def __init__(self, most: int, utterances_of: Callable[[int], list[str]]) -> None:
        """
        Args:
            most: steps that may be skipped in all of the training.
            utterances_of: ids of a step's utterances.
        """
        self._most = most
        self._utterances_of = utterances_of

    def begin(self) -> None:
        self._reader = StepReader()

    def after_create_session(self, session: Any, coord: Any) -> None:
        self._known = self._reader.read(session).bad_steps

    def after_run(self, run_context: Any, run_values: Any) -> None:
        state = self._reader.read(run_context.session)
        if state.bad_steps == self._known:
            return
        self._known = state.bad_steps
        names = ", ".join(self._utterances_of(state.latest_bad_step))
        told = (
            f"The loss or gradient of step {state.latest_bad_step} isn't finite: it is skipped. "
            f"Its utterances{f': {names}' if names else ' can be named only on one host'}."
        )
        if state.bad_steps <= self._most:
            logging.warning("%s", told)
            return
        raise UserError(
            f"{told} That makes {state.bad_steps} such steps, more than "
            f"--max_bad_steps={self._most}. Listen to these recordings and prepare the shards "
            "without what is broken, or lower --learning_rate, or raise --max_bad_steps; then run "
            "the same command again."
        )
