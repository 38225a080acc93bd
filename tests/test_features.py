"""The front end against python_speech_features, and reading of audio files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import python_speech_features
import soundfile
from emulator import Emulator
from hypothesis import example, given, settings
from hypothesis import strategies as st
from python_speech_features import sigproc

from speech.features import (
    INT16_SCALE,
    AudioError,
    FrontEnd,
    audio_length,
    extract,
    filterbank_energies,
    read_audio,
)
from utils import UserError

DEFAULT = FrontEnd()
TELEPHONE = FrontEnd(
    sample_rate=8000, window_seconds=0.025, bins=40, fft_size=512, highest_frequency=3800.0
)
FRONT_ENDS = {
    "default": DEFAULT,
    "telephone": TELEPHONE,
    "32 ms every 12.5 ms": FrontEnd(window_seconds=0.032, step_seconds=0.0125, bins=64),
    "steps longer than windows": FrontEnd(window_seconds=0.01, step_seconds=0.015),
    "no pre-emphasis, full band": replace(
        DEFAULT, pre_emphasis=0.0, lowest_frequency=0.0, highest_frequency=8000.0, bins=26
    ),
}


def reference(samples: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """python_speech_features' recipe in float64: [frames, bins]."""
    energies, _ = python_speech_features.fbank(
        samples.astype(np.float64),
        samplerate=front_end.sample_rate,
        winlen=front_end.window_seconds,
        winstep=front_end.step_seconds,
        nfilt=front_end.bins,
        nfft=front_end.fft_size,
        lowfreq=front_end.lowest_frequency,
        highfreq=front_end.highest_frequency,
        preemph=front_end.pre_emphasis,
        winfunc=np.hamming,
    )
    logarithms = np.log(np.maximum(energies, front_end.energy_floor))  # [frames, bins]
    deviation = np.maximum(logarithms.std(axis=0), 1e-5)  # [bins]
    normalised: np.ndarray = (logarithms - logarithms.mean(axis=0)) / deviation
    return normalised


def noise(samples: int, seed: int = 0, scale: float = 1000.0) -> np.ndarray:
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
@given(samples=st.integers(1, 3000))
def test_there_are_as_many_features_as_frames(samples: int) -> None:
    assert extract(noise(samples), DEFAULT).shape == (DEFAULT.frames(samples), DEFAULT.bins)


# --- Features -------------------------------------------------------------------------------------


@pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS.keys())
@settings(max_examples=10, deadline=None)
@given(
    samples=st.integers(2000, 40000),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1.0, 30.0, 3000.0]),
)
def test_features_of_noise_are_python_speech_features(
    front_end: FrontEnd, samples: int, seed: int, scale: float
) -> None:
    signal = noise(samples, seed, scale)
    features = extract(signal, front_end)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, reference(signal, front_end), rtol=0, atol=1e-4)


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
    np.testing.assert_allclose(extract(signal / 8, DEFAULT), extract(signal, DEFAULT), atol=1e-4)


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


# --- Settings that can't be -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "flag"),
    [
        ({"sample_rate": 0}, "--sample_rate"),
        ({"sample_rate": -16000}, "--sample_rate"),
        ({"bins": 0}, "--nrof_fbanks"),
        ({"window_seconds": 0.0}, "--winlen"),
        ({"window_seconds": -0.02}, "--winlen"),
        ({"window_seconds": 0.0641}, "--winlen"),
        ({"window_seconds": float("nan")}, "--winlen"),
        ({"window_seconds": float("inf")}, "--winlen"),
        ({"step_seconds": 0.0}, "--winstep"),
        ({"step_seconds": 1e-5}, "--winstep"),
        ({"step_seconds": float("inf")}, "--winstep"),
        ({"sample_rate": 8000}, "--sample_rate"),  # its half lies below the highest filter
        ({"lowest_frequency": 7600.0}, "--sample_rate"),
        ({"lowest_frequency": -1.0}, "--sample_rate"),
    ],
)
def test_impossible_settings_name_the_flag(changed: dict[str, Any], flag: str) -> None:
    with pytest.raises(UserError) as error:
        FrontEnd(**changed)
    value = next(iter(changed.values()))
    assert flag in str(error.value) and str(value) in str(error.value)


def test_a_window_may_fill_the_fft() -> None:
    assert FrontEnd(window_seconds=0.064).window_samples == 1024


# --- Audio files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_samples_are_at_the_scale_of_16_bits(tmp_path: Path, subtype: str) -> None:
    path = str(tmp_path / "a.flac")
    wave = np.array([0.5, -0.5, 0.25, -1.0])
    soundfile.write(path, wave, 16000, subtype=subtype)
    samples = read_audio(path, 16000)
    np.testing.assert_allclose(samples.astype(float), wave * INT16_SCALE, atol=1)


