"""Mozilla DeepSpeech 0.9's Python interface, with names as Python has them, for this model.

    model = Model("model")            # a model directory, a SavedModel, or a .tflite file
    model.enable_external_scorer("lm/kenlm.scorer")
    print(model.stt(samples))

    stream = model.create_stream()
    for samples in microphone:
        stream.feed_audio_content(samples)
        print(stream.intermediate_decode())
    print(stream.finish_stream())

It differs where it can't be alike: hot words need no scorer, and errors are `utils.UserError`s
that say what to do. Memory grows with a recording: long ones want Transcriber.segments, and speech
that goes on for hours LiveTranscriber (speech/transcription/live.py), which let go of the past.
"""

import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np
import numpy.typing as npt

import constants
from speech.decoding.alignment import character_outputs
from speech.decoding.beam_search import (
    BeamSearchDecoder,
    BeamSettings,
    BeamStream,
    Hypothesis,
    LogProbs,
)
from speech.decoding.scorer import Scorer, check_alphabet, read_scorer
from speech.export import loading
from speech.transcription.acoustic_stream import AcousticStream, stream_of
from utils import Alphabet, UserError

Samples = npt.NDArray[np.int16]
# What becomes Samples: integers of 16 bits in an array or a sequence, or little-endian bytes.
AudioBuffer = npt.ArrayLike | bytearray
PathLike = str | os.PathLike[str]

# As setup.cfg names it.
PACKAGE = "deep-speech-tpu"


def version() -> str:
    """The package's version.

    Raises:
        UserError: it isn't installed.
    """
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            f"The package {PACKAGE} isn't installed, so it has no version: pip install -e ."
        ) from None


@dataclass(frozen=True)
class TokenMetadata:
    """A character, and when it was said."""

    text: str
    timestep: int  # the network's output that it begins with
    start_time: float  # seconds


@dataclass(frozen=True)
class CandidateTranscript:
    """A text that may have been said."""

    # Natural log of its probability, over its alignments, times the scorer's share.
    confidence: float
    tokens: list[TokenMetadata]


@dataclass(frozen=True)
class Metadata:
    """What may have been said, the surest first."""

    transcripts: list[CandidateTranscript]


