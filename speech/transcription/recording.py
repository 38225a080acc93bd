"""The transcript of a recording, and the formats that it is written in: text, JSON, subtitles."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from speech.audio.types import Samples
from speech.transcription import subtitles
from speech.transcription.subtitles import Transcript
from speech.transcription.transcriber import TranscribedSegment


@dataclass
class TranscribedRecording:
    """A recording, as far as it has been transcribed."""

    name: str
    separator: str  # between words, see Transcriber
    segments: list[TranscribedSegment] = field(default_factory=list)
    seconds: float = 0.0  # read so far

    def count_seconds(self, blocks: Iterable[Samples], sample_rate: int) -> Iterator[Samples]:
        """Yields the blocks, and adds their length to `seconds`."""
        samples = 0
        for block in blocks:
            samples += len(block)
            self.seconds = samples / sample_rate
            yield block

    @property
    def transcript(self) -> Transcript:
        """The best candidates of all segments joined."""
        return join_candidates(self.segments)[0]


def join_candidates(segments: Iterable[TranscribedSegment]) -> list[Transcript]:
    """Returns the candidate transcripts of all segments together, the best first.

    The second joins each segment's second candidate, and so on; the last one of a segment with
    fewer. Without segments it is one transcript without words.
    """
    candidates = [each.candidates for each in segments]
    most = max(map(len, candidates), default=1)
    return [
        Transcript(
            tuple(word for each in candidates for word in each[min(i, len(each) - 1)].words),
            sum(each[min(i, len(each) - 1)].confidence for each in candidates),
        )
        for i in range(most)
    ]


def _json(recording: TranscribedRecording) -> str:
    transcripts = [each.transcript for each in recording.segments]
    return subtitles.recording_json(
        recording.name, recording.seconds, transcripts, recording.separator
    )


# The ending of a file -> the function that formats its content.
FORMATS: dict[str, Callable[[TranscribedRecording], str]] = {
    "txt": lambda each: subtitles.plain_text(each.transcript.words, each.separator),
    "srt": lambda each: subtitles.srt(each.transcript.words, each.separator),
    "vtt": lambda each: subtitles.webvtt(each.transcript.words, each.separator),
    "json": _json,
}
