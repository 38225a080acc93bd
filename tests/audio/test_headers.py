"""Sound files whose headers have a placeholder instead of the length: read to the end."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speech.audio.headers import CompletedFile, find_cut
from speech.audio.reader import audio_length, read_audio
from speech.audio.stream import stream_file

SAMPLES = (np.sin(np.arange(3001) / 10) * 8000).astype(np.int16)
RATE = 16000


def encoded(form: str, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    samples = SAMPLES / 32768 if subtype == "FLOAT" else SAMPLES
    soundfile.write(file, samples, RATE, format=form, subtype=subtype)
    return file.getvalue()


def with_bytes(content: bytes, position: int, field: bytes) -> bytes:
    return content[:position] + field + content[position + len(field) :]


def wav(length: int, form: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """A wav with a length of its samples, and 0 for the length of all."""
    content = with_bytes(encoded(form, subtype), 4, bytes(4))
    return with_bytes(content, content.index(b"data") + 4, struct.pack("<I", length))


def rf64(length: int) -> bytes:
    content = encoded("RF64")
    return with_bytes(content, content.index(b"ds64") + 8, struct.pack("<qqq", *[length] * 3))


def au(length: int) -> bytes:
    return with_bytes(encoded("AU"), 8, struct.pack(">I", length))


def caf(length: int) -> bytes:
    content = encoded("CAF")
    return with_bytes(content, content.index(b"data") + 4, struct.pack(">q", length))


def aiff(length: int) -> bytes:
    content = encoded("AIFF")
    for kind, at in ((b"FORM", 4), (b"COMM", 10), (b"SSND", 4)):
        content = with_bytes(content, content.index(kind) + at, struct.pack(">I", length))
    return content


def flac() -> bytes:
    """As an encoder writes it into a pipe: STREAMINFO's 36 bits of samples are 0."""
    content = encoded("FLAC")
    return with_bytes(content, 21, bytes([content[21] & 0xF0, 0, 0, 0, 0]))


PLACEHOLDERS = {
    **{f"wav {length:x}": wav(length) for length in (0, 0x7FFFFFFF, 0xFFFFFFFF)},
    "wav of floats": wav(0, subtype="FLOAT"),
    "wav of 24 bits": wav(0, subtype="PCM_24"),
    "extensible wav": wav(0, form="WAVEX"),
    "rf64": rf64(0),
    "rf64 of 32 bits": rf64(0xFFFFFFFF),
    **{f"au {length:x}": au(length) for length in (0, 0x7FFFFFFF, 0xFFFFFFFF)},
    "caf 0": caf(0),
    "caf -1": caf(-1),
    "aiff": aiff(0),
    "flac": flac(),
}


@pytest.mark.parametrize("content", PLACEHOLDERS.values(), ids=PLACEHOLDERS)
@pytest.mark.parametrize("suffix", [".wav", ".mp3"])
def test_every_reader_reads_to_the_end_of_a_file_without_its_length(
    tmp_path: Path, content: bytes, suffix: str
) -> None:
    path = tmp_path / f"crashed{suffix}"
    path.write_bytes(content)
    read = read_audio(str(path), RATE)
    np.testing.assert_allclose(read, SAMPLES, atol=1)
    assert audio_length(str(path), RATE) == len(SAMPLES)
    np.testing.assert_array_equal(np.concatenate(list(stream_file(str(path), RATE))), read)
    stretch = read_audio(str(path), RATE, 0.1, 0.05)
    np.testing.assert_array_equal(stretch, read[1600:2400])


@pytest.mark.parametrize("tags", [b"", b"LIST" + struct.pack("<I", 3) + b"abc"])
def test_a_wav_that_really_has_no_samples_gives_none(tmp_path: Path, tags: bytes) -> None:
    path = tmp_path / "empty.wav"
    content = wav(0)
    path.write_bytes(content[: content.index(b"data") + 8] + tags)
    assert len(read_audio(str(path), RATE)) == 0 == audio_length(str(path), RATE)


HALF = len(SAMPLES) // 2


@pytest.mark.parametrize(
    "content", [wav(2 * HALF), au(2 * HALF), caf(4 + 2 * HALF)], ids=["wav", "au", "caf"]
)
def test_a_length_that_is_there_is_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "half"
    path.write_bytes(content)
    assert len(read_audio(str(path), RATE)) == HALF


@pytest.mark.parametrize("lost", [0, 8, 9, 1000])
def test_a_wav_is_cut_if_more_than_padding_is_missing(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "x.wav"
    whole = encoded("WAV")
    path.write_bytes(whole[: len(whole) - lost])
    assert find_cut(str(path)) == ((len(whole), len(whole) - lost) if lost > 8 else None)


@pytest.mark.parametrize("content", [*PLACEHOLDERS.values(), encoded("WAV") + b"more", b"RIFF"])
def test_a_file_without_its_length_or_with_more_is_not_cut(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    assert find_cut(str(path)) is None


def test_a_completed_file_differs_in_its_field_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    expected = with_bytes(bytes(range(100)), 40, b"abcd")
    for step in (1, 3, 7, 100):
        with CompletedFile(io.FileIO(path), (40, b"abcd")) as file:
            buffer, read = bytearray(step), b""
            while count := file.readinto(memoryview(buffer)):
                read += buffer[:count]
            assert read == expected