class Model:
    """A loaded model. Settings count for what begins after they were changed."""

    def __init__(self, model_path: PathLike) -> None:
        """
        Args:
            model_path: a model directory, a SavedModel, or a .tflite file.

        Raises:
            UserError: it is none of these, or can't be read.
        """
        self._path = os.fspath(model_path)
        self._model = loading.load(self._path)
        self._config = self._model.description.config
        self._settings = BeamSettings(beam_width=constants.BEAM_WIDTH)
        self._scorer: Scorer | None = None
        self._hot_words: dict[str, float] = {}
        self._decoder = BeamSearchDecoder(self._config.alphabet, self._settings)

    def beam_width(self) -> int:
        """Texts that the beam search keeps at every step."""
        return self._settings.beam_width

    def set_beam_width(self, beam_width: int) -> None:
        """
        Raises:
            UserError: it is less than 1, or no whole number.
        """
        self._change(replace(self._settings, beam_width=beam_width), self._scorer)

    def sample_rate(self) -> int:
        """Samples a second that the model wants."""
        return self._config.front_end.sample_rate

    def enable_external_scorer(self, scorer_path: PathLike) -> None:
        """Takes a language model, with its own alpha and beta.

        Raises:
            UserError: it is no scorer, one of another alphabet, or one of characters while there
                are hot words of several.
        """
        scorer = read_scorer(os.fspath(scorer_path))
        check_alphabet(scorer, self._config.alphabet, self._path)
        self._change(replace(self._settings, alpha=None, beta=None), scorer)

    def disable_external_scorer(self) -> None:
        """
        Raises:
            UserError: there is none, or there are hot words, and the alphabet has no space.
        """
        self._require_scorer()
        self._change(replace(self._settings, alpha=None, beta=None), None)

    def set_scorer_alpha_beta(self, alpha: float, beta: float) -> None:
        """
        Args:
            alpha: weight of the language model.
            beta: nats that each word gains.

        Raises:
            UserError: there is no scorer, or these can't be weights.
        """
        self._require_scorer()
        self._change(replace(self._settings, alpha=alpha, beta=beta), self._scorer)

    def add_hot_word(self, word: str, boost: float) -> None:
        """
        Args:
            word: of the alphabet's characters, in or out of the scorer's vocabulary.
            boost: nats that it gains; less than 0 makes it rarer.

        Raises:
            UserError: it is there already, can't be written, or the boost is beyond all measure.
        """
        if word in self._hot_words:
            raise UserError(
                f"The hot word {word!r} is there already, with {self._hot_words[word]}: erase it "
                "first."
            )
        self._change_hot_words({**self._hot_words, word: boost})

    def erase_hot_word(self, word: str) -> None:
        """
        Raises:
            UserError: it isn't there.
        """
        if word not in self._hot_words:
            raise UserError(f"{word!r} is no hot word: there are {sorted(self._hot_words)}.")
        self._change_hot_words({w: boost for w, boost in self._hot_words.items() if w != word})

    def clear_hot_words(self) -> None:
        self._change_hot_words({})

    def stt(self, audio_buffer: AudioBuffer) -> str:
        """The text of a recording, which is heard whole, in memory that grows with it.

        Ten minutes take gigabytes: Transcriber.segments hears a recording of any length.

        Args:
            audio_buffer: int16 [samples] of one channel at `sample_rate`; also other integers of
                that range in an array or a sequence, or bytes of little-endian int16.

        Raises:
            UserError: these are other numbers.
        """
        return self._decoder.decode(self._log_probs(audio_buffer))

    def stt_with_metadata(self, audio_buffer: AudioBuffer, num_results: int = 1) -> Metadata:
        """Up to `num_results` texts of a recording, with times; as `stt`.

        Raises:
            UserError: as `stt`, or no text is asked for.
        """
        _require_results(num_results)
        log_probs = self._log_probs(audio_buffer)
        return self._metadata(log_probs, self._decoder.n_best(log_probs, num_results))

    def create_stream(self) -> "Stream":
        """A recording that comes bit by bit; several may at once."""
        return Stream(stream_of(self._model), self._decoder.stream(), self._metadata)

    def _require_scorer(self) -> None:
        if not self._scorer:
            raise UserError("The model has no scorer: enable_external_scorer takes one.")

    def _change(self, settings: BeamSettings, scorer: Scorer | None) -> None:
        """Refuses what the decoder does, and leaves all as it was."""
        self._decoder = BeamSearchDecoder(self._config.alphabet, settings, scorer)
        self._settings, self._scorer = settings, scorer

    def _change_hot_words(self, hot_words: dict[str, float]) -> None:
        settings = replace(self._settings, hot_words=tuple(hot_words.items()))
        self._change(settings, self._scorer)
        self._hot_words = hot_words

    def _log_probs(self, audio_buffer: AudioBuffer) -> LogProbs:
        samples = _samples(audio_buffer)
        if not len(samples):
            return np.zeros((0, self._config.alphabet.size), np.float32)
        return self._model.of_samples(samples)

    def _metadata(self, log_probs: LogProbs, found: list[Hypothesis]) -> Metadata:
        seconds = self._config.output_seconds
        return Metadata(
            [
                CandidateTranscript(
                    each.score, _tokens(log_probs, each.text, self._config.alphabet, seconds)
                )
                for each in found
            ]
        )


