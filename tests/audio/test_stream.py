"""Audio read in blocks, against the same audio read at once."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from emulator import Emulator

from speech.audio.reader import AudioError, TooMuchAudioError, read_audio
from speech.audio.stream import PcmConverter, stream_file, stream_input
from utils import UserError


def noise(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """float64 [samples, channels], in full scale 1."""
    rng = np.random.default_rng(rate)
    return np.clip(rng.normal(size=(int(seconds * rate), channels)) * 0.1, -0.9, 0.9)


def joined(blocks: Iterator[np.ndarray]) -> np.ndarray:
    kept = list(blocks)
    assert all(block.dtype == np.float32 and block.ndim == 1 for block in kept)
    return np.concatenate(kept) if kept else np.zeros(0, np.float32)


class Trickle(io.RawIOBase):
    """A pipe that gives some bytes at a time."""

    def __init__(self, content: bytes, at_once: int) -> None:
        self._content, self._at_once = io.BytesIO(content), at_once

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        part = self._content.read(min(len(buffer), self._at_once))
        buffer[: len(part)] = part
        return len(part)


def pipe(content: bytes, at_once: int = 1000) -> io.BufferedReader:
    return io.BufferedReader(Trickle(content, at_once))


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "subtype"),
    [("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM")]
    + [("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("AIFF", "PCM_16"), ("OGG", "VORBIS")]
    + [("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("CAF", "ALAC_16"), ("AU", "PCM_16")],
)
def test_blocks_of_a_file_make_what_is_read_at_once(
    tmp_path: Path, form: str, subtype: str
) -> None:
    for rate, channels in [(16000, 1), (48000, 2), (8000, 1), (44100, 2)]:
        if subtype == "OPUS" and rate == 44100:
            continue  # which Opus hasn't
        path = str(tmp_path / f"{rate}-{channels}")
        soundfile.write(path, noise(3.3, rate, channels), rate, format=form, subtype=subtype)
        whole = read_audio(path, 16000)
        np.testing.assert_allclose(joined(stream_file(path, 16000)), whole, rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("subtype", "width"), [("PCM_U8", 1), ("PCM_16", 2), ("PCM_24", 3), ("PCM_32", 4)]
)
@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2), (8000, 3)])
def test_pieces_of_raw_samples_make_what_is_read_from_a_file(
    tmp_path: Path, subtype: str, width: int, rate: int, channels: int
) -> None:
    path, raw = tmp_path / "a.wav", tmp_path / "a.raw"
    samples = noise(1.7, rate, channels)
    soundfile.write(path, samples, rate, subtype=subtype)
    soundfile.write(raw, samples, rate, subtype=subtype, format="RAW")
    content = raw.read_bytes() + b"x"  # less than a sample, of more than 8 bits or one channel
    content = content if width * channels > 1 else content[:-1]
    for size in (77, 2048, len(content)):
        converter = PcmConverter(width, channels, rate, 16000, "x")
        pieces = [content[start : start + size] for start in range(0, len(content), size)]
        blocks = [*map(converter.feed, pieces), converter.finish()]
        np.testing.assert_array_equal(joined(iter(blocks)), joined(stream_file(str(path), 16000)))


def test_raw_samples_of_opposite_phase_are_refused() -> None:
    converter = PcmConverter(2, 2, 16000, 16000, "The recording")
    converter.feed(np.array([[1000, -1000]] * 100, np.int16).tobytes())
    with pytest.raises(AudioError, match=r"The recording .* cancel each other out"):
        converter.finish()
    assert not len(PcmConverter(2, 1, 8000, 16000, "x").finish())


def test_16_bit_samples_come_back_exactly(tmp_path: Path) -> None:
    path = str(tmp_path / "a.flac")
    written = np.random.default_rng(0).integers(-32768, 32767, 100_000).astype(np.int16)
    soundfile.write(path, written, 16000)
    np.testing.assert_array_equal(joined(stream_file(path, 16000)), written)


def with_rate(content: bytes, rate: int) -> bytes:
    """A wav whose head tells another rate."""
    return content[:24] + rate.to_bytes(4, "little") + content[28:]


@pytest.mark.parametrize("rate", [1, 999, 768_001, 10**9, 2**31 - 1])
def test_a_rate_that_no_recording_has_is_damage_in_files_and_pipes(
    tmp_path: Path, rate: int
) -> None:
    path = wav(tmp_path, "PCM_16", 16000, 1)
    path.write_bytes(with_rate(path.read_bytes(), rate))
    message = f"its header is damaged, with a rate of {rate} Hz"
    with pytest.raises(AudioError, match=message):
        next(stream_file(str(path), 16000))
    with pytest.raises(AudioError, match=f"standard input .* {message}"):
        next(stream_input(pipe(path.read_bytes()), 16000))


@pytest.mark.parametrize("rate", [0, 2**31, 2**32 - 1])
def test_a_rate_that_only_a_pipe_lets_through_is_damage(tmp_path: Path, rate: int) -> None:
    content = with_rate(wav(tmp_path, "PCM_16", 16000, 1).read_bytes(), rate)
    with pytest.raises(AudioError, match=f"a rate of {rate} Hz"):
        next(stream_input(pipe(content), 16000))


@pytest.mark.parametrize("rate", [1000, 768_000])
def test_the_slowest_and_the_fastest_rates_are_read(tmp_path: Path, rate: int) -> None:
    path = wav(tmp_path, "PCM_16", rate, 1)
    piped = joined(stream_input(pipe(path.read_bytes()), 16000))
    np.testing.assert_allclose(piped, read_audio(str(path), 16000), rtol=0, atol=0.01)
    assert len(piped) == 0.7 * 16000


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_file_without_samples_gives_no_blocks(tmp_path: Path, rate: int) -> None:
    path = str(tmp_path / "empty.wav")
    soundfile.write(path, np.zeros(0), rate)
    assert list(stream_file(path, 16000)) == []


def encoded(path: Path, codec: str, seconds: float = 5.0) -> str:
    """Noise in a format that ffmpeg alone writes and reads."""
    program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    source = str(path.with_suffix(".wav"))
    soundfile.write(source, noise(seconds, 44100, 2), 44100)
    command = [program, "-nostdin", "-y", "-v", "error", "-i", source, "-c:a", codec, str(path)]
    subprocess.run(command, check=True)
    return str(path)


def test_ffmpeg_does_not_stay_when_its_sound_is_left_before_the_end(tmp_path: Path) -> None:
    path = encoded(tmp_path / "a.m4a", "aac", seconds=20.0)  # 7 MB decoded; a pipe holds 64 KB
    before = set(psutil.Process().children())
    blocks = stream_file(path, 16000)
    assert next(len(each) for each in blocks if len(each))
    (running,) = set(psutil.Process().children()) - before
    assert running.status() != psutil.STATUS_ZOMBIE
    blocks.close()  # type: ignore[attr-defined]
    assert set(psutil.Process().children()) <= before


def test_reader_is_not_kept_while_ffmpeg_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "a.m4a").write_bytes(bytes(100))
    blocks = stream_file(str(tmp_path / "a.m4a"), 16000)
    began = time.monotonic()
    assert [len(next(blocks)) for _ in range(3)] == [0, 0, 0]
    blocks.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("name", ["a.flac", "a.m4a"])
def test_no_more_is_decoded_than_is_wanted(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    if name == "a.m4a":
        path = encoded(tmp_path / name, "aac", 2.0)
    else:
        soundfile.write(path, noise(2, 44100, 2), 44100)
    assert sum(map(len, stream_file(path, 16000, 2 * 2 * 44100 + 9000))) > 31000
    with pytest.raises(TooMuchAudioError, match=r"a\.\w+ has more than 100000 samples.*lower rate"):
        joined(stream_file(path, 16000, 100_000))


def test_what_only_ffmpeg_reads_comes_through_a_pipe(tmp_path: Path) -> None:
    for name, codec in [("a.m4a", "aac"), ("a.webm", "libopus"), ("a.wma", "wmav2")]:
        path = encoded(tmp_path / name, codec)
        np.testing.assert_allclose(
            joined(stream_file(path, 16000)), read_audio(path, 16000), rtol=0, atol=0.01
        )
    cut = tmp_path / "cut.wma"
    cut.write_bytes((tmp_path / "a.wma").read_bytes()[:3000])
    messages = []
    for read in (lambda: read_audio(str(cut), 16000), lambda: joined(stream_file(str(cut), 16000))):
        try:
            messages.append(str(len(read())))
        except AudioError as error:
            messages.append(str(error))
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    "content",
    [b"", b"no audio at all" * 100, b"RIFF\0\0\0\0WAVE", b"ID3\4" + bytes(3000)],
    ids=["empty", "text", "a wav's first bytes", "an mp3 of nothing"],
)
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.m4a"])
def test_what_is_no_audio_gets_the_message_that_it_gets_read_at_once(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = str(tmp_path / name)
    Path(path).write_bytes(content)
    with pytest.raises(AudioError) as at_once:
        read_audio(path, 16000)
    with pytest.raises(AudioError) as in_blocks:
        joined(stream_file(path, 16000))
    assert str(in_blocks.value) == str(at_once.value)
    assert path in str(in_blocks.value)


@pytest.mark.parametrize("form", ["FLAC", "MP3"])
def test_a_file_that_is_cut_short_is_named_behind_what_is_there(tmp_path: Path, form: str) -> None:
    path = tmp_path / "cut"
    soundfile.write(path, noise(20, 16000), 16000, format=form)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    blocks = stream_file(str(path), 16000)
    there = len(next(blocks))
    with pytest.raises(AudioError, match=r"cut (is cut short|can't be read as audio)"):
        there += sum(len(block) for block in blocks)
    assert there > 16000


def test_a_flac_that_came_out_of_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    """An encoder that can't go back leaves STREAMINFO's 36 bits of the samples' count at 0."""
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(5, 16000), 16000)
    whole, flac = read_audio(str(path), 16000), path.read_bytes()
    path.write_bytes(flac[:21] + bytes([flac[21] & 0xF0, 0, 0, 0, 0]) + flac[26:])
    np.testing.assert_array_equal(joined(stream_file(str(path), 16000)), whole)