def test_16_bit_samples_come_back_exactly(tmp_path: Path) -> None:
    path = str(tmp_path / "a.flac")
    written = np.array([0, 1, -1, 32767, -32768, 1234], np.int16)
    soundfile.write(path, written, 16000)
    samples = read_audio(path, 16000)
    assert samples.dtype == np.int16
    np.testing.assert_array_equal(samples, written)


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = str(tmp_path / "stereo.flac")
    left, right = noise(1000, 1).astype(np.int16), noise(1000, 2).astype(np.int16)
    soundfile.write(path, np.stack([left, right], axis=1), 16000)
    expected = (left.astype(float) + right) / 2
    np.testing.assert_allclose(read_audio(path, 16000), expected, atol=0.01)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    path = str(tmp_path / "sine.flac")
    soundfile.write(path, sine(440, rate, 1.0), rate)
    samples = read_audio(path, 16000)
    assert len(samples) == 16000
    expected = sine(440, 16000, 1.0) * INT16_SCALE
    inside = slice(800, -800)  # the filter rings at both ends
    np.testing.assert_allclose(samples[inside], expected[inside], atol=0.01 * INT16_SCALE)


def test_a_wav_without_samples_gives_none(tmp_path: Path) -> None:
    path = str(tmp_path / "empty.wav")
    soundfile.write(path, np.zeros(0), 8000)
    assert read_audio(path, 16000).shape == (0,)


def flac_bytes(tmp_path: Path) -> bytes:
    path = tmp_path / "whole.flac"
    soundfile.write(path, noise(16000) / INT16_SCALE, 16000)
    return path.read_bytes()


def length_unknown(flac: bytes) -> bytes:
    """A flac as an encoder writes it into a pipe: STREAMINFO's 36 bits of samples are 0."""
    return flac[:21] + bytes([flac[21] & 0xF0, 0, 0, 0, 0]) + flac[26:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda flac: flac[: len(flac) // 2],
        lambda flac: flac[:-10],
        lambda flac: flac[:60],
        lambda flac: flac[:10],
        lambda flac: b"",
        lambda flac: b"ID,TEXT\n1,hello\n",
        lambda flac: flac[:2000] + bytes(2000) + flac[4000:],
        length_unknown,
    ],
    ids=["half", "end", "header", "ten bytes", "no bytes", "text", "hole", "length unknown"],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "damaged.flac"
    path.write_bytes(damage(flac_bytes(tmp_path)))
    with pytest.raises(AudioError, match=r"damaged\.flac (can't be read as audio|is cut short)"):
        read_audio(str(path), 16000)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("samples", [1, 2, 441, 4410, 7999])
def test_the_header_tells_how_many_samples_there_will_be(
    tmp_path: Path, rate: int, samples: int
) -> None:
    path = str(tmp_path / "a.flac")
    soundfile.write(path, noise(samples) / INT16_SCALE, rate)
    assert audio_length(path, 16000) == len(read_audio(path, 16000))


@pytest.mark.parametrize("content", [b"", b"not a flac"])
def test_a_header_that_tells_nothing_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.flac"
    for damaged in (content, length_unknown(flac_bytes(tmp_path))):
        path.write_bytes(damaged)
        with pytest.raises(AudioError, match=r"damaged\.flac can't be read as audio"):
            audio_length(str(path), 16000)
    with pytest.raises(AudioError, match=r"nothing\.flac"):
        audio_length(str(tmp_path / "nothing.flac"), 16000)


def test_a_wav_cut_short_is_refused_or_read_to_its_end(tmp_path: Path) -> None:
    """libsndfile believes a wav's length over its header's; a flac's loss is noticed above."""
    path = tmp_path / "cut.wav"
    soundfile.write(path, noise(16000) / INT16_SCALE, 16000)
    path.write_bytes(path.read_bytes()[:16044])
    assert len(read_audio(str(path), 16000)) == 8000


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"nothing\.flac"):
        read_audio(str(tmp_path / "nothing.flac"), 16000)
    with pytest.raises(AudioError, match=str(tmp_path)):
        read_audio(str(tmp_path), 16000)


def test_audio_in_a_bucket_is_that_of_the_same_file_here(
    emulator: Emulator, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    path = str(tmp_path / "a.flac")
    soundfile.write(path, np.random.default_rng(1).normal(size=5000) * 0.1, 16000)
    content = Path(path).read_bytes()
    there = f"{bucket}/a.flac"
    name = there.removeprefix(f"gs://{emulator.bucket}/")
    emulator.put(name, content)
    np.testing.assert_array_equal(read_audio(there, 16000), read_audio(path, 16000))
    # The same words every time, and the object's name in them: they go into the index.
    emulator.put(name, b"no audio")
    with pytest.raises(AudioError) as error:
        read_audio(there, 16000)
    assert str(error.value) == f"{there} can't be read as audio: Format not recognised."
    with pytest.raises(UserError, match=r"b\.flac isn't there"):
        read_audio(f"{bucket}/b.flac", 16000)
