"""Reading of audio files, against signals that are known."""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from emulator import Emulator
from scipy.signal import resample_poly

from speech.audio import reader
from speech.audio.reader import INT16_SCALE, SUFFIXES, AudioError, audio_length, read_audio
from speech.audio.stream import stream_file
from utils import UserError

RATES = (8000, 16000, 22050, 44100, 48000)
CHANNELS = (1, 2, 6)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """float64 [samples], in full scale 1."""
    return np.random.default_rng(seed).normal(size=samples) * 0.03


def sine(frequency: float, rate: int, seconds: float) -> np.ndarray:
    """float64 [samples], half of full scale."""
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


def sweep(rate: int, seconds: float) -> np.ndarray:
    """float64 [samples]: a tone that rises by 200 Hz a second, so that each moment has its own."""
    time = np.arange(int(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * (200 * time + 100 * time**2))


def error_level(samples: np.ndarray, expected: np.ndarray) -> float:
    """Decibels of what differs from the expected samples [samples], far from the edges."""
    inside = slice(1600, min(len(samples), len(expected)) - 1600)
    error = samples[inside] - expected[inside]
    return float(10 * np.log10((error**2).mean() / (expected[inside] ** 2).mean() + 1e-30))


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


# --- Formats that soundfile reads -----------------------------------------------------------------

# Format, subtype, decibels by which its error is quieter than the signal.
FORMATS = [
    ("WAV", "PCM_U8", -30),
    ("WAV", "PCM_16", -75),
    ("WAV", "PCM_24", -110),
    ("WAV", "PCM_32", -110),
    ("WAV", "FLOAT", -110),
    ("WAV", "DOUBLE", -110),
    ("WAV", "ULAW", -30),
    ("WAV", "ALAW", -30),
    ("WAVEX", "PCM_16", -75),
    ("FLAC", "PCM_16", -75),
    ("FLAC", "PCM_24", -110),
    ("AIFF", "PCM_16", -75),
    ("AU", "PCM_16", -75),
    ("CAF", "ALAC_16", -75),
    ("W64", "PCM_16", -75),
    ("NIST", "PCM_16", -75),
    ("OGG", "VORBIS", -20),
    ("OGG", "OPUS", -20),
    ("MP3", "MPEG_LAYER_III", -20),
]


@pytest.mark.parametrize(("form", "subtype", "level"), FORMATS)
def test_a_tone_is_itself_in_every_format_at_every_rate(
    tmp_path: Path, form: str, subtype: str, level: float
) -> None:
    for channels in CHANNELS:
        # Others in each, so that none can be left out; the sixth of an ogg has no high tones.
        shares = np.linspace(1.5, 0, channels) if channels > 1 else np.ones(1)
        expected = sine(440, 16000, 0.5) * shares.mean() * INT16_SCALE
        for rate in RATES:
            # libsndfile writes no mp3 of six channels, and Opus has other rates.
            if (form == "MP3" and channels > 2) or (subtype == "OPUS" and rate in (22050, 44100)):
                continue
            path = str(tmp_path / f"{rate}-{channels}")
            tone = sine(440, rate, 0.5)[:, np.newaxis] * shares  # [samples, channels]
            soundfile.write(path, tone, rate, format=form, subtype=subtype)
            samples = read_audio(path, 16000)
            assert len(samples) == 8000 == audio_length(path, 16000), (rate, channels)
            assert error_level(samples, expected) < level, (rate, channels)


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
    left, right = (np.round(noise(1000, seed) * INT16_SCALE).astype(np.int16) for seed in (1, 2))
    soundfile.write(path, np.stack([left, right], axis=1), 16000)
    expected = (left.astype(float) + right) / 2
    np.testing.assert_allclose(read_audio(path, 16000), expected, atol=0.01)


def test_a_wav_without_samples_gives_none(tmp_path: Path) -> None:
    path = str(tmp_path / "empty.wav")
    soundfile.write(path, np.zeros(0), 8000)
    assert read_audio(path, 16000).shape == (0,)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, number: float) -> None:
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.array([0.1, number, 0.1]), 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav can't be used: some .* no finite numbers"):
        read_audio(path, 16000)


# --- Resampling -----------------------------------------------------------------------------------


