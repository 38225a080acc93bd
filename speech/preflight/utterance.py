"""Examines one utterance: transcript, file size, length and sound."""

import hashlib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from speech.audio import levels
from speech.audio.headers import find_cut
from speech.audio.levels import Sound
from speech.audio.reader import AudioError, read_audio
from speech.audio.types import RecordedSamples
from speech.corpora.utterance import Utterance
from speech.preflight.findings import Flaw, Kind, Severity, most_frequent
from speech.preparation.utterance import check_lengths
from speech.shards.index import ShardSettings
from speech.system import storage
from speech.text.characters import describe
from utils import Alphabet

# Thresholds. "Genuine" refers to 1265 recordings of LibriSpeech and of Asterisk's English and
# Russian prompts, in which no threshold finds anything; docs/checking.md has the numbers.

# Stated lengths are rounded, and mp3 encoders add some milliseconds.
STATED_SECONDS_OFF, STATED_SHARE_OFF = 0.1, 0.02
# dBFS of the loudest 0.1 s: 33 steps of 16 bits. Genuine: above -24.
SILENCE_LEVEL = -60.0
# dB between floor and loud parts: less than 2 in noise and hum, more than 8 in genuine speech.
# Shorter audio than MEASURABLE_SECONDS has no meaningful percentiles.
SPEECH_RANGE, MEASURABLE_SECONDS = 5.0, 0.25
# Seconds of silence before or after speech. Genuine: below 1.
EDGE_SECONDS = 2.0
# Relative to full scale. Floating-point audio slightly exceeds 1; samples at the scale of integers
# reach 128 and more.
LARGEST_PEAK = 16.0
# Share of the samples: 8 per second at 16 kHz. Genuine: below a fiftieth of it.
CLIPPED_SHARE = 0.0005
# Relative to full scale. Genuine: below 0.002.
LARGEST_OFFSET = 0.02
# Every word is longer.
SHORTEST_SECONDS = 0.1

# Unknown characters of one transcript that a finding names: without the alphabet of its language,
# all of them are unknown.
NAMED_CHARACTERS = 3


@dataclass(frozen=True)
class ExaminedUtterance:
    """The flaws and measures of an utterance, without its samples."""

    flaws: tuple[Flaw, ...] = ()
    seconds: float = 0.0  # of audio; 0: no audio
    speech_seconds: float = 0.0  # without the silence at the edges; 0: no speech
    labels: int = 0  # of the transcript; 0: it is empty
    digest: bytes = b""  # of the samples; empty: no samples, or silence


def examine_utterance(utterance: Utterance, settings: ShardSettings) -> ExaminedUtterance:
    """Examines an utterance; a flaw is no exception.

    Raises:
        UserError: a bucket can't be reached.
    """
    flaws = list(_flaws_of_text(utterance, settings.alphabet))
    labels = len(comparable_text(utterance))
    rate = settings.front_end.sample_rate
    path, size = utterance.audio_path, _size(utterance)
    if path is None or size is None:
        detail = f"{path} is missing" if path else "a transcript without audio"
        return ExaminedUtterance(
            (*flaws, Flaw(Kind.MISSING, Severity.ERROR, detail)), labels=labels
        )
    flaws += _flaws_of_bytes(utterance, size)
    try:
        samples = read_audio(path, rate, utterance.start_seconds, utterance.seconds)
    except AudioError as error:
        return ExaminedUtterance(
            (*flaws, Flaw(Kind.UNREADABLE, Severity.ERROR, str(error))), labels=labels
        )
    flaws += _flaws_of_length(len(samples), utterance, settings)
    if not len(samples):
        return ExaminedUtterance(tuple(flaws), labels=labels)
    sound = levels.measure(samples, rate)
    flaws += _flaws_of_sound(sound, len(samples))
    without_speech = {each.kind for each in flaws} & {Kind.SILENCE, Kind.NO_SPEECH}
    return ExaminedUtterance(
        tuple(flaws),
        sound.seconds,
        0.0 if without_speech else sound.speech_seconds,
        labels,
        b"" if sound.loudest < SILENCE_LEVEL else _digest(samples),
    )


def comparable_text(utterance: Utterance) -> str:
    """Returns the transcript in NFC, one character per label; empty if there is none."""
    return unicodedata.normalize("NFC", utterance.transcript or "")


def _flaws_of_text(utterance: Utterance, alphabet: Alphabet) -> Iterator[Flaw]:
    if utterance.transcript is None:
        yield Flaw(Kind.NO_TRANSCRIPT, Severity.ERROR, "audio without transcript")
        return
    text = comparable_text(utterance)
    missing = set(alphabet.missing(text))
    unknown = most_frequent(each for each in text if each in missing)
    if unknown:
        described = [
            describe(character) + (f" {count} times" if count > 1 else "")
            for character, count in unknown[:NAMED_CHARACTERS]
        ]
        if more := len(unknown) - len(described):
            described.append(f"and {more} more")
        badness = float(sum(count for _, count in unknown))
        characters = "".join(character for character, _ in unknown)
        yield Flaw(
            Kind.UNKNOWN_CHARACTERS, Severity.ERROR, ", ".join(described), badness, characters
        )


