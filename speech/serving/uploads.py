"""Receives recordings: each is written to its own file, which is removed with its request.

No file has a name that a client gave. Limits are enforced while the bytes arrive, so they hold for
bodies without a length as well.
"""

import asyncio
import errno
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from speech.serving.errors import OUT_OF_FILES, RequestError
from speech.serving.schemas.requests import format_value
from speech.serving.slots import RETRY_SECONDS
from utils import is_number

FORM = "multipart/form-data"
# Types of bodies that are a recording itself. Its format is detected from its bytes.
RAW_TYPES = (
    "audio/",
    "video/",
    "application/octet-stream",
    "file-path/raw-bytes",  # SageMaker's Python SDK sends a file as this
)
# Fields of a form that are the recording; OpenAI's clients send the second one.
FIELDS = ("audio", "file")
NAMED_FIELDS = " or ".join(FIELDS)
# Fields that are lists also without [] at the end: not all of OpenAI's clients write it.
LISTS = ("timestamp_granularities",)

# A client that sends nothing for so long counts as gone.
IDLE_SECONDS = 20.0
# A body may take IDLE_SECONDS, and longer the more of it has arrived: an upload holds a slot.
SLOWEST_RATE = 16_000.0  # bytes/s

# Errors of a write to a full disk.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

FORM_SLACK_BYTES = 2**16  # for everything in a form but the recording
MOST_FIELDS = 32


@dataclass(frozen=True)
class Upload:
    """A recording that has been received."""

    path: str  # of a file that is removed with the request
    # The other fields of its form; repeated ones of a list are joined by commas.
    fields: dict[str, str]


@asynccontextmanager
async def received(request: Request, folder: str, most_bytes: int) -> AsyncIterator[Upload]:
    """Receives the recording in a request's body; its file is removed after the block.

    Args:
        folder: of the file.
        most_bytes: of a recording.

    Raises:
        RequestError: the body is too large (413), neither a form nor a recording (415), a damaged
            form or one without a recording (400), the client stopped sending or is too slow (408),
            or the disk is full (507).
    """
    kind = media_type(request)
    if kind != FORM and not kind.startswith(RAW_TYPES):
        raise RequestError(
            415,
            f"The body's Content-Type is {kind or 'missing'}: send a form ({FORM}) with the field "
            f"{NAMED_FIELDS}, or a recording itself with a Content-Type such as audio/wav.",
        )
    with stored(folder) as file:
        fields = {}
        if kind == FORM:
            fields = await _read_form(request, file, most_bytes)
        else:
            async for chunk in chunks(request, most_bytes):
                await run_in_threadpool(file.write, chunk)
        await run_in_threadpool(file.flush)
        yield Upload(file.name, fields)


