"""The front end against python_speech_features."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import python_speech_features
from hypothesis import example, given, settings
from hypothesis import strategies as st
from python_speech_features import base, sigproc

from speech.audio.reader import INT16_SCALE, read_audio
from speech.features.front_end import (
    FEATURES,
    NONE,
    FrontEnd,
    empty_filters,
    extract,
    filterbank_energies,
)
from utils import UserError

DEFAULT = FrontEnd()
TELEPHONE = FrontEnd(
    sample_rate=8000, window_seconds=0.025, mel_filters=40, fft_size=512, highest_frequency=3800.0
)
FRONT_ENDS = {
    "default": DEFAULT,
    "telephone": TELEPHONE,
    "32 ms every 12.5 ms": FrontEnd(window_seconds=0.032, step_seconds=0.0125, mel_filters=64),
    "steps longer than windows": FrontEnd(window_seconds=0.01, step_seconds=0.015),
    "no pre-emphasis, full band": replace(
        DEFAULT, pre_emphasis=0.0, lowest_frequency=0.0, highest_frequency=8000.0, mel_filters=26
    ),
    "differences": replace(DEFAULT, deltas=2),
}
# Of other kinds, as other projects have them.
DEEP_SPEECH_0_1 = FrontEnd(
    features="mfcc",
    window_seconds=0.032,
    step_seconds=0.02,
    fft_size=512,
    mel_filters=40,
    coefficients=26,
    normalisation=NONE,
)
HEY_JETSON = FrontEnd(features="mfcc", mel_filters=26, deltas=1, normalisation=NONE)
UNNORMALISED = {
    "fbank": replace(DEFAULT, normalisation=NONE),
    "26 coefficients": DEEP_SPEECH_0_1,
    "13 coefficients and differences": HEY_JETSON,
    "as many coefficients as filters": replace(TELEPHONE, features="mfcc", coefficients=40),
    "one coefficient": replace(HEY_JETSON, coefficients=1, deltas=2),
    "spectrogram": FrontEnd(features="spectrogram", fft_size=320),
    "spectrogram and differences": FrontEnd(features="spectrogram", deltas=2),
    "spectrogram of an odd size": replace(TELEPHONE, features="spectrogram", fft_size=401),
    "waveform": FrontEnd(features="waveform"),
    "waveform of few samples": FrontEnd(features="waveform", sample_rate=8000, fft_size=64),
}
UNNORMALISED = {name: replace(each, normalisation=NONE) for name, each in UNNORMALISED.items()}


def reference(samples: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """python_speech_features' recipe in float64, normalised as asked: [frames, bins]."""
    features = [static_reference(samples.astype(np.float64), front_end)]
    for _ in range(front_end.deltas):
        features.append(python_speech_features.delta(features[-1], 2))
    joined: np.ndarray = np.concatenate(features, axis=1)
    if front_end.normalisation == NONE:
        return joined
    return (joined - joined.mean(axis=0)) / np.maximum(joined.std(axis=0), 1e-5)


