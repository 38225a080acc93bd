"""What each augmentation does to samples, where noise comes from, and that copies repeat."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speech.augmentation import waveform
from speech.augmentation.waveform import Copies, augment_copy, copies_of, noise_of
from utils import UserError

RATE = 16000


@pytest.fixture(autouse=True)
def fresh_noise() -> Iterator[None]:
    yield
    waveform.noise_of.cache_clear()
    waveform._read_noise.cache_clear()
    waveform._specifications.cache_clear()


def tone(frequency: float, seconds: float = 1.0, amplitude: float = 8000) -> np.ndarray:
    """int16 [samples]."""
    time = np.arange(int(seconds * RATE)) / RATE
    return (amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.int16)


def babble(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """Something with all frequencies: int16 [samples]."""
    return (np.random.default_rng(seed).normal(size=int(seconds * RATE)) * 3000).astype(np.int16)


def augmented(
    samples: np.ndarray, *texts: str, copy: int = 1, of: int = 1, name: str = "a-1", seed: int = 1
) -> np.ndarray:
    changed = augment_copy(samples, name, copy, copies_of(texts, of, seed), RATE)
    assert changed.dtype == np.int16
    return changed


def power(samples: np.ndarray) -> float:
    return float(np.mean(samples.astype(np.float64) ** 2))


def spectrum(samples: np.ndarray) -> np.ndarray:
    """Power at whole Hz of a second: float64 [frequencies]."""
    return np.abs(np.fft.rfft(samples[:RATE].astype(np.float64))) ** 2


def strongest(samples: np.ndarray) -> float:
    """Hz."""
    return float(np.abs(np.fft.rfft(samples)).argmax()) * RATE / len(samples)


# --- Kinds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("snr", [-5, 0, 12])
def test_overlay_adds_noise_at_the_ratio_that_is_asked_for(tmp_path: Path, snr: int) -> None:
    soundfile.write(tmp_path / "hiss.wav", babble(3, seed=5), RATE)
    speech = tone(500)
    mixed = augmented(speech, f"overlay[source={tmp_path},snr={snr}]").astype(np.float64)
    gain = mixed @ speech / (speech.astype(np.float64) @ speech)
    ratio = power(gain * speech) / power(mixed - gain * speech)
    assert 10 * np.log10(ratio) == pytest.approx(snr, abs=0.3)
    assert abs(mixed).max() == pytest.approx(abs(speech).max(), rel=0.01)


def test_noise_is_as_long_as_the_utterance_and_of_several_files_if_need_be(tmp_path: Path) -> None:
    for number, frequency in enumerate((1000, 2000, 3000)):
        soundfile.write(tmp_path / f"{number}.wav", tone(frequency, 0.2), RATE)
    mixed = augmented(tone(300, 3), f"overlay[source={tmp_path},snr=-10]")
    assert len(mixed) == 3 * RATE
    pieces = mixed.reshape(-1, 800).astype(np.float64)  # 50 ms
    seen = {int(strongest(piece)) // 1000 for piece in pieces}
    assert seen == {1, 2, 3}, "noise to the end, of every file"


def test_layers_lie_over_each_other(tmp_path: Path) -> None:
    frequencies = list(range(500, 6500, 500))
    for number, frequency in enumerate(frequencies):
        soundfile.write(tmp_path / f"{number}.wav", tone(frequency, 5), RATE)
    for layers, (least, most) in {1: (1, 1), 6: (3, 6)}.items():
        mixed = augmented(tone(300), f"overlay[source={tmp_path},snr=-20,layers={layers}]")
        present = spectrum(mixed)[frequencies]
        assert least <= (present > 1e-2 * present.max()).sum() <= most
    nothing = augmented(tone(300), f"overlay[source={tmp_path},layers=0]")
    np.testing.assert_array_equal(nothing, tone(300))


def test_overlay_leaves_silence_alone_and_bears_silent_noise(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(100, np.int16), RATE)
    silence = np.zeros(RATE, np.int16)
    np.testing.assert_array_equal(augmented(tone(300), f"overlay[source={tmp_path}]"), tone(300))
    soundfile.write(tmp_path / "silence.wav", babble(), RATE)
    noise_of.cache_clear()
    np.testing.assert_array_equal(augmented(silence, f"overlay[source={tmp_path}]"), silence)


def test_reverb_repeats_a_click_weaker_and_weaker() -> None:
    click = np.zeros(RATE, np.int16)
    click[100] = 20000
    room = augmented(click, "reverb[delay=20,decay=6]").astype(np.float64)
    room /= room[100]
    # Five filters let the click itself through, one of which repeats it after 20 ms, 6 dB weaker.
    repeats = [room[100 + 320 * number] * 6 for number in (1, 2, 3)]
    np.testing.assert_allclose(repeats, [10 ** (-0.3 * n) for n in (1, 2, 3)], rtol=0.02)
    assert abs(room[101:410]).max() == 0
    assert power(augmented(click, "reverb[decay=20]")) < power(augmented(click, "reverb[decay=3]"))


def test_resample_takes_what_lies_above_the_lower_rate() -> None:
    before = spectrum(babble())
    after = spectrum(augmented(babble(), "resample[rate=8000]"))
    assert after[4200:].sum() < 1e-3 * before[4200:].sum()
    assert after[:3600].sum() == pytest.approx(before[:3600].sum(), rel=0.02)
    assert len(augmented(babble()[:12345], "resample[rate=11025]")) == 12345


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def voice() -> np.ndarray:
    """Harmonics of a sliding pitch, below 3 kHz: int16 [samples]."""
    time = np.arange(2 * RATE) / RATE
    phase = 2 * np.pi * (120 * time + 10 * time**2)
    harmonics = [np.sin(n * phase) / n for n in range(1, 15)]
    return (1500 * np.sum(harmonics, axis=0)).astype(np.int16)


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("codec[bitrate=64000]", 0.95),
        ("codec[codec=mp3,bitrate=64000]", 0.99),
        ("codec[codec=mp3,bitrate=16000]", 0.95),
        ("codec[codec=gsm]", 0.9),
        ("codec[codec=ulaw]", 0.99),
        ("codec[codec=alaw]", 0.99),
    ],
)
def test_codec_keeps_speech_where_it_was(text: str, least: float) -> None:
    before = voice()
    after = augmented(before, text)
    assert len(after) == len(before)
    assert similarity(after, before) > least
    assert not np.array_equal(after, before)


def test_fewer_bits_lose_more() -> None:
    before = voice()
    likeness = [
        similarity(augmented(before, f"codec[bitrate={bitrate}]"), before)
        for bitrate in (8000, 24000, 96000)
    ]
    assert likeness == sorted(likeness) and likeness[0] < likeness[2] - 0.02


@pytest.mark.parametrize("codec", waveform.TELEPHONE_SUBTYPES)
def test_telephone_codecs_have_no_high_frequencies(codec: str) -> None:
    after = spectrum(augmented(babble(), f"codec[codec={codec}]"))
    assert after[4200:].sum() < 1e-2 * after[:3600].sum()


@pytest.mark.parametrize("codec", ["opus", "mp3", "gsm", "ulaw"])
@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100])
def test_codecs_take_any_sample_rate_and_length(codec: str, rate: int) -> None:
    for length in (1, 37, 5001):
        copies = copies_of([f"codec[codec={codec}]"], 1, 1)
        assert len(augment_copy(babble()[:length], "a", 1, copies, rate)) == length


@pytest.mark.parametrize(("dbfs", "peak"), [(3.0103, 32767), (-3.0103, 16384), (-40, 231.7)])
def test_volume_sets_the_peak(dbfs: float, peak: float) -> None:
    assert abs(augmented(tone(300), f"volume[dbfs={dbfs}]")).max() == pytest.approx(peak, rel=5e-3)


@pytest.mark.parametrize("factor", [0.9, 1.1, 1.5])
def test_speed_changes_length_and_pitch_alike(factor: float) -> None:
    faster = augmented(tone(1000, 2), f"speed[factor={factor}]")
    assert len(faster) == pytest.approx(2 * RATE / factor, abs=1)
    assert strongest(faster) == pytest.approx(1000 * factor, abs=1)


# --- Copies ---------------------------------------------------------------------------------------

DRAWN = ("reverb[delay=20~10]", "volume[dbfs=-10~10]")


def test_two_copies_at_start_and_end_are_kaldis_speeds() -> None:
    lengths = [
        len(augmented(tone(300), "speed[factor=0.9:1.1]", copy=copy, of=2)) for copy in (1, 2)
    ]
    assert lengths == [round(RATE / 0.9), round(RATE / 1.1)]
    three = [len(augmented(tone(300), "speed", copy=copy, of=3)) for copy in (1, 2, 3)]
    assert three == [lengths[0], RATE, lengths[1]]


def test_speed_of_one_is_the_recording_itself() -> None:
    np.testing.assert_array_equal(augmented(babble(), "speed[factor=1]"), babble())


def test_copies_repeat_and_differ_by_seed_utterance_and_number() -> None:
    first = augmented(babble(), *DRAWN)
    np.testing.assert_array_equal(augmented(babble(), *DRAWN), first)
    others = [
        augmented(babble(), *DRAWN, seed=2),
        augmented(babble(), *DRAWN, name="a-2"),
        augmented(babble(), *DRAWN, copy=2, of=2),
    ]
    assert len({each.tobytes() for each in (first, *others)}) == 4


def test_a_further_augmentation_leaves_the_draws_of_the_first_alone() -> None:
    alone = augmented(babble(), "resample[rate=8000~4000]")
    quiet = augmented(babble(), "resample[rate=8000~4000]", "volume[dbfs=-20]").astype(np.float64)
    assert similarity(alone, quiet) > 0.999


def test_probability_is_the_share_of_touched_copies() -> None:
    copies = copies_of(["volume[p=0.3,dbfs=-30]"], 1, 1)
    before = tone(300, 0.01)
    touched = [
        not np.array_equal(augment_copy(before, f"a-{number}", 1, copies, RATE), before)
        for number in range(300)
    ]
    assert np.mean(touched) == pytest.approx(0.3, abs=0.08)


def test_every_kind_bears_the_shortest_recordings(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hiss.flac", babble(0.5), RATE)
    texts = (f"overlay[source={tmp_path}]", "reverb", "resample", "codec", "volume", "speed")
    for length in (1, 2, 100):
        assert len(augmented(babble()[:length], *texts)) >= 1
    nothing = np.zeros(0, np.int16)
    assert len(augment_copy(nothing, "a", 1, copies_of(texts, 1, 1), RATE)) == 0


# --- Noise ----------------------------------------------------------------------------------------


def test_noise_is_found_below_a_folder_in_order(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.wav", "a.flac", "deep/c.ogg"):
        soundfile.write(tmp_path / name, babble(0.1), RATE)
    (tmp_path / "README.txt").write_text("noise")
    assert [os.path.relpath(path, tmp_path) for path in noise_of(str(tmp_path)).files] == [
        "a.flac",
        "b.wav",
        "deep/c.ogg",
    ]


@pytest.mark.parametrize("relative", [True, False])
def test_noise_is_read_from_deepspeechs_csv_and_from_a_list(tmp_path: Path, relative: bool) -> None:
    soundfile.write(tmp_path / "one.wav", babble(0.1), RATE)
    name = "one.wav" if relative else str(tmp_path / "one.wav")
    (tmp_path / "noise.csv").write_text(f"wav_filename,wav_filesize,transcript\n{name},1,x\n")
    (tmp_path / "noise.txt").write_text(f"{name}\n\n")
    for source in ("noise.csv", "noise.txt", "one.wav"):
        assert noise_of(str(tmp_path / source)).files == (str(tmp_path / "one.wav"),)


def test_noise_in_a_bucket_is_found(own_bucket: str, tmp_path: Path) -> None:
    from speech.system import storage

    soundfile.write(tmp_path / "one.wav", babble(0.1), RATE)
    with storage.open_reader(str(tmp_path / "one.wav")) as file:
        content = file.read()
    writer = storage.open_writer(f"{own_bucket}/noise/one.wav")
    writer.write(content)
    writer.commit()
    mixed = augmented(tone(300), f"overlay[source={own_bucket}/noise]")
    local = augmented(tone(300), f"overlay[source={tmp_path}]")
    np.testing.assert_array_equal(mixed, local)


@pytest.mark.parametrize(
    ("source", "content", "named"),
    [
        ("nowhere", None, "nowhere is no folder"),
        ("noise.csv", None, "noise.csv can't be read"),
        ("noise.csv", b"path\none.wav\n", "no column wav_filename"),
        ("noise.csv", b"wav_filename\nmissing.wav\n", "missing.wav doesn't exist"),
        ("noise.txt", b"\xff\n", "noise.txt is not UTF-8"),
        ("noise.txt", b"\n", "has no sound files"),
        ("noise.sdb", b"", "a sample database of DeepSpeech:"),
        (".", None, "has no sound files"),
    ],
)
def test_noise_that_is_not_there_is_named(
    tmp_path: Path, source: str, content: bytes | None, named: str
) -> None:
    if content is not None:
        (tmp_path / source).write_bytes(content)
    with pytest.raises(UserError) as error:
        copies_of([f"overlay[source={tmp_path / source}]"], 1, 1)
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("content", "named"), [(b"no sound", "can't be read as audio"), (None, "has no samples")]
)
def test_unreadable_noise_file_is_named(tmp_path: Path, content: bytes | None, named: str) -> None:
    path = tmp_path / "broken.wav"
    if content is None:
        soundfile.write(path, np.zeros(0, np.int16), RATE)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        augmented(tone(300), f"overlay[source={tmp_path}]")
    assert str(path) in str(error.value) and named in str(error.value)
    assert f"source={tmp_path}" in str(error.value)


def test_other_noise_than_at_the_start_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.wav", babble(0.1), RATE)
    copies = copies_of([f"overlay[source={tmp_path}]"], 1, 1)
    assert copies != Copies(copies.augment, 1, 1)
    elsewhere = replace(copies, noise_sha256="0" * 64)
    with pytest.raises(UserError, match="has changed since the command began"):
        augment_copy(tone(300), "a", 1, elsewhere, RATE)
    soundfile.write(tmp_path / "two.wav", babble(0.1), RATE)
    noise_of.cache_clear()
    assert copies_of(copies.augment, 1, 1).noise_sha256 != copies.noise_sha256
