"""Files and time limits of uploads."""

import asyncio
import os
import resource
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from fastapi import Request
from full_disk import full_disk
from malformed import FORM, form, part

from speech.serving import uploads
from speech.serving.errors import RequestError


def test_file_is_removed_after_the_block_and_may_be_removed_earlier(tmp_path: Path) -> None:
    with uploads.stored(str(tmp_path)) as file:
        file.write(b"x")
        assert [str(each) for each in tmp_path.iterdir()] == [file.name]
    assert not list(tmp_path.iterdir())
    with uploads.stored(str(tmp_path)) as file:
        Path(file.name).unlink()


def test_full_disk_is_reported(tmp_path: Path) -> None:
    def write() -> None:
        with full_disk(1000), uploads.stored(str(tmp_path)) as file:
            file.write(bytes(2000))
            file.flush()

    with pytest.raises(RequestError, match="disk for uploads is full: try again") as raised:
        write()
    assert raised.value.status == 507
    assert not list(tmp_path.iterdir())


def test_too_many_open_files_are_reported(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with (
            pytest.raises(RequestError, match="try again") as raised,
            uploads.stored(str(tmp_path)),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (raised.value.status, raised.value.retry_after) == (503, 5)


def request_of(message: Callable[[], dict[str, object]], pause: float) -> Request:
    async def receive() -> dict[str, object]:
        await asyncio.sleep(pause)
        return message()

    return Request({"type": "http", "headers": []}, receive)


async def read(request: Request) -> int:
    return len(b"".join([each async for each in uploads.chunks(request, 10**9)]))


def test_slow_body_is_refused() -> None:
    trickle = request_of(lambda: {"type": "http.request", "body": b"x", "more_body": True}, 0.05)
    with (
        mock.patch.object(uploads, "IDLE_SECONDS", 0.3),
        pytest.raises(RequestError, match=r"The upload is too slow, \d bytes so far") as raised,
    ):
        asyncio.run(asyncio.wait_for(read(trickle), 10))
    assert raised.value.status == 408


def test_long_steady_body_is_read_completely() -> None:
    left = iter(range(9, -1, -1))
    steady = request_of(
        lambda: {"type": "http.request", "body": bytes(8000), "more_body": next(left) > 0}, 0.05
    )
    with mock.patch.object(uploads, "IDLE_SECONDS", 0.2):
        assert asyncio.run(read(steady)) == 80_000


# --- Forms ----------------------------------------------------------------------------------------


def sent(content: bytes, folder: Path, kind: str = FORM) -> tuple[bytes, dict[str, str]]:
    """Returns what is received of a body: the recording, and the other fields."""

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": content}

    async def whole() -> tuple[bytes, dict[str, str]]:
        headers = [(b"content-type", kind.encode())]
        request = Request({"type": "http", "headers": headers}, receive)
        async with uploads.received(request, str(folder), 10**6) as upload:
            return Path(upload.path).read_bytes(), upload.fields

    return asyncio.run(whole())


@pytest.mark.parametrize("field", ["audio", "file"])
@pytest.mark.parametrize("filename", [None, "", "x.wav"])
def test_recording_is_the_field_audio_or_file(
    tmp_path: Path, field: str, filename: str | None
) -> None:
    recording = bytes(100_000)
    content = form(part("model", b"a"), part(field, recording, filename), part("scorer", b"", ""))
    assert sent(content, tmp_path) == (recording, {"model": "a", "scorer": ""})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (form(part("sound", bytes(99), "x.wav")), "field 'sound' holds a file: send the recording"),
        (form(part("model", b"a", "x.txt")), "field 'model' holds a file: .* as audio or file"),
        (form(part("sound", bytes(99_999))), "field 'sound' is too large, .* as audio or file"),
        (form(part("model", b"a")), "The form has no field audio or file"),
        (form(part("audio", b"a"), part("file", b"b")), "more than one field audio or file: send"),
        (form(part("file", b"a"), part("file", b"b")), "more than one field audio or file: send"),
    ],
)
def test_form_without_one_recording_is_refused(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    with pytest.raises(RequestError, match=expected) as raised:
        sent(content, tmp_path)
    assert raised.value.status == 400
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "kind", ["audio/wav", "AUDIO/WAV; rate=16000", "Video/mp4", "file-path/raw-bytes"]
)
def test_body_with_a_type_of_audio_is_a_recording(tmp_path: Path, kind: str) -> None:
    assert sent(b"a sound", tmp_path, kind) == (b"a sound", {})


def test_type_of_a_form_may_be_in_capitals(tmp_path: Path) -> None:
    kind = FORM.replace("multipart/form-data", "Multipart/Form-Data")
    assert sent(form(part("audio", b"a sound")), tmp_path, kind) == (b"a sound", {})