def static_reference(samples: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """python_speech_features' recipe in float64, without differences: [frames, bins]."""
    window, step = front_end.window_seconds, front_end.step_seconds
    lengths = window * front_end.sample_rate, step * front_end.sample_rate
    if front_end.features == "waveform":
        framed: np.ndarray = sigproc.framesig(samples, *lengths)
        return framed / 32768
    if front_end.features == "spectrogram":
        emphasised = sigproc.preemphasis(samples, front_end.pre_emphasis)
        framed = sigproc.framesig(emphasised, *lengths, winfunc=np.hamming)
        return floored_log(sigproc.powspec(framed, front_end.fft_size), front_end)
    energies, total = python_speech_features.fbank(
        samples,
        samplerate=front_end.sample_rate,
        winlen=window,
        winstep=step,
        nfilt=front_end.mel_filters,
        nfft=front_end.fft_size,
        lowfreq=front_end.lowest_frequency,
        highfreq=front_end.highest_frequency,
        preemph=front_end.pre_emphasis,
        winfunc=np.hamming,
    )
    logarithms = floored_log(energies, front_end)  # [frames, mel filters]
    if front_end.features == "fbank":
        return logarithms
    transformed = base.dct(logarithms, type=2, axis=1, norm="ortho")
    cepstra: np.ndarray = base.lifter(transformed[:, : front_end.coefficients])
    cepstra[:, 0] = floored_log(total, front_end)
    return cepstra


def floored_log(energies: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    logarithms: np.ndarray = np.log(np.maximum(energies, front_end.energy_floor))
    return logarithms


def noise(samples: int, seed: int = 0, scale: float = 1000.0) -> npt.NDArray[np.float32]:
    """float32 [samples] at int16 scale."""
    return (np.random.default_rng(seed).normal(size=samples) * scale).astype(np.float32)


def sine(frequency: float, rate: int, seconds: float) -> np.ndarray:
    """float64 [samples], half of full scale."""
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


# --- Frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS.keys())
@settings(max_examples=60, deadline=None)
@given(samples=st.integers(1, 20000))
@example(samples=1)
@example(samples=320)
@example(samples=321)
@example(samples=480)
@example(samples=481)
def test_frame_count_is_python_speech_features(front_end: FrontEnd, samples: int) -> None:
    frames = sigproc.framesig(
        np.zeros(samples),
        front_end.window_seconds * front_end.sample_rate,
        front_end.step_seconds * front_end.sample_rate,
    )
    assert front_end.frames(samples) == len(frames)


@settings(deadline=None)
@given(samples=st.integers(1, 3000), front_end=st.sampled_from([DEFAULT, *UNNORMALISED.values()]))
def test_there_are_as_many_features_as_frames_and_bins(samples: int, front_end: FrontEnd) -> None:
    features = extract(noise(samples), front_end)
    assert features.shape == (front_end.frames(samples), front_end.bins)
    assert features.dtype == np.float32 and np.isfinite(features).all()


@pytest.mark.parametrize(
    ("front_end", "bins"),
    [
        (DEFAULT, 80),
        (DEEP_SPEECH_0_1, 26),
        (HEY_JETSON, 2 * 13),
        (FrontEnd(features="spectrogram", fft_size=320), 161),
        (FrontEnd(features="spectrogram", deltas=2), 3 * 513),
        (FrontEnd(features="waveform", window_seconds=0.025), 400),
    ],
)
def test_bins_are_the_values_of_a_frame(front_end: FrontEnd, bins: int) -> None:
    assert front_end.bins == bins


# --- Features -------------------------------------------------------------------------------------


@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS.keys())
@settings(max_examples=10, deadline=None)
@given(
    samples=st.integers(2000, 40000),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1.0, 30.0, 3000.0]),
)
@example(samples=22961, seed=0, scale=1.0)
@example(samples=23040, seed=0, scale=1.0)
def test_features_of_noise_are_python_speech_features(
    front_end: FrontEnd, samples: int, seed: int, scale: float
) -> None:
    signal = noise(samples, seed, scale)
    features = extract(signal, front_end)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, reference(signal, front_end), rtol=0, atol=1e-4)


@pytest.mark.parametrize("front_end", UNNORMALISED.values(), ids=UNNORMALISED.keys())
@settings(max_examples=10, deadline=None)
@given(
    samples=st.integers(1, 20000),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1.0, 30.0, 3000.0]),
    integers=st.booleans(),
)
@example(samples=50000, seed=0, scale=1000.0, integers=True)
def test_so_are_those_of_other_kinds_before_they_are_normalised(
    front_end: FrontEnd, samples: int, seed: int, scale: float, integers: bool
) -> None:
    signal = noise(samples, seed, scale)
    signal = signal.astype(np.int16) if integers else signal
    features = extract(signal, front_end)
    np.testing.assert_allclose(features, reference(signal, front_end), rtol=0, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(samples=st.integers(2000, 40000), seed=st.integers(0, 2**32 - 1))
def test_coefficients_are_those_of_python_speech_features_mfcc(samples: int, seed: int) -> None:
    """Of its function as people call it, with the numbers of Mozilla DeepSpeech."""
    expected = python_speech_features.mfcc(
        noise(samples, seed).astype(np.float64),
        winlen=0.032,
        winstep=0.02,
        numcep=26,
        nfilt=40,
        nfft=512,
        lowfreq=125,
        highfreq=7600,
        winfunc=np.hamming,
    )
    found = extract(noise(samples, seed), DEEP_SPEECH_0_1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("features", FEATURES)
def test_every_kind_of_features_can_be_normalised(features: str) -> None:
    front_end = FrontEnd(features=features, deltas=0 if features == "waveform" else 1)
    found = extract(noise(8000), front_end)  # [frames, bins]
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=0), 1, atol=1e-5)
    kept = extract(noise(8000), replace(front_end, normalisation=NONE))
    over_the_set = extract(noise(8000), replace(front_end, normalisation="corpus"))
    np.testing.assert_array_equal(kept, over_the_set)
    by_hand = (kept - kept.mean(axis=0)) / kept.std(axis=0)
    np.testing.assert_allclose(found, by_hand, atol=1e-3)


