"""Converts transcripts and details to the bodies of responses."""

import base64

import numpy as np
import numpy.typing as npt

from speech.decoding.alignment import TimedWord
from speech.serving.schemas import responses
from speech.serving.services.analysis import Extremes, SegmentDetails, Shades
from speech.serving.services.catalogue import Choice
from speech.serving.services.transcription import TranscriptionResult
from speech.transcription.subtitles import DECIMALS, Transcript, join_words
from speech.transcription.transcriber import TranscribedSegment

__all__ = ["DECIMALS", "segment", "transcription"]

SAMPLE_DECIMALS = 4  # of a waveform


def transcription(result: TranscriptionResult, choice: Choice) -> responses.Transcription:
    """Converts the result of a recording."""
    separator = choice.transcriber.separator
    words = [word for each in result.segments for word in each.transcript.words]
    details = None
    if result.details is not None:
        details = [_details(each) for each in result.details]
    return responses.Transcription(
        text=join_words(words, separator),
        seconds=round(result.seconds, DECIMALS),
        inference_seconds=round(result.inference_seconds, DECIMALS),
        model=choice.served.name,
        scorer=choice.scorer,
        segments=[segment(each, separator) for each in result.segments],
        waveform=_waveform(result.extremes) if result.extremes else None,
        details=details,
    )


def segment(transcribed: TranscribedSegment, separator: str) -> responses.Segment:
    """Converts one segment.

    Args:
        separator: between words, see Transcriber.
    """
    candidates = [_candidate(each, separator) for each in transcribed.candidates]
    best = candidates[0]
    return responses.Segment(
        text=best.text,
        start=round(transcribed.start, DECIMALS),
        seconds=round(transcribed.seconds, DECIMALS),
        confidence=best.confidence,
        words=best.words,
        candidates=candidates,
    )


def _candidate(transcript: Transcript, separator: str) -> responses.Candidate:
    return responses.Candidate(
        text=join_words(transcript.words, separator),
        confidence=transcript.confidence,
        words=[_word(each) for each in transcript.words],
    )


def _word(word: TimedWord) -> responses.Word:
    return responses.Word(
        word=word.text,
        start_time=round(word.start, DECIMALS),
        duration=round(word.duration, DECIMALS),
    )


def _waveform(extremes: Extremes) -> responses.Waveform:
    lowest, highest = extremes.columns()
    return responses.Waveform(
        lowest=np.round(lowest.astype(np.float64), SAMPLE_DECIMALS).tolist(),
        highest=np.round(highest.astype(np.float64), SAMPLE_DECIMALS).tolist(),
    )


def _details(details: SegmentDetails) -> responses.Details:
    rows, columns = details.probabilities.shape
    return responses.Details(
        start=round(details.start, DECIMALS),
        step_seconds=details.step_seconds,
        output_seconds=details.output_seconds,
        spectrogram=_picture(details.spectrogram),
        highest_frequency=details.highest_frequency,
        features=_picture(details.features),
        probabilities=responses.Picture(
            rows=rows, columns=columns, data=_base64(details.probabilities)
        ),
        path=details.path,
    )


def _picture(shades: Shades) -> responses.ScaledPicture:
    rows, columns = shades.data.shape
    return responses.ScaledPicture(
        rows=rows,
        columns=columns,
        data=_base64(shades.data),
        lowest=shades.lowest,
        highest=shades.highest,
    )


def _base64(content: npt.NDArray[np.uint8]) -> str:
    return base64.b64encode(content.tobytes()).decode()
