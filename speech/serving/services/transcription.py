"""Transcribes recordings on the threads of a server.

Reading, features and beam search run on as many threads as there are cores. The network runs on
its own thread (batching.py), where the segments of all requests meet. No thread waits for another
one; the event loop does. A request has only so many calls on the threads at once, and reads in
short slices, so that others get their turn, however long a recording is.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from speech.audio.reader import AudioError, TooMuchAudioError
from speech.audio.segmentation import Cutter, Segment
from speech.audio.stream import stream_file
from speech.decoding.types import LogProbs
from speech.features import front_end
from speech.serving.errors import RequestError
from speech.serving.services import analysis
from speech.serving.services.analysis import Extremes, SegmentDetails
from speech.serving.services.catalogue import Choice
from speech.serving.types import Floats
from speech.transcription.transcriber import TranscribedSegment

T = TypeVar("T")
CheckClient = Callable[[], Awaitable[None]]
OnSegments = Callable[[list[TranscribedSegment]], Awaitable[None]]

# Longer recordings have no details: these are for the pictures of the page.
DETAILED_SECONDS = 60.0

# Samples that are decoded for each second that a recording may have, of all channels together:
# those of 8 channels at 48 kHz, or of 2 at 192 kHz. An hour of silence is a megabyte at any rate.
DECODED_RATE = 384_000

# After reading for so long a thread lets others read.
SLICE_SECONDS = 0.05

# Larger files may take longer than a slice to be opened.
LARGE_BYTES = 4 * 2**20

# The name of a client's file in messages.
UPLOAD = "The upload"

# At int16 scale, where full scale is 2^15. Much louder samples are damaged, and overflow.
LOUDEST = 2.0**40


@dataclass(frozen=True)
class TranscriptionResult:
    """The transcript and details of a whole recording."""

    seconds: float  # of the recording
    inference_seconds: float
    segments: list[TranscribedSegment]
    extremes: Extremes | None  # of the waveform, if details were requested
    details: list[SegmentDetails] | None  # of each segment, likewise; None: it is too long


@dataclass(frozen=True)
class ReadSegment:
    """A segment of a recording, and its features."""

    segment: Segment
    features: Floats  # [frames, bins]


def too_long(most_seconds: float) -> RequestError:
    """Returns the refusal of a recording that is longer than `most_seconds`."""
    return RequestError(
        413,
        f"The recording is longer than the {most_seconds:g} seconds that this server allows: send "
        "it in parts.",
    )


class Share:
    """A request's share of the threads: so many calls at once; further ones wait."""

    def __init__(self, threads: Executor, most: int, check_client: CheckClient) -> None:
        """
        Args:
            most: calls at once.
            check_client: called before each call; raises if the client has disconnected.
        """
        self._threads = threads
        self._calls = asyncio.Semaphore(most)
        self._check_client = check_client

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Returns the result of a function that keeps a core busy."""
        async with self._calls:
            await self._check_client()
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, function, *arguments)


class TranscriptionWorkers:
    """Threads that transcribe recordings."""

    def __init__(
        self, threads: Executor, thread_count: int, most_seconds: float, group_size: int
    ) -> None:
        """
        Args:
            thread_count: number of the threads.
            most_seconds: of a recording.
            group_size: most segments of one recording that are under way at once.
        """
        self._threads = threads
        self._thread_count = thread_count
        self._most_seconds = most_seconds
        self._group_size = group_size
        self._opening_large = asyncio.Semaphore(1)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Returns the result of a function that keeps a core busy, on one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def share(self, check_client: CheckClient) -> Share:
        """Returns a request's share of the threads; see `Share`."""
        return Share(self._threads, self._thread_count, check_client)

    async def log_probs(self, choice: Choice, batch: list[Floats]) -> list[LogProbs]:
        """Returns the network's outputs, [outputs, classes], of features [frames, bins]."""
        submitted = [asyncio.wrap_future(choice.served.batcher.submit(each)) for each in batch]
        return list(await asyncio.gather(*submitted))

    async def transcribe(
        self,
        path: str,
        choice: Choice,
        candidates: int,
        details: bool,
        share: Share,
        on_segments: OnSegments | None = None,
    ) -> TranscriptionResult:
        """Transcribes a recording.

        Args:
            candidates: most candidates of each segment.
            details: whether to return the waveform and, for up to a minute, SegmentDetails.
            share: the request's.
            on_segments: called with segments as they are transcribed, few at a time.

        Raises:
            RequestError: the file isn't audio, is damaged or empty (415), or too long (413).
        """
        started = time.monotonic()
        reading = _Reading(path, choice, self._most_seconds, details)
        # No more than are searched at once: the first ones needn't wait for others.
        group_size = min(self._thread_count if on_segments else self._group_size, self._group_size)
        segments: list[TranscribedSegment] = []
        kept: list[SegmentDetails] | None = [] if details else None
        try:
            while group := await self._next_group(reading, group_size, share):
                outputs = await self.log_probs(choice, [each.features for each in group])
                found = await search(group, outputs, choice, candidates, share)
                segments += found
                if on_segments:
                    await on_segments(found)
                if reading.seconds > DETAILED_SECONDS:
                    kept = None
                if kept is not None:
                    for each, output, one in zip(group, outputs, found, strict=True):
                        kept.append(
                            await share.run(
                                analysis.details_of,
                                each.segment,
                                each.features,
                                output,
                                one,
                                choice.transcriber,
                            )
                        )
        finally:
            await self.run(reading.close)
        if not reading.seconds:
            raise RequestError(415, f"{UPLOAD} contains no samples: record it again.")
        if reading.seconds > DETAILED_SECONDS:
            kept = None
        return TranscriptionResult(
            reading.seconds, time.monotonic() - started, segments, reading.extremes, kept
        )

    async def _next_group(self, reading: "_Reading", most: int, share: Share) -> list[ReadSegment]:
        """Returns the next segments, at most `most`; none at the recording's end."""
        group: list[ReadSegment] = []
        while len(group) < most and not reading.ended:
            async with self._turn_to_read(reading):
                found = await share.run(reading.read_slice)
            if found:
                group.append(found)
        return group

    def _turn_to_read(self, reading: "_Reading") -> contextlib.AbstractAsyncContextManager[Any]:
        """Lets one large file at a time be opened: an mp3 is scanned whole, in one call."""
        slow = not reading.begun and os.path.getsize(reading.path) > LARGE_BYTES
        return self._opening_large if slow else contextlib.nullcontext()


