"""What was heard -> what is answered."""

import base64

import numpy as np
import numpy.typing as npt

from speech.serving import answers
from speech.serving.analysis import Extremes, SegmentDetails, Shades
from speech.serving.catalogue import Choice
from speech.serving.listening import Listened
from speech.subtitles import DECIMALS, Transcript, joined
from speech.transcriber import Heard
from speech.word_times import TimedWord

__all__ = ["DECIMALS", "segment", "transcription"]

SAMPLE_DECIMALS = 4  # of a waveform


def transcription(listened: Listened, choice: Choice) -> answers.Transcription:
    """The answer to a recording."""
    separator = choice.transcriber.separator
    words = [word for each in listened.heard for word in each.transcript.words]
    details = None
    if listened.details is not None:
        details = [_details(each) for each in listened.details]
    return answers.Transcription(
        text=joined(words, separator),
        seconds=round(listened.seconds, DECIMALS),
        inference_seconds=round(listened.inference_seconds, DECIMALS),
        model=choice.served.name,
        scorer=choice.scorer,
        segments=[segment(each, separator) for each in listened.heard],
        waveform=_waveform(listened.extremes) if listened.extremes else None,
        details=details,
    )


def segment(heard: Heard, separator: str) -> answers.Segment:
    """A stretch of a recording."""
    candidates = [_candidate(each, separator) for each in heard.candidates]
    best = candidates[0]
    return answers.Segment(
        text=best.text,
        start=round(heard.start, DECIMALS),
        seconds=round(heard.seconds, DECIMALS),
        confidence=best.confidence,
        words=best.words,
        candidates=candidates,
    )


def _candidate(transcript: Transcript, separator: str) -> answers.Candidate:
    return answers.Candidate(
        text=joined(transcript.words, separator),
        confidence=transcript.confidence,
        words=[_word(each) for each in transcript.words],
    )


def _word(word: TimedWord) -> answers.Word:
    return answers.Word(
        word=word.text,
        start_time=round(word.start, DECIMALS),
        duration=round(word.duration, DECIMALS),
    )


def _waveform(extremes: Extremes) -> answers.Waveform:
    lowest, highest = extremes.columns()
    return answers.Waveform(
        lowest=np.round(lowest.astype(np.float64), SAMPLE_DECIMALS).tolist(),
        highest=np.round(highest.astype(np.float64), SAMPLE_DECIMALS).tolist(),
    )


def _details(details: SegmentDetails) -> answers.Details:
    rows, columns = details.probabilities.shape
    return answers.Details(
        start=round(details.start, DECIMALS),
        step_seconds=details.step_seconds,
        output_seconds=details.output_seconds,
        spectrogram=_picture(details.spectrogram),
        highest_frequency=details.highest_frequency,
        features=_picture(details.features),
        probabilities=answers.Picture(
            rows=rows, columns=columns, data=_base64(details.probabilities)
        ),
        path=details.path,
    )


def _picture(shades: Shades) -> answers.ScaledPicture:
    rows, columns = shades.data.shape
    return answers.ScaledPicture(
        rows=rows,
        columns=columns,
        data=_base64(shades.data),
        lowest=shades.lowest,
        highest=shades.highest,
    )


def _base64(content: npt.NDArray[np.uint8]) -> str:
    return base64.b64encode(content.tobytes()).decode()
