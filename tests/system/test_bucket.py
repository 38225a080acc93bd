"""Tests that objects are written completely or not at all, and that errors are one line."""

import gc
import io
import os
import socket
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import google_crc32c
import pytest
from emulator import Emulator
from google.api_core.exceptions import PreconditionFailed

from speech.system import bucket
from utils import UserError

# Smallest request of a resumable upload.
CHUNK = 256 * 1024


@pytest.fixture
def folder(own_bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns an empty folder in the bucket; uploads use small requests."""
    monkeypatch.setattr(bucket, "CHUNK_BYTES", CHUNK)
    return own_bucket


def name_of(path: str) -> str:
    """Returns an object's name within the bucket."""
    return path.removeprefix("gs://").partition("/")[2]


def objects(emulator: Emulator, folder: str) -> dict[str, bytes]:
    """Returns name within the folder -> content."""
    prefix = name_of(folder) + "/"
    return {
        name.removeprefix(prefix): content for name, content in emulator.objects(prefix).items()
    }


def refusal(action: Callable[[], object]) -> str:
    """Returns the message of an action that raises UserError."""
    with pytest.raises(UserError) as error:
        action()
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


# --- Finding --------------------------------------------------------------------------------------


def test_a_pattern_matches_names_within_one_folder(emulator: Emulator, folder: str) -> None:
    for name in ("t.00000000", "t.00000005", ".t.00000005.part00", "t.index.json", "below/t.1"):
        emulator.put(name_of(f"{folder}/{name}"), name.encode())
    found = bucket.find_matching(f"{folder}/*")
    assert sorted(found) == [
        f"{folder}/{name}"
        for name in (".t.00000005.part00", "t.00000000", "t.00000005", "t.index.json")
    ]
    assert sorted(bucket.find_matching(f"{folder}/t.????????")) == [
        f"{folder}/t.00000000",
        f"{folder}/t.00000005",
    ]
    shard = found[f"{folder}/t.00000005"]
    assert shard.size == len("t.00000005")
    assert bucket.crc32c_of(shard) == f"{google_crc32c.value(b't.00000005'):08x}"


def test_nothing_matches_in_an_empty_folder_but_a_missing_bucket_is_an_error(folder: str) -> None:
    assert bucket.find_matching(f"{folder}/*") == {}
    message = refusal(lambda: bucket.find_matching("gs://no-such-bucket/t.*"))
    assert message.startswith("gs://no-such-bucket/t.* doesn't exist: check the bucket's name")


def test_an_object_is_found_with_its_size_or_not_at_all(emulator: Emulator, folder: str) -> None:
    emulator.put(name_of(f"{folder}/a"), b"12345")
    assert bucket.find(f"{folder}/a").size == 5
    assert bucket.find(f"{folder}/b") is None
    message = refusal(lambda: bucket.find("gs://no-such-bucket/a"))
    assert message.startswith("gs://no-such-bucket/a doesn't exist")


@pytest.mark.parametrize(
    "path", ["gs://", "gs:///t", "gs://bucket", "gs://bucket/", "gs://My_Bucket/t", "gs://-b-/t"]
)
def test_a_path_that_names_no_object_is_reported(path: str) -> None:
    assert refusal(lambda: bucket.find(path)).startswith(f"{path} can't be in a bucket: give it as")


@pytest.mark.parametrize("path", ["gs://", "gs:///t", "gs://My_Bucket/t", "gs://ab"])
def test_a_folder_that_can_not_be_in_a_bucket_is_reported(path: str) -> None:
    message = refusal(lambda: list(bucket.list_below(path)))
    assert message.startswith(f"{path} can't be in a bucket: give it as")


# --- Small objects --------------------------------------------------------------------------------


def test_written_content_is_read_back(emulator: Emulator, folder: str) -> None:
    for content in (b"first", b"", os.urandom(1000)):
        bucket.write(f"{folder}/what is it?", content)
        assert objects(emulator, folder) == {"what is it?": content}
        assert bucket.read(f"{folder}/what is it?") == content
    assert "doesn't exist" in refusal(lambda: bucket.read(f"{folder}/other"))


def test_deleting_a_missing_object_is_no_error(emulator: Emulator, folder: str) -> None:
    bucket.write(f"{folder}/a", b"a")
    bucket.write(f"{folder}/b", b"b")
    bucket.delete(f"{folder}/a")
    bucket.delete(f"{folder}/a")
    assert objects(emulator, folder) == {"b": b"b"}


def test_parts_are_joined_in_order_and_deleted(emulator: Emulator, folder: str) -> None:
    for name in "abc":
        bucket.write(f"{folder}/{name}", name.encode())
    joined = bucket.join([f"{folder}/{name}" for name in "bca"], f"{folder}/whole")
    assert objects(emulator, folder) == {"whole": b"bca"}
    assert bucket.crc32c_of(joined) == f"{google_crc32c.value(b'bca'):08x}"


@pytest.mark.parametrize("size", [0, 1000, 3 * CHUNK + 1])
def test_a_file_is_sent(emulator: Emulator, folder: str, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    with open(tmp_path / "file", "rb") as file:
        sent = bucket.send(file, size, f"{folder}/file")
    assert objects(emulator, folder) == {"file": content}
    assert bucket.crc32c_of(sent) == f"{google_crc32c.value(content):08x}"


def test_an_object_is_read_as_a_file_of_several_chunks(emulator: Emulator, folder: str) -> None:
    content = os.urandom(3 * CHUNK + 5)
    emulator.put(name_of(f"{folder}/a"), content)
    emulator.forget_requests()
    with bucket.open_reader(f"{folder}/a") as file:
        assert file.read(12) == content[:12]
        assert file.read(CHUNK) == content[12 : 12 + CHUNK]
        assert file.read() == content[12 + CHUNK :]
        assert file.read(1) == b""
    assert len(emulator.requests()) < 10
    with bucket.open_reader(f"{folder}/b") as file:
        assert f"{folder}/b doesn't exist" in refusal(lambda: file.read(1))


# --- Objects that are written in several requests -------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, CHUNK, 3 * CHUNK, 3 * CHUNK + 100])
def test_an_object_appears_when_it_is_complete(emulator: Emulator, folder: str, size: int) -> None:
    content = os.urandom(size)
    with closing(bucket.ObjectWriter(f"{folder}/a")) as writer:
        for start in range(0, size, 100_000):
            writer.write(content[start : start + 100_000])
        assert objects(emulator, folder) == {}
        writer.commit()
        assert objects(emulator, folder) == {"a": content}
    gc.collect()
    assert objects(emulator, folder) == {"a": content}


def test_a_new_object_replaces_the_old_one_when_it_is_complete(
    emulator: Emulator, folder: str
) -> None:
    bucket.write(f"{folder}/a", b"old")
    with closing(bucket.ObjectWriter(f"{folder}/a")) as writer:
        writer.write(bytes(3 * CHUNK))
        assert bucket.read(f"{folder}/a") == b"old"
        writer.commit()
    assert objects(emulator, folder) == {"a": bytes(3 * CHUNK)}


@pytest.mark.parametrize("size", [0, 100, 3 * CHUNK])
def test_an_abandoned_upload_leaves_nothing(emulator: Emulator, folder: str, size: int) -> None:
    with closing(bucket.ObjectWriter(f"{folder}/a")) as writer:
        writer.write(bytes(size))
    del writer
    gc.collect()
    assert objects(emulator, folder) == {}


@pytest.mark.parametrize("drop", [False, True])
def test_an_outage_during_an_upload_is_reported_and_leaves_nothing(
    emulator: Emulator, folder: str, drop: bool
) -> None:
    def write() -> None:
        with closing(bucket.ObjectWriter(f"{folder}/a")) as writer:
            for _ in range(10):
                writer.write(bytes(CHUNK))
            writer.commit()

    emulator.refuse_uploads_after(size=3.5 * CHUNK, drop=drop)
    message = refusal(write)
    assert message.startswith(f"{folder}/a can't be reached: ")
    assert message.endswith("run the same command again: it continues.")
    emulator.heal()
    gc.collect()
    assert objects(emulator, folder) == {}
    write()
    assert objects(emulator, folder) == {"a": bytes(10 * CHUNK)}


def test_a_request_is_repeated_after_a_short_outage(
    emulator: Emulator, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "RETRY_SECONDS", 30.0)
    emulator.lose_answers(1)
    bucket.write(f"{folder}/a", b"a")
    assert objects(emulator, folder) == {"a": b"a"}


def test_an_object_that_arrives_damaged_is_removed(emulator: Emulator, folder: str) -> None:
    emulator.damage_uploads()
    with closing(bucket.ObjectWriter(f"{folder}/a")) as writer:
        writer.write(bytes(CHUNK + 1))
        message = refusal(writer.commit)
    assert message == f"{folder}/a arrived damaged and is removed: run the same command again."
    assert objects(emulator, folder) == {}


def test_a_file_that_arrives_damaged_is_removed(
    emulator: Emulator, folder: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(bytes(9 * 2**20))
    emulator.damage_uploads()
    with open(tmp_path / "file", "rb") as file:
        message = refusal(lambda: bucket.send(file, 9 * 2**20, f"{folder}/a"))
    assert message.startswith(f"{folder}/a arrived damaged") and "again" in message
    assert objects(emulator, folder) == {}


# --- Messages -------------------------------------------------------------------------------------

ACTIONS: dict[str, Callable[[str], object]] = {
    "find": bucket.find,
    "matching": bucket.find_matching,
    "read": bucket.read,
    "read as a file": lambda path: bucket.open_reader(path).read(),
    "write": lambda path: bucket.write(path, b""),
    "join": lambda path: bucket.join([path], path),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "Anonymous credentials cannot be refreshed"), (403, "403 The caller has no access")],
)
def test_refused_access_is_reported_with_how_to_get_it(
    emulator: Emulator, folder: str, action: str, status: int, reason: str
) -> None:
    emulator.refuse_access(status)
    message = refusal(lambda: ACTIONS[action](f"{folder}/a"))
    assert message.startswith(f"{folder}/a: access is refused ({reason}). Log in (")
    assert "gcloud auth application-default login" in message and "Storage Object Admin" in message


@pytest.mark.parametrize("action", [*ACTIONS, "delete"])
def test_a_service_that_does_not_run_is_reported(
    folder: str, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        bucket._client.cache_clear()
        message = refusal(lambda: {**ACTIONS, "delete": bucket.delete}[action](f"{folder}/a"))
    assert message.startswith(f"{folder}/a can't be reached: ")
    assert "Connection refused" in message and "the network, then run the same command" in message


def test_an_overloaded_service_is_reported(emulator: Emulator, folder: str) -> None:
    emulator.refuse_uploads_after(requests=0)
    for write in (
        lambda: bucket.write(f"{folder}/a", b""),
        lambda: bucket.send(io.BytesIO(bytes(9 * 2**20)), 9 * 2**20, f"{folder}/a"),
        lambda: bucket.join([f"{folder}/b"], f"{folder}/a"),
    ):
        message = refusal(write)
        assert message.startswith(f"{folder}/a can't be reached: 503 Try again later. Check the")


def test_a_failed_precondition_is_raised_as_it_is(folder: str) -> None:
    bucket.write(f"{folder}/a", b"")
    with pytest.raises(PreconditionFailed), bucket.explain_errors(f"{folder}/a"):
        bucket.blob(f"{folder}/a").upload_from_string(b"", if_generation_match=0)


# --- google-cloud-storage -------------------------------------------------------------------------


def test_the_private_members_in_use_exist_in_google_cloud_storage(folder: str) -> None:
    upload = bucket.blob(f"{folder}/a").open("wb")
    for member, owner in (("_buffer", upload), ("_http", bucket._client())):
        assert hasattr(owner, member), (
            f"speech/system/bucket.py uses {type(owner).__name__}.{member} of google-cloud-storage "
            f"3.17.1, which version {version('google-cloud-storage')} doesn't have: adapt the "
            "functions _abandon and _keep_connections."
        )
    bucket._abandon(upload)


def test_the_client_keeps_as_many_connections_as_it_makes_requests(folder: str) -> None:
    adapter = bucket._client()._http.get_adapter("https://storage.googleapis.com")
    assert adapter._pool_maxsize == bucket.PARALLEL_REQUESTS


def test_requests_are_repeated_for_two_minutes() -> None:
    assert bucket.retry_policy().timeout == 120
    assert bucket.retry_policy(3).timeout == 3
