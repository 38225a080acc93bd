"""Turns samples into words with times: a model, a scorer and the beam search together.

A recording of any length is split at its pauses into segments (audio/segmentation.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speech.audio.segmentation import Segment, cut_at_pauses
from speech.decoding.alignment import TimedWord, hypothesis_times
from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings, Hypothesis
from speech.decoding.scorer import SPACE, Scorer
from speech.decoding.types import LogProbs
from speech.export.acoustic_model import AcousticModel, Samples
from speech.transcription.subtitles import Transcript


@dataclass(frozen=True)
class TranscribedSegment:
    """A segment of a recording, and its candidate transcripts."""

    start: float  # seconds from the recording's start
    seconds: float
    candidates: tuple[Transcript, ...]  # the best first, at least one

    @property
    def transcript(self) -> Transcript:
        """The best candidate."""
        return self.candidates[0]


class Transcriber:
    """A model, the settings of the beam search, and a scorer."""

    def __init__(
        self,
        model: AcousticModel,
        settings: BeamSettings | None = None,
        scorer: Scorer | None = None,
    ) -> None:
        """
        Args:
            scorer: of the model's alphabet or phones, see scorer.check_alphabet.

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
        """Returns the candidate transcripts of the network's output, the best first.

        Args:
            log_probs: float32 [outputs, classes].
            n: most candidates.
            start: seconds from the recording's start to the first output.
        """
        return self.add_times(log_probs, self.decoder.n_best(log_probs, n), start)

    def add_times(
        self, log_probs: LogProbs, found: Sequence[Hypothesis], start: float = 0.0
    ) -> tuple[Transcript, ...]:
        """Returns a beam search's hypotheses with the times of their words; see `candidates`."""
        return tuple(Transcript(self._words(log_probs, each, start), each.score) for each in found)

    def _words(self, log_probs: LogProbs, found: Hypothesis, start: float) -> tuple[TimedWord, ...]:
        phones, seconds = self.config.phonetic_alphabet, self.config.output_seconds
        words = hypothesis_times(log_probs, found, self.alphabet, phones, seconds)
        return tuple(TimedWord(each.text, start + each.start, each.duration) for each in words)

    def transcribe(self, samples: Samples, n: int = 1, start: float = 0.0) -> TranscribedSegment:
        """Transcribes one segment.

        Args:
            samples: int16 or float32 [samples] at int16 scale and the model's rate.
            n: most candidates.
            start: seconds from the recording's start to the first sample.
        """
        candidates = self.candidates(self.log_probs(samples), n, start)
        return TranscribedSegment(start, len(samples) / self.sample_rate, candidates)

    def log_probs(self, samples: Samples) -> LogProbs:
        """Returns the network's output, float32 [outputs, classes]; no outputs of no samples."""
        if not len(samples):
            return np.zeros((0, self.config.network.classes), np.float32)
        return self.model.of_samples(samples)

    def segments(
        self, blocks: Iterable[npt.NDArray[np.generic]], n: int = 1
    ) -> Iterator[TranscribedSegment]:
        """Yields the segments of a recording of any length, in constant memory.

        Args:
            blocks: of samples [samples] at int16 scale and the model's rate, of any lengths.
            n: most candidates of each segment.
        """
        for segment in cut_at_pauses(blocks, self.sample_rate):
            yield self.transcribe(segment.samples, n, self.start_of(segment))

    def start_of(self, segment: Segment) -> float:
        """Returns the segment's start in seconds from the recording's start."""
        return segment.start / self.sample_rate
