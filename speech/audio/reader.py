"""Audio files -> samples.

soundfile (libsndfile) reads wav, flac, mp3, ogg (Vorbis, Opus), aiff, au and similar formats. The
program ffmpeg decodes formats that soundfile doesn't support: m4a, webm, wma, amr, the sound of a
video. In both cases the channels are averaged, and soxr resamples other rates.

The tests compare with known signals at 8, 16, 22.05, 44.1 and 48 kHz, with one, two and six
channels: wav of 8 to 32 bits and floating point, flac, aiff, au, caf, mp3 (at most two channels),
ogg Vorbis, and ogg Opus at the three of these rates that it supports; also mp3 with a missing or a
wrong length in its header. With ffmpeg, at 48 kHz: m4a, aac, webm, wma, ogg flac, and the sound of
mp4, mkv and avi; amr and 3gp at their 8 kHz. Other formats are not tested.

Not detected: an ogg, wav, wma or mp3 without a length in its header that ends too early, and the
later parts of several mp3 or ogg files that were joined into one. The sound of a video starts at
its first sample, even if the picture starts earlier.
"""

import codecs
import contextlib
import functools
import hashlib
import io
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from speech.audio.headers import HEAD_BYTES, CompletedFile, missing_length
from speech.audio.types import RecordedSamples, Samples
from speech.system import storage
from utils import UserError, lines_of

# Suffixes of audio files in a folder of recordings, in lower case.
SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".aifc", ".au", ".snd"),
    *(".caf", ".sph", ".w64", ".mp2", ".spx", ".m4a", ".m4b", ".aac", ".ac3", ".webm", ".mka"),
    *(".wma", ".amr", ".3gp", ".ape", ".wv", ".tta", ".mp4", ".mkv", ".mov", ".avi", ".flv"),
)

# Full scale: soundfile's samples are in [-1, 1), the front end's at the scale of 16 bits.
INT16_SCALE = 32768.0

# soundfile's name of the subtype that int16 holds without loss.
INT16_SUBTYPE = "PCM_16"

# Rates of recordings, in Hz. Others are those of a damaged header, and would turn a second of sound
# into hours, or hours into nothing.
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000

# soundfile's number of samples if the header has none, as in a flac encoded into a pipe.
UNKNOWN_LENGTH = 2**63 - 1

# Subtypes in which libsndfile's seek is inexact: observed in mp3 and in Vorbis.
INEXACT_SEEK = ("MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III", "VORBIS", "OPUS")
SKIPPED_AT_ONCE = 2**16  # samples per read on the way to the start of a segment

# Samples that may be missing at the end of an mp3: some encoders count the header as one of its
# frames of 1152 samples, and the encoder's delay is cut off if the header doesn't give it.
MP3, MPEG_SLACK = "MP3", 2 * 1152

# Maximum bytes decoded by ffmpeg that are kept for the file's next segment: 50 minutes of two
# channels at 44.1 kHz. ffmpeg's own seek is no alternative: in an m4a it was off by 16 ms.
KEPT_BYTES = 2**30

# How far a segment may exceed its file: the seconds of a list are rounded, and an encoder's frames
# make a file slightly shorter or longer than its source.
SEGMENT_SLACK = 0.05  # seconds

# Channels cancel out if the power of their mean is below this share of their mean power.
CANCELLED = 1e-4

# Formats that ffmpeg may read: no pictures or texts, and no lists that name other files.
FFMPEG_FORMATS = (
    *("aac", "ac3", "aiff", "amr", "ape", "asf", "avi", "caf", "dts", "eac3", "flv", "matroska"),
    *("mov", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "ogg", "rm", "tta", "wav", "wv"),
)
# ffmpeg's messages about a damaged file after which it continues.
FFMPEG_WENT_ON = (
    *("File ended prematurely", "EBML number", "CRC mismatch"),
    "exceeds containing master element",
)
# ffmpeg's messages that only its command line explains -> plain ones.
FFMPEG_MEANS = {
    "Format not on whitelist": "no format of sound",
    "matches no streams": "it holds no sound",
}
# libsndfile's message about an existing file that is called .mp3 and contains no sound.
NOT_REGULAR = "File does not exist or is not a regular file"
NOT_RECOGNISED = "Format not recognised"
# How web pages begin, in lower case.
PAGE_STARTS = (b"<!doctype html", b"<html", b"<?xml", b"<!--")
# How webm and mkv begin, and how the part of them begins that holds sound.
MATROSKA, MATROSKA_CLUSTER = b"\x1aE\xdf\xa3", b"\x1fC\xb6u"
INSTALL_FFMPEG = "install ffmpeg, or pip install -e '.[ffmpeg]'"


