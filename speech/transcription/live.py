"""Transcribes speech in progress: partial transcripts, and segments that are final.

A segment ends at a pause. The network keeps its state, the beam search starts over, so memory
doesn't grow with the recording. Decisions depend on the samples alone, not on how they are split
into blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from speech.audio.segmentation import LONGEST_SECONDS
from speech.decoding.beam_search import BeamStream
from speech.decoding.scorer import SPACE
from speech.export.acoustic_model import Floats, Samples
from speech.transcription.acoustic_stream import is_exact, stream_of
from speech.transcription.transcriber import TranscribedSegment, Transcriber

# A segment ends after so long a pause, in which the network outputs no letter: longer than pauses
# within a sentence, shorter than what a listener would wait.
SEGMENT_PAUSE_SECONDS = 1.5
# Once a segment is as long as the longest ones of training (LONGEST_SECONDS), a pause between words
# is enough; a network's letters are peaks, and it is silent for less between them.
SHORT_PAUSE_SECONDS = 0.3
# A segment without even such a pause, as in music, ends here.
LIMIT_SECONDS = 2 * LONGEST_SECONDS


@dataclass(frozen=True)
class PartialTranscript:
    """The text so far of the present segment."""

    start: float  # seconds from the recording's start
    seconds: float  # processed so far, from the recording's start
    text: str


@dataclass(eq=False)
class _OpenSegment:
    """The present segment."""

    first: int  # number of its first output
    search: BeamStream
    log_probs: list[Floats] = field(default_factory=list)  # [outputs, classes] each
    outputs: int = 0
    quiet_outputs: int = 0  # at its end
    has_letters: bool = False
    text: str = ""  # of the last PartialTranscript


class LiveTranscriber:
    """Transcribes one recording in progress. For one thread at a time.

    Several may share a Transcriber.

    Attributes:
        exact: whether the network carries its state, so that the text of a recording without a
            pause that ends a segment is the text of the whole; see acoustic_stream.py.
        latency_seconds: from a sample to the results that include it, without computing time.
    """

    def __init__(self, transcriber: Transcriber, n: int = 1) -> None:
        """n: most candidates of a segment."""
        self.exact = is_exact(transcriber.model)
        self._transcriber = transcriber
        self._n = n
        self._stream = stream_of(transcriber.model)
        self.latency_seconds = self._stream.latency_seconds
        self._samples = 0
        self._pause, self._short_pause, self._longest, self._limit = (  # in outputs
            max(round(seconds / transcriber.config.output_seconds), 1)
            for seconds in (
                SEGMENT_PAUSE_SECONDS,
                SHORT_PAUSE_SECONDS,
                LONGEST_SECONDS,
                LIMIT_SECONDS,
            )
        )
        alphabet = transcriber.alphabet
        self._classes = alphabet.size  # of the letters, the first ones
        # Classes that aren't letters.
        self._quiet = [alphabet.blank]
        if SPACE in alphabet.characters:
            self._quiet.append(alphabet.characters.index(SPACE))
        self._segment = _OpenSegment(0, transcriber.decoder.stream())

    def feed(self, samples: Samples) -> list[PartialTranscript | TranscribedSegment]:
        """Returns the segments that end in samples, and then the text so far if it has changed.

        Args:
            samples: int16 or float32 [samples] at int16 scale and the model's rate, any number.

        Raises:
            UserError: the network's output isn't finite, it has diverged.
        """
        self._samples += len(samples)
        log_probs = self._stream.feed(samples)
        events: list[PartialTranscript | TranscribedSegment] = [*self._take(log_probs)]
        if len(log_probs):
            text = " ".join(self._segment.search.n_best(1)[0].text.split())
            if text != self._segment.text:
                self._segment.text = text
                events.append(PartialTranscript(self._start, self._seconds, text))
        return events

    def finish(self) -> list[TranscribedSegment]:
        """Returns the last segments, those with words. Ends the recording."""
        ended = [*self._take(self._stream.finish())]
        return [*ended, *self._end(self._seconds)]

    @property
    def _seconds(self) -> float:
        """Seconds processed so far."""
        return self._samples / self._transcriber.sample_rate

    @property
    def _start(self) -> float:
        """Start of the segment, in seconds from the recording's start."""
        return self._segment.first * self._transcriber.config.output_seconds

    def _take(self, log_probs: Floats) -> Iterator[TranscribedSegment]:
        """Adds outputs [outputs, classes]; yields the segments that end in them."""
        while len(log_probs):
            count, ends = self._until_pause(log_probs)
            segment = self._segment
            segment.search.advance(log_probs[:count])
            segment.log_probs.append(log_probs[:count])
            log_probs = log_probs[count:]
            if ends:
                end = segment.first + segment.outputs
                yield from self._end(end * self._transcriber.config.output_seconds)

    def _until_pause(self, log_probs: Floats) -> tuple[int, bool]:
        """Returns how many of the outputs belong to the segment, and whether it ends there."""
        segment = self._segment
        quiet = np.isin(log_probs[:, : self._classes].argmax(axis=1), self._quiet)  # [outputs]
        for count, is_quiet in enumerate(quiet.tolist(), start=1):
            segment.outputs += 1
            segment.quiet_outputs = segment.quiet_outputs + 1 if is_quiet else 0
            segment.has_letters |= not is_quiet
            is_long = segment.outputs >= self._longest
            pause = self._short_pause if is_long else self._pause
            paused = segment.has_letters and segment.quiet_outputs >= pause
            silent = is_long and not segment.has_letters  # dropped, piece by piece
            if paused or silent or segment.outputs >= self._limit:
                return count, True
        return len(quiet), False

    def _end(self, end: float) -> Iterator[TranscribedSegment]:
        """Ends the segment, and yields it if it has words; end: its time in the recording."""
        segment, start = self._segment, self._start
        if segment.log_probs:
            log_probs = np.concatenate(segment.log_probs)
            found = segment.search.n_best(self._n)
            candidates = self._transcriber.add_times(log_probs, found, start)
            if candidates[0].words:
                yield TranscribedSegment(start, end - start, candidates)
        first = segment.first + segment.outputs
        self._segment = _OpenSegment(first, self._transcriber.decoder.stream())
