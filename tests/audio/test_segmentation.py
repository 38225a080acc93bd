"""Cutting at pauses, on sounds whose pauses are known and on real speech."""

import glob
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.audio.levels import measure_levels
from speech.audio.reader import read_audio
from speech.audio.segmentation import (
    LONGEST_SECONDS,
    MARGIN_SECONDS,
    PAUSE_SECONDS,
    SILENCE_SECONDS,
    Segment,
    cut_at_pauses,
)

RATE = 8000  # of made sounds; everything is in seconds


def sound(*parts: tuple[str, float], seed: int = 0, rate: int = RATE) -> np.ndarray:
    """float32 [samples]: words ("w") are loud noise, pauses ("p") faint, both with a seed."""
    rng = np.random.default_rng(seed)
    loudness = {"w": 3000.0, "p": 10.0, "z": 0.0, "f": 300.0}
    noises = [rng.normal(size=round(seconds * rate)) * loudness[kind] for kind, seconds in parts]
    return np.concatenate([*noises, np.zeros(0)]).astype(np.float32)


def cut(samples: np.ndarray, longest: float = LONGEST_SECONDS, rate: int = RATE) -> list[Segment]:
    return list(cut_at_pauses([samples], rate, longest))


def spans(segments: Iterable[Segment], rate: int = RATE) -> list[tuple[float, float]]:
    """Starts and ends in seconds."""
    return [(each.start / rate, (each.start + len(each.samples)) / rate) for each in segments]


def left_out(samples: np.ndarray, segments: Iterable[Segment]) -> np.ndarray:
    """Which samples are in no segment, bool [samples]; that none is in two is checked."""
    there = np.zeros(len(samples), bool)
    end = 0
    for segment in segments:
        assert segment.start >= end and len(segment.samples)
        end = segment.start + len(segment.samples)
        there[segment.start : end] = True
        np.testing.assert_array_equal(segment.samples, samples[segment.start : end])
    return ~there


def test_what_is_short_enough_is_one_segment() -> None:
    samples = sound(("w", 3), ("p", 1.5), ("w", 12.8))
    assert spans(cut(samples)) == [(0, 17.3)]


def test_a_cut_is_in_the_middle_of_the_longest_pause_of_the_last_part() -> None:
    samples = sound(
        *[("w", 3), ("p", 1.0), ("w", 6), ("p", 0.3), ("w", 2), ("p", 0.6), ("w", 2), ("p", 0.3)],
        ("w", 6),
    )
    first, second = spans(cut(samples))
    assert first == (0, pytest.approx(12.6, abs=0.02))
    assert second == (first[1], pytest.approx(len(samples) / RATE))


def test_an_early_pause_is_better_than_none() -> None:
    samples = sound(("w", 6), ("p", 0.3), ("w", 14))
    assert spans(cut(samples))[0][1] == pytest.approx(6.15, abs=0.06)


def test_without_a_pause_it_is_cut_where_it_is_quietest() -> None:
    samples = sound(("w", 10), ("f", 0.12), ("w", 10))
    assert spans(cut(samples))[0][1] == pytest.approx(10.06, abs=0.05)


def test_long_silence_is_left_out_but_for_a_margin() -> None:
    samples = sound(("p", 60), ("w", 2), ("p", 5), ("w", 3), ("p", 1.5), ("w", 1), ("p", 40))
    expected = [
        (60 - MARGIN_SECONDS, 62 + MARGIN_SECONDS),
        (67 - MARGIN_SECONDS, 72.5 + MARGIN_SECONDS),
    ]
    found = spans(cut(samples))
    np.testing.assert_allclose(found, expected, atol=0.1)


def test_a_rest_of_silence_is_no_segment() -> None:
    segments = cut(sound(("w", 16), ("p", 1.9)))
    assert [start for start, _ in spans(segments)] == [0]


@pytest.mark.parametrize("kind", ["p", "z"])
def test_nothing_but_silence_is_no_segment(kind: str) -> None:
    for seconds in (2.5, 17.3, 17.31, 100):
        assert cut(sound((kind, seconds))) == []
    assert cut(np.zeros(0, np.float32)) == []


def test_digital_silence_does_not_hide_the_pauses_of_a_room() -> None:
    samples = sound(("z", 1.9), ("w", 10), ("p", 0.5), ("w", 3), ("z", 1.9), ("w", 0.05), ("w", 8))
    ends = [end for _, end in spans(cut(samples[round(RATE * 1.9) - 100 :]))]
    assert ends[0] == pytest.approx(14.4 - 0.4, abs=0.6)  # in the zeros, the longest pause
    samples = sound(("z", 10), ("w", 10), ("p", 0.5), ("w", 8))
    first, *_ = spans(cut(samples))
    assert first[1] == pytest.approx(20.25, abs=0.02)