class AudioError(UserError):
    """An audio file that can't be used; the message names it and says why."""


class TooMuchAudioError(AudioError):
    """A file with more samples than allowed."""


def read_audio(
    path: str, sample_rate: int, start_seconds: float = 0.0, seconds: float | None = None
) -> RecordedSamples:
    """Reads a sound file or a segment of it: mono, at `sample_rate` Hz, at int16 scale.

    Channels are averaged; other rates are resampled (soxr, high quality). Of several streams, as in
    a video, the first is read. In mp3 and ogg everything before a segment is decoded too. ffmpeg
    decodes the whole file for a segment; the result is kept (KEPT_BYTES) until another file is
    read. libsndfile prints errors in an mp3 to stderr.

    Args:
        path: local or gs://.
        start_seconds: start of the segment.
        seconds: its length; None: to the end.

    Returns:
        [samples], possibly none: int16 if the file has these unchanged, else float32.

    Raises:
        AudioError: the file is missing, not audio, damaged, of a rate that no recording has,
            shorter than its header promises or than the segment, or ffmpeg is needed and missing.
        UserError: the bucket can't be reached.
    """
    segment = bool(start_seconds) or seconds is not None
    with errors_named(path), _opened(path, segment) as file:
        file_rate, promised = file.samplerate, file.length
        refuse_strange_rate(file_rate, path)
        start, stop = _segment(path, file, start_seconds, seconds)
        unchanged = (file.subtype, file.channels, file_rate) == (INT16_SUBTYPE, 1, sample_rate)
        reached = _go_to(file, start)
        kind = "int16" if unchanged else "float32"
        audio = file.read(stop - start, dtype=kind, always_2d=True)  # [samples, channels]
        slack = MPEG_SLACK if file.subtype.startswith("MPEG") else 0
    there = reached + len(audio)
    if there < stop - slack:
        raise AudioError(
            f"{path} is cut short: its header promises {promised} samples, {there} are there."
        )
    if unchanged:
        unmixed: RecordedSamples = audio[:, 0]
        return unmixed
    mono: Samples = audio.mean(axis=1)
    if not np.isfinite(mono).all():
        raise AudioError(f"{path} can't be used: some of its samples are no finite numbers.")
    refuse_cancelled(power(mono), power(audio) / audio.shape[1], path)
    if file_rate != sample_rate and len(mono):
        mono = soxr.resample(mono, file_rate, sample_rate, quality="HQ")
    return np.asarray(mono * np.float32(INT16_SCALE), np.float32)


def audio_length(
    path: str, sample_rate: int, start_seconds: float = 0.0, seconds: float | None = None
) -> int:
    """Returns the number of samples that `read_audio` gives for a good file or a segment of it.

    Only the header is read, so that damage after it is not detected; an mp3 is scanned, and may
    have MPEG_SLACK samples less than its header says. Files that only ffmpeg reads, and a flac
    without its length, are decoded.

    Raises:
        AudioError: the file is missing, not audio, of a rate that no recording has, shorter than
            the segment, or ffmpeg is needed and missing.
        UserError: the bucket can't be reached.
    """
    try:
        with _opened(path, bool(start_seconds) or seconds is not None) as file:
            refuse_strange_rate(file.samplerate, path)
            start, stop = _segment(path, file, start_seconds, seconds)
            return round_half_up((stop - start) * sample_rate / file.samplerate)  # as soxr does
    except OSError as error:
        raise AudioError(f"{path} can't be read as audio: {reason_of(error)}.") from None


