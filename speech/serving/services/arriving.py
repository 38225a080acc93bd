"""Transcribes a recording whose samples are still arriving, as an uploaded file is transcribed.

The same segments go through the same threads and batches, each as soon as it is complete.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from speech.audio.reader import AudioError
from speech.audio.segmentation import Cutter, Segment
from speech.audio.stream import PcmConverter
from speech.features import front_end
from speech.serving.errors import RequestError
from speech.serving.services.catalogue import Choice
from speech.serving.services.transcription import (
    ReadSegment,
    Share,
    TranscriptionWorkers,
    search,
    too_long,
)
from speech.transcription.transcriber import TranscribedSegment

# The name of a client's recording in messages.
NAME = "The recording"

# A piece may hold minutes: after so much of it, other requests get their turn on the thread.
PIECE_SECONDS = 1.0


@dataclass(frozen=True)
class PcmFormat:
    """Format of raw samples, little endian."""

    rate: int  # Hz
    width: int  # bytes of a sample
    channels: int

    @property
    def bytes_per_second(self) -> int:
        return self.rate * self.width * self.channels


class ArrivingRecording:
    """One recording. Its calls come one after another."""

    def __init__(
        self,
        form: PcmFormat,
        choice: Choice,
        workers: TranscriptionWorkers,
        share: Share,
        most_seconds: float,
    ) -> None:
        """
        Args:
            share: the request's.
            most_seconds: of the recording.
        """
        self.seconds = 0.0  # received so far
        self._form = form
        self._choice = choice
        self._workers = workers
        self._share = share
        self._most_seconds = most_seconds
        self._front_end = choice.transcriber.config.front_end
        rate = self._front_end.sample_rate
        self._converter = PcmConverter(form.width, form.channels, form.rate, rate, NAME)
        self._cutter = Cutter(rate)

    async def feed(self, content: bytes) -> list[TranscribedSegment]:
        """Returns the segments that end in a piece of the recording.

        Raises:
            RequestError: the recording is too long (413).
        """
        self.seconds += len(content) / self._form.bytes_per_second
        if self.seconds > self._most_seconds:
            raise too_long(self._most_seconds)
        size = max(round(PIECE_SECONDS * self._form.bytes_per_second), 1)
        found: list[TranscribedSegment] = []
        for start in range(0, len(content), size):
            group = await self._share.run(self._read, content[start : start + size])
            found += await self._transcribe(group)
        return found

    async def finish(self) -> list[TranscribedSegment]:
        """Returns the last segments.

        Raises:
            RequestError: the recording can't be used (415).
        """
        return await self._transcribe(await self._share.run(self._read_rest))

    def _read(self, content: bytes) -> list[ReadSegment]:
        return self._with_features(self._cutter.feed(self._converter.feed(content)))

    def _read_rest(self) -> list[ReadSegment]:
        try:
            rest = self._converter.finish()
        except AudioError as error:
            raise RequestError(415, str(error)) from None
        return self._with_features([*self._cutter.feed(rest), *self._cutter.finish()])

    def _with_features(self, segments: Iterable[Segment]) -> list[ReadSegment]:
        return [
            ReadSegment(each, front_end.extract(each.samples, self._front_end)) for each in segments
        ]

    async def _transcribe(self, group: list[ReadSegment]) -> list[TranscribedSegment]:
        if not group:
            return []
        outputs = await self._workers.log_probs(self._choice, [each.features for each in group])
        return await search(group, outputs, self._choice, 1, self._share)
