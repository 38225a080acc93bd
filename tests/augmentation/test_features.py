"""What each augmentation of features does, within what CTC and the records can take."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.augmentation.features import Conditions, apply_all, parse_all
from speech.features.front_end import FrontEnd, filterbank_energies
from utils import UserError

FRAMES, BINS = 200, 40
CONDITIONS = Conditions(FrontEnd(mel_filters=BINS), most_frames=300, stride=2)

Features = npt.NDArray[np.float32]  # [frames, bins]


def augmenter(
    *specifications: str,
    features: Features,
    label: tuple[int, ...] = (1, 2, 3),
    progress: float = 0.0,
    conditions: Conditions = CONDITIONS,
) -> Callable[[int], Features]:
    """A function from a seed to the augmented features."""
    augmentations = parse_all(specifications, conditions.front_end)

    @tf.function
    def apply(seed: tf.Tensor, progress: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        utterance = {
            "features": tf.constant(features, tf.float32),
            "feature_length": len(features),
            "label": tf.constant(label, tf.int32),
            "weight": 1.0,
        }
        changed = apply_all(augmentations, utterance, tf.stack([seed, 0]), progress, conditions)
        assert changed.keys() == utterance.keys()
        return changed["features"], changed["feature_length"]

    def augmented(seed: int) -> Features:
        changed, length = apply(tf.constant(seed), tf.constant(progress))
        assert changed.shape == (length, features.shape[1])
        return np.asarray(changed.numpy())

    return augmented


def masker(
    *specifications: str, frames: int = FRAMES, progress: float = 0.0
) -> Callable[[int], npt.NDArray[np.bool_]]:
    """A function from a seed to what is hidden of an utterance: bool [frames, bins]."""
    features = np.ones([frames, BINS], np.float32)
    augmented = augmenter(*specifications, features=features, progress=progress)
    return lambda seed: augmented(seed) == 0


def stretches(hidden: npt.NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], hidden.astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


# --- What is hidden -------------------------------------------------------------------------------


@pytest.mark.parametrize(("milliseconds", "frames"), [(10, 1), (100, 10), (500, 50)])
def test_time_mask_hides_a_stretch_of_milliseconds(milliseconds: int, frames: int) -> None:
    mask = masker(f"time_mask[n=1,size={milliseconds}]")
    starts = set()
    for seed in range(30):
        hidden = mask(seed)
        assert (hidden.all(axis=1) == hidden.any(axis=1)).all()
        assert stretches(hidden[:, 0]) == [frames]
        starts.add(int(hidden[:, 0].argmax()))
    assert len(starts) > 15


@pytest.mark.parametrize("size", [1, 10])
def test_frequency_mask_hides_a_band_of_bins(size: int) -> None:
    mask = masker(f"frequency_mask[n=1,size={size}]")
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
    mask = masker("frequency_mask[n=1,size=10~4]")
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
    hidden = masker(f"time_mask[n=1,size={size}]", frames=frames)(seed)
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
    mask = masker("time_mask[n=1,size=10]", "time_mask[n=1,size=10]")
    assert sum(mask(seed)[:, 0].sum() == 2 for seed in range(20)) > 15


def test_what_is_not_hidden_stays_as_it_was() -> None:
    features = noise(50, 8) + 10
    hidden = augmenter("time_mask[n=1,size=100]", features=features)(1)
    same = hidden == features
    assert same.all(axis=1).sum() == 40
    np.testing.assert_array_equal(hidden[~same], 0)


def test_start_and_end_run_over_training() -> None:
    """In whole numbers for n: one part at the start, three at the end."""
    for progress, frames in ((0.0, 10), (0.5, 2 * 15), (1.0, 3 * 20)):
        mask = masker("time_mask[n=1:3,size=100:200]", progress=progress)
        hidden = [int(mask(seed)[:, 0].sum()) for seed in range(20)]
        assert max(hidden) == frames
    mask = masker("frequency_mask[n=1,size=4:20~2]", progress=0.75)
    assert {int(mask(seed)[0].sum()) for seed in range(60)} == set(range(14, 19))


# --- Noise ----------------------------------------------------------------------------------------


def noise(frames: int = FRAMES, bins: int = BINS, seed: int = 0) -> Features:
    return np.random.default_rng(seed).normal(size=[frames, bins]).astype(np.float32)


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.5, 1.0])
def test_dropout_hides_a_share_of_the_values(rate: float) -> None:
    features = noise()
    dropped = augmenter(f"dropout[rate={rate}]", features=features)(3)
    assert (dropped == 0).mean() == pytest.approx(rate, abs=0.02)
    np.testing.assert_array_equal(dropped[dropped != 0], features[dropped != 0])


def test_add_and_multiply_have_the_deviation_that_is_asked_for() -> None:
    features = noise() + 5
    added = augmenter("add[stddev=0.5]", features=features)(4) - features
    assert added.mean() == pytest.approx(0, abs=0.02) and added.std() == pytest.approx(0.5, 0.05)
    factors = augmenter("multiply[stddev=0.3]", features=features)(4) / features
    assert factors.mean() == pytest.approx(1, abs=0.02)
    assert factors.std() == pytest.approx(0.3, 0.05)


def test_a_radius_varies_the_noise_from_utterance_to_utterance() -> None:
    features = noise()
    augmented = augmenter("add[stddev=0~0.5]", features=features)
    deviations = [float((augmented(seed) - features).std()) for seed in range(40)]
    assert min(deviations) < 0.1 and max(deviations) > 0.4 and max(deviations) <= 0.52


# --- What moves -----------------------------------------------------------------------------------


def ramp(frames: int = FRAMES, bins: int = BINS) -> Features:
    """Each value tells its frame."""
    return np.repeat(np.arange(frames, dtype=np.float32)[:, np.newaxis], bins, axis=1)


@pytest.mark.parametrize(("factor", "frames"), [(1.0, 200), (1.25, 160), (0.8, 250), (2.0, 100)])
def test_tempo_stretches_time_evenly(factor: float, frames: int) -> None:
    stretched = augmenter(f"tempo[factor={factor}]", features=ramp())(1)
    assert stretched.shape == (frames, BINS)
    np.testing.assert_allclose(np.diff(stretched[2:-2, 0]), factor, rtol=1e-3)
    assert stretched[0, 0] == pytest.approx(0, abs=0.6)
    assert stretched[-1, 0] == pytest.approx(FRAMES - 1, abs=0.6)


def test_tempo_of_one_leaves_the_features_alone() -> None:
    features = noise()
    np.testing.assert_allclose(augmenter("tempo[factor=1]", features=features)(1), features, 1e-5)


def test_tempo_never_makes_more_frames_than_a_record_has() -> None:
    assert augmenter("tempo[factor=0.1]", features=ramp())(1).shape[0] == CONDITIONS.most_frames


@settings(max_examples=30, deadline=None)
@given(
    label=st.lists(st.integers(0, 2), max_size=60),
    stride=st.integers(1, 4),
    factor=st.floats(0.5, 50),
)
def test_tempo_leaves_the_outputs_that_ctc_needs(
    label: list[int], stride: int, factor: float
) -> None:
    conditions = Conditions(FrontEnd(mel_filters=BINS), most_frames=300, stride=stride)
    needed = len(label) + sum(a == b for a, b in pairwise(label))
    before = -(-FRAMES // stride)
    frames = len(
        augmenter(
            f"tempo[factor={factor:.3f}]",
            features=ramp(bins=2),
            label=tuple(label),
            conditions=conditions,
        )(1)
    )
    assert frames >= 1
    # An utterance that could be aligned still can, one that couldn't isn't shortened.
    assert -(-frames // stride) >= min(needed, before)
    if frames > round(FRAMES / round(factor, 3)):
        assert frames == min(max(needed - 1, 0) * stride + 1, FRAMES)


def test_pitch_moves_a_tone_to_the_bin_of_its_new_frequency() -> None:
    front_end = FrontEnd()
    conditions = Conditions(front_end, most_frames=300, stride=2)
    seconds = np.arange(16000) / 16000

    def bins_of(frequency: float) -> Features:
        tone = (8000 * np.sin(2 * np.pi * frequency * seconds)).astype(np.int16)
        return np.log(filterbank_energies(tone, front_end)).T

    for frequency, pitch in ((1000, 1.2), (1000, 0.8), (400, 2.0), (3000, 1.5)):
        moved = augmenter(
            f"pitch[pitch={pitch}]", features=bins_of(frequency), conditions=conditions
        )
        expected = bins_of(frequency * pitch)[50].argmax()
        assert abs(int(moved(1)[50].argmax()) - int(expected)) <= 1


def test_pitch_of_a_spectrogram_multiplies_bins() -> None:
    conditions = Conditions(FrontEnd(features="spectrogram"), 300, 2)
    features = np.zeros([10, BINS], np.float32)
    features[:, 10] = 1
    moved = augmenter("pitch[pitch=2]", features=features, conditions=conditions)(1)
    assert (moved.argmax(axis=1) == 20).all()


def test_warp_along_time_moves_whole_frames_forward_only() -> None:
    warped = augmenter("warp[nt=4,nf=1,wt=1,wf=0]", features=ramp())
    for seed in range(20):
        moved = warped(seed)
        assert moved.shape == (FRAMES, BINS)
        np.testing.assert_allclose(moved, moved[:, :1].repeat(BINS, axis=1), atol=1e-3)
        assert (np.diff(moved[:, 0]) >= -1e-3).all(), "time never runs backwards"
        assert tuple(moved[[0, -1], 0]) == (0, FRAMES - 1)
        assert np.abs(moved[:, 0] - np.arange(FRAMES)).max() > 3


def test_warp_along_frequency_moves_bins_and_no_frames() -> None:
    across = np.ascontiguousarray(ramp(BINS, FRAMES).T)  # each value tells its bin
    moved = augmenter("warp[nt=2,nf=3,wt=0,wf=0.5]", features=across)(5)
    assert (np.diff(moved, axis=1) >= -1e-3).all()
    np.testing.assert_array_equal(moved[:, [0, -1]], across[:, [0, -1]])
    assert np.abs(moved - across).max() > 0.5
    only_time = augmenter("warp[nt=2,nf=3,wt=0.5,wf=0]", features=across)(5)
    np.testing.assert_allclose(only_time, across, atol=1e-3)


def test_warp_shifts_as_far_as_its_deviation_says() -> None:
    """One line of 200 frames: half the distance is 50, of which wt=0.2 is 10."""
    warped = augmenter("warp[nt=1,wt=0.2]", features=ramp())
    shifts = [float((warped(seed)[:, 0] - np.arange(FRAMES))[100]) for seed in range(150)]
    assert np.std(shifts) == pytest.approx(10, rel=0.25)
    assert abs(np.mean(shifts)) < 3


@pytest.mark.parametrize("text", ["warp[nt=0,nf=0,wt=1,wf=1]", "warp[wt=0,wf=0]"])
def test_warp_of_nothing_leaves_the_features_alone(text: str) -> None:
    features = noise()
    np.testing.assert_allclose(augmenter(text, features=features)(1), features, atol=1e-5)


# --- All ------------------------------------------------------------------------------------------

EVERY_KIND = (
    "warp[p=0.9,nt=3~2,nf=1~1,wt=0.1:0.5,wf=0.1]",
    "tempo[p=0.9,factor=1~0.3]",
    "pitch[p=0.9]",
    "dropout[p=0.9]",
    "add[p=0.9]",
    "multiply[p=0.9]",
    "specaugment",
)


@pytest.mark.parametrize("text", EVERY_KIND)
def test_same_seed_and_progress_give_the_same_features(text: str) -> None:
    augmented, again = (augmenter(text, features=noise()) for _ in range(2))
    seen = {augmented(seed).tobytes() for seed in range(12)}
    assert seen == {again(seed).tobytes() for seed in range(12)}
    assert len(seen) > 8


@settings(max_examples=5, deadline=None)
@given(frames=st.integers(1, 30), seed=st.integers(0, 2**31 - 1), progress=st.floats(0, 1))
def test_all_kinds_together_bear_the_shortest_utterances(
    frames: int, seed: int, progress: float
) -> None:
    features = noise(frames)
    augmented = augmenter(*EVERY_KIND, features=features, progress=progress)(seed)
    assert np.isfinite(augmented).all()
    assert 1 <= len(augmented) <= 2 * frames


@pytest.mark.parametrize("text", ["pitch", "warp[wf=2]"])
def test_frequencies_are_not_moved_among_deltas(text: str) -> None:
    with pytest.raises(UserError, match="--deltas=0") as error:
        parse_all([text], FrontEnd(deltas=1))
    assert f"--augment={text}" in str(error.value)
    assert len(parse_all([text, "frequency_mask"], FrontEnd())) == 2