def media_type(request: Request) -> str:
    """Returns the type of a request's body, in lower case and without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


@contextmanager
def stored(folder: str) -> Iterator[IO[bytes]]:
    """Opens a new file for a recording, which is removed after the block.

    Raises:
        RequestError: the disk is full (507), or too many files are open (503).
    """
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix="upload-", delete=False) as file:
            try:
                yield file
            finally:
                with suppress(FileNotFoundError):  # the server has removed its folder as it stops
                    os.unlink(file.name)
    except OSError as error:
        if error.errno in OUT_OF_FILES:
            raise RequestError(
                503,
                f"The server has too many open files: try again in {RETRY_SECONDS} seconds.",
                RETRY_SECONDS,
            ) from None
        if error.errno not in FULL:
            raise
        raise RequestError(
            507,
            "The server's disk for uploads is full: try again later, or send a compressed format "
            "such as flac or ogg.",
        ) from None


async def chunks(request: Request, most_bytes: int) -> AsyncIterator[bytes]:
    """Yields a request's body piece by piece.

    Raises:
        RequestError: it is larger than `most_bytes` (413), or the client stopped sending or is too
            slow (408).
        ClientDisconnect: the client has disconnected.
    """
    announced = request.headers.get("content-length", "")
    if is_number(announced) and int(announced) > most_bytes:
        raise too_large(most_bytes)
    read, waited = 0, 0.0
    while True:
        allowed = min(IDLE_SECONDS, IDLE_SECONDS + read / SLOWEST_RATE - waited)
        began = time.monotonic()
        try:
            message = await asyncio.wait_for(request.receive(), max(allowed, 0))
        except TimeoutError:
            raise _too_slow(read) from None
        waited += time.monotonic() - began
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        read += len(chunk)
        if read > most_bytes:
            raise too_large(most_bytes)
        if chunk:
            yield chunk
        if not message.get("more_body", False):
            return


def _too_slow(read: int) -> RequestError:
    return RequestError(
        408,
        f"The upload is too slow, {read} bytes so far: send the body at once, at "
        f"{SLOWEST_RATE / 1e3:g} kB/s or more, and without pauses of {IDLE_SECONDS:g} seconds.",
    )


def too_large(most_bytes: int) -> RequestError:
    return RequestError(
        413,
        f"The upload is larger than the {most_bytes / 1e6:g} MB that this server allows: send "
        "less, or a compressed format such as flac or ogg.",
    )


async def _read_form(request: Request, file: IO[bytes], most_bytes: int) -> dict[str, str]:
    """Writes a form's recording to a file, and returns the other fields."""
    form = _Form(most_bytes)
    _, parameters = parse_options_header(request.headers["content-type"])
    boundary = parameters.get(b"boundary", b"")
    if not boundary:
        raise RequestError(
            400, f"The Content-Type {FORM} has no boundary: let your HTTP library set it."
        )
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for chunk in chunks(request, most_bytes + FORM_SLACK_BYTES):
            parser.write(chunk)
            await run_in_threadpool(file.write, form.take_recording())
        parser.finalize()
    except FormParserError as error:
        raise RequestError(
            400, f"The form is damaged ({error}): send it as {FORM}, whole."
        ) from None
    if not form.ended:
        raise RequestError(400, "The form is cut off: send it whole, to its last boundary.")
    if not form.recordings:
        raise RequestError(
            400, f"The form has no field {NAMED_FIELDS}: send the recording as a file in it."
        )
    return form.fields


@dataclass
class _Form:
    """A form that is being parsed. The client's name of its file is ignored."""

    most_bytes: int
    fields: dict[str, str] = field(default_factory=dict)
    recordings: int = 0
    others: int = 0  # parts that aren't the recording
    ended: bool = False
    _name: str = ""  # of the field that is being parsed
    _header: bytes = b""
    _value: bytes = b""
    _disposition: bytes = b""
    _text: bytes = b""
    _text_bytes: int = 0
    _recording: list[bytes] = field(default_factory=list)
    _recording_bytes: int = 0

    def callbacks(self) -> Any:
        """Returns the parser's callbacks."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def take_recording(self) -> bytes:
        """Returns the bytes of the recording that arrived since the last call."""
        taken = b"".join(self._recording)
        self._recording.clear()
        return taken

    def _begin(self) -> None:
        self._name, self._disposition, self._text = "", b"", b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _end_headers(self) -> None:
        _, parameters = parse_options_header(self._disposition)
        self._name = parameters.get(b"name", b"").decode(errors="replace")
        if not self._name:
            raise RequestError(400, "A part of the form has no name: give it one, as name=audio.")
        if self._name in FIELDS:
            self.recordings += 1
            if self.recordings > 1:
                raise RequestError(
                    400, f"The form has more than one field {NAMED_FIELDS}: send one recording."
                )
            return
        if parameters.get(b"filename"):
            raise RequestError(
                400,
                f"The form's field {format_value(self._name)} holds a file: send the recording as "
                f"{NAMED_FIELDS}.",
            )
        self.others += 1
        if self.others > MOST_FIELDS:
            raise RequestError(400, f"The form has more than {MOST_FIELDS} fields: send fewer.")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._name in FIELDS:
            self._recording_bytes += end - start
            if self._recording_bytes > self.most_bytes:
                raise too_large(self.most_bytes)
            self._recording.append(data[start:end])
            return
        self._text_bytes += end - start
        if self._text_bytes > FORM_SLACK_BYTES:
            raise RequestError(
                400,
                f"The form's field {format_value(self._name)} is too large, together with the "
                f"others it has more than {FORM_SLACK_BYTES} bytes: send a recording as "
                f"{NAMED_FIELDS}.",
            )
        self._text += data[start:end]

    def _end_part(self) -> None:
        if self._name not in FIELDS:
            text = self._text.decode(errors="replace")
            is_list = self._name.endswith("[]") or self._name in LISTS
            if is_list and self._name in self.fields:
                text = f"{self.fields[self._name]},{text}"
            self.fields[self._name] = text

    def _end(self) -> None:
        self.ended = True