def resampled(tmp_path: Path, signal: np.ndarray, rate: int) -> np.ndarray:
    """float64 [samples] at 16 kHz in full scale 1."""
    path = str(tmp_path / "a.wav")
    soundfile.write(path, signal, rate, subtype="FLOAT")
    return read_audio(path, 16000).astype(float) / INT16_SCALE


@pytest.mark.parametrize("frequency", [100, 1000, 3500])
@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_tone_stays_the_same_sine_at_other_rates(
    tmp_path: Path, rate: int, frequency: float
) -> None:
    tone, expected = sine(frequency, rate, 1.0), sine(frequency, 16000, 1.0)
    level = error_level(resampled(tmp_path, tone, rate), expected)
    assert level < -110
    # The other resampler at hand, which has a much shorter filter.
    ratio = np.gcd(rate, 16000)
    other = resample_poly(tone, 16000 // ratio, rate // ratio)
    assert level < error_level(other, expected) - 20


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_a_tone_near_the_end_of_the_band_loses_nothing_and_gains_no_company(
    tmp_path: Path, rate: int
) -> None:
    """At 44.1 kHz the filter takes 0.007 dB off 7 kHz: a gain, and no distortion."""
    samples = resampled(tmp_path, sine(7000, rate, 1.0), rate)[1600:-1600]
    time = np.arange(1600, 1600 + len(samples)) / 16000
    angle = 2 * np.pi * 7000 * time
    parts = np.stack([np.sin(angle), np.cos(angle)], axis=1)  # [samples, 2]
    found = np.linalg.lstsq(parts, samples, rcond=None)[0]
    assert abs(20 * np.log10(np.hypot(*found) / 0.5)) < 0.01
    assert abs(np.arctan2(found[1], found[0])) < 1e-6
    company = samples - parts @ found
    assert 10 * np.log10((company**2).mean() / (samples**2).mean()) < -120


@pytest.mark.parametrize("frequency", [9000, 12000, 15000])
@pytest.mark.parametrize("rate", [44100, 48000])
def test_a_tone_above_the_band_is_gone(tmp_path: Path, rate: int, frequency: float) -> None:
    tone = sine(frequency, rate, 1.0)
    left = resampled(tmp_path, tone, rate)[1600:-1600]
    assert 10 * np.log10((left**2).mean() / (tone**2).mean() + 1e-30) < -120


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_constant_stays_one(tmp_path: Path, rate: int) -> None:
    samples = resampled(tmp_path, np.full(rate, 0.25), rate)
    assert len(samples) == 16000
    np.testing.assert_allclose(samples[1600:-1600], 0.25, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("samples", [1, 2, 441, 4410, 7999])
def test_the_header_tells_how_many_samples_there_will_be(
    tmp_path: Path, rate: int, samples: int
) -> None:
    path = str(tmp_path / "a.flac")
    soundfile.write(path, noise(samples), rate)
    assert audio_length(path, 16000) == len(read_audio(path, 16000))


# --- Stretches ------------------------------------------------------------------------------------

STRETCHES = [(0.0, 1.0), (0.0, None), (1.25, 0.5), (2.4, 0.6), (2.9, 0.1), (2.5, None), (1.0, 0.0)]


@pytest.mark.parametrize(
    ("form", "subtype"),
    [("FLAC", "PCM_16"), ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM")]
    + [("WAV", "GSM610"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")],
)
def test_a_stretch_is_what_the_whole_has_there(tmp_path: Path, form: str, subtype: str) -> None:
    path = str(tmp_path / "a")
    soundfile.write(path, sweep(16000, 3.0), 16000, format=form, subtype=subtype)
    whole = read_audio(path, 16000)
    for start, seconds in STRETCHES:
        first = round(start * 16000)
        last = len(whole) if seconds is None else first + round(seconds * 16000)
        samples = read_audio(path, 16000, start, seconds)
        # libsndfile's Opus is off by a rounding after a start elsewhere.
        np.testing.assert_allclose(samples, whole[first:last], atol=0.01, err_msg=f"{start}")
        assert samples.dtype == whole.dtype
        assert audio_length(path, 16000, start, seconds) == len(samples)


@pytest.mark.parametrize("rate", [8000, 44100])
def test_a_stretch_is_in_seconds_at_any_rate(tmp_path: Path, rate: int) -> None:
    path = str(tmp_path / "a.wav")
    soundfile.write(path, sweep(rate, 3.0), rate, subtype="FLOAT")
    samples = read_audio(path, 16000, 1.25, 1.0)
    assert len(samples) == 16000 == audio_length(path, 16000, 1.25, 1.0)
    assert error_level(samples, sweep(16000, 3.0)[20000:36000] * INT16_SCALE) < -60


@pytest.mark.parametrize("read", [read_audio, audio_length])
@pytest.mark.parametrize(
    ("start", "seconds", "stretch"),
    [
        (1.5, 0.6, "1.5 s to 2.1 s"),
        (2.1, 0.5, "2.1 s to 2.6 s"),
        (2.1, None, "2.1 s to its end"),
        (-0.1, 0.5, "-0.1 s to 0.4 s"),
        (1.0, -0.5, "1 s to 0.5 s"),
        (float("nan"), 0.5, "nan s to nan s"),
        (0.5, float("inf"), "0.5 s to inf s"),
    ],
)
def test_a_stretch_outside_the_file_is_named_with_its_length(
    tmp_path: Path,
    read: Callable[..., object],
    start: float,
    seconds: float | None,
    stretch: str,
) -> None:
    path = str(tmp_path / "a.wav")
    soundfile.write(path, noise(32000), 16000)
    with pytest.raises(AudioError) as error:
        read(path, 16000, start, seconds)
    assert str(error.value) == f"{path} lasts 2 s: it has no segment from {stretch}."


def test_a_stretch_that_reaches_a_little_beyond_the_file_ends_with_it(tmp_path: Path) -> None:
    path = str(tmp_path / "a.wav")
    soundfile.write(path, noise(32000), 16000)
    assert len(read_audio(path, 16000, 1.5, 0.54)) == 8000
    assert len(read_audio(path, 16000, 2.01, 0.03)) == 0
    assert len(read_audio(path, 16000, 2.01)) == 0


# --- Damage ---------------------------------------------------------------------------------------


def flac_bytes(tmp_path: Path) -> bytes:
    path = tmp_path / "whole.flac"
    soundfile.write(path, noise(16000), 16000)
    return path.read_bytes()


def length_absurd(flac: bytes) -> bytes:
    return flac[:21] + bytes([flac[21] | 0x0F, 255, 255, 255, 255]) + flac[26:]


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
        length_absurd,
    ],
    ids=["half", "end", "header", "ten bytes", "no bytes", "text", "hole", "length absurd"],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = write(tmp_path / "damaged.flac", damage(flac_bytes(tmp_path)))
    with pytest.raises(AudioError, match=r"damaged\.flac (can't be read as audio|is cut short)"):
        read_audio(path, 16000)


@pytest.mark.parametrize("content", [b"", b"not a flac"])
def test_a_header_that_tells_nothing_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.flac"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"damaged\.flac can't be read as audio"):
        audio_length(str(path), 16000)
    with pytest.raises(AudioError, match=r"nothing\.flac"):
        audio_length(str(tmp_path / "nothing.flac"), 16000)


@pytest.mark.parametrize("read", [read_audio, audio_length])
@pytest.mark.parametrize("rate", [1, 999, 768_001, 2**31 - 1])
def test_a_rate_that_no_recording_has_is_damage(
    tmp_path: Path, rate: int, read: Callable[[str, int], object]
) -> None:
    path = tmp_path / "rate.wav"
    soundfile.write(path, noise(100), 16000)
    content = path.read_bytes()
    path.write_bytes(content[:24] + rate.to_bytes(4, "little") + content[28:])
    with pytest.raises(
        AudioError, match=rf"rate\.wav .* header is damaged, with a rate of {rate} Hz"
    ):
        read(str(path), 16000)


def test_a_wav_cut_short_is_read_to_its_end(tmp_path: Path) -> None:
    """libsndfile believes a wav's length over its header's; a flac's loss is noticed above."""
    path = tmp_path / "cut.wav"
    soundfile.write(path, noise(16000), 16000)
    path.write_bytes(path.read_bytes()[:16044])
    assert len(read_audio(str(path), 16000)) == 8000


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"nothing\.flac .*: No such file or directory\."):
        read_audio(str(tmp_path / "nothing.flac"), 16000)
    with pytest.raises(AudioError, match=f"{tmp_path} .*: Is a directory"):
        read_audio(str(tmp_path), 16000)


def test_audio_in_a_bucket_is_that_of_the_same_file_here(
    emulator: Emulator, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    path = str(tmp_path / "a.flac")
    soundfile.write(path, noise(5000), 16000)
    content = Path(path).read_bytes()
    there = f"{bucket}/a.flac"
    name = there.removeprefix(f"gs://{emulator.bucket}/")
    emulator.put(name, content)
    np.testing.assert_array_equal(read_audio(there, 16000), read_audio(path, 16000))
    assert audio_length(there, 16000) == 5000
    emulator.put(name, b"no audio\xff")
    messages = []
    for _ in range(2):
        with pytest.raises(AudioError) as error:
            read_audio(there, 16000)
        messages.append(str(error.value))
    # The same words every time, and the object's name in them: they go into the index.
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"{there} can't be read as audio: soundfile says 'Format not rec")
    with pytest.raises(UserError, match=r"b\.flac doesn't exist"):
        read_audio(f"{bucket}/b.flac", 16000)


# --- Mp3, whose header may tell anything about its length -----------------------------------------


def mp3(tmp_path: Path, seconds: float = 4.0, rate: int = 44100) -> bytes:
    """Of a variable bit rate: half noise, half a tone."""
    path = tmp_path / "whole.mp3"
    signal = sweep(rate, seconds)
    signal[: len(signal) // 2] += noise(len(signal) // 2)
    soundfile.write(
        path, signal, rate, format="MP3", bitrate_mode="VARIABLE", compression_level=0.6
    )
    return path.read_bytes()


def without_header(content: bytes) -> bytes:
    """Without its first frame, which has the length of all in a Xing header and no sound."""
    start = max(content.find(b"Xing"), content.find(b"Info"))
    first = content[:start].rfind(b"\xff\xfb")
    second = content.find(b"\xff\xfb", start)
    assert 0 <= first < start < second
    return content[second:]


def with_frames(content: bytes, more: int) -> bytes:
    """Writes a header with `more` frames than there are."""
    start = max(content.find(b"Xing"), content.find(b"Info")) + 8
    (frames,) = struct.unpack(">I", content[start : start + 4])
    return content[:start] + struct.pack(">I", frames + more) + content[start + 4 :]


TAG = b"TAG" + b"a title".ljust(125)
PICTURE = b"ID3\3\0\0\0\7\0\0" + b"APIC" + struct.pack(">IH", 100000, 0) + bytes(7 * 2**14 - 10)


@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        (lambda content: content, 4.0),
        (without_header, 4.0),
        (lambda content: PICTURE + without_header(content), 4.0),
        (lambda content: without_header(content) + TAG, 4.0),
        (lambda content: content + TAG, 4.0),
        (lambda content: without_header(content)[:-50], 4.0),  # of the last frame
        (lambda content: without_header(content) + b"APETAGEX" * 500, 4.0),
        (lambda content: with_frames(content, 1), 4.0),
    ],
    ids=["as it is", "no header", "picture", "tag", "header and tag", "last frame", "junk at end"]
    + ["a frame too much"],
)
def test_a_good_mp3_is_read_to_its_end(
    tmp_path: Path, change: Callable[[bytes], bytes], seconds: float
) -> None:
    path = write(tmp_path / "a.mp3", change(mp3(tmp_path)))
    samples = read_audio(path, 16000)
    # Without the header the encoder's delay and padding stay: two frames at most on either side.
    assert abs(len(samples) / 16000 - seconds) < 0.1
    assert abs(audio_length(path, 16000) - len(samples)) <= 2 * 1152 * 16000 / 44100
    tail = np.abs(np.fft.rfft(samples[-16000:]))  # of a sweep from 800 to 1000 Hz
    assert 750 < tail.argmax() < 1050


def test_a_stretch_of_an_mp3_without_its_length_is_where_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3", without_header(mp3(tmp_path)))
    whole = read_audio(path, 16000)
    samples = read_audio(path, 16000, 3.0, 0.5)
    np.testing.assert_allclose(samples[500:-500], whole[48500:55500], atol=1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-3000],
        lambda content: content[:20000] + bytes(4000) + content[24000:],
        lambda content: with_frames(content, 10),
        lambda content: content[:300],
    ],
    ids=["half", "end", "hole", "ten frames too much", "one frame"],
)
def test_a_damaged_mp3_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = write(tmp_path / "damaged.mp3", damage(mp3(tmp_path)))
    with pytest.raises(AudioError, match=r"damaged\.mp3 (can't be read as audio|is cut short)"):
        read_audio(path, 16000)


