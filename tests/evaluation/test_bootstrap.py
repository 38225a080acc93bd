"""Bootstrap intervals against a loop, against SciPy, and against the truth they should cover."""

from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.evaluation import bootstrap
from speech.evaluation.bootstrap import SEED, Difference, error_interval, paired_difference

# (errors, another system's errors, length) of an utterance.
UTTERANCES = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 9)), min_size=1, max_size=12
)


def a_set(utterances: int, seed: int = 1) -> tuple[list[int], list[int], list[int]]:
    """(errors, the errors of a somewhat better system, lengths)."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, utterances)
    difficulty = rng.beta(1, 6, utterances)
    errors = rng.binomial(lengths, difficulty)
    others = rng.binomial(lengths, difficulty * 0.8)
    return errors.tolist(), others.tolist(), lengths.tolist()


def rate(errors: int, length: int) -> float:
    return errors / length if length else float(errors > 0)


def slowly(
    errors: list[int], others: list[int], lengths: list[int], samples: int
) -> tuple[list[float], list[float]]:
    """Each sample's rate of the first system, and how much more the second's is."""
    rng = np.random.default_rng(SEED)
    rates, differences = [], []
    for _ in range(samples):
        drawn = [int(i) for i in rng.integers(len(errors), size=len(errors))]
        length = sum(lengths[i] for i in drawn)
        first = rate(sum(errors[i] for i in drawn), length)
        second = rate(sum(others[i] for i in drawn), length)
        rates.append(first)
        differences.append(second - first)
    return rates, differences


@given(UTTERANCES)
@settings(deadline=None, max_examples=50)
def test_intervals_and_p_value_are_those_of_a_loop(
    utterances: list[tuple[int, int, int]],
) -> None:
    errors, others, lengths = (list(column) for column in zip(*utterances, strict=True))
    rates, differences = slowly(errors, others, lengths, 40)
    expected = np.quantile(rates, [0.025, 0.975])
    assert error_interval(errors, lengths, 40) == pytest.approx(expected)
    found = paired_difference(errors, others, lengths, 40)
    whole = rate(sum(others), sum(lengths)) - rate(sum(errors), sum(lengths))
    assert found.rate == pytest.approx(whole)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))
    turned = [whole * difference <= 0 for difference in differences]
    assert found.p_value == pytest.approx(np.mean(turned))


def test_interval_is_scipys_percentile_bootstrap() -> None:
    errors, others, lengths = a_set(150)

    def quotient(
        errors: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], axis: int = -1
    ) -> npt.NDArray[np.float64]:
        return np.asarray(errors.sum(axis) / lengths.sum(axis))

    def difference(
        errors: npt.NDArray[np.int64],
        others: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        axis: int = -1,
    ) -> npt.NDArray[np.float64]:
        return np.asarray((others.sum(axis) - errors.sum(axis)) / lengths.sum(axis))

    how = {"paired": True, "vectorized": True, "method": "percentile", "n_resamples": 20_000}
    low, high = scipy.stats.bootstrap(
        (errors, lengths), quotient, **how, random_state=5
    ).confidence_interval
    found = error_interval(errors, lengths, 20_000)
    assert found == pytest.approx((low, high), abs=0.02 * (high - low))
    low, high = scipy.stats.bootstrap(
        (errors, others, lengths), difference, **how, random_state=5
    ).confidence_interval
    paired = paired_difference(errors, others, lengths, 20_000)
    assert (paired.low, paired.high) == pytest.approx((low, high), abs=0.02 * (high - low))


def test_interval_covers_the_true_rate_about_95_times_in_100() -> None:
    """Of 300 sets drawn from one population; 3 standard deviations are 3.8 points."""
    rng = np.random.default_rng(7)
    true_rate = 1 / 7  # the mean of the difficulties below
    covered = 0
    for _ in range(300):
        lengths = rng.integers(5, 30, 120)
        errors = rng.binomial(lengths, rng.beta(1, 6, 120))
        low, high = error_interval(errors.tolist(), lengths.tolist(), 400)
        covered += low <= true_rate <= high
    assert 0.90 <= covered / 300 <= 0.99


def test_equal_systems_are_found_different_about_as_often_as_chance_allows() -> None:
    """One-sided p below 0.025 on either side: 5 of 100 sets."""
    rng = np.random.default_rng(8)
    found = 0
    for _ in range(300):
        lengths = rng.integers(5, 30, 100)
        difficulty = rng.beta(1, 6, 100)
        first, second = (rng.binomial(lengths, difficulty).tolist() for _ in range(2))
        found += paired_difference(first, second, lengths.tolist(), 400).p_value < 0.025
    assert 0.01 <= found / 300 <= 0.10


def test_pairing_finds_what_two_intervals_hide() -> None:
    errors, _, lengths = a_set(200)
    others = [max(0, error - (i % 10 == 0)) for i, error in enumerate(errors)]
    first, second = error_interval(errors, lengths), error_interval(others, lengths)
    assert second[1] > first[0]  # they overlap
    found = paired_difference(errors, others, lengths)
    assert found.high < 0
    assert found.p_value < 0.01


def test_swapping_the_systems_turns_the_sign() -> None:
    errors, others, lengths = a_set(80)
    there = paired_difference(errors, others, lengths)
    back = paired_difference(others, errors, lengths)
    assert there.rate < 0
    assert back.rate == -there.rate
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert back.p_value == there.p_value


def test_the_same_utterances_give_the_same_interval_however_many_are_drawn_at_once() -> None:
    errors, _, lengths = a_set(90)
    expected = error_interval(errors, lengths)
    assert error_interval(errors, lengths) == expected
    for at_once in (1, 90 * 7, 10**9):
        with mock.patch.object(bootstrap, "MOST_DRAWN", at_once):
            assert error_interval(errors, lengths) == expected


def test_more_utterances_narrow_the_interval() -> None:
    few = error_interval(*a_set(50)[::2])
    many = error_interval(*a_set(5000)[::2])
    assert many[1] - many[0] < (few[1] - few[0]) / 4


@pytest.mark.parametrize(
    ("errors", "lengths", "interval"),
    [
        ([], [], (0.0, 0.0)),
        ([3], [10], (0.3, 0.3)),
        ([0, 0], [5, 7], (0.0, 0.0)),
        ([0, 0], [0, 0], (0.0, 0.0)),
        ([2, 1], [0, 0], (1.0, 1.0)),
        ([30, 30], [10, 10], (3.0, 3.0)),
    ],
)
def test_sets_without_spread_have_a_point(
    errors: list[int], lengths: list[int], interval: tuple[float, float]
) -> None:
    assert error_interval(errors, lengths) == pytest.approx(interval)


def test_no_difference_is_never_significant() -> None:
    errors, _, lengths = a_set(30)
    assert paired_difference(errors, errors, lengths) == Difference(0.0, 0.0, 0.0, 1.0)
    assert paired_difference([], [], []) == Difference(0.0, 0.0, 0.0, 1.0)
    assert paired_difference([1, 0], [0, 1], [4, 4]).p_value == 1.0


def test_difference_in_every_utterance_has_a_p_value_of_0() -> None:
    found = paired_difference([2, 2, 2], [1, 1, 1], [10, 10, 10])
    assert (found.rate, found.low, found.high) == pytest.approx((-0.1, -0.1, -0.1))
    assert found.p_value == 0.0
