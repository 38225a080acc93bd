"""Turns one utterance into a record, or says why it is unusable."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy.typing as npt

from speech.audio.reader import AudioError, audio_length, read_audio
from speech.audio.types import RecordedSamples
from speech.augmentation.waveform import augment_copy
from speech.corpora.utterance import Utterance
from speech.features.front_end import CORPUS, extract_by_bin
from speech.features.normalisation import Sums
from speech.features.types import Features
from speech.shards.index import ShardSettings
from speech.shards.records import encode_example
from speech.system import storage
from utils import AlphabetError

# Reasons why an utterance is in no shard.
NO_AUDIO = "no audio"
NO_TRANSCRIPT = "no transcript"
UNREADABLE = "unreadable audio"
EMPTY = "no samples"
TOO_LONG = "too many frames"
LABEL_TOO_LONG = "too many labels"
UNKNOWN_CHARACTER = "unknown character"
UNALIGNABLE = "more labels than CTC can align"

# Number of labels and of values in a description.
DESCRIBED_LABELS = 20
DESCRIBED_VALUES = 10


@dataclass(frozen=True)
class PreparedUtterance:
    """The record of an utterance, or the reason why it is unusable."""

    payload: bytes = b""  # serialised tf.train.Example
    frames: int = 0
    labels: int = 0
    audio_seconds: float = 0.0
    sums: Sums | None = None  # of the features, for normalisation over the corpus
    reason: str = ""  # empty: the utterance is usable
    detail: str = ""  # of the reason
    description: str = ""  # of features and labels, for --logging=debug; empty: not requested


class UnusableError(Exception):
    """An utterance without transcript or audio, or with an unknown character."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def prepare_utterance(
    utterance: Utterance, settings: ShardSettings, describe: bool = False
) -> PreparedUtterance:
    """Reads, checks and encodes one utterance; an unusable one is no exception.

    Args:
        describe: adds a description of features and labels to a usable utterance.

    Raises:
        UserError: a file that the augmentation of a copy needs can't be read.
    """
    try:
        labels = encode_transcript(utterance, settings)
        samples = read_samples(utterance, settings.front_end.sample_rate)
    except UnusableError as error:
        return PreparedUtterance(reason=error.reason, detail=_prefix_place(utterance, error.detail))
    if utterance.copy:
        samples = augment_copy(
            samples,
            utterance.recorded_id,
            utterance.copy,
            settings.copies,
            settings.front_end.sample_rate,
        )
    frames = settings.front_end.frames(len(samples))
    reason, detail = check_lengths(len(samples), frames, labels, settings)
    if reason:
        detail = f"{utterance.audio_path}: {detail}"
        return PreparedUtterance(reason=reason, detail=_prefix_place(utterance, detail))
    features = extract_by_bin(samples, settings.front_end)  # [bins, frames]
    payload = encode_example(
        features,
        labels,
        utterance.utterance_id,
        # The text of the labels, in NFC: what a perfect model would write.
        settings.alphabet.decode(labels),
        padded_frames=settings.max_sequence_length if settings.padded else 0,
        padded_labels=settings.max_label_length if settings.padded else 0,
    )
    return PreparedUtterance(
        payload,
        frames,
        len(labels),
        audio_seconds=len(samples) / settings.front_end.sample_rate,
        sums=Sums.of(features) if settings.front_end.normalisation == CORPUS else None,
        description=_describe(utterance, features.T, labels, settings) if describe else "",
    )


def _prefix_place(utterance: Utterance, detail: str) -> str:
    """Prefixes `detail` with the utterance's place in the corpus."""
    return f"{utterance.place}: {detail}" if utterance.place else detail


def encode_transcript(utterance: Utterance, settings: ShardSettings) -> list[int]:
    """Returns the labels of an utterance's transcript.

    Raises:
        UnusableError: there is no transcript or no audio, or a character is unknown.
    """
    transcript = require_transcript(utterance)
    try:
        return settings.alphabet.encode(transcript, utterance.utterance_id)
    except AlphabetError as error:
        raise UnusableError(UNKNOWN_CHARACTER, str(error)) from None


def require_transcript(utterance: Utterance) -> str:
    """Returns the transcript of an utterance with audio.

    Raises:
        UnusableError: there is no transcript, or no path of the audio.
    """
    if utterance.audio_path is None:
        raise UnusableError(NO_AUDIO, "a transcript without audio")
    if utterance.transcript is None:
        raise UnusableError(NO_TRANSCRIPT, utterance.audio_path)
    return utterance.transcript


def read_samples(utterance: Utterance, sample_rate: int) -> RecordedSamples:
    """Reads the audio of an utterance: [samples], at the scale of 16-bit integers.

    Raises:
        UnusableError: the audio is missing or can't be read.
    """
    with _audio_errors(utterance) as path:
        return read_audio(path, sample_rate, utterance.start_seconds, utterance.seconds)


def count_samples(utterance: Utterance, sample_rate: int) -> int:
    """Returns the number of samples of an utterance's audio, from the header of its file.

    Raises:
        UnusableError: the audio is missing or can't be read.
    """
    with _audio_errors(utterance) as path:
        return audio_length(path, sample_rate, utterance.start_seconds, utterance.seconds)


@contextmanager
def _audio_errors(utterance: Utterance) -> Iterator[str]:
    """Turns an AudioError about the utterance's audio file into an UnusableError."""
    path = utterance.audio_path
    assert path is not None
    try:
        yield path
    except AudioError as error:
        reason = UNREADABLE if storage.exists(path) else NO_AUDIO
        raise UnusableError(reason, str(error)) from None


def outputs_to_align(labels: list[int]) -> int:
    """Returns the outputs that CTC needs: one per label and a blank between equal neighbours."""
    return len(labels) + sum(one == other for one, other in pairwise(labels))


def check_lengths(
    samples: int, frames: int, labels: list[int], settings: ShardSettings
) -> tuple[str, str]:
    """Checks the lengths of an utterance.

    Returns:
        reason and detail if the utterance is unusable, else two empty strings.
    """
    outputs = -(-frames // settings.stride)
    if samples == 0:
        return EMPTY, "the file has no samples"
    if frames > settings.max_sequence_length:
        return TOO_LONG, f"{frames} frames, at most {settings.max_sequence_length}"
    if len(labels) > settings.max_label_length:
        return LABEL_TOO_LONG, f"{len(labels)} labels, at most {settings.max_label_length}"
    needed = outputs_to_align(labels)
    if needed > outputs:
        return UNALIGNABLE, f"{needed} outputs needed, {outputs} there"
    return "", ""


def _describe(
    utterance: Utterance, features: Features, labels: list[int], settings: ShardSettings
) -> str:
    """Describes features [frames, bins] and labels, for debugging."""
    return (
        f"{utterance.utterance_id}: features [frames, bins] {summarise_array(features)}\n"
        f"  {len(labels)} labels of {settings.alphabet.decode(labels)!r}: "
        f"{', '.join(map(str, labels[:DESCRIBED_LABELS]))}"
    )


def summarise_array(values: npt.NDArray[Any]) -> str:
    """Summarises an array in one line: shape, dtype, mean, deviation and its first values."""
    if not values.size:
        return f"{list(values.shape)} {values.dtype}"
    first = ", ".join(f"{each:.4g}" for each in values.flat[:DESCRIBED_VALUES])
    more = ", ..." if values.size > DESCRIBED_VALUES else ""
    return (
        f"{list(values.shape)} {values.dtype}, mean {values.mean():.4g}, deviation "
        f"{values.std():.4g}: {first}{more}"
    )
