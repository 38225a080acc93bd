"""Converts models and transcripts to the responses of OpenAI's audio API."""

import re
import zlib
from collections.abc import Collection, Sequence

from speech.decoding.alignment import TimedWord
from speech.serving.schemas import openai
from speech.serving.schemas.openai import Options
from speech.serving.services.catalogue import Choice
from speech.serving.services.reloading import Resources
from speech.serving.services.transcription import TranscriptionResult
from speech.transcription import subtitles
from speech.transcription.subtitles import DECIMALS, join_words, text_after
from speech.transcription.transcriber import TranscribedSegment, Transcriber

JSON, TEXT, WEBVTT = "application/json", "text/plain", "text/vtt"

# OpenAI's own models of speech to text: many programs can name no other.
OPENAI_MODEL = re.compile(r"whisper-1|gpt-[a-z0-9.-]*transcribe[a-z0-9.-]*")

SEEK_RATE = 100  # Whisper's frames per second


def served_name(name: str | None, served: Collection[str]) -> str | None:
    """Returns the name of a served model; None: the default one, as for OpenAI's own names."""
    if name is not None and name not in served and OPENAI_MODEL.fullmatch(name):
        return None
    return name


def models(resources: Resources) -> openai.OpenAIModels:
    """Returns the list of models."""
    return openai.OpenAIModels(data=[model(each, resources) for each in resources.catalogue.models])


def model(name: str, resources: Resources) -> openai.OpenAIModel:
    """Returns a model, also by one of OpenAI's names.

    Raises:
        RequestError: there is no such model (404).
    """
    catalogue = resources.catalogue
    found = catalogue.served(served_name(name, catalogue.models))
    return openai.OpenAIModel(id=found.name, created=round(resources.loaded))


def formatted(result: TranscriptionResult, choice: Choice, options: Options) -> tuple[str, str]:
    """Returns a transcript in the wanted format, and its media type."""
    separator = choice.transcriber.separator
    words = words_of(result.segments)
    if options.response_format == "text":
        return f"{join_words(words, separator)}\n", TEXT
    if options.response_format == "srt":
        return subtitles.srt(words, separator), TEXT
    if options.response_format == "vtt":
        return subtitles.webvtt(words, separator), WEBVTT
    if options.response_format == "json":
        return openai.OpenAITranscription(text=join_words(words, separator)).model_dump_json(), JSON
    kinds = options.timestamp_granularities
    verbose = openai.VerboseTranscription(
        language=choice.served.model.description.naming.language,
        duration=round(result.seconds, DECIMALS),
        text=join_words(words, separator),
        words=[_word(each) for each in words] if "word" in kinds else None,
        segments=_segments(result.segments, choice.transcriber) if "segment" in kinds else None,
    )
    return verbose.model_dump_json(exclude_none=True), JSON


def words_of(segments: Sequence[TranscribedSegment]) -> list[TimedWord]:
    """Returns the words of segments, in order."""
    return [word for each in segments for word in each.transcript.words]


def _word(word: TimedWord) -> openai.OpenAIWord:
    start, end = word.start, word.start + word.duration
    return openai.OpenAIWord(word=word.text, start=round(start, DECIMALS), end=round(end, DECIMALS))


def _segments(
    segments: Sequence[TranscribedSegment], transcriber: Transcriber
) -> list[openai.OpenAISegment]:
    found: list[openai.OpenAISegment] = []
    before: Sequence[TimedWord] = ()
    for each in segments:
        if words := each.transcript.words:
            text = text_after(before, words, transcriber.separator)
            found.append(_segment(len(found), each, text, transcriber))
            before = words
    return found


def _segment(
    number: int, segment: TranscribedSegment, text: str, transcriber: Transcriber
) -> openai.OpenAISegment:
    alphabet = transcriber.alphabet
    # Not Alphabet.encode, whose NFC would join a letter and an accent that are two labels.
    tokens = [label for each in alphabet.joined(text) for label in alphabet.labels_of(each)]
    encoded = text.encode()
    return openai.OpenAISegment(
        id=number,
        seek=round(segment.start * SEEK_RATE),
        start=round(segment.start, DECIMALS),
        end=round(segment.start + segment.seconds, DECIMALS),
        text=text,
        tokens=tokens,
        avg_logprob=segment.transcript.confidence / max(len(tokens), 1),
        compression_ratio=len(encoded) / len(zlib.compress(encoded)),
        no_speech_prob=0.0,
    )