def test_missing_files_folders_and_samples_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"no\.wav can't be read as audio: No such file"):
        next(stream_file(str(tmp_path / "no.wav"), 16000))
    with pytest.raises(AudioError, match=f"{tmp_path} can't be read as audio: Is a directory"):
        next(stream_file(str(tmp_path), 16000))
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.array([0.1, np.nan]), 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav can't be used: some of its samples"):
        next(stream_file(path, 16000))


def test_a_file_in_a_bucket_is_that_of_the_same_file_here(
    emulator: Emulator, own_bucket: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "a.flac")
    soundfile.write(path, noise(1, 44100), 44100)
    there = f"{own_bucket}/a.flac"
    emulator.put(there.removeprefix(f"gs://{emulator.bucket}/"), Path(path).read_bytes())
    np.testing.assert_array_equal(
        joined(stream_file(there, 16000)), joined(stream_file(path, 16000))
    )
    with pytest.raises(UserError, match=r"b\.flac"):
        next(stream_file(f"{own_bucket}/b.flac", 16000))


HOUR = """
import resource, sys
from speech.audio.stream import stream_file

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

sum(map(len, stream_file(sys.argv[1], 16000)))  # what is loaded only when it is used
before = peak()
print(sum(map(len, stream_file(sys.argv[2], 16000))), peak() - before)
"""