def _size(utterance: Utterance) -> int | None:
    """Returns the size of the audio file in bytes; None if it is missing."""
    if utterance.audio_path is None:
        return None
    if utterance.audio_bytes is not None:
        return utterance.audio_bytes
    return storage.size(utterance.audio_path)


def _flaws_of_bytes(utterance: Utterance, size: int) -> Iterator[Flaw]:
    """Compares the size with the corpus and with the wav header."""
    stated = utterance.stated_bytes
    if stated is not None and stated != size:
        yield _other_than_stated(f"{stated} bytes", f"{size}", stated, size)
    elif cut := find_cut(utterance.audio_path or ""):
        yield Flaw(Kind.WRONG_SIZE, Severity.ERROR, f"cut short: {cut}", cut.promised / cut.there)


def _other_than_stated(stated: str, there: str, expected: float, actual: float) -> Flaw:
    """Returns an error if the end of the audio is missing, a warning if there is more."""
    less = actual < expected
    factor = max(expected, actual) / max(min(expected, actual), 1e-3)
    detail = f"{stated} are stated, the file has {there}{': cut short?' if less else ''}"
    return Flaw(Kind.WRONG_SIZE, Severity.ERROR if less else Severity.WARNING, detail, factor)


def _flaws_of_length(samples: int, utterance: Utterance, settings: ShardSettings) -> Iterator[Flaw]:
    front_end, stated = settings.front_end, utterance.stated_seconds
    seconds = samples / front_end.sample_rate
    if stated is not None and abs(seconds - stated) > max(
        STATED_SECONDS_OFF, STATED_SHARE_OFF * stated
    ):
        yield _other_than_stated(f"{stated:.2f} s", f"{seconds:.2f} s", stated, seconds)
    if samples > 0 and seconds < SHORTEST_SECONDS:
        yield Flaw(Kind.TOO_SHORT, Severity.WARNING, f"{seconds:.3f} s of audio", -seconds)
    frames = front_end.frames(samples)
    text, alphabet = comparable_text(utterance), settings.alphabet
    # Preparation only compares labels with each other, so that unknown characters may have any.
    labels = list(map(ord, text)) if alphabet.missing(text) else alphabet.encode(text)
    unlimited = replace(settings, max_sequence_length=max(frames, settings.max_sequence_length))
    reasons: dict[Kind, str] = {}
    for limits in (
        settings,
        unlimited,
        replace(unlimited, max_label_length=max(len(labels), settings.max_label_length)),
    ):
        reason, detail = check_lengths(samples, frames, labels, limits)
        if reason:
            reasons[Kind(reason)] = detail
    badness: dict[Kind, float] = {
        Kind.TOO_LONG: frames,
        Kind.LABEL_TOO_LONG: len(labels),
        Kind.UNALIGNABLE: len(labels) / max(frames, 1),
    }
    for kind, detail in reasons.items():
        yield Flaw(kind, Severity.ERROR, detail, float(badness.get(kind, 0)))


def _flaws_of_sound(sound: Sound, samples: int) -> Iterator[Flaw]:
    if sound.loudest < SILENCE_LEVEL:
        level = (
            "digital silence"
            if sound.loudest <= levels.LOWEST_LEVEL
            else (f"the loudest 0.1 s have {sound.loudest:.0f} dBFS")
        )
        yield Flaw(
            Kind.SILENCE, Severity.ERROR, f"{level}, in {sound.seconds:.1f} s", -sound.loudest
        )
    elif sound.seconds >= MEASURABLE_SECONDS and sound.range < SPEECH_RANGE:
        detail = (
            f"loud parts are {sound.range:.1f} dB above the floor of {sound.floor:.0f} dBFS: "
            "noise, a tone, or a word in a long silence"
        )
        yield Flaw(Kind.NO_SPEECH, Severity.WARNING, detail, -sound.range)
    else:
        for seconds, where in ((sound.silent_start, "before"), (sound.silent_end, "after")):
            if seconds > EDGE_SECONDS:
                detail = f"{seconds:.1f} s {where} the speech, of {sound.seconds:.1f} s"
                yield Flaw(Kind.SILENT_EDGE, Severity.WARNING, detail, seconds)
    share = sound.clipped / samples
    if sound.peak > LARGEST_PEAK:
        detail = f"the largest sample is {sound.peak:.0f} times full scale"
        yield Flaw(Kind.WRONG_SCALE, Severity.WARNING, detail, sound.peak)
        return
    if share > CLIPPED_SHARE:
        detail = f"{sound.clipped} samples, {share:.2%}, are cut off at the top"
        yield Flaw(Kind.CLIPPING, Severity.WARNING, detail, share)
    if abs(sound.offset) > LARGEST_OFFSET:
        detail = f"the samples' mean is {sound.offset:+.1%} of full scale, not 0"
        yield Flaw(Kind.OFFSET, Severity.WARNING, detail, abs(sound.offset))


def _digest(samples: RecordedSamples) -> bytes:
    """Returns a hash of the samples, the same in every lossless format."""
    rounded = np.clip(np.rint(samples), -32768, 32767).astype("<i2")
    return hashlib.blake2b(rounded.tobytes(), digest_size=16).digest()
