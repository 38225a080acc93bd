"""Early stopping and plateaus: what the looks at the development data mean for the learning rate.

As in Mozilla DeepSpeech: both wait for a loss that is lower than the lowest so far by a least
amount. What is decided follows from the looks alone, so a training that continues decides as one
that was never stopped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import constants
from speech.training.history import Look


@dataclass(frozen=True)
class Patience:
    """How long to wait for a better loss on the development data."""

    early_stop: bool = False  # stop after es_epochs without one
    es_epochs: float = constants.ES_EPOCHS
    es_min_delta: float = constants.ES_MIN_DELTA  # nats by which a loss must be lower to be better
    reduce_lr_on_plateau: bool = False  # lower the learning rate after plateau_epochs without one
    plateau_epochs: float = constants.PLATEAU_EPOCHS
    plateau_reduction: float = constants.PLATEAU_REDUCTION  # factor on the learning rate


@dataclass(frozen=True)
class Verdict:
    """What the looks so far ask for."""

    learning_rate_scale: float = 1.0
    stop: bool = False


def verdict(looks: Sequence[Look], patience: Patience, steps_per_epoch: int) -> Verdict:
    """What all looks so far, in their order, ask for."""
    lowest, improved, waiting_since = math.inf, 0, 0
    scale = 1.0
    for look in looks:
        if look.loss < lowest - patience.es_min_delta:
            lowest, improved, waiting_since = look.loss, look.step, look.step
        elif (
            patience.reduce_lr_on_plateau
            and look.step - waiting_since >= patience.plateau_epochs * steps_per_epoch
        ):
            scale *= patience.plateau_reduction
            waiting_since = look.step
    stop = (
        patience.early_stop
        and bool(looks)
        and looks[-1].step - improved >= patience.es_epochs * steps_per_epoch
    )
    return Verdict(scale, stop)