def refuse_strange_rate(rate: int, name: str) -> None:
    """Raises AudioError if no recording has such a rate, in Hz; name: of the file, for messages."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(
            f"{name} can't be used: its header is damaged, with a rate of {rate} Hz, while "
            f"recordings have {LOWEST_RATE} to {HIGHEST_RATE} Hz. Encode it again."
        )


def power(samples: npt.NDArray[Any]) -> float:
    """Returns the sum of the squares of samples of any shape."""
    return float(np.vdot(samples, samples))


def refuse_cancelled(mixed: float, whole: float, name: str) -> None:
    """Refuses channels of opposite phase, whose mean is almost silent.

    Args:
        mixed: power of the channels' mean.
        whole: mean power of the channels.
        name: the file's, for messages.

    Raises:
        AudioError: they cancel each other out.
    """
    if mixed < CANCELLED * whole:
        raise AudioError(
            f"{name} can't be used: its channels have opposite phase and cancel each other out. "
            "Keep one of them, as in ffmpeg -i INPUT -af 'pan=mono|c0=c0' OUTPUT.wav."
        )


def round_half_up(value: float) -> int:
    """Rounds to the nearest integer, halves up."""
    return int(np.floor(value + 0.5))


class _OfUnknownSize(io.BufferedIOBase):
    """A mixin for an mp3 file that hides its size from the decoder.

    If the header has no length, the decoder would estimate the samples from the size and return no
    more: a quarter of them in one file of variable bit rate. Without the size it counts them.
    """

    # Requests for the size: first of libsndfile, which refuses empty files, then of its decoder.
    _asked = 0
    _at_end = False

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at_end = (offset, whence) == (0, os.SEEK_END)
        self._asked += self._at_end
        return super().seek(offset, whence)

    def tell(self) -> int:
        return 0 if self._at_end and self._asked > 1 else super().tell()


class _Mp3Bytes(_OfUnknownSize, io.BytesIO):
    """An mp3 in memory."""


class Mp3File(_OfUnknownSize, io.BufferedReader):
    """An mp3 on the disk, opened by `Mp3File(io.FileIO(path))`."""


class SoundReader(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that doesn't seek where seeking is inexact, and knows every file's length.

    soundfile seeks to the current position after each read too: in an mp3 the next samples would be
    wrong, and in a flac without its length it fails.
    """

    @functools.cached_property
    def length(self) -> int:
        """Returns the samples of each channel; decodes all of them if the header has no length."""
        if self.frames != UNKNOWN_LENGTH:
            return int(self.frames)
        content = self.name if isinstance(self.name, bytes) else io.BytesIO(self.name.getbuffer())
        with SoundReader(content) as other:
            return _go_to(other, UNKNOWN_LENGTH)

    def seekable(self) -> bool:
        exact = self.subtype not in INEXACT_SEEK and self.frames != UNKNOWN_LENGTH
        return bool(super().seekable()) and exact


def open_sound(source: str | bytes, reader: type[SoundReader] = SoundReader) -> SoundReader:
    """Opens a file that soundfile reads; a missing length is taken to reach to the file's end.

    Args:
        source: the path of a local file, or the content of one.
        reader: class of the result.

    Raises:
        SoundFileError: soundfile can't read it.
    """
    # soundfile takes only paths in UTF-8 as text, and a file's name needn't be that.
    opened = os.fsencode(source) if isinstance(source, str) else io.BytesIO(source)
    try:
        file = reader(opened)
    except soundfile.SoundFileError:
        if (completed := _completed(source)) is None:
            raise
        return reader(completed)
    if file.frames == 0 and (completed := _completed(source)) is not None:
        return reader(completed)
    return file


def _completed(source: str | bytes) -> io.BufferedIOBase | None:
    """Opens a file with the length that its header should have; None if nothing is missing."""
    with open(source, "rb") if isinstance(source, str) else io.BytesIO(source) as file:
        field = missing_length(file)
    if field is None:
        return None
    if isinstance(source, str):
        return CompletedFile(io.FileIO(source), field)
    start, content = field
    return io.BytesIO(source[:start] + content + source[start + len(content) :])


@dataclass(frozen=True)
class _Decoded:
    """Result of decoding a file with ffmpeg."""

    path: str
    state: tuple[int, int] | str  # see _state
    sound: bytes


_kept: _Decoded | None = None  # of the file that was read last, if segments of it were read


