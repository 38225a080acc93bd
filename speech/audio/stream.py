"""Reads audio of any length in blocks of samples, in constant memory.

The blocks of a file together equal the result of `reader.read_audio`; tests/audio/test_stream.py
compares them. An hour takes a few megabytes of this process; ffmpeg, for formats that only it
decodes, is another process that writes into a pipe.
"""

import contextlib
import io
import select
import shutil
import string
import struct
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import soundfile
import soxr

from speech.audio import reader
from speech.audio.headers import NO_LENGTH
from speech.audio.reader import AudioError
from speech.audio.types import Samples
from speech.system import storage

INPUT_NAME = "standard input"  # in messages

BLOCK_SAMPLES = 2**15  # of a file, all channels together
BLOCK_BYTES = 2**16  # maximum, of a pipe
# How long to wait for ffmpeg before an empty block says that it has no samples yet.
WAIT_SECONDS = 0.02

# The header of an au file: magic, offset of the samples, bytes, encoding, rate, channels.
AU_HEAD = struct.Struct(">4s5I")

# How a wav in a pipe may begin. RF64 is a wav of more than 4 GB.
WAV_HEADS = (b"RIFF", b"RF64")
# The start of a wav's `fmt ` chunk: encoding, channels, rate, bytes a second, bytes of all channels
# at one time, bits of a sample.
WAV_FORMAT = struct.Struct("<HHIIHH")
WAV_EXTENSIBLE, WAV_SUBFORMAT = 0xFFFE, slice(24, 26)  # the encoding is later in the chunk
# (encoding, bits of a sample) -> soundfile's name of such samples.
WAV_SUBTYPES = {
    (1, 8): "PCM_U8",
    (1, 16): reader.INT16_SUBTYPE,
    (1, 24): "PCM_24",
    (1, 32): "PCM_32",
    (3, 32): "FLOAT",
    (3, 64): "DOUBLE",
    (6, 8): "ALAW",
    (7, 8): "ULAW",
}
MOST_CHANNELS = 255  # of a wav in a pipe: with more the header is damaged

