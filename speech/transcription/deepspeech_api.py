"""Mozilla DeepSpeech 0.9's Python interface for this project's models, with names as Python's.

    from speech.transcription.deepspeech_api import Model

    model = Model("model")            # a model directory, a SavedModel, or a .tflite file
    model.enable_external_scorer("lm/kenlm.scorer")
    print(model.stt(samples))

    stream = model.create_stream()
    for samples in microphone:
        stream.feed_audio_content(samples)
        print(stream.intermediate_decode())
    print(stream.finish_stream())

Differences: hot words need no scorer, and errors are `utils.UserError`s that say what to do. Memory
grows with a recording: use Transcriber.segments for long ones, and LiveTranscriber
(speech/transcription/live.py) for speech of several hours.
"""

import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np
import numpy.typing as npt

import constants
from speech.decoding.alignment import first_outputs
from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings, BeamStream, Hypothesis
from speech.decoding.scorer import Scorer, check_alphabet, read_scorer
from speech.decoding.types import LogProbs
from speech.export import english, loading
from speech.transcription.acoustic_stream import AcousticStream, stream_of
from utils import UserError

Samples = npt.NDArray[np.int16]
# 16-bit integers in an array or a sequence, or little-endian bytes.
AudioBuffer = npt.ArrayLike | bytearray
PathLike = str | os.PathLike[str]

# The name in setup.cfg.
PACKAGE = "deep-speech-tpu"


def version() -> str:
    """Returns the package's version.

    Raises:
        UserError: it isn't installed.
    """
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            f"The package {PACKAGE} isn't installed, so its version is unknown: pip install -e ."
        ) from None


@dataclass(frozen=True)
class TokenMetadata:
    """A character and its time."""

    text: str
    timestep: int  # number of the network's output that it begins at
    start_time: float  # seconds from the recording's start


@dataclass(frozen=True)
class CandidateTranscript:
    """A hypothesis of the recording's text."""

    # Natural logarithm of its probability over its alignments, times the scorer's share.
    confidence: float
    tokens: list[TokenMetadata]


@dataclass(frozen=True)
class Metadata:
    """Hypotheses of a recording's text, the best first."""

    transcripts: list[CandidateTranscript]