def _opened(path: str, segment: bool) -> SoundReader:
    """Opens the file, or the result of decoding it with ffmpeg.

    Args:
        segment: only a part is read, so that another one may be read next.

    Raises:
        AudioError: neither soundfile nor ffmpeg can read it, or ffmpeg is missing.
        OSError: the local file can't be opened.
        UserError: the bucket can't be reached.
    """
    global _kept
    if _kept and _kept.path != path:
        _kept = None
    content = storage.read_bytes(path) if storage.in_bucket(path) else None
    try:
        file = open_sound(path if content is None else content)
        if file.format != MP3:
            return file
        file.close()
        return SoundReader(_Mp3Bytes(content or storage.read_bytes(path)))
    except soundfile.SoundFileError as error:
        refuse_without_sound(path, path if content is None else content)
        state = _state(path, content)
        kept = _kept
        if kept is None or (kept.path, kept.state) != (path, state):
            _kept = None  # frees its memory for the next file
            kept = _Decoded(path, state, _decoded(path, content, cause_of(error)))
            _kept = kept if segment and len(kept.sound) <= KEPT_BYTES else None
        return SoundReader(io.BytesIO(kept.sound))


def _is_text(content: bytes) -> bool:
    """Tells whether bytes are printable text in UTF-8; the last character may be incomplete."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return False
    return all(each.isprintable() or each in "\t\n\r\f" for each in text)


def refuse_without_sound(name: str, source: str | bytes) -> None:
    """Refuses a file that clearly has no sound; decoders would report it as damaged.

    Args:
        name: of the file, for messages.
        source: the path of a local file, or the content of one.

    Raises:
        AudioError: it is empty, a web page, other text, or the header of a webm alone.
        OSError: the local file can't be opened.
    """
    with open(source, "rb") if isinstance(source, str) else io.BytesIO(source) as file:
        head = file.read(HEAD_BYTES)
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if not head:
        reason = "the file is empty. Record it again, or copy it again"
    elif start.lower().startswith(PAGE_STARTS):
        reason = "it is a web page. Download the recording itself"
    elif _is_text(start):
        reason = "it is text. Name a sound file"
    elif head.startswith(MATROSKA) and len(head) < HEAD_BYTES and MATROSKA_CLUSTER not in head:
        reason = "there is no sound in it yet, only a header. Let the recording end first"
    else:
        return
    raise AudioError(f"{name} can't be read as audio: {reason}.")


def _state(path: str, content: bytes | None) -> tuple[int, int] | str:
    """Returns bytes and time of a local file, or a digest of one in a bucket."""
    if content is not None:
        return hashlib.sha256(content).hexdigest()
    there = os.stat(path)
    return there.st_size, there.st_mtime_ns


@contextlib.contextmanager
def errors_named(path: str) -> Iterator[None]:
    """Turns errors of reading a file into AudioErrors that name the file."""
    try:
        yield
    except soundfile.SoundFileError as error:
        raise AudioError(
            f"{path} can't be read as audio: damaged or cut short ({cause_of(error)})."
        ) from None
    except (OSError, MemoryError) as error:
        raise AudioError(f"{path} can't be read as audio: {reason_of(error)}.") from None


def reason_of(error: OSError | MemoryError) -> str:
    """Returns the system's reason for an error, without the file's name."""
    return str(getattr(error, "strerror", None) or error)


def cause_of(error: soundfile.SoundFileError) -> str:
    """Returns soundfile's reason for an error, without its wrong one for a file that exists."""
    words = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return NOT_RECOGNISED if NOT_REGULAR in words else str(words).rstrip(".")


def _segment(
    path: str, file: SoundReader, start_seconds: float, seconds: float | None
) -> tuple[int, int]:
    """Returns the start and end of a segment in the file's own samples."""
    length = file.length / file.samplerate
    stop_seconds = max(start_seconds, length) if seconds is None else start_seconds + seconds
    if not 0 <= start_seconds <= stop_seconds <= length + SEGMENT_SLACK:
        stop = "its end" if seconds is None else f"{stop_seconds:g} s"
        raise AudioError(
            f"{path} lasts {length:g} s: it has no segment from {start_seconds:g} s to {stop}."
        )
    return (
        min(round_half_up(start_seconds * file.samplerate), file.length),
        min(round_half_up(stop_seconds * file.samplerate), file.length),
    )