def test_a_waveform_is_the_samples_at_full_scale_1() -> None:
    samples = np.array([-32768, 16384, 0, 8192, 32767], np.int16)
    front_end = FrontEnd(
        features="waveform", window_seconds=4 / 16000, step_seconds=1 / 16000, normalisation=NONE
    )
    expected = [[-1, 0.5, 0, 0.25], [0.5, 0, 0.25, 32767 / 32768]]
    np.testing.assert_array_equal(extract(samples, front_end), np.array(expected, np.float32))


def test_a_tone_is_where_its_frequency_is() -> None:
    tone = (sine(1000, 16000, 0.5) * INT16_SCALE).astype(np.float32)
    spectrum = extract(tone, FrontEnd(features="spectrogram", normalisation=NONE))[20]
    assert spectrum.argmax() == 1000 * 512 // 8000
    samples = extract(tone, FrontEnd(features="waveform", normalisation=NONE))[20]
    np.testing.assert_allclose(samples[16:], samples[:-16], atol=1e-6)


def test_of_the_coefficients_loudness_changes_the_first_alone() -> None:
    signal = noise(8000)
    loud, quiet = (extract(each, DEEP_SPEECH_0_1) for each in (signal, signal / np.float32(10)))
    np.testing.assert_allclose(loud[:, 0] - quiet[:, 0], np.log(100), atol=1e-4)
    np.testing.assert_allclose(loud[:, 1:], quiet[:, 1:], atol=1e-3)


