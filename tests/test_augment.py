"""The grammar of augmentations, and what each hides."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.augment import Mask, Range, apply_all, parse
from utils import UserError

FRAMES, BINS = 200, 40
STEP_SECONDS = 0.01


def masker(*specifications: str, frames: int = FRAMES) -> Callable[[int], npt.NDArray[np.bool_]]:
    """A function from a seed to what is hidden of an utterance: bool [frames, bins]."""
    masks = [parse(specification) for specification in specifications]

    @tf.function
    def apply(seed: tf.Tensor) -> tf.Tensor:
        return apply_all(masks, tf.ones([frames, BINS]), tf.stack([seed, 0]), STEP_SECONDS)

    return lambda seed: apply(tf.constant(seed)).numpy() == 0


def stretches(hidden: npt.NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], hidden.astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


# --- Grammar --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("time_mask", Mask("time_mask")),
        ("time_mask[]", Mask("time_mask")),
        ("frequency_mask[p=0.5]", Mask("frequency_mask", 0.5)),
        (
            "frequency_mask[p=1,n=2,size=10]",
            Mask("frequency_mask", 1.0, Range(2), Range(10)),
        ),
        (
            " time_mask[ size = 50~20 , n=3~1 , p = .25 ] ".replace(".25", "0.25"),
            Mask("time_mask", 0.25, Range(3, 1), Range(50, 20)),
        ),
        ("time_mask[size=7.5~2.5]", Mask("time_mask", size=Range(7.5, 2.5))),
    ],
)
def test_specification_is_read(text: str, mask: Mask) -> None:
    assert parse(text) == mask


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "--augment="),
        ("reverb[p=1]", "--augment=reverb[p=1]"),
        ("time_mask[p=1", "--augment=time_mask[p=1"),
        ("time_mask p=1", "--augment=time_mask p=1"),
        ("time_mask[q=1]", "'q=1'"),
        ("time_mask[n=2,size]", "'size'"),
        ("time_mask[size=-3]", "'size=-3'"),
        ("time_mask[size=3~]", "'size=3~'"),
        ("time_mask[size=1:2]", "'size=1:2'"),
        ("frequency_mask[p=often]", "'p=often'"),
        ("time_mask[p=0.5~0.2]", "p is one probability"),
        ("time_mask[p=1.5]", "p is one probability, at most 1"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, named: str) -> None:
    with pytest.raises(UserError) as error:
        parse(text)
    assert named in str(error.value)
    assert "--augment=" in str(error.value)


# --- What is hidden -------------------------------------------------------------------------------


@pytest.mark.parametrize(("milliseconds", "frames"), [(10, 1), (100, 10), (500, 50)])
def test_time_mask_hides_a_stretch_of_milliseconds(milliseconds: int, frames: int) -> None:
    mask = masker(f"time_mask[size={milliseconds}]")
    starts = set()
    for seed in range(30):
        hidden = mask(seed)
        assert (hidden.all(axis=1) == hidden.any(axis=1)).all()
        assert stretches(hidden[:, 0]) == [frames]
        starts.add(int(hidden[:, 0].argmax()))
    assert len(starts) > 15


@pytest.mark.parametrize("size", [1, 10])
def test_frequency_mask_hides_a_band_of_bins(size: int) -> None:
    mask = masker(f"frequency_mask[size={size}]")
    starts = set()
    for seed in range(60):
        hidden = mask(seed)
        assert (hidden.all(axis=0) == hidden.any(axis=0)).all()
        assert stretches(hidden[0]) == [size]
        starts.add(int(hidden[0].argmax()))
    # The first and the last band have their turn too.
    assert min(starts) <= 2 and max(starts) >= BINS - size - 2


def test_n_parts_are_hidden() -> None:
    mask = masker("time_mask[n=3,size=20]")
    parts = [stretches(mask(seed)[:, 0]) for seed in range(40)]
    # Parts may touch; mostly they don't.
    assert all(sum(each) <= 6 and len(each) <= 3 for each in parts)
    assert sum(each == [2, 2, 2] for each in parts) > 25


def test_range_of_sizes_and_counts_is_kept_and_used() -> None:
    mask = masker("frequency_mask[size=10~4]")
    sizes = {int(mask(seed)[0].sum()) for seed in range(150)}
    assert sizes == set(range(6, 15))
    mask = masker("time_mask[n=2~2,size=10]")
    counts = {int(mask(seed)[:, 0].sum()) for seed in range(150)}
    assert counts == {0, 1, 2, 3, 4}


def test_probability_is_the_share_of_touched_utterances() -> None:
    for probability in (0.0, 0.3, 1.0):
        mask = masker(f"time_mask[p={probability},size=100]")
        share = np.mean([mask(seed).any() for seed in range(300)])
        assert share == pytest.approx(probability, abs=0.08)
        if probability in (0.0, 1.0):
            assert share == probability


@settings(max_examples=30, deadline=None)
@given(
    frames=st.integers(1, 30),
    size=st.integers(0, 1000),
    seed=st.integers(0, 2**31 - 2000),
)
def test_mask_is_never_longer_than_the_utterance(frames: int, size: int, seed: int) -> None:
    hidden = masker(f"time_mask[size={size}]", frames=frames)(seed)
    assert hidden.shape == (frames, BINS)
    assert stretches(hidden[:, 0]) == [
        length for length in [min(round(size / 10), frames)] if length
    ]


def test_same_seed_hides_the_same_and_another_something_else() -> None:
    specifications = ("time_mask[n=2,size=100~90]", "frequency_mask[n=2,size=8~8]")
    mask, again = masker(*specifications), masker(*specifications)
    patterns = {mask(seed).tobytes() for seed in range(20)}
    assert patterns == {again(seed).tobytes() for seed in range(20)}
    assert len(patterns) == 20


def test_two_masks_of_one_kind_hide_different_parts() -> None:
    mask = masker("time_mask[size=10]", "time_mask[size=10]")
    assert sum(mask(seed)[:, 0].sum() == 2 for seed in range(20)) > 15


def test_what_is_not_hidden_stays_as_it_was() -> None:
    features = tf.random.stateless_normal([50, 8], [1, 2]) + 10
    hidden = apply_all([parse("time_mask[size=100]")], features, tf.constant([1, 2]), STEP_SECONDS)
    same = (hidden == features).numpy()
    assert same.all(axis=1).sum() == 40
    np.testing.assert_array_equal(hidden.numpy()[~same], 0)