class Model:
    """A loaded model. Changed settings apply to recordings and streams that begin afterwards."""

    def __init__(self, model_path: PathLike | None = None) -> None:
        """
        Args:
            model_path: a model directory, a SavedModel, a .tflite file, or one of DeepSpeech; None:
                the English model that comes with this project, with its scorer.

        Raises:
            UserError: it isn't a model, or can't be read.
        """
        scorer = None
        if model_path is None:
            model_path, scorer = english.english_model()
        self._path = os.fspath(model_path)
        self._model = loading.load(self._path)
        self._config = self._model.description.config
        # DeepSpeech's own files have a beam width for their clients.
        beam_width = getattr(self._model, "beam_width", constants.BEAM_WIDTH)
        self._settings = BeamSettings(beam_width=beam_width)
        self._scorer: Scorer | None = None
        self._hot_words: dict[str, float] = {}
        self._decoder = BeamSearchDecoder(self._config.alphabet, self._settings)
        if scorer:
            self.enable_external_scorer(scorer)

    def beam_width(self) -> int:
        """Returns the number of prefixes that the beam search keeps."""
        return self._settings.beam_width

    def set_beam_width(self, beam_width: int) -> None:
        """Sets the number of prefixes that the beam search keeps.

        Raises:
            UserError: it isn't a whole number of at least 1.
        """
        self._change(replace(self._settings, beam_width=beam_width), self._scorer)

    def sample_rate(self) -> int:
        """Returns the sample rate of the model's audio in Hz."""
        return self._config.front_end.sample_rate

    def enable_external_scorer(self, scorer_path: PathLike) -> None:
        """Loads a language model, and uses its own alpha and beta.

        Raises:
            UserError: it isn't a scorer, it has another alphabet, or it is one of characters while
                a hot word has several.
        """
        scorer = read_scorer(os.fspath(scorer_path), self._config.alphabet)
        phones = self._config.phonetic_alphabet
        check_alphabet(scorer, self._config.alphabet, self._path, phones)
        self._change(replace(self._settings, alpha=None, beta=None), scorer)

    def disable_external_scorer(self) -> None:
        """Removes the language model.

        Raises:
            UserError: there is none, or there are hot words and the alphabet has no space.
        """
        self._require_scorer()
        self._change(replace(self._settings, alpha=None, beta=None), None)

    def set_scorer_alpha_beta(self, alpha: float, beta: float) -> None:
        """Sets the weights of the language model.

        Args:
            alpha: weight of the language model.
            beta: nats that each word gains.

        Raises:
            UserError: there is no scorer, or a weight isn't valid.
        """
        self._require_scorer()
        self._change(replace(self._settings, alpha=alpha, beta=beta), self._scorer)

    def add_hot_word(self, word: str, boost: float) -> None:
        """Makes a word more probable, or less.

        Args:
            word: of the alphabet's characters; it needn't be in the scorer's vocabulary.
            boost: nats that it gains; less than 0 makes it less probable.

        Raises:
            UserError: it is a hot word already, it can't be written with the alphabet, or the boost
                is too large.
        """
        if word in self._hot_words:
            raise UserError(
                f"{word!r} is a hot word already, with {self._hot_words[word]}: erase it first."
            )
        self._change_hot_words({**self._hot_words, word: boost})

    def erase_hot_word(self, word: str) -> None:
        """Removes a hot word.

        Raises:
            UserError: it isn't a hot word.
        """
        if word not in self._hot_words:
            raise UserError(f"{word!r} is not a hot word: give one of {sorted(self._hot_words)}.")
        self._change_hot_words({w: boost for w, boost in self._hot_words.items() if w != word})

    def clear_hot_words(self) -> None:
        """Removes all hot words."""
        self._change_hot_words({})

    def stt(self, audio_buffer: AudioBuffer) -> str:
        """Returns the text of a recording, in memory that grows with its length.

        Ten minutes take gigabytes: Transcriber.segments takes recordings of any length.

        Args:
            audio_buffer: int16 [samples] of one channel at `sample_rate`; also other integers of
                that range in an array or a sequence, or bytes of little-endian int16.

        Raises:
            UserError: these are other numbers.
        """
        return self._decoder.decode(self._log_probs(audio_buffer))

    def stt_with_metadata(self, audio_buffer: AudioBuffer, num_results: int = 1) -> Metadata:
        """Returns up to `num_results` texts of a recording, with times.

        Raises:
            UserError: see `stt`; or `num_results` isn't a whole number of at least 1.
        """
        _require_results(num_results)
        log_probs = self._log_probs(audio_buffer)
        return self._metadata(log_probs, self._decoder.n_best(log_probs, num_results))

    def create_stream(self) -> "Stream":
        """Returns a new stream. Several may be in use at once."""
        return Stream(stream_of(self._model), self._decoder.stream(), self._metadata)

    def _require_scorer(self) -> None:
        """Raises UserError if there is no scorer."""
        if not self._scorer:
            raise UserError("The model has no scorer: enable_external_scorer takes one.")

    def _change(self, settings: BeamSettings, scorer: Scorer | None) -> None:
        """Applies settings; if the decoder refuses them, nothing changes."""
        self._decoder = BeamSearchDecoder(self._config.alphabet, settings, scorer)
        self._settings, self._scorer = settings, scorer

    def _change_hot_words(self, hot_words: dict[str, float]) -> None:
        settings = replace(self._settings, hot_words=tuple(hot_words.items()))
        self._change(settings, self._scorer)
        self._hot_words = hot_words

    def _log_probs(self, audio_buffer: AudioBuffer) -> LogProbs:
        samples = _samples(audio_buffer)
        if not len(samples):
            return np.zeros((0, self._config.network.classes), np.float32)
        return self._model.of_samples(samples)

    def _metadata(self, log_probs: LogProbs, found: list[Hypothesis]) -> Metadata:
        return Metadata(
            [CandidateTranscript(each.score, self._tokens(log_probs, each)) for each in found]
        )

    def _tokens(self, log_probs: LogProbs, found: Hypothesis) -> list[TokenMetadata]:
        config, seconds = self._config, self._config.output_seconds
        firsts = first_outputs(log_probs, found, config.alphabet, config.phonetic_alphabet)
        return [
            TokenMetadata(character, first, first * seconds)
            for character, first in zip(found.text, firsts, strict=True)
        ]


