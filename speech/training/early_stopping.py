"""Early stopping, and lowering the learning rate on plateaus of the development set's loss.

As in Mozilla DeepSpeech: both wait for a loss that is lower than the lowest so far by a minimal
difference. The decision follows from the development results alone, so a resumed training decides
as one that never stopped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import constants
from speech.training.history import DevResult


@dataclass(frozen=True)
class EarlyStopping:
    """How long training waits for a better loss on the development set."""

    early_stop: bool = False  # stop after es_epochs without one
    es_epochs: float = constants.ES_EPOCHS
    es_min_delta: float = constants.ES_MIN_DELTA  # nats by which a loss must be lower to be better
    reduce_lr_on_plateau: bool = False  # lower the learning rate after plateau_epochs without one
    plateau_epochs: float = constants.PLATEAU_EPOCHS
    plateau_reduction: float = constants.PLATEAU_REDUCTION  # factor on the learning rate

    @property
    def enabled(self) -> bool:
        return self.early_stop or self.reduce_lr_on_plateau


@dataclass(frozen=True)
class Decision:
    """The state of early stopping after the development results so far."""

    learning_rate_scale: float = 1.0  # factor on the schedule's learning rate
    stop: bool = False


def decide(results: Sequence[DevResult], settings: EarlyStopping, steps_per_epoch: int) -> Decision:
    """Decides on all development results so far, in their order."""
    lowest, improved, waiting_since = math.inf, 0, 0
    scale = 1.0
    for result in results:
        if result.loss < lowest - settings.es_min_delta:
            lowest, improved, waiting_since = result.loss, result.step, result.step
        elif (
            settings.reduce_lr_on_plateau
            and result.step - waiting_since >= settings.plateau_epochs * steps_per_epoch
        ):
            scale *= settings.plateau_reduction
            waiting_since = result.step
    stop = (
        settings.early_stop
        and bool(results)
        and results[-1].step - improved >= settings.es_epochs * steps_per_epoch
    )
    return Decision(scale, stop)
