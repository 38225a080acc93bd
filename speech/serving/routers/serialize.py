"""What was heard -> what is answered."""

import base64

import numpy as np
import numpy.typing as npt

from speech.decoding.alignment import TimedWord
from speech.serving.schemas import responses
from speech.serving.services.analysis import Extremes, SegmentDetails, Shades
from speech.serving.services.catalogue import Choice
from speech.serving.services.listening import Listened
from speech.transcription.subtitles import DECIMALS, Transcript, joined
from speech.transcription.transcriber import Heard

__all__ = ["DECIMALS", "segment", "transcription"]

SAMPLE_DECIMALS = 4  # of a waveform


def transcription(listened: Listened, choice: Choice) -> responses.Transcription:
    """The answer to a recording."""
    separator = choice.transcriber.separator
    words = [word for each in listened.heard for word in each.transcript.words]
    details = None
    if listened.details is not None:
        details = [_details(each) for each in listened.details]
    return responses.Transcription(
        text=joined(words, separator),
        seconds=round(listened.seconds, DECIMALS),
        inference_seconds=round(listened.inference_seconds, DECIMALS),
        model=choice.served.name,
        scorer=choice.scorer,
        segments=[segment(each, separator) for each in listened.heard],
        waveform=_waveform(listened.extremes) if listened.extremes else None,
        details=details,
    )


def segment(heard: Heard, separator: str) -> responses.Segment:
    """A stretch of a recording."""
    candidates = [_candidate(each, separator) for each in heard.candidates]
    best = candidates[0]
    return responses.Segment(
        text=best.text,
        start=round(heard.start, DECIMALS),
        seconds=round(heard.seconds, DECIMALS),
        confidence=best.confidence,
        words=best.words,
        candidates=candidates,
    )


def _candidate(transcript: Transcript, separator: str) -> responses.Candidate:
    return responses.Candidate(
        text=joined(transcript.words, separator),
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