def _go_to(file: SoundReader, start: int) -> int:
    """Moves to sample `start`, or to the file's end if that is earlier; returns the position."""
    if start and file.seekable():
        return int(file.seek(start))
    reached = 0
    while reached < start:
        skipped = len(file.read(min(start - reached, SKIPPED_AT_ONCE), dtype="float32"))
        if not skipped:
            break
        reached += skipped
    return reached


def _decoded(path: str, content: bytes | None, refusal: str) -> bytes:
    """Decodes a file with ffmpeg; returns the bytes of an au file at its own rate, in float32.

    Args:
        content: of a file in a bucket. ffmpeg gets it as a file, because the index of an m4a may be
            at its end, and a pipe doesn't seek.
        refusal: soundfile's reason.

    Raises:
        AudioError: it can't be decoded, or ffmpeg is missing.
    """
    program = ffmpeg_for(path, refusal)
    if content is None:
        sound, complaint = _run_ffmpeg(program, path)
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            sound, complaint = _run_ffmpeg(program, file.name)
    if complaint:
        raise refused_by_both(path, refusal, complaint)
    return sound


def refused_by_both(path: str, refusal: str, complaint: str) -> AudioError:
    """Returns the error with the reasons of soundfile and ffmpeg."""
    return AudioError(
        f"{path} can't be read as audio: soundfile says '{refusal}', ffmpeg '{complaint}'."
    )


def ffmpeg_for(path: str, refusal: str) -> str:
    """Returns the path of ffmpeg for a file that soundfile refuses; AudioError if it is missing."""
    program = _ffmpeg()
    if program is None:
        raise AudioError(
            f"{path} can't be read as audio: soundfile says '{refusal}'. For formats that it "
            f"doesn't support, {INSTALL_FFMPEG}."
        )
    return program


def _ffmpeg() -> str | None:
    """Returns the program on the PATH, or else that of the package imageio-ffmpeg."""
    program = shutil.which("ffmpeg")
    if program is not None:
        return program
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):  # not installed, or without a program for this system
        return None


def _run_ffmpeg(program: str, path: str) -> tuple[bytes, str]:
    """Returns an au file, and ffmpeg's complaint about the source; empty if it is good."""
    command = ffmpeg_command(program, path)
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    complaint = ffmpeg_complaint(ended.stderr, path, ended.returncode, bool(ended.stdout))
    return ended.stdout, complaint


def ffmpeg_command(program: str, path: str) -> list[str]:
    """Returns the command that writes a file's sound to its output: au, own rate, float32.

    It reads only this file: no network, no other file that this one names, not our stdin.
    """
    return [
        *(program, "-nostdin", "-v", "error", "-xerror"),
        *("-protocol_whitelist", "file", "-format_whitelist", ",".join(FFMPEG_FORMATS)),
        *("-i", _address(path), "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"),
    ]


def _address(path: str) -> str:
    """Returns ffmpeg's name of a file; without it a colon or a leading dash has a meaning."""
    return f"file:{path}"


def ffmpeg_complaint(said: bytes, path: str, exit_code: int, any_sound: bool) -> str:
    """Returns ffmpeg's complaint about a file after it ended; empty if the file is good.

    Args:
        said: its output to stderr.
        any_sound: whether it wrote anything to its output.
    """
    # In lines such as "[mov,mp4 @ 0x55cc] moov atom not found" the first ones name the cause. The
    # address in memory would change the message of the same file every time.
    lines = [
        re.sub(r"^(\[.*?\] )+", "", line).strip()
        for line in lines_of(said.decode(errors="replace"))
    ]
    causes = [line.replace(_address(path), "the file").rstrip(".") for line in lines if line]
    if exit_code == 0 and any_sound:
        damage = [line for line in causes if any(words in line for words in FFMPEG_WENT_ON)]
        return damage[0] if damage else ""
    cause = causes[0] if causes else f"nothing, with exit code {exit_code}"
    return next((ours for words, ours in FFMPEG_MEANS.items() if words in cause), cause)