@pytest.mark.parametrize("front_end", UNNORMALISED.values(), ids=UNNORMALISED.keys())
def test_real_speech_of_every_kind_is_that_of_the_reference(
    front_end: FrontEnd, asterisk_en: str
) -> None:
    paths = sorted(Path(asterisk_en).rglob("*.flac"))
    for path in paths[:: len(paths) // 3][:3]:
        samples = read_audio(str(path), front_end.sample_rate)
        expected = reference(samples, front_end)
        np.testing.assert_allclose(
            extract(samples, front_end), expected, rtol=0, atol=1e-4, err_msg=str(path)
        )


@pytest.mark.parametrize("corpus", ["librispeech_mini", "asterisk_en"])
def test_features_of_real_speech_are_python_speech_features(
    corpus: str, request: pytest.FixtureRequest
) -> None:
    folder = Path(request.getfixturevalue(corpus))
    count = {"librispeech_mini": 10, "asterisk_en": 5}[corpus]
    paths = sorted(folder.rglob("*.flac"))
    for path in paths[:: len(paths) // count][:count]:
        samples = read_audio(str(path), DEFAULT.sample_rate)
        expected = reference(samples, DEFAULT)
        np.testing.assert_allclose(
            extract(samples, DEFAULT), expected, rtol=0, atol=1e-4, err_msg=str(path)
        )


def test_every_bin_has_mean_0_and_deviation_1() -> None:
    features = extract(noise(16000), DEFAULT)  # [frames, bins]
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(features.std(axis=0), 1, atol=1e-5)


def test_loudness_does_not_change_features() -> None:
    signal = noise(16000)
    np.testing.assert_allclose(
        extract(signal / np.float32(8), DEFAULT), extract(signal, DEFAULT), atol=1e-4
    )


@pytest.mark.parametrize("samples", [1, 2, 319, 320])
def test_less_than_a_window_is_one_frame_of_zeros(samples: int) -> None:
    np.testing.assert_array_equal(extract(noise(samples), DEFAULT), np.zeros((1, DEFAULT.bins)))


def test_digital_silence_is_zeros() -> None:
    features = extract(np.zeros(16000, np.float32), DEFAULT)
    np.testing.assert_array_equal(features, np.zeros_like(features))


def test_silence_beside_sound_is_floored_and_finite() -> None:
    signal = np.concatenate([np.zeros(8000, np.float32), noise(8000)])
    assert filterbank_energies(signal, DEFAULT).min() == np.float32(DEFAULT.energy_floor)
    features = extract(signal, DEFAULT)
    assert np.isfinite(features).all()
    np.testing.assert_allclose(features, reference(signal, DEFAULT), rtol=0, atol=1e-4)


def test_extracting_leaves_the_samples_alone() -> None:
    signal = noise(1000)
    before = signal.copy()
    extract(signal, DEFAULT)
    np.testing.assert_array_equal(signal, before)


def test_filters_too_narrow_for_the_spectrum_are_counted() -> None:
    assert empty_filters(DEFAULT) == empty_filters(DEEP_SPEECH_0_1) == 0
    narrow = replace(DEFAULT, fft_size=320)
    assert empty_filters(replace(narrow, features="spectrogram")) == 0
    silent = extract(noise(8000), replace(narrow, normalisation=NONE)) == np.float32(np.log(1e-6))
    assert empty_filters(narrow) == silent.all(axis=0).sum() > 0


# --- Settings that can't be -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "flag"),
    [
        ({"sample_rate": 0}, "--sample_rate"),
        ({"sample_rate": -16000}, "--sample_rate"),
        ({"mel_filters": 0}, "--nrof_fbanks"),
        ({"window_seconds": 0.0}, "--winlen"),
        ({"window_seconds": -0.02}, "--winlen"),
        ({"window_seconds": 0.0641}, "--winlen"),
        ({"window_seconds": float("nan")}, "--winlen"),
        ({"window_seconds": float("inf")}, "--winlen"),
        ({"step_seconds": 0.0}, "--winstep"),
        ({"step_seconds": 1e-5}, "--winstep"),
        ({"step_seconds": float("inf")}, "--winstep"),
        ({"sample_rate": 8000}, "--sample_rate"),  # its half is below the highest filter
        ({"lowest_frequency": 7600.0}, "--sample_rate"),
        ({"lowest_frequency": -1.0}, "--sample_rate"),
        ({"features": "mel"}, "--features"),
        ({"normalisation": "speaker"}, "--normalisation"),
        ({"deltas": 3}, "--deltas"),
        ({"deltas": -1}, "--deltas"),
        ({"deltas": 1, "features": "waveform"}, "--features"),
        ({"coefficients": 0, "features": "mfcc"}, "--numcep"),
        ({"coefficients": 81, "features": "mfcc"}, "--nrof_fbanks"),
        ({"fft_size": 319, "features": "spectrogram"}, "--nfft"),
        ({"fft_size": 0}, "--nfft"),
    ],
)
def test_impossible_settings_name_the_flag(changed: dict[str, Any], flag: str) -> None:
    with pytest.raises(UserError) as error:
        FrontEnd(**changed)
    value = next(iter(changed.values()))
    assert flag in str(error.value) and str(value) in str(error.value)


def test_a_window_may_fill_the_fft() -> None:
    assert FrontEnd(window_seconds=0.064).window_samples == 1024


@pytest.mark.parametrize(
    "unused",
    [
        {"features": "spectrogram", "mel_filters": 0, "highest_frequency": 9000.0},
        {"features": "waveform", "fft_size": 0, "lowest_frequency": -1.0},
        {"features": "fbank", "coefficients": 81},
    ],
)
def test_what_the_features_do_not_use_is_not_checked(unused: dict[str, Any]) -> None:
    front_end = FrontEnd(**unused)
    assert extract(noise(8000), front_end).shape == (front_end.frames(8000), front_end.bins)


def test_a_front_end_comes_back_from_its_json() -> None:
    for front_end in (*FRONT_ENDS.values(), *UNNORMALISED.values()):
        assert FrontEnd.from_json(json.loads(json.dumps(asdict(front_end)))) == front_end


def test_a_front_end_of_the_first_version_is_read() -> None:
    first = {
        "sample_rate": 8000,
        "window_seconds": 0.025,
        "step_seconds": 0.01,
        "fft_size": 512,
        "bins": 40,
        "lowest_frequency": 125.0,
        "highest_frequency": 3800.0,
        "pre_emphasis": 0.97,
        "energy_floor": 1e-6,
    }
    assert FrontEnd.from_json(first) == TELEPHONE
