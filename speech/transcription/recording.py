"""What was heard in a recording, written as people ask for it: text, JSON, subtitles."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from speech.audio.types import Samples
from speech.transcription import subtitles
from speech.transcription.subtitles import Transcript
from speech.transcription.transcriber import Heard


@dataclass
class Recording:
    """A recording as far as it was heard."""

    name: str
    separator: str  # between words, see Transcriber
    segments: list[Heard] = field(default_factory=list)
    seconds: float = 0.0  # that were read

    def counted(self, blocks: Iterable[Samples], sample_rate: int) -> Iterator[Samples]:
        """The blocks, of which this recording keeps the seconds."""
        samples = 0
        for block in blocks:
            samples += len(block)
            self.seconds = samples / sample_rate
            yield block

    @property
    def transcript(self) -> Transcript:
        """All segments' best ones joined."""
        return joined_candidates(self.segments)[0]


def joined_candidates(segments: Iterable[Heard]) -> list[Transcript]:
    """What may have been said in all segments together, the best first.

    The second is made of each segment's second, and so on; where a segment has no more, of its
    last. One of no words if there are no segments.
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


def _json(recording: Recording) -> str:
    transcripts = [each.transcript for each in recording.segments]
    return subtitles.recording_json(
        recording.name, recording.seconds, transcripts, recording.separator
    )


# The ending of a file -> what is in it.
FORMATS: dict[str, Callable[[Recording], str]] = {
    "txt": lambda each: subtitles.plain_text(each.transcript.words, each.separator),
    "srt": lambda each: subtitles.srt(each.transcript.words, each.separator),
    "vtt": lambda each: subtitles.webvtt(each.transcript.words, each.separator),
    "json": _json,
}