class Stream:
    """A recording that arrives in blocks; see Model.create_stream. For one thread at a time.

    All methods raise UserError once the stream is finished or freed.
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
        self._log_probs: list[LogProbs] = []  # for the times of characters

    def feed_audio_content(self, audio_buffer: AudioBuffer) -> None:
        """Adds samples to the recording.

        Args:
            audio_buffer: any number of samples; see Model.stt.
        """
        samples = _samples(audio_buffer)
        self._take(self._open_network("feed").feed(samples))

    def intermediate_decode(self) -> str:
        """Returns the text so far."""
        self._open_network("decode")
        return self._search.n_best(1)[0].text

    def intermediate_decode_with_metadata(self, num_results: int = 1) -> Metadata:
        """Returns up to `num_results` texts so far, with times."""
        _require_results(num_results)
        self._open_network("decode")
        return self._metadata(self._all_log_probs(), self._search.n_best(num_results))

    def intermediate_decode_flush_buffers(self) -> str:
        """Returns the text so far, with the samples that wait for more; the stream is unchanged."""
        return self._flushed().intermediate_decode()

    def intermediate_decode_with_metadata_flush_buffers(self, num_results: int = 1) -> Metadata:
        """Returns up to `num_results` such texts, with times."""
        return self._flushed().intermediate_decode_with_metadata(num_results)

    def finish_stream(self) -> str:
        """Ends the stream and returns the text of the recording."""
        self._finish()
        return self._search.n_best(1)[0].text

    def finish_stream_with_metadata(self, num_results: int = 1) -> Metadata:
        """Ends the stream and returns up to `num_results` texts of the recording, with times."""
        _require_results(num_results)
        self._finish()
        return self._metadata(self._all_log_probs(), self._search.n_best(num_results))

    def free_stream(self) -> None:
        """Ends the stream without a text."""
        self._open_network("free")
        self._network = None
        self._log_probs.clear()

    def _flushed(self) -> "Stream":
        """Returns a stream to decode, with the outputs of the samples that wait for more."""
        network = self._open_network("decode")
        new = Stream(network, self._search.copy(), self._metadata)
        new._log_probs = self._log_probs.copy()
        new._take(network.preview())
        return new

    def _open_network(self, action: str) -> AcousticStream:
        """Returns the network's stream; raises UserError if this stream has ended."""
        if self._network is None:
            raise UserError(f"You can't {action} a stream that is finished: create another one.")
        return self._network

    def _finish(self) -> None:
        self._take(self._open_network("finish").finish())
        self._network = None

    def _take(self, log_probs: LogProbs) -> None:
        if len(log_probs):  # most tiny blocks complete no output
            self._search.advance(log_probs)
            self._log_probs.append(log_probs)

    def _all_log_probs(self) -> LogProbs:
        """Returns all outputs so far, [outputs, classes]."""
        self._log_probs = [np.concatenate(self._log_probs)] if self._log_probs else []
        return self._log_probs[0] if self._log_probs else np.zeros((0, 1), np.float32)


def _samples(audio_buffer: AudioBuffer) -> Samples:
    """Converts what DeepSpeech accepts as samples, and bytes, to int16 [samples].

    Raises:
        UserError: it is something else, or has numbers that don't fit into 16 bits.
    """
    remedy = "give int16 numbers of one channel, [samples]."
    if isinstance(audio_buffer, bytes | bytearray):
        if len(audio_buffer) % 2:
            raise UserError(
                f"The audio is {len(audio_buffer)} bytes, not whole samples of 16 bits: {remedy}"
            )
        return np.frombuffer(audio_buffer, "<i2").astype(np.int16)
    try:
        found = np.asarray(audio_buffer)  # float64, if it is an empty list
    except ValueError:  # rows of several lengths
        found = np.asarray(audio_buffer, object)
    # Single bytes in an array may be halves of samples, or samples of 8 bits.
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
        raise UserError(f"The audio has {beyond[0]}, which doesn't fit into 16 bits: {remedy}")
    return found.astype(np.int16, copy=False)


def _require_results(num_results: int) -> None:
    """Raises UserError if a number of results isn't a whole number of at least 1."""
    if not isinstance(num_results, Integral) or num_results < 1:
        raise UserError(f"num_results is {num_results!r}: give a whole number, 1 or more.")