async def search(
    group: list[ReadSegment],
    outputs: list[LogProbs],
    choice: Choice,
    candidates: int,
    share: Share,
) -> list[TranscribedSegment]:
    """Returns the segments' transcripts, by beam searches of the network's outputs."""
    transcriber = choice.transcriber
    starts = [transcriber.start_of(each.segment) for each in group]
    found = await asyncio.gather(
        *(
            share.run(transcriber.candidates, output, candidates, start)
            for output, start in zip(outputs, starts, strict=True)
        )
    )
    return [
        TranscribedSegment(start, len(each.segment.samples) / transcriber.sample_rate, texts)
        for start, each, texts in zip(starts, group, found, strict=True)
    ]


class _Reading:
    """A recording that is being read. Calls may come from any thread; one runs at a time."""

    def __init__(self, path: str, choice: Choice, most_seconds: float, details: bool) -> None:
        self.path = path
        self._front_end = choice.transcriber.config.front_end
        self._most_seconds = most_seconds
        self._lock = threading.Lock()
        self._samples = 0
        self.begun = self.ended = False
        self.extremes = Extremes(self._front_end.sample_rate) if details else None
        # Generators, which are closed to close the file.
        self._blocks: Any = stream_file(
            path, self._front_end.sample_rate, int(DECODED_RATE * most_seconds)
        )
        self._segments: Any = self._cut()

    @property
    def seconds(self) -> float:
        """Seconds read so far."""
        return self._samples / self._front_end.sample_rate

    def read_slice(self) -> ReadSegment | None:
        """Reads for SLICE_SECONDS, or up to the next segment.

        Returns:
            the segment; None if the slice ended before one was complete.

        Raises:
            RequestError: the file isn't audio or is damaged (415), or is too long (413).
        """
        deadline = time.monotonic() + SLICE_SECONDS
        with self._lock:
            self.begun = True
            try:
                for segment in self._segments:
                    if segment is not None:
                        features = front_end.extract(segment.samples, self._front_end)
                        return ReadSegment(segment, features)
                    if time.monotonic() > deadline:
                        return None
            except TooMuchAudioError:
                raise RequestError(
                    413,
                    "The recording has too many samples: this server decodes "
                    f"{DECODED_RATE} a second, of all channels together, for "
                    f"{self._most_seconds:g} seconds. Send it with fewer channels, at a lower "
                    "rate, or in parts.",
                ) from None
            except AudioError as error:
                raise RequestError(415, str(error).replace(self.path, UPLOAD)) from None
            self.ended = True
            return None

    def close(self) -> None:
        """Closes the file, and ends its decoder."""
        with self._lock:
            self._segments.close()
            self._blocks.close()

    def _cut(self) -> Iterator[Segment | None]:
        """Yields the segments, and None before each block, so that a slice can end there."""
        cutter = Cutter(self._front_end.sample_rate)
        for block in self._blocks:
            yield None
            if len(block):
                self._check(block)
                yield from cutter.feed(block)
        yield from cutter.finish()

    def _check(self, block: Floats) -> None:
        """Counts a block's samples; raises RequestError if they can't be accepted."""
        self._samples += len(block)
        if self.seconds > self._most_seconds:
            raise too_long(self._most_seconds)
        if np.abs(block).max() > LOUDEST:
            raise RequestError(415, f"{UPLOAD} is damaged: it has samples far beyond full scale.")
        if self.extremes:
            self.extremes.add(block)