# --- What only ffmpeg reads -----------------------------------------------------------------------

ENCODED = {
    "a.m4a": ["-c:a", "aac"],
    "fast.m4a": ["-c:a", "aac", "-movflags", "+faststart"],
    "lossless.m4a": ["-c:a", "alac"],
    "a.aac": ["-c:a", "aac"],
    "a.webm": ["-c:a", "libopus"],
    "a.wma": ["-c:a", "wmav2"],
    "a.amr": ["-c:a", "libopencore_amrnb", "-ar", "8000", "-ac", "1"],
    "a.3gp": ["-c:a", "libopencore_amrnb", "-ar", "8000", "-ac", "1"],
    "flac.ogg": ["-c:a", "flac"],
    "wma.wav": ["-c:a", "wmav2"],
    "a.mkv": ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=10:duration=3", "-c:a", "aac"],
    "a.mp4": ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=10:duration=3", "-c:a", "aac"],
    "a.avi": ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=10:duration=3", "-c:a", "libmp3lame"],
}


@pytest.fixture(scope="module")
def ffmpeg() -> Callable[..., None]:
    program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()

    def run(*arguments: str | Path) -> None:
        subprocess.run([program, "-nostdin", "-y", "-v", "error", *arguments], check=True)

    return run


@pytest.fixture(scope="module")
def encoded(ffmpeg: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 3 s of a sweep in two channels, whose mean it is, in each format of ENCODED."""
    folder = tmp_path_factory.mktemp("encoded")
    signal = sweep(48000, 3.0)[:, np.newaxis] * [0.5, 1.5]  # [samples, channels]
    soundfile.write(folder / "source.wav", signal, 48000, subtype="FLOAT")
    for name, arguments in ENCODED.items():
        ffmpeg("-i", folder / "source.wav", *arguments, folder / name)
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x64:duration=1", folder / "silent.mp4")
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x64", "-frames:v", "1", folder / "picture.png")
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x64", "-frames:v", "1", folder / "picture.jpg")
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x64:duration=1", folder / "film.gif")
    return folder


def lag(samples: np.ndarray, expected: np.ndarray) -> int:
    """By how many samples the first is later than the second, by their correlation."""
    size = 2 * max(len(samples), len(expected))
    spectrum = np.fft.rfft(samples, size) * np.conj(np.fft.rfft(expected, size))
    best = int(np.fft.irfft(spectrum, size).argmax())
    return best if best < size // 2 else best - size


@pytest.mark.parametrize("name", ENCODED)
def test_what_ffmpeg_decodes_is_the_signal(encoded: Path, name: str) -> None:
    path, expected = str(encoded / name), sweep(16000, 3.0) * INT16_SCALE
    samples = read_audio(path, 16000)
    assert samples.dtype == np.float32
    assert audio_length(path, 16000) == len(samples)
    assert abs(len(samples) - 48000) < 0.05 * 16000
    later = lag(samples, expected)
    assert abs(later) < 0.05 * 16000  # some formats keep what their encoder puts before the sound
    assert error_level(samples[max(later, 0) :], expected[max(-later, 0) :]) < -9
    np.testing.assert_allclose(
        read_audio(path, 16000, 1.0, 0.5)[400:-400], samples[16400:23600], atol=2
    )


def test_both_ways_of_reading_give_the_same(encoded: Path) -> None:
    """Alac keeps every bit of 16: the same samples in a wav are read without ffmpeg."""
    lossless = read_audio(str(encoded / "lossless.m4a"), 16000)
    signal, rate = soundfile.read(encoded / "source.wav")
    path = str(encoded / "same.wav")
    soundfile.write(path, signal, rate, subtype="PCM_16")
    np.testing.assert_allclose(lossless, read_audio(path, 16000), atol=1.5)


@pytest.mark.parametrize("name", ["-i.m4a", ":a.m4a", "http:b.m4a", "a %03d.m4a", "ä\udcff'.m4a"])
def test_names_are_no_options_addresses_or_patterns(
    encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(encoded / "a.m4a", tmp_path / name)
    aac_frame = 1024 * 16000 // 48000
    assert len(read_audio(name, 16000)) - 48000 in range(aac_frame)  # by ffmpeg's version


NO_SOUND = {
    "text": b"a line of text, which ffmpeg could draw as a terminal's\n" * 50,
    "page": b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n",
    "table": b"ID,TEXT\n1,hello\n" * 50,
    "list": b"#EXTM3U\n#EXTINF:3,\nsource.wav\n",
    "script": b"ffconcat version 1.0\nfile source.wav\n",
    "zeros": bytes(20000),
    "noise": np.random.default_rng(0).bytes(20000),
}


TEXTS = ("text", "table", "list", "script")


@pytest.mark.parametrize("suffix", [".mp3", ".m4a", ".aac", ".amr", ".wav", ".txt"])
def test_what_is_no_sound_is_refused_in_a_line_whatever_its_name(
    encoded: Path, suffix: str
) -> None:
    contents = {name: (encoded / name).read_bytes() for name in ("picture.png", "picture.jpg")}
    contents |= {name: (encoded / name).read_bytes() for name in ("film.gif", "silent.mp4")}
    for name, content in (NO_SOUND | contents).items():
        path = write(encoded / f"{name}{suffix}", content)
        with pytest.raises(AudioError) as error:
            read_audio(path, 16000)
        message = str(error.value).replace(path, "it")
        known = {"page": "it is a web page", **dict.fromkeys(TEXTS, "it is text")}
        reason = known.get(name, "soundfile says '")
        assert message.startswith(f"it can't be read as audio: {reason}")
        assert len(message) < 200 and "\n" not in message and "0x" not in message
    with pytest.raises(AudioError, match="the file is empty"):
        read_audio(write(encoded / f"empty{suffix}", b""), 16000)


def test_stretches_of_a_file_decode_it_once(
    encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    run = reader._run_ffmpeg

    def counted(program: str, path: str) -> tuple[bytes, str]:
        runs.append(path)
        return run(program, path)

    monkeypatch.setattr(reader, "_run_ffmpeg", counted)
    path = str(shutil.copy(encoded / "a.m4a", tmp_path / "long.m4a"))
    whole = read_audio(path, 48000)
    runs.clear()
    for start in (2.0, 0.5, 1.0):
        first = round(start * 48000)
        samples = read_audio(path, 48000, start, 0.25)
        np.testing.assert_array_equal(samples, whole[first : first + 12000])
        assert audio_length(path, 48000, start, 0.25) == 12000
    assert runs == [path]
    shutil.copy(encoded / "a.webm", path)  # another recording by now
    assert not np.array_equal(read_audio(path, 48000, 1.0, 0.25), samples)
    assert len(runs) == 2
    read_audio(str(encoded / "source.wav"), 48000)
    assert reader._kept is None
    monkeypatch.setattr(reader, "KEPT_BYTES", 1000)
    for _ in range(2):
        read_audio(path, 48000, 1.0, 0.25)
    assert len(runs) == 4


@pytest.mark.parametrize("suffix", [".mp3", ".MP3", ".wav", ".m4a"])
def test_a_web_page_is_named_as_one(tmp_path: Path, suffix: str) -> None:
    for start in (b"\n<!DOCTYPE html>\n", b"\xef\xbb\xbf<HTML>", b'<?xml version="1.0"?>\n'):
        page = write(tmp_path / f"page{suffix}", start + b"<p>404</p>\n" * 100)
        with pytest.raises(AudioError, match="it is a web page"):
            read_audio(page, 16000)
    text = write(tmp_path / f"text{suffix}", "Привет, это текст\n".encode() * 100)
    with pytest.raises(AudioError, match="it is text"):
        read_audio(text, 16000)


def test_a_webm_that_has_only_its_header_has_no_sound_yet(encoded: Path, tmp_path: Path) -> None:
    content = (encoded / "a.webm").read_bytes()
    header = write(tmp_path / "header.webm", content[: content.index(reader.MATROSKA_CLUSTER)])
    with pytest.raises(AudioError, match="no sound in it yet, only a header"):
        read_audio(header, 16000)


def test_a_film_without_sound_is_distinguished_from_other_files(encoded: Path) -> None:
    with pytest.raises(AudioError, match=r"silent\.mp4 .*ffmpeg 'it holds no sound'\."):
        read_audio(str(encoded / "silent.mp4"), 16000)
    with pytest.raises(AudioError, match=r"picture\.png .*ffmpeg 'no format of sound'\."):
        read_audio(str(encoded / "picture.png"), 16000)


@pytest.mark.parametrize("name", ["a.m4a", "fast.m4a", "a.webm", "a.aac", "a.amr"])
def test_damage_that_ffmpeg_finds_is_named_in_a_line(
    encoded: Path, tmp_path: Path, name: str
) -> None:
    content = (encoded / name).read_bytes()
    half = len(content) // 2
    hole = content[:half] + np.random.default_rng(1).bytes(2000) + content[half + 2000 :]
    for damaged in (content[:half], hole):
        path = write(tmp_path / f"damaged-{name}", damaged)
        with pytest.raises(AudioError, match=r"damaged-.* can't be read as audio") as error:
            read_audio(path, 16000)
        message = str(error.value).replace(path, "it")
        assert len(message) < 200 and "\n" not in message and "0x55" not in message


def test_without_ffmpeg_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)  # as if it weren't installed
    path = write(tmp_path / "a.m4a", b"\0\0\0\x1cftypM4A " + bytes(100))
    with pytest.raises(AudioError) as error:
        read_audio(path, 16000)
    assert str(error.value) == (
        f"{path} can't be read as audio: soundfile says 'Format not recognised'. For "
        "formats that it doesn't support, install ffmpeg, or pip install -e '.[ffmpeg]'."
    )


def test_the_ffmpeg_on_the_path_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho '[in#0 @ 0x7f] the one on the path' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path = write(tmp_path / "a.m4a", b"\0\0\0\x1cftypM4A " + bytes(100))
    with pytest.raises(AudioError, match="ffmpeg 'the one on the path'"):
        read_audio(path, 16000)


@pytest.mark.parametrize("read", [read_audio, audio_length])
def test_an_ffmpeg_that_gives_nothing_is_no_file_without_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[..., object]
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path = write(tmp_path / "a.m4a", b"\0\0\0\x1cftypM4A " + bytes(100))
    with pytest.raises(AudioError, match="ffmpeg 'nothing, with exit code 0'"):
        read(path, 16000)


def test_an_m4a_in_a_bucket_is_that_of_the_same_file_here(
    emulator: Emulator, bucket: str, encoded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its index is its end, to which a pipe couldn't be read without losing the rest."""
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    for there in (f"{bucket}/a.m4a", f"{bucket}/a.mp3"):
        name = there.removeprefix(f"gs://{emulator.bucket}/")
        emulator.put(name, (encoded / "a.m4a").read_bytes())
        here = read_audio(str(encoded / "a.m4a"), 16000)
        np.testing.assert_array_equal(read_audio(there, 16000), here)


def test_suffixes_are_lower_case_and_each_once() -> None:
    assert len(set(SUFFIXES)) == len(SUFFIXES)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)
    assert {Path(name).suffix for name in ENCODED} <= set(SUFFIXES)


@pytest.mark.parametrize("read", [read_audio, lambda path, rate: list(stream_file(path, rate))])
def test_channels_of_opposite_phase_are_named_and_not_taken_for_silence(
    tmp_path: Path, read: Callable[[str, int], object]
) -> None:
    tone = sine(440, 16000, 1.0)
    path = str(tmp_path / "phase.wav")
    soundfile.write(path, np.stack([tone, -tone], axis=1), 16000)
    with pytest.raises(AudioError, match=r"phase\.wav .* cancel each other out"):
        read(path, 16000)
    for other in (np.zeros_like(tone), -0.9 * tone, tone):
        soundfile.write(path, np.stack([tone, other], axis=1), 16000)
        read(path, 16000)
    soundfile.write(path, np.zeros((1000, 2)), 16000)
    read(path, 16000)
