"""A recording -> what was said in it, by the threads of a server.

Reading, features and beam search run on as many threads as there are cores, the network on its own
thread (batching.py), where the segments of all requests come together. No thread waits for another
one; the event loop does.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from speech import features
from speech.audio import AudioError
from speech.audio_stream import stream_file
from speech.decoder import LogProbs
from speech.pauses import Segment, cut_at_pauses
from speech.serving import analysis
from speech.serving.analysis import Extremes, SegmentDetails
from speech.serving.catalogue import Choice
from speech.serving.errors import RequestError
from speech.transcriber import Heard

Floats = npt.NDArray[np.float32]
T = TypeVar("T")
Wanted = Callable[[], Awaitable[None]]

# Longer recordings have no details: they are for looking at.
DETAILED_SECONDS = 60.0

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


class Listener:
    """What hears recordings."""

    def __init__(self, threads: Executor, most_seconds: float, group: int) -> None:
        """
        Args:
            most_seconds: of a recording.
            group: segments of one recording that are under way at once.
        """
        self._threads = threads
        self._most_seconds = most_seconds
        self._group = group

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """What a function returns that takes a processor's time, on one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def log_probs(self, choice: Choice, batch: list[Floats]) -> list[LogProbs]:
        """The network's outputs of some utterances' features."""
        submitted = [asyncio.wrap_future(choice.served.batcher.submit(each)) for each in batch]
        return list(await asyncio.gather(*submitted))

    async def hear(
        self, path: str, choice: Choice, candidates: int, details: bool, wanted: Wanted
    ) -> Listened:
        """A recording.

        Args:
            candidates: most of each segment.
            details: whether waveform and, of a minute, what the network heard are wanted.
            wanted: asked between segments; raises if nobody waits for the answer any more.

        Raises:
            RequestError: it is no audio, damaged or empty (415), or too long (413).
        """
        started = time.monotonic()
        transcriber = choice.transcriber
        reading = _Reading(path, choice, self._most_seconds, details)
        heard: list[Heard] = []
        kept: list[SegmentDetails] | None = [] if details else None
        try:
            await wanted()
            while group := await self._next_group(reading):
                outputs = await self.log_probs(choice, [each for _, each in group])
                searches = [
                    self.run(
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
                            await self.run(
                                analysis.details_of, segment, seen, output, each, transcriber
                            )
                        )
                await wanted()
        finally:
            await self.run(reading.close)
        if not reading.seconds:
            raise RequestError(415, f"{UPLOAD} holds no sound: record it anew.")
        if reading.seconds > DETAILED_SECONDS:
            kept = None
        return Listened(reading.seconds, time.monotonic() - started, heard, reading.extremes, kept)

    async def _next_group(self, reading: "_Reading") -> list[tuple[Segment, Floats]]:
        """The next segments and their features, float32 [frames, bins]; none at the end."""
        group: list[tuple[Segment, Floats]] = []
        # One by one, so that the threads come to other recordings in between.
        while len(group) < self._group and (found := await self.run(reading.next_segment)):
            group.append(found)
        return group


class _Reading:
    """A recording that is being read: one call at a time, from any thread."""

    def __init__(self, path: str, choice: Choice, most_seconds: float, details: bool) -> None:
        self._path = path
        self._front_end = choice.transcriber.config.front_end
        self._most_seconds = most_seconds
        self._lock = threading.Lock()
        self._samples = 0
        self.extremes = Extremes(self._front_end.sample_rate) if details else None
        # Generators, which are closed to close the file.
        self._blocks: Any = stream_file(path, self._front_end.sample_rate)
        self._segments: Any = cut_at_pauses(self._counted(), self._front_end.sample_rate)

    @property
    def seconds(self) -> float:
        """Read so far."""
        return self._samples / self._front_end.sample_rate

    def next_segment(self) -> tuple[Segment, Floats] | None:
        """The next segment and its features, float32 [frames, bins]; None at the end.

        Raises:
            RequestError: it is no audio or damaged (415), or too long (413).
        """
        with self._lock:
            try:
                segment: Segment | None = next(self._segments, None)
            except AudioError as error:
                raise RequestError(415, str(error).replace(self._path, UPLOAD)) from None
            if segment is None:
                return None
            return segment, features.extract(segment.samples, self._front_end)

    def close(self) -> None:
        """Closes the file, and ends what decodes it."""
        with self._lock:
            self._segments.close()
            self._blocks.close()

    def _counted(self) -> Iterator[Floats]:
        for block in self._blocks:
            self._samples += len(block)
            if self.seconds > self._most_seconds:
                raise RequestError(
                    413,
                    f"The recording is longer than the {self._most_seconds:g} seconds that this "
                    "server takes: send it in parts.",
                )
            if np.abs(block).max() > LOUDEST:
                raise RequestError(
                    415, f"{UPLOAD} is damaged: it has samples far beyond full scale."
                )
            if self.extremes:
                self.extremes.add(block)
            yield block