# How files begin that would be noise if they were read as raw samples. Wavs are detected before.
OTHER_FORMATS = {
    b"RIFF": "avi or the like",
    b"RF64": "a damaged wav",
    b"BW64": "bw64",
    b"RIFX": "rifx",
    b"riff": "w64",
    b"fLaC": "flac",
    b"OggS": "ogg",
    b"ID3": "mp3",
    b"FORM": "aiff",
    b".snd": "au",
    b"caff": "caf",
    reader.MATROSKA: "webm or mkv",
    b"#!AMR": "amr",
    bytes.fromhex("3026b2758e66cf11"): "wma",
    b"wvPk": "wavpack",
}
MP4_TYPE = b"ftyp"  # at byte 4 of m4a, mp4, mov and 3gp
# Frames of mp2 and mp3: Hz of MPEG 1 (MPEG 2 has half of it, 2.5 a quarter), and kbit/s, for MPEG 1
# by layer.
MPEG_RATES = (44100, 48000, 32000)
MPEG_1_KBITS = {
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
MPEG_2_KBITS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
TEXT_BYTES = frozenset(string.printable.encode())
NO_SAMPLES: Samples = np.zeros(0, np.float32)
HEAD_BYTES = 12  # that distinguish a wav, other formats and text from raw samples


def stream_file(path: str, sample_rate: int, most_decoded: int | None = None) -> Iterator[Samples]:
    """Yields samples of a sound file in blocks: mono, at `sample_rate` Hz, at int16 scale.

    Joined, they equal the result of `reader.read_audio`. If soundfile reads the file and its header
    has no length, it is read to its end. An error may come after good blocks. An object in a bucket
    is copied to the disk.

    Args:
        path: local or gs://.
        most_decoded: maximum samples, all channels together, at the file's own rate.

    Yields:
        float32 [samples]; none of them while ffmpeg has nothing yet.

    Raises:
        TooMuchAudioError: there are more than `most_decoded`.
        AudioError: see `reader.read_audio`.
        UserError: the bucket can't be reached.
    """
    with contextlib.ExitStack() as opened, reader.errors_named(path):
        yield from _file_blocks(path, sample_rate, most_decoded, opened)


def stream_input(
    file: io.BufferedIOBase, sample_rate: int, name: str = INPUT_NAME
) -> Iterator[Samples]:
    """Yields samples from a pipe as soon as they arrive.

    A wav may have PCM of 8 to 32 bits, floating point, A-law or mu-law, any rate and channels, and
    no length in its header. Other formats and text are refused. Everything else is read as raw
    samples: 16 bit, little endian, mono, at `sample_rate`. Half a sample at the end is ignored.

    Args:
        file: the pipe, such as sys.stdin.buffer.
        sample_rate: Hz, of the blocks.
        name: of the pipe, for messages.

    Yields:
        float32 [samples] at int16 scale, at least one sample each.

    Raises:
        AudioError: the pipe is empty, its format isn't read from a pipe, the header of a wav is
            damaged, or the wav is shorter than its header says, which follows the last block.
    """
    try:
        head = file.read(HEAD_BYTES)
        if not head:
            raise AudioError(f"{name} holds no audio: it is empty.")
        if head[:4] in WAV_HEADS and head[8:] == b"WAVE":
            sound = _wav_sound(file, name)
            head = b""
        else:
            head = _refuse_other_formats(file, head, name)
            sound = _Sound(reader.INT16_SUBTYPE, 1, sample_rate, None)
        yield from _at_rate(_piped(file, head, sound, name), sound.rate, sample_rate, name)
    except OSError as error:
        raise AudioError(f"{name} can't be read as audio: {reader.reason_of(error)}.") from None


def _file_blocks(
    path: str, sample_rate: int, most_decoded: int | None, opened: contextlib.ExitStack
) -> Iterator[Samples]:
    """Yields blocks of a file; `opened` closes what it opens."""
    local = opened.enter_context(_copied(path)) if storage.in_bucket(path) else path
    try:
        file = opened.enter_context(reader.open_sound(local, _Sequential))
        if file.format == reader.MP3:
            content = opened.enter_context(reader.Mp3File(io.FileIO(local)))
            file = opened.enter_context(_Sequential(content))
    except soundfile.SoundFileError as error:
        reader.refuse_without_sound(path, local)
        blocks, rate = yield from _ffmpeg_blocks(path, local, reader.cause_of(error), opened)
    else:
        blocks, rate = _soundfile_blocks(file, path), file.samplerate
    if most_decoded is not None:
        blocks = _bounded(blocks, most_decoded, path)
    yield from _at_rate(blocks, rate, sample_rate, path)


def _bounded(blocks: Iterator[Samples], most: int, path: str) -> Iterator[Samples]:
    """Yields blocks up to `most` samples together; then it raises TooMuchAudioError."""
    decoded = 0
    for block in blocks:
        decoded += block.size
        if decoded > most:
            raise reader.TooMuchAudioError(
                f"{path} has more than {most} samples, of all channels together: use fewer "
                "channels, a lower rate, or parts of it."
            )
        yield block


@contextlib.contextmanager
def _copied(path: str) -> Iterator[str]:
    """Yields the path of a copy of a bucket's object on the disk."""
    with tempfile.NamedTemporaryFile() as file, storage.open_reader(path) as content:
        shutil.copyfileobj(content, file, BLOCK_BYTES)
        file.flush()
        yield file.name


class _Sequential(reader.SoundReader):
    """A sound file that is read from start to end.

    soundfile would seek to the current position after each read, and decode a block of a flac, up
    to 65535 samples, again.
    """

    def seekable(self) -> bool:
        return False


def _soundfile_blocks(file: reader.SoundReader, path: str) -> Iterator[Samples]:
    """Yields float32 [samples, channels] at full scale 1."""
    promised, there = file.frames, 0
    while True:
        block = file.read(max(BLOCK_SAMPLES // file.channels, 1), dtype="float32", always_2d=True)
        if not len(block):
            break
        there += len(block)
        yield block
    slack = reader.MPEG_SLACK if file.subtype.startswith("MPEG") else 0
    if promised != reader.UNKNOWN_LENGTH and there < promised - slack:
        raise AudioError(
            f"{path} is cut short: its header promises {promised} samples, {there} are there."
        )


def _ffmpeg_blocks(
    path: str, local: str, refusal: str, opened: contextlib.ExitStack
) -> Generator[Samples, None, tuple[Iterator[Samples], int]]:
    """Returns blocks, float32 [samples, channels] at full scale 1, and their rate.

    It yields NO_SAMPLES until ffmpeg has written the rate.

    Args:
        path: of the file, for messages.
        local: path of the file or of its copy on the disk.
        refusal: soundfile's reason.
    """
    program = reader.ffmpeg_for(path, refusal)
    # Not a pipe, which would fill up while nobody reads it.
    said = opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - `opened` closes it
    running = subprocess.Popen(
        reader.ffmpeg_command(program, local),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=said,
        bufsize=0,  # else what is in the buffer isn't seen by `_read_all`
    )
    opened.callback(running.wait)
    opened.callback(running.kill)  # is called before wait; does nothing if ffmpeg has ended
    assert running.stdout is not None
    output = opened.enter_context(running.stdout)

    def refuse_if_bad(any_sound: bool) -> None:
        exit_code = running.wait()
        said.seek(0)
        complaint = reader.ffmpeg_complaint(said.read(), local, exit_code, any_sound)
        if complaint:
            raise reader.refused_by_both(path, refusal, complaint)

    head = yield from _read_all(output, AU_HEAD.size)
    if len(head) < AU_HEAD.size:
        refuse_if_bad(any_sound=False)
    _, start, _, _, rate, channels = AU_HEAD.unpack(head)
    yield from _read_all(output, start - AU_HEAD.size)  # a comment

    def blocks() -> Iterator[Samples]:
        size = 4 * channels
        nothing = NO_SAMPLES.reshape(0, channels)
        while True:
            wanted = max(BLOCK_SAMPLES // channels, 1) * size
            content = yield from _read_all(output, wanted, nothing)
            if not content:
                break
            whole = content[: len(content) // size * size]
            yield np.frombuffer(whole, ">f4").astype(np.float32).reshape(-1, channels)
        refuse_if_bad(any_sound=True)

    return blocks(), rate


def _read_all(
    output: IO[bytes], size: int, nothing: Samples = NO_SAMPLES
) -> Generator[Samples, None, bytes]:
    """Returns `size` bytes of a pipe, or fewer at its end; yields `nothing` while none arrive."""
    ready = select.poll()
    ready.register(output, select.POLLIN)
    content = b""
    while len(content) < size:
        if not ready.poll(WAIT_SECONDS * 1000):
            yield nothing
            continue
        part = output.read(size - len(content))
        if not part:
            break
        content += part
    return content


@dataclass(frozen=True)
class _Sound:
    """Format of the samples in a pipe."""

    subtype: str  # soundfile's name of the encoding
    channels: int
    rate: int  # Hz
    size: int | None  # bytes of all samples; None: to the end

    @property
    def sample_bytes(self) -> int:
        """Returns the bytes of all channels at one time."""
        bits = next(bits for (_, bits), subtype in WAV_SUBTYPES.items() if subtype == self.subtype)
        return bits // 8 * self.channels


def _wav_sound(file: io.BufferedIOBase, name: str) -> _Sound:
    """Reads the header of a wav, up to its samples."""
    form = b""
    while True:
        chunk = file.read(8)
        if len(chunk) < 8:
            raise AudioError(f"{name} is a wav without samples: it ends within its head.")
        kind, (size,) = chunk[:4], struct.unpack("<I", chunk[4:])
        if kind == b"data":
            break
        content = _read_chunk(file, size + size % 2, keep=kind == b"fmt ")
        form = content if kind == b"fmt " else form
    if len(form) < WAV_FORMAT.size:
        raise AudioError(f"{name} is a damaged wav: its header has no sample format.")
    encoding, channels, rate, _, _, bits = WAV_FORMAT.unpack(form[: WAV_FORMAT.size])
    if encoding == WAV_EXTENSIBLE:
        encoding = int.from_bytes(form[WAV_SUBFORMAT], "little")
    if (encoding, bits) not in WAV_SUBTYPES:
        raise AudioError(
            f"{name} is a wav of encoding {encoding} with {bits} bits, which isn't read from a "
            "pipe: give the file's name."
        )
    if not 0 < channels <= MOST_CHANNELS:
        raise AudioError(f"{name} is a damaged wav: {channels} channels at {rate} Hz.")
    known = 0 < size < NO_LENGTH
    return _Sound(WAV_SUBTYPES[encoding, bits], channels, rate, size if known else None)


def _read_chunk(file: io.BufferedIOBase, size: int, keep: bool) -> bytes:
    """Reads a chunk; returns at most its first bytes, and only with `keep`."""
    content = b""
    while size:
        part = file.read(min(size, BLOCK_BYTES))
        if not part:
            break
        content = content or (part if keep else b"")
        size -= len(part)
    return content


def _refuse_other_formats(file: io.BufferedIOBase, head: bytes, name: str) -> bytes:
    """Returns the first bytes of raw samples, `head` or more; AudioError if it is another format.

    Loud samples may look like a frame of MPEG, once in thousands, but hardly like two frames: in
    this case it reads up to the next frame's header, at most half a second.
    """
    form = _other_format(head)
    if not form:
        form, frame_bytes = _mpeg_frame(head)
        head += file.read(frame_bytes)
        form = form if form and _mpeg_frame(head[frame_bytes:])[0] == form else ""
    if form:
        raise AudioError(
            f"{name} is {form}; from a pipe a wav or raw 16-bit samples are read: give the "
            "file's name."
        )
    return head


def _other_format(head: bytes) -> str:
    """Returns the format that begins like this, other than wav, MPEG and raw; empty if none."""
    for start, form in OTHER_FORMATS.items():
        if head.startswith(start):
            return form
    if head[4:8] == MP4_TYPE:
        return "m4a or mp4"
    if TEXT_BYTES.issuperset(head):
        return "text"
    return ""


def _mpeg_frame(head: bytes) -> tuple[str, int]:
    """Returns mp3, mp2 or aac and the bytes of the frame that begins here; ("", 0) if none does.

    It ignores MPEG's layer I, which is rare and begins like a raw sample of -1, and frames of a
    free bit rate.
    """
    if len(head) < HEAD_BYTES or head[0] != 0xFF or head[1] < 0xE0:
        return "", 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    if layer == 4:  # ADTS, for aac: it sets one more bit, and has the number of bytes
        frame_bytes = int.from_bytes(head[3:6], "big") >> 5 & 0x1FFF
        return ("aac", frame_bytes) if version & 2 and frame_bytes > 7 else ("", 0)
    bit_rate, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 1 or bit_rate in (0, 15) or rate == 3:
        return "", 0
    kbits = (MPEG_1_KBITS[layer] if version == 3 else MPEG_2_KBITS)[bit_rate - 1]
    hz = MPEG_RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    samples = 576 if version != 3 and layer == 3 else 1152
    return f"mp{layer}", samples * kbits * 125 // hz + padding


def _piped(file: io.BufferedIOBase, start: bytes, sound: _Sound, name: str) -> Iterator[Samples]:
    """Yields float32 [samples, channels] at full scale 1.

    Args:
        start: bytes of the samples that were already read.
        name: of the pipe, for messages.
    """
    size, left = sound.sample_bytes, sound.size
    while True:
        content = file.read1(BLOCK_BYTES if left is None else min(left, BLOCK_BYTES))
        left = left if left is None else left - len(content)
        content, ended = start + content, not content
        whole = len(content) // size * size
        start = content[whole:]
        if whole:
            yield _decoded(content[:whole], sound)
        if ended:
            break
    if sound.size and left:
        raise AudioError(
            f"{name} is cut short: its header promises {sound.size // size} samples, "
            f"{(sound.size - left) // size} are there."
        )


def _decoded(content: bytes, sound: _Sound) -> Samples:
    """Returns raw samples as float32 [samples, channels] at full scale 1."""
    samples: Samples = soundfile.read(
        io.BytesIO(content),
        dtype="float32",
        always_2d=True,
        samplerate=sound.rate,
        channels=sound.channels,
        format="RAW",
        subtype=sound.subtype,
        endian="LITTLE",
    )[0]
    return samples


class PcmConverter:
    """Converts raw samples that arrive piece by piece.

    Together the results equal those of `stream_file` for a wav with the same samples.
    """

    def __init__(self, width: int, channels: int, rate: int, wanted_rate: int, name: str) -> None:
        """
        Args:
            width: bytes of a sample, 1 to 4, little endian; of one byte unsigned.
            channels: interleaved, 1 to MOST_CHANNELS.
            rate: Hz, of the pieces.
            wanted_rate: Hz, of the results.
            name: of the recording, for messages.
        """
        self._sound = _Sound(WAV_SUBTYPES[1, 8 * width], channels, rate, None)
        self._content: bytes | None = b""  # not converted yet; None at the end
        self._converted = _at_rate(self._blocks(), rate, wanted_rate, name)

    def feed(self, content: bytes) -> Samples:
        """Returns float32 [samples], mono, at int16 scale, as far as they are known.

        Raises:
            AudioError: no recording has such a rate.
        """
        self._content = (self._content or b"") + content
        return next(self._converted)

    def finish(self) -> Samples:
        """Returns the last samples. Half a sample at the end is ignored.

        Raises:
            AudioError: the channels cancel each other out.
        """
        self._content = None
        return np.concatenate([NO_SAMPLES, *self._converted])

    def _blocks(self) -> Iterator[Samples]:
        """Yields float32 [samples, channels]; none of them while `feed` is awaited."""
        while self._content is not None:
            whole = len(self._content) // self._sound.sample_bytes * self._sound.sample_bytes
            content, self._content = self._content[:whole], self._content[whole:]
            yield _decoded(content, self._sound)


def _at_rate(
    blocks: Iterator[Samples], rate: int, wanted_rate: int, name: str
) -> Iterator[Samples]:
    """Yields blocks float32 [samples], mono, resampled, at int16 scale.

    Args:
        blocks: float32 [samples, channels] at full scale 1.
        name: of the file, for messages.
    """
    reader.refuse_strange_rate(rate, name)
    resampler = soxr.ResampleStream(rate, wanted_rate, 1, dtype="float32", quality="HQ")
    any_samples, mixed, whole = False, 0.0, 0.0
    for block in blocks:
        mono = block.mean(axis=1)  # [samples]
        if block.shape[1] > 1:
            mixed, whole = mixed + reader.power(mono), whole + reader.power(block) / block.shape[1]
        if not np.isfinite(mono).all():
            raise AudioError(f"{name} can't be used: some of its samples are no finite numbers.")
        any_samples |= len(mono) > 0
        if rate == wanted_rate or not len(mono):
            yield mono * np.float32(reader.INT16_SCALE)
            continue
        resampled = resampler.resample_chunk(mono)
        if len(resampled):
            yield resampled * np.float32(reader.INT16_SCALE)
    reader.refuse_cancelled(mixed, whole, name)
    if any_samples and rate != wanted_rate:
        mono = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        if len(mono):
            yield mono * np.float32(reader.INT16_SCALE)