class Stream:
    """A recording that comes bit by bit, which Model.create_stream begins.

    Whatever is asked of it when it is finished or freed raises UserError. For one thread at a time.
    """

    def __init__(
        self,
        network: AcousticStream,
        search: BeamStream,
        metadata: Callable[[LogProbs, list[Hypothesis]], Metadata],
    ) -> None:
        self._network: AcousticStream | None = network
        self._search = search
        self._metadata = metadata
        self._log_probs: list[LogProbs] = []  # for the times of letters

    def feed_audio_content(self, audio_buffer: AudioBuffer) -> None:
        """
        Args:
            audio_buffer: as of Model.stt, any number of samples.
        """
        samples = _samples(audio_buffer)
        self._take(self._going("feed").feed(samples))

    def intermediate_decode(self) -> str:
        """The text of what was heard so far."""
        self._going("decode")
        return self._search.n_best(1)[0].text

    def intermediate_decode_with_metadata(self, num_results: int = 1) -> Metadata:
        """Up to `num_results` texts of what was heard so far, with times."""
        _require_results(num_results)
        self._going("decode")
        return self._metadata(self._heard(), self._search.n_best(num_results))

    def finish_stream(self) -> str:
        """The text of all; the stream is of no further use."""
        self._finish()
        return self._search.n_best(1)[0].text

    def finish_stream_with_metadata(self, num_results: int = 1) -> Metadata:
        """Up to `num_results` texts of all, with times; the stream is of no further use."""
        _require_results(num_results)
        self._finish()
        return self._metadata(self._heard(), self._search.n_best(num_results))

    def free_stream(self) -> None:
        """Gives the stream up, without its text."""
        self._going("free")
        self._network = None
        self._log_probs.clear()

    def _going(self, what: str) -> AcousticStream:
        if self._network is None:
            raise UserError(f"There is nothing to {what}: the stream is finished; create another.")
        return self._network

    def _finish(self) -> None:
        self._take(self._going("finish").finish())
        self._network = None

    def _take(self, log_probs: LogProbs) -> None:
        if len(log_probs):  # tiny blocks bring none most of the time
            self._search.advance(log_probs)
            self._log_probs.append(log_probs)

    def _heard(self) -> LogProbs:
        """All outputs so far, [outputs, labels]."""
        self._log_probs = [np.concatenate(self._log_probs)] if self._log_probs else []
        return self._log_probs[0] if self._log_probs else np.zeros((0, 1), np.float32)


def _samples(audio_buffer: AudioBuffer) -> Samples:
    """What DeepSpeech takes for samples, and bytes.

    Raises:
        UserError: it is something else, or has numbers that 16 bits don't hold.
    """
    remedy = "give int16 numbers of one channel, [samples]."
    if isinstance(audio_buffer, bytes | bytearray):
        if len(audio_buffer) % 2:
            raise UserError(
                f"The audio is {len(audio_buffer)} bytes, which are no samples of 16 bits: {remedy}"
            )
        return np.frombuffer(audio_buffer, "<i2").astype(np.int16)
    try:
        found = np.asarray(audio_buffer)  # float64, if it is an empty list
    except ValueError:  # rows of several lengths
        found = np.asarray(audio_buffer, object)
    # Single bytes in an array may be half samples, or others' samples of 8 bits.
    integers = found.dtype.kind in "iu" and found.dtype.itemsize > 1
    empty = not found.size and isinstance(audio_buffer, list | tuple)
    if found.ndim != 1 or not (integers or empty):
        kind = type(audio_buffer).__name__
        if found.ndim:
            kind += f" of {found.dtype} numbers, of shape {list(found.shape)}"
        raise UserError(f"The audio is a {kind}: {remedy}")
    least, most = np.iinfo(np.int16).min, np.iinfo(np.int16).max
    beyond = found[(found < least) | (found > most)]
    if len(beyond):
        raise UserError(f"The audio has {beyond[0]}, which 16 bits don't hold: {remedy}")
    return found.astype(np.int16, copy=False)


def _require_results(num_results: int) -> None:
    if not isinstance(num_results, Integral) or num_results < 1:
        raise UserError(f"num_results is {num_results!r}: give a whole number, 1 or more.")


def _tokens(
    log_probs: LogProbs, text: str, alphabet: Alphabet, output_seconds: float
) -> list[TokenMetadata]:
    frames = character_outputs(log_probs, text, alphabet)  # [characters, 2]
    return [
        TokenMetadata(character, first, first * output_seconds)
        for character, first in zip(text, frames[:, 0].tolist(), strict=True)
    ]
