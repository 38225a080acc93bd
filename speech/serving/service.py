"""What all routes share: the loaded models, threads, limits, and the transcription of requests."""

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect

from speech.serving import uploads
from speech.serving.errors import RequestError, sendable
from speech.serving.metrics import Metrics
from speech.serving.schemas import invocations, requests, responses
from speech.serving.schemas.invocations import RecordingRequest
from speech.serving.schemas.requests import TranscriptionOptions
from speech.serving.services import serialize
from speech.serving.services.catalogue import Choice
from speech.serving.services.recordings import Recordings
from speech.serving.services.reloading import ReloadableResources
from speech.serving.services.transcription import (
    Share,
    TranscribedSegment,
    TranscriptionResult,
    TranscriptionWorkers,
)
from speech.serving.settings import RequestLimits
from speech.serving.slots import Slots

T = TypeVar("T")
OnSegments = Callable[[Choice, list[TranscribedSegment]], Awaitable[None]]

# Cores that the process may use, where the system says so.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
THREADS = CORES or 1
# The threads of streams wait for the models' threads, so there may be more of them than cores.
STREAM_THREADS = 8

# Uploads may be slow: so many of them for each request that may be under way.
UPLOADS_PER_SLOT = 4

# Time to clean up for requests that are cancelled because the server stops.
CLEANUP_SECONDS = 3.0


class Service:
    """The state of a running server, and what its routes do with it."""

    def __init__(
        self,
        resources: ReloadableResources,
        limits: RequestLimits,
        batch_size: int,
        metrics: Metrics,
        recordings: Recordings | None = None,
    ) -> None:
        """
        Args:
            resources: closed at the end of `lifespan`.
            batch_size: most segments of one recording that are under way at once.
            recordings: where takes are stored; None: nowhere.
        """
        self.resources = resources
        self.limits = limits
        self.metrics = metrics
        self.recordings = recordings
        self.threads = ThreadPoolExecutor(THREADS, "transcription")
        self.stream_threads = ThreadPoolExecutor(STREAM_THREADS, "stream")
        self.workers = TranscriptionWorkers(self.threads, THREADS, limits.seconds, batch_size)
        self.slots = Slots(limits.requests, "transcriptions are under way", metrics.waiting.set)
        self.uploads = Slots(
            UPLOADS_PER_SLOT * limits.requests, "uploads are coming in", metrics.uploading.set
        )
        self.streams = Slots(limits.requests, "streams are open", metrics.streams.set)
        self.folder = ""  # for uploads, while the application runs

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Provides the folder for uploads and handles SIGHUP while the application runs."""
        async with self.resources.reloading():
            with tempfile.TemporaryDirectory(prefix="deep-speech-uploads-") as self.folder:
                yield
                await self._wait_for_cleanup()
            self.threads.shutdown(cancel_futures=True)
            self.stream_threads.shutdown(cancel_futures=True)

    async def _wait_for_cleanup(self) -> None:
        """Waits until no request is under way, or for CLEANUP_SECONDS."""
        deadline = time.monotonic() + CLEANUP_SECONDS
        slots = (self.slots, self.uploads, self.streams)
        while any(each.taken for each in slots) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    def share(self, request: Request) -> Share:
        """Returns a request's share of the threads, which ends when its client disconnects."""

        async def check_client() -> None:
            if await request.is_disconnected():
                raise ClientDisconnect

        return self.workers.share(check_client)

    async def recognise(
        self,
        share: Share,
        path: str,
        options: TranscriptionOptions,
        on_segments: OnSegments | None = None,
    ) -> tuple[TranscriptionResult, Choice]:
        """Recognises a recording in a file. The request holds a slot.

        Args:
            on_segments: called with segments as they are transcribed, see TranscriptionWorkers.
        """
        with self.resources.use() as resources:
            choice = await share.run(resources.catalogue.choose, options)
            result = await self.workers.transcribe(
                path,
                choice,
                options.candidates,
                options.details,
                share,
                partial(on_segments, choice) if on_segments else None,
            )
        self.metrics.audio_seconds.inc(result.seconds)
        return result, choice

    async def transcribe(
        self, share: Share, path: str, options: TranscriptionOptions
    ) -> responses.Transcription:
        """Transcribes a recording in a file. The request holds a slot."""
        return await share.run(serialize.transcription, *await self.recognise(share, path, options))

    async def transcribe_bytes(
        self, share: Share, content: bytes, options: TranscriptionOptions
    ) -> responses.Transcription:
        """Transcribes a recording in memory. The request holds a slot."""
        with uploads.stored(self.folder) as file:
            await share.run(file.write, content)
            await share.run(file.flush)
            return await self.transcribe(share, file.name, options)

    async def transcribe_recording(
        self, share: Share, recording: RecordingRequest | RequestError
    ) -> responses.Transcription:
        """Transcribes one of a request's recordings.

        Raises:
            RequestError: the recording itself, if it is an error, or why it is refused.
        """
        if isinstance(recording, RequestError):
            raise recording
        with invocations.prefix_refusals(recording.where):
            return await self.transcribe_bytes(share, recording.content, recording.options)

    async def transcribe_line(
        self, share: Share, recording: RecordingRequest | RequestError
    ) -> str:
        """Returns the response to one of a request's lines: JSON, also for a refusal."""
        response: responses.Transcription | responses.Problem
        try:
            response = await self.transcribe_recording(share, recording)
        except RequestError as error:
            if error.status >= 500:  # not the line's fault: it may be sent again
                raise
            response = responses.Problem(error=sendable(error.message))
        return f"{response.model_dump_json()}\n"

    async def transcribe_all(
        self,
        request: Request,
        recordings: Sequence[RecordingRequest | RequestError],
        transcribe: Callable[[Share, RecordingRequest | RequestError], Coroutine[Any, Any, T]],
    ) -> list[T]:
        """Returns the result of `transcribe` for each recording; an error cancels the others."""
        share = self.share(request)
        with self.slots.one():
            tasks = [asyncio.create_task(transcribe(share, each)) for each in recordings]
            try:
                return list(await asyncio.gather(*tasks))
            finally:  # no task outlives the slot
                for each in tasks:
                    each.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[uploads.Upload]:
        """Receives the recording in a request's body, and holds a slot while the block runs."""
        self.slots.check()
        with self.uploads.one():
            async with uploads.received(request, self.folder, self.limits.upload_bytes) as upload:
                with self.slots.one():
                    yield upload

    async def transcribe_body(self, request: Request, *given: Any) -> responses.Transcription:
        """Transcribes the recording in a request's body.

        Args:
            given: options from elsewhere in the request; those of a form have priority.
        """
        async with self.received(request) as upload:
            options = requests.read(*given, upload.fields)
            return await self.transcribe(self.share(request), upload.path, options)
