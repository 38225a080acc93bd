"""Measures of a recording, on sounds whose measures are known."""

import numpy as np
import pytest
from planted_corpus import voice

from speech.audio import levels as sound_checks
from speech.audio.levels import clipped_samples, measure, measure_levels, speech_levels

RATE = 16000
FULL = 32768


def sine(seconds: float, amplitude: float, hertz: float = 400) -> np.ndarray:
    """A whole number of periods in each 20 ms."""
    return amplitude * FULL * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)


def test_a_sine_has_its_level_whatever_its_offset() -> None:
    for offset in (0, 5000):
        levels = measure_levels(sine(0.5, 0.1) + offset, RATE)
        assert len(levels) == 25
        np.testing.assert_allclose(levels, 20 * np.log10(0.1 / np.sqrt(2)), atol=0.01)


def test_levels_are_the_same_of_integers_and_floats() -> None:
    samples = np.rint(FULL * voice("a", 1)).astype(np.int16)
    np.testing.assert_array_equal(
        measure_levels(samples, RATE), measure_levels(samples.astype(np.float32), RATE)
    )


@pytest.mark.parametrize("samples", [1, 2, 319, 320, 321, 639])
def test_shortest_recordings_have_a_level(samples: int) -> None:
    assert len(measure_levels(np.ones(samples, np.int16), RATE)) == 1
    sound = measure(np.ones(samples, np.int16), RATE)
    assert sound.loudest == pytest.approx(sound_checks.LOWEST_LEVEL)
    assert sound.speech_seconds == sound.seconds == samples / RATE


def test_the_loudest_tenth_of_a_second_is_no_click() -> None:
    noise = np.random.default_rng(0).normal(size=RATE)
    samples = (1e-4 * FULL * noise).astype(np.float32)
    quiet = measure(samples, RATE).loudest
    samples[5000:5020] = 20000
    assert measure(samples, RATE).loudest == pytest.approx(quiet, abs=0.5)


def test_silence_at_the_edges_is_measured_and_clicks_are_none_of_speech() -> None:
    noise = 3e-4 * np.random.default_rng(0).normal(size=3 * RATE)
    samples = FULL * np.concatenate([noise[:RATE], voice("a", 2), noise])
    samples[4000:4100] = 20000  # 6 ms
    sound = measure(samples, RATE)
    # The first burst rises slowly, and the last one falls so.
    assert sound.silent_start == pytest.approx(1.05, abs=0.06)
    assert sound.silent_end == pytest.approx(3.05, abs=0.06)
    assert sound.speech_seconds == pytest.approx(1.9, abs=0.1)
    spoken = speech_levels(measure_levels(samples, RATE))
    assert spoken[:52].sum() == 0 and 50 < spoken.sum() < 90


def test_steady_sound_has_no_range_and_speech_has() -> None:
    noise = (3000 * np.random.default_rng(0).normal(size=RATE)).astype(np.float32)
    assert measure(noise, RATE).range < 2
    assert measure(sine(1, 0.3), RATE).range < 0.1
    assert measure(FULL * voice("a", 2), RATE).range > 20


def test_cut_off_samples_are_those_in_a_row_at_the_top_or_bottom() -> None:
    samples = np.zeros(100, np.int16)
    samples[10:14] = 32767
    samples[20:22] = 32767  # two may be a peak
    samples[30:33] = -32768
    samples[40] = 32767
    assert np.flatnonzero(clipped_samples(samples)).tolist() == [10, 11, 12, 13, 30, 31, 32]


def test_cutting_is_found_after_turning_down_and_resampling_up_to_quiet_sound() -> None:
    cut = np.clip(sine(1, 2.0), -FULL, FULL - 1)
    share = clipped_samples(cut).mean()
    assert share == pytest.approx(2 / 3, abs=0.05)  # |sin| > 1/2
    assert clipped_samples(cut * 0.5).mean() == share
    assert not clipped_samples(cut * 0.1).any()  # as quiet as this, equal samples are chance


@pytest.mark.parametrize("amplitude", [0.1, 0.5, 0.999])
def test_a_voice_that_just_reaches_the_top_is_not_cut(amplitude: float) -> None:
    samples = voice("a", 2)
    samples *= amplitude / np.abs(samples).max()
    assert not clipped_samples(np.rint(32767 * samples).astype(np.int16)).any()


def test_offset_is_a_share_of_full_scale() -> None:
    assert measure(np.full(RATE, 3277, np.int16), RATE).offset == pytest.approx(0.1, abs=1e-4)
    assert measure(np.full(RATE, -FULL, np.int16), RATE).offset == -1
