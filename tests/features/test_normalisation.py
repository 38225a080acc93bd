"""Means and deviations of features: over an utterance, and over a set from its parts' sums."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.features.normalisation import SMALLEST_DEVIATION, Statistics, Sums, normalise


def random_features(frames: int, bins: int, seed: int = 0) -> np.ndarray:
    """float32 [frames, bins], every bin with another mean and deviation."""
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.1, 10, bins)
    return rng.normal(rng.normal(size=bins) * 20, scale, [frames, bins]).astype(np.float32)


# --- Over an utterance ----------------------------------------------------------------------------


def test_every_bin_of_an_utterance_gets_mean_0_and_deviation_1() -> None:
    found = normalise(random_features(50, 7).T)  # [bins, frames]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=1), 1, atol=1e-5)


def test_a_bin_that_never_changes_becomes_0() -> None:
    np.testing.assert_array_equal(normalise(np.full([3, 9], -13.8, np.float32)), np.zeros([3, 9]))


# --- Over a set -----------------------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    bins=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_sums_of_parts_give_mean_and_deviation_of_the_whole(
    lengths: list[int], bins: int, seed: int
) -> None:
    parts = [random_features(frames, bins, seed + n) for n, frames in enumerate(lengths)]
    sums = Sums.of(parts[0].T)
    for part in parts[1:]:
        sums = sums + Sums.of(part.T)
    whole = np.concatenate(parts).astype(np.float64)  # [frames, bins]
    assert (sums.frames, sums.bins) == whole.shape
    statistics = sums.statistics
    np.testing.assert_allclose(statistics.mean, whole.mean(axis=0), rtol=1e-9, atol=1e-9)
    # The square root of what is left of a difference of squares: of a single frame nothing.
    expected = np.maximum(whole.std(axis=0), SMALLEST_DEVIATION)
    np.testing.assert_allclose(statistics.deviation, expected, rtol=1e-6, atol=2e-5)


def test_a_bin_that_never_changes_has_the_smallest_deviation() -> None:
    statistics = Sums.of(np.full([2, 7], 0.1, np.float32)).statistics
    assert statistics.deviation == (SMALLEST_DEVIATION,) * 2


@given(seed=st.integers(0, 2**32 - 1))
def test_not_a_digit_is_lost_in_json(seed: int) -> None:
    sums = Sums.of(random_features(5, 3, seed).T)
    assert Sums.from_json(json.loads(json.dumps(asdict(sums)))) == sums
    statistics = sums.statistics
    assert Statistics.from_json(json.loads(json.dumps(asdict(statistics)))) == statistics


@pytest.mark.parametrize(
    "changed",
    [
        {"frames": 0},
        {"frames": "3"},
        {"values": [1.0]},
        {"squares": [1.0, "2"]},
        {"squares": [1.0, float("nan")]},
        {"values": None},
        {"values": [True, 1.0]},
    ],
)
def test_sums_that_cannot_be_are_refused(changed: dict[str, Any]) -> None:
    good: dict[str, Any] = {"frames": 3, "values": [1.0, 2.0], "squares": [1.0, 4.0]}
    assert Sums.from_json(good).bins == 2
    with pytest.raises(ValueError, match=r"frames|bins|number|list"):
        Sums.from_json({**good, **changed})


@pytest.mark.parametrize(
    "changed",
    [{"mean": [1.0]}, {"deviation": [1.0, 0.0]}, {"deviation": 1.0}, {"mean": [1.0, float("inf")]}],
)
def test_statistics_that_cannot_be_are_refused(changed: dict[str, Any]) -> None:
    good: dict[str, Any] = {"mean": [1.0, 2.0], "deviation": [1.0, 4.0]}
    assert Statistics.from_json(good).mean == (1.0, 2.0)
    with pytest.raises(ValueError, match=r"deviation|number"):
        Statistics.from_json({**good, **changed})