def test_an_hour_takes_a_few_megabytes(tmp_path: Path) -> None:
    short, long = str(tmp_path / "short.wav"), str(tmp_path / "long.wav")
    soundfile.write(short, np.zeros(8000), 8000)
    soundfile.write(long, np.zeros(0), 8000)
    head, size = Path(long).read_bytes(), 2 * 8000 * 3600
    assert head[36:40] == b"data" and len(head) == 44
    Path(long).write_bytes(head[:40] + size.to_bytes(4, "little"))
    os.truncate(long, len(head) + size)  # takes no room on the disk: it is all zeros
    ended = subprocess.run(
        [sys.executable, "-c", HOUR, short, long],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    samples, grown = ended.stdout.split()
    assert int(samples) == 16000 * 3600
    assert float(grown) < 20  # MB; at once it would be 230 and more


# --- Pipes ----------------------------------------------------------------------------------------


def wav(tmp_path: Path, subtype: str, rate: int, channels: int, form: str = "WAV") -> Path:
    path = tmp_path / f"{form}-{subtype}-{rate}-{channels}.wav"
    soundfile.write(path, noise(0.7, rate, channels), rate, format=form, subtype=subtype)
    return path


@pytest.mark.parametrize("at_once", [1, 7, 4096])
def test_raw_samples_are_16_bit_at_the_rate_that_is_wanted(at_once: int) -> None:
    written = np.random.default_rng(0).integers(-32768, 32767, 5000).astype("<i2")
    content = written.tobytes()
    np.testing.assert_array_equal(joined(stream_input(pipe(content, at_once), 16000)), written)
    half = joined(stream_input(pipe(content + b"\1", at_once), 16000))
    np.testing.assert_array_equal(half, written)


def test_samples_are_given_as_soon_as_they_come() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as file, open(writer, "wb", buffering=0) as source:
        source.write(np.arange(100, dtype="<i2").tobytes())
        blocks = stream_input(file, 16000)
        given = len(next(blocks))  # though the pipe stays open
        while given < 100:
            given += len(next(blocks))
        source.write(np.arange(7, dtype="<i2").tobytes())
        assert len(next(blocks)) == 7


@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]
)
def test_a_wav_through_a_pipe_is_that_of_the_file(tmp_path: Path, subtype: str, form: str) -> None:
    for rate, channels in [(16000, 1), (44100, 2)]:
        path = wav(tmp_path, subtype, rate, channels, form)
        np.testing.assert_allclose(
            joined(stream_input(pipe(path.read_bytes(), 777), 16000)),
            read_audio(str(path), 16000),
            rtol=0,
            atol=0.01,
        )


