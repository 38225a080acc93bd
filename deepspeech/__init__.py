"""Mozilla DeepSpeech 0.9's Python module, for programs that were written for it.

    from deepspeech import Model

    model = Model("deepspeech-0.9.3-models.tflite")
    model.enableExternalScorer("deepspeech-0.9.3-models.scorer")
    print(model.stt(audio))

Methods have the names, the return values and the errors of its client (native_client/python and
native_client/deepspeech.h), beside those of speech/transcription/deepspeech_api.py. Models are
DeepSpeech's and all that this project writes. docs/deepspeech.md has the differences.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from numbers import Real
from typing import Any

from speech.decoding.scorer import LARGEST_GAIN
from speech.transcription import deepspeech_api
from speech.transcription.deepspeech_api import (
    PACKAGE,
    AudioBuffer,
    CandidateTranscript,
    Metadata,
    PathLike,
    TokenMetadata,
    version,
)
from utils import UserError

__all__ = [
    "CandidateTranscript",
    "Metadata",
    "Model",
    "Stream",
    "TokenMetadata",
    "printVersions",
    "version",
]

# The client's error codes and their texts.
OK = 0x0000
INVALID_SCORER = 0x2002
SCORER_NOT_ENABLED = 0x2004
SCORER_UNREADABLE = 0x2005
FAIL_CREATE_STREAM = 0x3004
FAIL_CREATE_MODEL = 0x3007
FAIL_INSERT_HOT_WORD = 0x3008
FAIL_CLEAR_HOT_WORD = 0x3009
FAIL_ERASE_HOT_WORD = 0x3010
TEXTS = {
    INVALID_SCORER: "Invalid scorer file.",
    SCORER_NOT_ENABLED: "External scorer is not enabled.",
    SCORER_UNREADABLE: "Could not read scorer file.",
    FAIL_CREATE_STREAM: "Error creating the stream.",
    FAIL_CREATE_MODEL: "Could not allocate model state.",
    FAIL_INSERT_HOT_WORD: "Could not insert hot-word.",
    FAIL_CLEAR_HOT_WORD: "Could not clear hot-words.",
    FAIL_ERASE_HOT_WORD: "Could not erase hot-word.",
}


def _call(name: str, code: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function; its UserError becomes the client's RuntimeError, with our text after it."""
    try:
        return function(*arguments)
    except UserError as error:
        raise RuntimeError(f"{name} failed with '{TEXTS[code]}' (0x{code:X}). {error}") from None


def _checked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function; its UserError becomes a RuntimeError."""
    try:
        return function(*arguments)
    except UserError as error:
        raise RuntimeError(str(error)) from None


def _require(kind: Any, remedy: str, **arguments: Any) -> None:
    """Raises TypeError, as the client does, if an argument isn't of a kind; remedy: the kind."""
    for name, value in arguments.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name} is {value!r}: give {remedy}.")


class Stream:
    """A recording that arrives in blocks; see Model.createStream. For one thread at a time."""

    def __init__(self, stream: deepspeech_api.Stream) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """Returns a method of deepspeech_api.Stream."""
        return getattr(self._stream, name)

    def feedAudioContent(self, audio_buffer: AudioBuffer) -> None:
        """Adds samples to the recording."""
        _checked(self._stream.feed_audio_content, audio_buffer)

    def intermediateDecode(self) -> str:
        """Returns the text so far."""
        return str(_checked(self._stream.intermediate_decode))

    def intermediateDecodeWithMetadata(self, num_results: int = 1) -> Metadata:
        """Returns up to `num_results` texts so far, with times."""
        found: Metadata = _checked(self._stream.intermediate_decode_with_metadata, num_results)
        return found

    def intermediateDecodeFlushBuffers(self) -> str:
        """Returns the text so far, with the samples that wait for more; the stream is unchanged."""
        return str(_checked(self._stream.intermediate_decode_flush_buffers))

    def intermediateDecodeWithMetadataFlushBuffers(self, num_results: int = 1) -> Metadata:
        """Returns up to `num_results` such texts, with times."""
        function = self._stream.intermediate_decode_with_metadata_flush_buffers
        found: Metadata = _checked(function, num_results)
        return found

    def finishStream(self) -> str:
        """Ends the stream and returns the text of the recording."""
        return str(_checked(self._stream.finish_stream))

    def finishStreamWithMetadata(self, num_results: int = 1) -> Metadata:
        """Ends the stream and returns up to `num_results` texts, with times."""
        found: Metadata = _checked(self._stream.finish_stream_with_metadata, num_results)
        return found

    def freeStream(self) -> None:
        """Ends the stream without a text."""
        _checked(self._stream.free_stream)


