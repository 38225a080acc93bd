"""A recording -> what was said in it, by the threads of a server.

Reading, features and beam search run on as many threads as there are cores, the network on its own
thread (batching.py), where the segments of all requests come together. No thread waits for another
one; the event loop does. A request has only so many calls on the threads at once, and reads in
short slices, so that others come between, however long a recording is.
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
import numpy.typing as npt

from speech.audio.reader import AudioError, TooMuchAudioError
from speech.audio.segmentation import Cutter, Segment
from speech.audio.stream import stream_file
from speech.decoding.beam_search import LogProbs
from speech.features import front_end
from speech.serving.errors import RequestError
from speech.serving.services import analysis
from speech.serving.services.analysis import Extremes, SegmentDetails
from speech.serving.services.catalogue import Choice
from speech.transcription.transcriber import Heard

Floats = npt.NDArray[np.float32]
T = TypeVar("T")
Wanted = Callable[[], Awaitable[None]]

# Longer recordings have no details: they are for looking at.
DETAILED_SECONDS = 60.0

# Samples that are decoded for each second that a recording may have, of all channels together:
# those of 8 channels at 48 kHz, or of 2 at 192 kHz. An hour of silence is a megabyte at any rate.
DECODED_RATE = 384_000

# A thread reads for so long before others come.
SLICE_SECONDS = 0.05

# Larger files may take longer than a slice to be opened.
LARGE_BYTES = 4 * 2**20

# The name of a client's file in messages.
UPLOAD = "The upload"

# At int16 scale, where full scale is 2^15: what is much louder is damaged, and overflows.
LOUDEST = 2.0**40


@dataclass(frozen=True)
class Listened:
    """A whole recording."""

    seconds: float
    inference_seconds: float
    heard: list[Heard]
    extremes: Extremes | None  # of the waveform, if details were asked for
    details: list[SegmentDetails] | None


class Share:
    """A request's share of the threads: so many calls at once, while others wait their turn."""

    def __init__(self, threads: Executor, most: int, wanted: Wanted) -> None:
        """
        Args:
            wanted: asked before each call; raises if nobody waits for the answer any more.
        """
        self._threads = threads
        self._places = asyncio.Semaphore(most)
        self._wanted = wanted

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """What a function returns that takes a processor's time."""
        async with self._places:
            await self._wanted()
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, function, *arguments)


class Listener:
    """What hears recordings."""

    def __init__(
        self, threads: Executor, thread_count: int, most_seconds: float, group: int
    ) -> None:
        """
        Args:
            thread_count: how many threads there are.
            most_seconds: of a recording.
            group: segments of one recording that are under way at once.
        """
        self._threads = threads
        self._thread_count = thread_count
        self._most_seconds = most_seconds
        self._group = group
        self._opening_large = asyncio.Semaphore(1)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """What a function returns that takes a processor's time, on one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def share(self, wanted: Wanted) -> Share:
        """A request's; arguments as of `Share`."""
        return Share(self._threads, self._thread_count, wanted)

    async def log_probs(self, choice: Choice, batch: list[Floats]) -> list[LogProbs]:
        """The network's outputs of some utterances' features."""
        submitted = [asyncio.wrap_future(choice.served.batcher.submit(each)) for each in batch]
        return list(await asyncio.gather(*submitted))

    async def hear(
        self, path: str, choice: Choice, candidates: int, details: bool, share: Share
    ) -> Listened:
        """A recording.

        Args:
            candidates: most of each segment.
            details: whether waveform and, of a minute, what the network heard are wanted.
            share: the request's.

        Raises:
            RequestError: it is no audio, damaged or empty (415), or too long (413).
        """
        started = time.monotonic()
        transcriber = choice.transcriber
        reading = _Reading(path, choice, self._most_seconds, details)
        heard: list[Heard] = []
        kept: list[SegmentDetails] | None = [] if details else None
        try:
            while group := await self._next_group(reading, share):
                outputs = await self.log_probs(choice, [each for _, each in group])
                searches = [
                    share.run(
                        transcriber.candidates, output, candidates, transcriber.start_of(segment)
                    )
                    for (segment, _), output in zip(group, outputs, strict=True)
                ]
                found = await asyncio.gather(*searches)
                stretches = [
                    Heard(
                        transcriber.start_of(segment),
                        len(segment.samples) / transcriber.sample_rate,
                        each,
                    )
                    for (segment, _), each in zip(group, found, strict=True)
                ]
                heard += stretches
                if reading.seconds > DETAILED_SECONDS:
                    kept = None
                if kept is not None:
                    for (segment, seen), output, each in zip(
                        group, outputs, stretches, strict=True
                    ):
                        kept.append(
                            await share.run(
                                analysis.details_of, segment, seen, output, each, transcriber
                            )
                        )
        finally:
            await self.run(reading.close)
        if not reading.seconds:
            raise RequestError(415, f"{UPLOAD} holds no sound: record it anew.")
        if reading.seconds > DETAILED_SECONDS:
            kept = None
        return Listened(reading.seconds, time.monotonic() - started, heard, reading.extremes, kept)

    async def _next_group(self, reading: "_Reading", share: Share) -> list[tuple[Segment, Floats]]:
        """The next segments and their features, float32 [frames, bins]; none at the end."""
        group: list[tuple[Segment, Floats]] = []
        while len(group) < self._group and not reading.ended:
            async with self._place_to_read(reading):
                found = await share.run(reading.read_slice)
            if found:
                group.append(found)
        return group

    def _place_to_read(self, reading: "_Reading") -> contextlib.AbstractAsyncContextManager[Any]:
        """Lets one large file at a time be opened: an mp3 is scanned whole, in one call."""
        slow = not reading.begun and os.path.getsize(reading.path) > LARGE_BYTES
        return self._opening_large if slow else contextlib.nullcontext()


class _Reading:
    """A recording that is being read: one call at a time, from any thread."""

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
        """Read so far."""
        return self._samples / self._front_end.sample_rate

    def read_slice(self) -> tuple[Segment, Floats] | None:
        """Reads for SLICE_SECONDS, or to the next segment, which it returns if it is there.

        Returns:
            the segment and its features, float32 [frames, bins].

        Raises:
            RequestError: it is no audio or damaged (415), or too long (413).
        """
        until = time.monotonic() + SLICE_SECONDS
        with self._lock:
            self.begun = True
            try:
                for segment in self._segments:
                    if segment is not None:
                        return segment, front_end.extract(segment.samples, self._front_end)
                    if time.monotonic() > until:
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
        """Closes the file, and ends what decodes it."""
        with self._lock:
            self._segments.close()
            self._blocks.close()

    def _cut(self) -> Iterator[Segment | None]:
        """The segments, and None before each block, so that one may look up."""
        cutter = Cutter(self._front_end.sample_rate)
        for block in self._blocks:
            yield None
            if len(block):
                self._check(block)
                yield from cutter.feed(block)
        yield from cutter.finish()

    def _check(self, block: Floats) -> None:
        self._samples += len(block)
        if self.seconds > self._most_seconds:
            raise RequestError(
                413,
                f"The recording is longer than the {self._most_seconds:g} seconds that this "
                "server takes: send it in parts.",
            )
        if np.abs(block).max() > LOUDEST:
            raise RequestError(415, f"{UPLOAD} is damaged: it has samples far beyond full scale.")
        if self.extremes:
            self.extremes.add(block)