@pytest.mark.parametrize("length", [0, 0x7FFFF000, 0x80000000, 0xFFFFFFFF])
def test_a_wav_without_its_length_is_read_to_its_end(tmp_path: Path, length: int) -> None:
    path = wav(tmp_path, "PCM_16", 16000, 1)
    content = path.read_bytes()
    assert content[36:40] == b"data"
    unknown = content[:40] + length.to_bytes(4, "little") + content[44:]
    np.testing.assert_array_equal(
        joined(stream_input(pipe(unknown), 16000)), read_audio(str(path), 16000)
    )


@pytest.mark.parametrize("lost", [1, 1000, 22400])
def test_a_wav_shorter_than_its_head_promises_is_named_behind_what_is_there(
    tmp_path: Path, lost: int
) -> None:
    path = wav(tmp_path, "PCM_16", 16000, 1)  # of 11200 samples
    there = (22400 - lost) // 2
    lengths: list[int] = []
    blocks = stream_input(pipe(path.read_bytes()[:-lost]), 16000)
    with pytest.raises(AudioError, match=f"promises 11200 samples, {there} are there"):
        lengths.extend(map(len, blocks))
    assert sum(lengths) == there


def test_what_lies_around_a_wavs_samples_is_no_sound(tmp_path: Path) -> None:
    path = wav(tmp_path, "PCM_16", 16000, 1)
    content = path.read_bytes()
    title = b"LIST" + (70_001).to_bytes(4, "little") + bytes(70_002)
    around = content[:12] + title + content[12:] + title
    np.testing.assert_array_equal(
        joined(stream_input(pipe(around), 16000)), read_audio(str(path), 16000)
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "standard input holds no audio: it is empty"),
        (b"fLaC" + bytes(100), "standard input is flac; .* give the file's name"),
        (b"OggS" + bytes(100), "standard input is ogg"),
        (b"ID3\4" + bytes(100), "standard input is mp3"),
        # Frames of MPEG 1's layer III, of 2.5's, of layer II, and of ADTS.
        ((bytes.fromhex("fffb9064") + bytes(413)) * 3, "standard input is mp3"),
        ((bytes.fromhex("ffe34064") + bytes(204)) * 3, "standard input is mp3"),
        ((bytes.fromhex("fffd8404") + bytes(380)) * 3, "standard input is mp2"),
        ((bytes.fromhex("fff15080027ffc") + bytes(12)) * 3, "standard input is aac"),
        (b"\0\0\0\x1cftypM4A " + bytes(100), "standard input is m4a or mp4"),
        (b"RIFF\0\1\0\0AVI LIST" + bytes(100), "standard input is avi"),
        (b"RIFX\0\1\0\0WAVEfmt " + bytes(100), "standard input is rifx"),
        (b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb", "standard input is w64"),
        (b"#!AMR\n" + bytes(100), "standard input is amr"),
        (bytes.fromhex("3026b2758e66cf11") + bytes(100), "standard input is wma"),
        (b"wvPk" + bytes(100), "standard input is wavpack"),
        (b"Dear diary,\ntoday", "standard input is text"),
        (b"no\n", "standard input is text"),
        (b"RIFF\0\0\0\0WAVE", "it ends within its head"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "its header has no sample format"),
        (b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\xffabcd", "it ends within its head"),
    ],
)
def test_what_is_not_read_from_a_pipe_is_said(content: bytes, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        joined(stream_input(pipe(content), 16000))


@pytest.mark.parametrize(
    ("form", "subtype", "message"),
    [("MP3", "MPEG_LAYER_III", "mp3"), ("W64", "PCM_16", "w64"), ("AIFF", "PCM_16", "aiff")],
)
def test_other_formats_are_known_as_their_programs_write_them(
    tmp_path: Path, form: str, subtype: str, message: str
) -> None:
    for rate in (8000, 22050, 44100):
        content = wav(tmp_path, subtype, rate, 1, form).read_bytes()
        with pytest.raises(AudioError, match=f"standard input is {message};"):
            joined(stream_input(pipe(content), 16000))


@pytest.mark.parametrize(
    ("suffix", "codec"), [("aac", "aac"), ("mp3", "libmp3lame"), ("mp2", "mp2")]
)
def test_frames_without_a_head_are_known(tmp_path: Path, suffix: str, codec: str) -> None:
    content = Path(encoded(tmp_path / f"a.{suffix}", codec, seconds=0.5)).read_bytes()
    frames = content[content.index(b"\xff") :]  # after an mp3's ID3
    with pytest.raises(AudioError, match=f"standard input is {suffix};"):
        joined(stream_input(pipe(frames), 16000))


@pytest.mark.parametrize("samples", [[-1, 100, 200], [-1, 0, 1], [-257, 100, 3], [0, 0, 0]])
@pytest.mark.parametrize("head", ["", "fffb9064", "fffd8404", "fff15080027ffc00"])
def test_raw_samples_are_not_taken_for_a_format(samples: list[int], head: str) -> None:
    """Neither quiet ones nor loud ones that look like one frame of mp3, mp2 or aac."""
    content = bytes.fromhex(head) + np.array(samples * 1000, "<i2").tobytes()
    for there in (content, content[:40]):
        np.testing.assert_array_equal(
            joined(stream_input(pipe(there), 16000)), np.frombuffer(there, "<i2")
        )


def test_a_wav_of_other_samples_is_named(tmp_path: Path) -> None:
    content = wav(tmp_path, "IMA_ADPCM", 16000, 1).read_bytes()
    with pytest.raises(AudioError, match=r"a wav of encoding 17 with 4 bits, .* the file's name"):
        joined(stream_input(pipe(content), 16000))
    content = wav(tmp_path, "PCM_16", 16000, 1).read_bytes()
    with pytest.raises(AudioError, match="a damaged wav: 0 channels at 16000 Hz"):
        joined(stream_input(pipe(content[:22] + b"\0\0" + content[24:]), 16000))
