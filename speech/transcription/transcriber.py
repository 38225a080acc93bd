"""Samples -> text and when its words were said: a model, a scorer and the beam search together.

A recording of any length is taken in segments that are cut at its pauses (audio/segmentation.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speech.audio.segmentation import Segment, cut_at_pauses
from speech.decoding.alignment import TimedWord, word_times
from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings, Hypothesis, LogProbs
from speech.decoding.scorer import SPACE, Scorer
from speech.export.loading import AcousticModel, Samples
from speech.transcription.subtitles import Transcript


@dataclass(frozen=True)
class Heard:
    """A stretch of a recording, and what may have been said in it."""

    start: float  # seconds from the recording's start
    seconds: float
    candidates: tuple[Transcript, ...]  # the best first, one at least

    @property
    def transcript(self) -> Transcript:
        return self.candidates[0]


class Transcriber:
    """A loaded model and how its output becomes text."""

    def __init__(
        self,
        model: AcousticModel,
        settings: BeamSettings | None = None,
        scorer: Scorer | None = None,
    ) -> None:
        """scorer: of the model's alphabet, see scorer.check_alphabet.

        Raises:
            UserError: a hot word can't be written with the alphabet.
        """
        self.model = model
        self.config = model.description.config
        self.alphabet = self.config.alphabet
        self.sample_rate = self.config.front_end.sample_rate
        # Between words; the words of an alphabet without a space are its characters.
        self.separator = SPACE if SPACE in self.alphabet.characters else ""
        self.scorer = scorer
        self.decoder = BeamSearchDecoder(self.alphabet, settings, scorer)

    def candidates(
        self, log_probs: LogProbs, n: int = 1, start: float = 0.0
    ) -> tuple[Transcript, ...]:
        """What may have been said, the best first.

        Args:
            log_probs: the network's output, float32 [outputs, labels].
            n: most candidates.
            start: seconds from the recording's start to the first output.
        """
        return self.timed(log_probs, self.decoder.n_best(log_probs, n), start)

    def timed(
        self, log_probs: LogProbs, found: Sequence[Hypothesis], start: float = 0.0
    ) -> tuple[Transcript, ...]:
        """What a beam search has found, with times; arguments as `candidates`'."""
        return tuple(
            Transcript(self._timed(log_probs, each.text, start), each.score) for each in found
        )

    def _timed(self, log_probs: LogProbs, text: str, start: float) -> tuple[TimedWord, ...]:
        words = word_times(log_probs, text, self.alphabet, self.config.output_seconds)
        return tuple(TimedWord(each.text, start + each.start, each.duration) for each in words)

    def hear(self, samples: Samples, n: int = 1, start: float = 0.0) -> Heard:
        """One segment.

        Args:
            samples: int16 or float32 [samples] at int16 scale and the model's rate.
            n: most candidates.
            start: seconds from the recording's start to the first sample.
        """
        log_probs = self.log_probs(samples)
        return Heard(start, len(samples) / self.sample_rate, self.candidates(log_probs, n, start))

    def log_probs(self, samples: Samples) -> LogProbs:
        """The network's output, float32 [outputs, labels]; none of no samples."""
        if not len(samples):
            return np.zeros((0, self.alphabet.size), np.float32)
        return self.model.of_samples(samples)

    def segments(self, blocks: Iterable[npt.NDArray[np.generic]], n: int = 1) -> Iterator[Heard]:
        """A recording of any length, segment by segment, in memory that doesn't grow with it.

        Args:
            blocks: of samples [samples] at int16 scale and the model's rate, of any lengths.
            n: most candidates of each segment.
        """
        for segment in cut_at_pauses(blocks, self.sample_rate):
            yield self.hear(segment.samples, n, self.start_of(segment))

    def start_of(self, segment: Segment) -> float:
        """Seconds from the recording's start."""
        return segment.start / self.sample_rate