class Model(deepspeech_api.Model):
    """A loaded model. Changed settings apply to recordings and streams that begin afterwards."""

    def __init__(self, model_path: PathLike | None = None) -> None:
        """
        Args:
            model_path: None: the English model that comes with this project, with its scorer.

        Raises:
            RuntimeError: it isn't a model, or can't be read.
            TypeError: it is no path; other methods raise it for other arguments of a wrong kind.
        """
        if model_path is not None:
            _require((str, os.PathLike), "a path", model_path=model_path)
        _call("CreateModel", FAIL_CREATE_MODEL, super().__init__, model_path)
        self._change(replace(self._settings, as_deepspeech=True), self._scorer)

    def beamWidth(self) -> int:
        """Returns the number of prefixes that the beam search keeps."""
        return self.beam_width()

    def setBeamWidth(self, beam_width: int) -> int:
        """Sets the number of prefixes that the beam search keeps; returns 0."""
        _checked(self.set_beam_width, beam_width)
        return OK

    def sampleRate(self) -> int:
        """Returns the sample rate of the model's audio in Hz."""
        return self.sample_rate()

    def enableExternalScorer(self, scorer_path: PathLike) -> None:
        """Loads a language model, and uses its own alpha and beta.

        Raises:
            RuntimeError: it can't be read, isn't a scorer, or has another alphabet.
        """
        _require((str, os.PathLike), "a path", scorer_path=scorer_path)
        code = INVALID_SCORER if os.path.isfile(scorer_path) else SCORER_UNREADABLE
        _call("EnableExternalScorer", code, self.enable_external_scorer, scorer_path)

    def disableExternalScorer(self) -> int:
        """Removes the language model; returns 0, or SCORER_NOT_ENABLED if there is none."""
        if not self._scorer:
            return SCORER_NOT_ENABLED
        _checked(self.disable_external_scorer)
        return OK

    def setScorerAlphaBeta(self, alpha: float, beta: float) -> int:
        """Sets the language model's weights; returns 0, or SCORER_NOT_ENABLED if there is none."""
        _require(Real, "a number", alpha=alpha, beta=beta)
        if not self._scorer:
            return SCORER_NOT_ENABLED
        _checked(self.set_scorer_alpha_beta, alpha, beta)
        return OK

    def addHotWord(self, word: str, boost: float) -> None:
        """Makes a word of the scorer's vocabulary more probable, or less; others are ignored.

        Args:
            boost: nats, which are multiplied by alpha and count for every n-gram of the scorer that
                holds the word. The last word's n-gram doesn't count.

        Raises:
            RuntimeError: there is no scorer, or it is a hot word already.
        """
        _require(str, "a text", word=word)
        _require(Real, "a number", boost=boost)
        self._require_scorer_for("AddHotWord")
        # A boost of more nats hides everything else too.
        boost = min(max(boost, -LARGEST_GAIN), LARGEST_GAIN)
        _call("AddHotWord", FAIL_INSERT_HOT_WORD, self.add_hot_word, word, boost)

    def eraseHotWord(self, word: str) -> None:
        """Removes a hot word.

        Raises:
            RuntimeError: there is no scorer, or it isn't a hot word.
        """
        _require(str, "a text", word=word)
        self._require_scorer_for("EraseHotWord")
        _call("EraseHotWord", FAIL_ERASE_HOT_WORD, self.erase_hot_word, word)

    def clearHotWords(self) -> None:
        """Removes all hot words.

        Raises:
            RuntimeError: there is no scorer.
        """
        self._require_scorer_for("ClearHotWords")
        _call("ClearHotWords", FAIL_CLEAR_HOT_WORD, self.clear_hot_words)

    def _require_scorer_for(self, name: str) -> None:
        """Raises RuntimeError if there is no scorer."""
        _call(name, SCORER_NOT_ENABLED, self._require_scorer)

    def stt(self, audio_buffer: AudioBuffer) -> str:
        """Returns the text of a recording, int16 [samples] at `sampleRate`."""
        return str(_checked(super().stt, audio_buffer))

    def sttWithMetadata(self, audio_buffer: AudioBuffer, num_results: int = 1) -> Metadata:
        """Returns up to `num_results` texts of a recording, with times."""
        found: Metadata = _checked(self.stt_with_metadata, audio_buffer, num_results)
        return found

    def createStream(self) -> Stream:
        """Returns a new stream. Several may be in use at once."""
        return Stream(_call("CreateStream", FAIL_CREATE_STREAM, self.create_stream))


def printVersions() -> None:
    """Prints this package's version on standard error, as the client does."""
    print(f"{PACKAGE}: {version()}", file=sys.stderr)
