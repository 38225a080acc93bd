"""Decisions on development results, which don't depend on when they are made."""

import math

from hypothesis import given
from hypothesis import strategies as st

from speech.training.early_stopping import Decision, EarlyStopping, decide
from speech.training.history import DevResult

STEPS_PER_EPOCH = 10


def results(*losses: float, every: int = STEPS_PER_EPOCH) -> list[DevResult]:
    return [
        DevResult(every * number, loss, None, None, None, None, best=False)
        for number, loss in enumerate(losses, start=1)
    ]


def decide_on(settings: EarlyStopping, *losses: float, every: int = STEPS_PER_EPOCH) -> Decision:
    return decide(results(*losses, every=every), settings, STEPS_PER_EPOCH)


def test_without_flags_training_continues_as_before() -> None:
    assert decide_on(EarlyStopping(), *[5.0] * 100) == Decision(1.0, stop=False)


def test_training_stops_after_so_many_epochs_without_a_better_loss() -> None:
    settings = EarlyStopping(early_stop=True, es_epochs=3, es_min_delta=0.5)
    assert not decide_on(settings, 9, 8, 8, 8).stop
    assert decide_on(settings, 9, 8, 8, 8, 8).stop
    # Better by less than the minimal difference is no better; the lowest one counts, not the last.
    assert decide_on(settings, 9, 8, 7.9, 7.8, 7.6).stop
    assert not decide_on(settings, 9, 8, 7.9, 7.4, 7.6).stop
    assert not decide([], settings, STEPS_PER_EPOCH).stop


def test_epochs_are_counted_and_not_evaluations() -> None:
    settings = EarlyStopping(early_stop=True, es_epochs=2)
    assert not decide_on(settings, 8, 8, 8, 8, every=5).stop
    assert decide_on(settings, 8, 8, 8, 8, 8, every=5).stop


def test_learning_rate_falls_at_each_plateau() -> None:
    settings = EarlyStopping(reduce_lr_on_plateau=True, plateau_epochs=2, plateau_reduction=0.5)
    scales = [decide_on(settings, *[8.0] * count).learning_rate_scale for count in range(1, 8)]
    assert scales == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]
    assert decide_on(settings, 8, 8, 7, 7, 6, 6).learning_rate_scale == 1


def test_loss_that_is_no_number_is_no_better() -> None:
    settings = EarlyStopping(early_stop=True, es_epochs=2)
    assert decide_on(settings, 8, math.nan, math.inf).stop


@given(st.lists(st.floats(0, 100), max_size=30))
def test_plateaus_only_lower_the_learning_rate(losses: list[float]) -> None:
    settings = EarlyStopping(reduce_lr_on_plateau=True, plateau_epochs=1, plateau_reduction=0.5)
    scales = [
        decide_on(settings, *losses[:count]).learning_rate_scale for count in range(len(losses))
    ]
    assert scales == sorted(scales, reverse=True)
    assert all(math.log2(scale).is_integer() for scale in scales)
