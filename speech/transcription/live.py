"""Speech that goes on -> text while it does: what is thought so far, and stretches that are final.

A stretch ends at a pause; the network hears on as it was, the beam search begins anew. So memory
doesn't grow with a recording. What is decided depends on the samples alone, not on their blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from speech.audio.segmentation import LONGEST_SECONDS
from speech.decoding.beam_search import BeamStream
from speech.decoding.scorer import SPACE
from speech.export.loading import Floats, Samples
from speech.transcription.acoustic_stream import is_exact, stream_of
from speech.transcription.transcriber import Heard, Transcriber

# A stretch ends behind so long a pause, in which the network tells of no letter: longer than those
# within a sentence, shorter than what one waits for.
PAUSE_SECONDS = 1.5
# Once a stretch is as long as the longest segments (LONGEST_SECONDS) a pause between words will do;
# a network's letters are peaks, between which it is silent for less, ...
SHORT_PAUSE_SECONDS = 0.3
# ... and where not even that comes, as in music, it ends anyway.
LIMIT_SECONDS = 2 * LONGEST_SECONDS


@dataclass(frozen=True)
class Partial:
    """What is thought so far of the stretch that goes on."""

    start: float  # seconds from the recording's start
    seconds: float  # heard so far, from the recording's start
    text: str


@dataclass(eq=False)
class _Stretch:
    """A stretch on its way."""

    first: int  # its first output
    search: BeamStream
    log_probs: list[Floats] = field(default_factory=list)
    outputs: int = 0
    quiet_outputs: int = 0  # at its end
    spoken: bool = False  # whether it has letters
    text: str = ""  # of the last Partial


class LiveTranscriber:
    """One recording that goes on. Several share a Transcriber; each is for one thread at a time.

    Attributes:
        exact: whether the network carries its state, so that a recording without a pause that ends
            a stretch gives the text that it gives as a whole; see transcription/acoustic_stream.py.
        latency_seconds: from a sample to the results it is in, the time to compute them left out.
    """

    def __init__(self, transcriber: Transcriber, n: int = 1) -> None:
        """n: most candidates of a stretch."""
        self.exact = is_exact(transcriber.model)
        self._transcriber = transcriber
        self._n = n
        self._stream = stream_of(transcriber.model)
        self.latency_seconds = self._stream.latency_seconds
        self._samples = 0
        self._pause, self._short_pause, self._longest, self._limit = (
            max(round(seconds / transcriber.config.output_seconds), 1)
            for seconds in (PAUSE_SECONDS, SHORT_PAUSE_SECONDS, LONGEST_SECONDS, LIMIT_SECONDS)
        )
        alphabet = transcriber.alphabet
        # Labels that tell of no letter.
        self._quiet = [alphabet.blank]
        if SPACE in alphabet.characters:
            self._quiet.append(alphabet.characters.index(SPACE))
        self._stretch = _Stretch(0, transcriber.decoder.stream())

    def feed(self, samples: Samples) -> list[Partial | Heard]:
        """What samples bring: stretches that ended with them, and the text so far if it changed.

        Args:
            samples: int16 or float32 [samples] at int16 scale and the model's rate, any number.

        Raises:
            UserError: the network's output is none, it has diverged.
        """
        self._samples += len(samples)
        log_probs = self._stream.feed(samples)
        events: list[Partial | Heard] = [*self._take(log_probs)]
        if len(log_probs):
            text = " ".join(self._stretch.search.n_best(1)[0].text.split())
            if text != self._stretch.text:
                self._stretch.text = text
                events.append(Partial(self._start, self._seconds, text))
        return events

    def finish(self) -> list[Heard]:
        """The stretches that the recording's end brings; none of silence. Nothing comes after."""
        ended = [*self._take(self._stream.finish())]
        return [*ended, *self._end(self._seconds)]

    @property
    def _seconds(self) -> float:
        """Heard so far."""
        return self._samples / self._transcriber.sample_rate

    @property
    def _start(self) -> float:
        """Of the stretch, in seconds from the recording's start."""
        return self._stretch.first * self._transcriber.config.output_seconds

    def _take(self, log_probs: Floats) -> Iterator[Heard]:
        """Takes outputs [outputs, labels] in; the stretches that end in them."""
        while len(log_probs):
            count, ends = self._until_pause(log_probs)
            stretch = self._stretch
            stretch.search.advance(log_probs[:count])
            stretch.log_probs.append(log_probs[:count])
            log_probs = log_probs[count:]
            if ends:
                behind = stretch.first + stretch.outputs
                yield from self._end(behind * self._transcriber.config.output_seconds)

    def _until_pause(self, log_probs: Floats) -> tuple[int, bool]:
        """How many of some outputs belong to the stretch, and whether it ends behind them."""
        stretch = self._stretch
        quiet = np.isin(log_probs.argmax(axis=1), self._quiet)  # [outputs]
        for count, is_quiet in enumerate(quiet.tolist(), start=1):
            stretch.outputs += 1
            stretch.quiet_outputs = stretch.quiet_outputs + 1 if is_quiet else 0
            stretch.spoken |= not is_quiet
            is_long = stretch.outputs >= self._longest
            pause = self._short_pause if is_long else self._pause
            paused = stretch.spoken and stretch.quiet_outputs >= pause
            silent = is_long and not stretch.spoken  # is left out, piece by piece
            if paused or silent or stretch.outputs >= self._limit:
                return count, True
        return len(quiet), False

    def _end(self, end: float) -> Iterator[Heard]:
        """The stretch, if it has words, up to some seconds from the recording's start."""
        stretch, start = self._stretch, self._start
        if stretch.log_probs:
            log_probs = np.concatenate(stretch.log_probs)
            found = stretch.search.n_best(self._n)
            candidates = self._transcriber.timed(log_probs, found, start)
            if candidates[0].words:
                yield Heard(start, end - start, candidates)
        behind = stretch.first + stretch.outputs
        self._stretch = _Stretch(behind, self._transcriber.decoder.stream())