def test_a_click_in_silence_is_silence() -> None:
    samples = sound(("w", 3), ("p", 4), ("w", 0.02), ("p", 4), ("w", 3))
    assert len(cut(samples)) == 2
    assert left_out(samples, cut(samples)).sum() / RATE == pytest.approx(
        8 - 2 * MARGIN_SECONDS, abs=0.1
    )


def test_a_faint_speaker_is_no_silence_beside_a_loud_one() -> None:
    faint = [("f", 0.2), ("p", 0.1)]
    samples = sound(("w", 10), ("p", 1), *faint * 30, ("p", 1), ("w", 10), *faint * 100)
    assert not left_out(samples, cut(samples)).any()


def test_speech_in_noise_that_is_as_loud_is_kept() -> None:
    rng = np.random.default_rng(0)
    samples = sound(*[("w", 0.2), ("p", 0.3)] * 100, ("p", 5), ("w", 2))
    noisy = samples + rng.normal(size=len(samples)).astype(np.float32) * 2000
    assert not left_out(noisy, cut(noisy)).any()


def test_segments_shorter_than_a_second_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.5 s"):
        cut(sound(("w", 2)), 0.5)


PARTS = st.lists(
    st.tuples(st.sampled_from("wpzf"), st.sampled_from([0.013, 0.1, 0.25, 1.0, 2.4, 6.0])),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=60)
@given(
    parts=PARTS,
    longest=st.sampled_from([1.0, 2.5, 5.01]),
    rate=st.sampled_from([2000, 2205]),
    sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=5),
)
def test_every_sample_is_in_one_segment_or_in_silence_however_they_come(
    parts: list[tuple[str, float]], longest: float, rate: int, sizes: list[int]
) -> None:
    samples = sound(*parts, rate=rate)
    segments = cut(samples, longest, rate)
    assert all(len(each.samples) <= longest * rate for each in segments)
    silent = left_out(samples, segments)
    # Of loud sound no more than a click or a part of 20 ms is omitted.
    loud = silent & (np.abs(samples) > 1000)
    assert not (np.convolve(loud, np.ones(round(0.1 * rate))) > 0.03 * rate).any()
    blocks: list[np.ndarray] = []
    start = 0
    while start < len(samples):
        size = sizes[len(blocks) % len(sizes)]
        blocks.append(samples[start : start + size])
        start += size
    again = list(cut_at_pauses(blocks, rate, longest))
    assert spans(again, rate) == spans(segments, rate)
    np.testing.assert_array_equal(left_out(samples, again), silent)


def test_integers_are_cut_as_floats_are() -> None:
    samples = np.rint(sound(("w", 15), ("p", 0.4), ("w", 9))).astype(np.int16)
    assert spans(cut(samples)) == spans(cut(samples.astype(np.float32)))


def chapters(folder: str) -> Iterable[list[np.ndarray]]:
    """The utterances of each chapter, float32 [samples] at 16 kHz."""
    for chapter in sorted(glob.glob(f"{folder}/*/*/")):
        paths = sorted(glob.glob(f"{chapter}/*.flac"))
        yield [read_audio(path, 16000).astype(np.float32) for path in paths]


def quiet_around(samples: np.ndarray, place: int) -> float:
    """Seconds around a place that are 15 dB below the loud parts of the 4 s around it at least."""
    start = max(place // 320 - 100, 0)
    levels = measure_levels(samples[start * 320 : place + 2 * 16000], 16000)
    quiet = levels < np.percentile(levels, 95) - 15
    level = place // 320 - start
    before = level - np.flatnonzero(~quiet[:level]).max(initial=-1) - 1
    after = np.flatnonzero(~quiet[level:]).min(initial=len(quiet) - level)
    return float((before + after) * 0.02)


def test_real_speech_is_cut_between_words(librispeech_mini: str) -> None:
    """Ten minutes of four readers; nothing of them is long enough silence to be left out."""
    cuts = 0
    for utterances in chapters(f"{librispeech_mini}/test"):
        samples = np.concatenate(utterances)
        segments = cut(samples, rate=16000)
        assert not left_out(samples, segments).any()
        for segment in segments[1:]:
            assert quiet_around(samples, segment.start) >= PAUSE_SECONDS
            cuts += 1
    assert cuts >= 30


def test_silence_between_real_utterances_is_left_out_and_no_word_with_it(
    librispeech_mini: str,
) -> None:
    rng = np.random.default_rng(0)
    room = rng.normal(size=round(2 * SILENCE_SECONDS * 16000)).astype(np.float32) * 3
    utterances = next(iter(chapters(f"{librispeech_mini}/test")))
    samples = np.concatenate([part for each in utterances for part in (each, room)])
    segments = cut(samples, rate=16000)
    # Each gap was found; some utterances are longer than a segment.
    assert len(segments) >= len(utterances)
    silent = left_out(samples, segments)
    assert silent.sum() > 0.7 * len(room) * len(utterances)
    levels = measure_levels(samples, 16000)
    loud = levels > np.percentile(levels, 95) - 25
    assert not (loud & silent[: 320 * len(levels)].reshape(-1, 320).any(axis=1)).any()
