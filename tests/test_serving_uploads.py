"""Files of uploads, and how slowly they may come."""

import asyncio
import os
import resource
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from fastapi import Request
from full_disk import full_disk

from speech.serving import uploads
from speech.serving.errors import RequestError


def test_file_is_gone_behind_the_block_and_may_be_before(tmp_path: Path) -> None:
    with uploads.stored(str(tmp_path)) as file:
        file.write(b"x")
        assert [str(each) for each in tmp_path.iterdir()] == [file.name]
    assert not list(tmp_path.iterdir())
    with uploads.stored(str(tmp_path)) as file:
        Path(file.name).unlink()


def test_disk_that_is_full_is_told_of(tmp_path: Path) -> None:
    def write() -> None:
        with full_disk(1000), uploads.stored(str(tmp_path)) as file:
            file.write(bytes(2000))
            file.flush()

    with pytest.raises(RequestError, match="disk for uploads is full: try again") as raised:
        write()
    assert raised.value.status == 507
    assert not list(tmp_path.iterdir())


def test_too_many_open_files_are_told_of(tmp_path: Path) -> None:
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


def test_body_that_trickles_is_broken_off() -> None:
    trickle = request_of(lambda: {"type": "http.request", "body": b"x", "more_body": True}, 0.05)
    with (
        mock.patch.object(uploads, "IDLE_SECONDS", 0.3),
        pytest.raises(RequestError, match=r"The upload is too slow, \d bytes so far") as raised,
    ):
        asyncio.run(asyncio.wait_for(read(trickle), 10))
    assert raised.value.status == 408


def test_long_body_that_comes_steadily_is_read_whole() -> None:
    left = iter(range(9, -1, -1))
    steady = request_of(
        lambda: {"type": "http.request", "body": bytes(8000), "more_body": next(left) > 0}, 0.05
    )
    with mock.patch.object(uploads, "IDLE_SECONDS", 0.2):
        assert asyncio.run(read(steady)) == 80_000
