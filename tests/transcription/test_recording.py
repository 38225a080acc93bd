"""Joined segments of a recording, and its formats."""

import json

import numpy as np

from speech.decoding.alignment import TimedWord
from speech.transcription.recording import FORMATS, TranscribedRecording, join_candidates
from speech.transcription.subtitles import Transcript
from speech.transcription.transcriber import TranscribedSegment


def words(text: str, start: float) -> tuple[TimedWord, ...]:
    return tuple(TimedWord(word, start + i, 0.5) for i, word in enumerate(text.split()))


ONE = TranscribedSegment(
    0.0, 3.0, (Transcript(words("a b", 0), -1.0), Transcript(words("a c", 0), -2.0))
)
OTHER = TranscribedSegment(5.0, 2.0, (Transcript(words("d", 5), -4.0),))


def test_candidates_are_joined_by_their_rank() -> None:
    first, second = join_candidates([ONE, OTHER])
    assert [word.text for word in first.words] == ["a", "b", "d"]
    assert first.confidence == -5.0
    assert [word.text for word in second.words] == ["a", "c", "d"]
    assert second.confidence == -6.0
    assert join_candidates([]) == [Transcript((), 0.0)]


def test_seconds_count_the_blocks_that_were_read() -> None:
    recording = TranscribedRecording("x", " ")
    blocks = recording.count_seconds(iter([np.zeros(100, np.float32)] * 3), 200)
    next(blocks)
    assert recording.seconds == 0.5
    list(blocks)
    assert recording.seconds == 1.5


def test_every_format_has_all_segments() -> None:
    recording = TranscribedRecording("x", " ", [ONE, OTHER], 7.0)
    written = {ending: write(recording) for ending, write in FORMATS.items()}
    assert written["txt"] == "a b\nd\n"
    assert written["srt"].count("-->") == written["vtt"].count("-->") == 2
    content = json.loads(written["json"])
    assert [each["text"] for each in content["segments"]] == ["a b", "d"]
    assert content["segments"][1]["words"] == [{"word": "d", "start_time": 5, "duration": 0.5}]
