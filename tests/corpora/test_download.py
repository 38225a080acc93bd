"""Downloading LibriSpeech from a test server that can misbehave."""

import errno
import hashlib
import http.server
import io
import logging
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from speech.corpora import download
from utils import UserError

SPLIT = "dev-clean"


def archive_of(split: str, readme: bytes = b"about LibriSpeech") -> bytes:
    """A small archive in LibriSpeech's layout; its audio doesn't compress."""
    files = {
        "LibriSpeech/README.TXT": readme,
        f"LibriSpeech/{split}/84/1/84-1.trans.txt": b"84-1-0000 HELLO\n",
        f"LibriSpeech/{split}/84/1/84-1-0000.flac": hashlib.shake_256(b"").digest(100_000),
    }
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return file.getvalue()


class Site(http.server.ThreadingHTTPServer):
    """Serves archives by path; the attributes below make it behave badly."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.archives: dict[str, bytes] = {}
        self.cut_after: int | None = None  # bytes of a body, then the connection closes
        self.knows_ranges = True
        self.chunked = False
        self.ranges: list[str | None] = []  # of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def offer(self, split: str, archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.archives[f"/{split}.tar.gz"] = archive
        digest = hashlib.md5(archive, usedforsecurity=False).hexdigest()
        monkeypatch.setitem(download.ARCHIVE_MD5, split, digest)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        self.close_connection = True
        requested = self.headers.get("Range")
        self.server.ranges.append(requested)
        archive = self.server.archives.get(self.path)
        if archive is None:
            self.send_error(404)
            return
        start = 0
        if requested and self.server.knows_ranges:
            start = int(requested.removeprefix("bytes=").removesuffix("-"))
            if start >= len(archive):
                self.send_error(416)
                return
        body = archive[start:]
        self.send_response(206 if start else 200)
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut_after])

    def log_message(self, *unused: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with Site() as server:
        server.offer(SPLIT, archive_of(SPLIT), monkeypatch)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(site: Site, folder: Path, split: str = SPLIT) -> None:
    download.download_split(split, site.url, str(folder))


def refusal(site: Site, folder: Path, split: str = SPLIT) -> str:
    with pytest.raises(UserError) as error:
        fetch(site, folder, split)
    return str(error.value)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


WHOLE = {
    "LibriSpeech/README.TXT",
    f"LibriSpeech/{SPLIT}/84/1/84-1.trans.txt",
    f"LibriSpeech/{SPLIT}/84/1/84-1-0000.flac",
}


@pytest.mark.parametrize("chunked", [False, True])
def test_a_split_is_downloaded_and_unpacked_and_nothing_else_left(
    site: Site, tmp_path: Path, chunked: bool
) -> None:
    site.chunked = chunked
    fetch(site, tmp_path / "data")
    assert files(tmp_path / "data") == WHOLE
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["LibriSpeech"]
    assert (tmp_path / "data/LibriSpeech" / SPLIT / "84/1/84-1.trans.txt").read_text() == (
        "84-1-0000 HELLO\n"
    )


def test_an_existing_split_is_left_as_it_is(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "LibriSpeech" / SPLIT).mkdir(parents=True)
    with caplog.at_level(logging.INFO, "absl"):
        fetch(site, tmp_path)
    assert site.ranges == []
    assert f"{SPLIT} exists" in caplog.text


def test_an_interrupted_download_continues(site: Site, tmp_path: Path) -> None:
    site.cut_after = 40_000
    message = refusal(site, tmp_path)
    assert "was cut off: run the same command again" in message
    assert files(tmp_path) == {f".{SPLIT}.tar.gz.partial"}
    site.cut_after = None
    fetch(site, tmp_path)
    assert site.ranges == [None, "bytes=40000-"]
    assert files(tmp_path) == WHOLE


def test_an_interrupted_download_starts_over_where_the_server_ignores_ranges(
    site: Site, tmp_path: Path
) -> None:
    site.cut_after = 40_000
    refusal(site, tmp_path)
    site.cut_after, site.knows_ranges = None, False
    fetch(site, tmp_path)
    assert site.ranges == [None, "bytes=40000-"]
    assert files(tmp_path) == WHOLE


def test_a_download_stopped_after_its_last_byte_is_complete(site: Site, tmp_path: Path) -> None:
    (tmp_path / f".{SPLIT}.tar.gz.partial").write_bytes(site.archives[f"/{SPLIT}.tar.gz"])
    fetch(site, tmp_path)
    assert files(tmp_path) == WHOLE


def test_a_chunked_response_that_is_cut_off_is_an_error(site: Site, tmp_path: Path) -> None:
    site.chunked, site.cut_after = True, 40_000
    message = refusal(site, tmp_path)
    assert f"{site.url}/{SPLIT}.tar.gz can't be downloaded" in message and "to resume" in message


def test_an_archive_downloaded_by_hand_is_checked_and_unpacked(site: Site, tmp_path: Path) -> None:
    (tmp_path / f"{SPLIT}.tar.gz").write_bytes(site.archives[f"/{SPLIT}.tar.gz"])
    fetch(site, tmp_path)
    assert site.ranges == []
    assert files(tmp_path) == WHOLE


def test_a_wrong_checksum_names_both_and_the_remedy(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = download.ARCHIVE_MD5[SPLIT]
    monkeypatch.setitem(download.ARCHIVE_MD5, SPLIT, "0" * 32)
    message = refusal(site, tmp_path)
    assert f"{SPLIT}.tar.gz has the MD5 {made} instead of {'0' * 32}: remove it" in message
    assert not (tmp_path / "LibriSpeech").exists()


def test_a_missing_archive_and_a_missing_server_are_named(site: Site, tmp_path: Path) -> None:
    site.archives.clear()
    message = refusal(site, tmp_path)
    assert f"{site.url}/{SPLIT}.tar.gz can't be downloaded: HTTP Error 404" in message
    assert f"put it at {tmp_path}/{SPLIT}.tar.gz" in message
    with pytest.raises(UserError, match=r"can't be downloaded: .*refused"):
        download.download_split(SPLIT, "http://127.0.0.1:9", str(tmp_path))
    assert files(tmp_path) == set()


def test_an_unknown_split_names_the_known_ones(site: Site, tmp_path: Path) -> None:
    message = refusal(site, tmp_path, "dev-clear")
    assert "dev-clear is not a split" in message and "train-clean-100" in message


def test_a_folder_that_can_not_be_written_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = refusal(site, tmp_path / "file/below")
    assert f"{tmp_path}/file/below" in message and "can't be downloaded" in message


def test_a_second_split_joins_the_first(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(site, tmp_path)
    site.offer("test-clean", archive_of("test-clean", b"newer"), monkeypatch)
    fetch(site, tmp_path, "test-clean")
    assert files(tmp_path) == WHOLE | {name.replace(SPLIT, "test-clean") for name in WHOLE}
    assert (tmp_path / "LibriSpeech/README.TXT").read_bytes() == b"newer"


def test_remains_of_an_interrupted_unpacking_do_not_matter(site: Site, tmp_path: Path) -> None:
    rest = tmp_path / f".{SPLIT}.partial" / "LibriSpeech" / SPLIT
    rest.mkdir(parents=True)
    (rest / "half.flac").write_bytes(b"")
    fetch(site, tmp_path)
    assert files(tmp_path) == WHOLE


def test_an_archive_that_can_not_be_unpacked_is_named_and_kept(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.offer(SPLIT, b"no archive", monkeypatch)
    message = refusal(site, tmp_path)
    assert (
        f"{tmp_path}/{SPLIT}.tar.gz can't be unpacked" in message and "Free disk space" in message
    )
    assert not (tmp_path / "LibriSpeech").exists()
    assert files(tmp_path) == {f"{SPLIT}.tar.gz"}


def test_a_full_disk_is_an_error_and_unpacking_succeeds_later(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*unused: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extractall", full)
        assert "can't be unpacked: [Errno 28] No space left" in refusal(site, tmp_path)
    fetch(site, tmp_path)
    assert files(tmp_path) == WHOLE
    assert len(site.ranges) == 1  # it wasn't downloaded again
