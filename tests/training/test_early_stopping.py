"""What looks at the development data ask for, and that it doesn't depend on when one asks."""

import math

from hypothesis import given
from hypothesis import strategies as st

from speech.training.early_stopping import Patience, Verdict, verdict
from speech.training.history import Look

STEPS_PER_EPOCH = 10


def looks(*losses: float, every: int = STEPS_PER_EPOCH) -> list[Look]:
    return [
        Look(every * number, loss, None, None, None, None, best=False)
        for number, loss in enumerate(losses, start=1)
    ]


def judged(patience: Patience, *losses: float, every: int = STEPS_PER_EPOCH) -> Verdict:
    return verdict(looks(*losses, every=every), patience, STEPS_PER_EPOCH)


def test_nothing_is_asked_for_without_flags() -> None:
    assert judged(Patience(), *[5.0] * 100) == Verdict(1.0, stop=False)


def test_training_stops_after_so_many_epochs_without_a_better_loss() -> None:
    patience = Patience(early_stop=True, es_epochs=3, es_min_delta=0.5)
    assert not judged(patience, 9, 8, 8, 8).stop
    assert judged(patience, 9, 8, 8, 8, 8).stop
    # Better by less than the least amount is no better; the lowest one counts, not the last.
    assert judged(patience, 9, 8, 7.9, 7.8, 7.6).stop
    assert not judged(patience, 9, 8, 7.9, 7.4, 7.6).stop
    assert not verdict([], patience, STEPS_PER_EPOCH).stop


def test_patience_counts_epochs_and_not_looks() -> None:
    patience = Patience(early_stop=True, es_epochs=2)
    assert not judged(patience, 8, 8, 8, 8, every=5).stop
    assert judged(patience, 8, 8, 8, 8, 8, every=5).stop


def test_learning_rate_falls_at_each_plateau() -> None:
    patience = Patience(reduce_lr_on_plateau=True, plateau_epochs=2, plateau_reduction=0.5)
    scales = [judged(patience, *[8.0] * count).learning_rate_scale for count in range(1, 8)]
    assert scales == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]
    assert judged(patience, 8, 8, 7, 7, 6, 6).learning_rate_scale == 1


def test_loss_that_is_no_number_is_no_better() -> None:
    patience = Patience(early_stop=True, es_epochs=2)
    assert judged(patience, 8, math.nan, math.inf).stop


@given(st.lists(st.floats(0, 100), max_size=30))
def test_plateaus_only_lower_the_learning_rate(losses: list[float]) -> None:
    patience = Patience(reduce_lr_on_plateau=True, plateau_epochs=1, plateau_reduction=0.5)
    scales = [judged(patience, *losses[:count]).learning_rate_scale for count in range(len(losses))]
    assert scales == sorted(scales, reverse=True)
    assert all(math.log2(scale).is_integer() for scale in scales)
