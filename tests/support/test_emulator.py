"""Tests that the emulated bucket behaves like a real one, as far as the program relies on it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
import requests
from doors import environment_of_door
from emulator import Emulator
from google.api_core.exceptions import (
    Forbidden,
    GoogleAPICallError,
    NotFound,
    PreconditionFailed,
    ServiceUnavailable,
)
from google.auth.exceptions import InvalidOperation
from google.cloud import storage
from google.cloud.storage.exceptions import InvalidResponse

CHUNK = 256 * 1024  # bytes, the smallest chunk of a resumable upload


@pytest.fixture
def client(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> storage.Client:
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    return storage.Client()


@pytest.fixture
def folder(bucket: str) -> str:
    """Returns the empty folder's name within the bucket."""
    return urlsplit(bucket).path.strip("/")


@pytest.fixture
def blob(client: storage.Client, emulator: Emulator, folder: str) -> storage.Blob:
    """Returns a missing object with a name that has to be quoted."""
    return client.bucket(emulator.bucket).blob(f"{folder}/what is it?.txt")


def test_client_and_emulator_see_the_same_objects(
    emulator: Emulator, client: storage.Client, blob: storage.Blob, folder: str
) -> None:
    blob.upload_from_string(b"written")
    emulator.put(f"{folder}/put", b"by the emulator")
    assert emulator.objects(f"{folder}/") == {
        f"{folder}/put": b"by the emulator",
        blob.name: b"written",
    }
    found = {each.name: each for each in client.list_blobs(emulator.bucket, prefix=folder)}
    assert {name: each.download_as_bytes() for name, each in found.items()} == emulator.objects(
        folder
    )
    emulator.delete(blob.name)
    assert not blob.exists()
    with pytest.raises(NotFound):
        blob.delete()


def upload(blob: storage.Blob, **conditions: int) -> None:
    blob.upload_from_string(b"new", retry=None, **conditions)


def upload_in_chunks(blob: storage.Blob, **conditions: int) -> None:
    blob.chunk_size = CHUNK
    blob.upload_from_string(b"new" * CHUNK, retry=None, **conditions)


def compose(blob: storage.Blob, **conditions: int) -> None:
    source = blob.bucket.blob(f"{blob.name}.part")
    source.upload_from_string(b"new")
    blob.compose([source], **conditions)


def delete(blob: storage.Blob, **conditions: int) -> None:
    blob.delete(**conditions)


WRITERS = [upload, upload_in_chunks, compose]


@pytest.mark.parametrize("write", WRITERS)
def test_an_object_that_must_not_exist_is_written_once(
    emulator: Emulator, blob: storage.Blob, write: Callable[..., None]
) -> None:
    write(blob, if_generation_match=0)
    emulator.put(blob.name, b"old")
    with pytest.raises(PreconditionFailed, match="pre-conditions"):
        write(blob, if_generation_match=0)
    assert emulator.objects(blob.name)[blob.name] == b"old"


@pytest.mark.parametrize("change", [*WRITERS, delete])
def test_an_object_of_another_generation_is_not_changed(
    emulator: Emulator, blob: storage.Blob, change: Callable[..., None]
) -> None:
    blob.upload_from_string(b"old")
    assert blob.generation
    with pytest.raises(PreconditionFailed):
        change(blob, if_generation_match=blob.generation + 1)
    with pytest.raises(PreconditionFailed):
        change(blob, if_generation_match=0)
    if change is not compose:  # whose client has no such condition
        with pytest.raises(PreconditionFailed):
            change(blob, if_generation_not_match=blob.generation)
    assert emulator.objects(blob.name)[blob.name] == b"old"
    change(blob, if_generation_match=blob.generation)
    assert emulator.objects(blob.name).get(blob.name) != b"old"


def test_an_object_that_appears_during_a_resumable_upload_is_not_changed(
    emulator: Emulator, blob: storage.Blob
) -> None:
    file = blob.open("wb", chunk_size=CHUNK, if_generation_match=0)
    file.write(bytes(CHUNK + 1))  # the first chunk is sent
    emulator.put(blob.name, b"the other's")
    with pytest.raises(InvalidResponse) as error:
        file.close()
    assert error.value.response.status_code == 412
    assert emulator.objects(blob.name) == {blob.name: b"the other's"}


def test_an_upload_in_chunks_is_complete(emulator: Emulator, blob: storage.Blob) -> None:
    content = os.urandom(3 * CHUNK + 5)
    emulator.forget_requests()
    with blob.open("wb", chunk_size=CHUNK) as file:
        file.write(content)
    assert emulator.objects(blob.name) == {blob.name: content}
    chunks = [path for method, path in emulator.requests() if method == "PUT"]
    assert len(chunks) == 4 and all(f"&name={blob.name}" in path for path in chunks)


def test_a_composed_object_has_its_parts_in_order(
    emulator: Emulator, blob: storage.Blob, folder: str
) -> None:
    parts = [blob.bucket.blob(f"{folder}/part-{number}") for number in range(3)]
    for number, part in enumerate(parts):
        part.upload_from_string(bytes([number]) * 2)
    blob.compose(parts, if_generation_match=0)
    assert emulator.objects()[blob.name] == b"\0\0\1\1\2\2"
    assert blob.size == 6 and blob.crc32c
    blob.compose([blob, parts[0]], if_generation_match=blob.generation)
    assert emulator.objects()[blob.name] == b"\0\0\1\1\2\2\0\0"


def test_requests_have_the_name_of_the_object(
    emulator: Emulator, blob: storage.Blob, client: storage.Client
) -> None:
    emulator.forget_requests()
    blob.upload_from_string(b"new")
    assert blob.exists()
    upload_path = f"/upload/storage/v1/b/{emulator.bucket}/o?uploadType=multipart&name={blob.name}"
    (sent,) = (request for request in emulator.requests() if request[0] == "POST")
    assert sent == ("POST", upload_path)
    emulator.forget_requests()
    assert emulator.requests() == []


def test_uploads_are_refused_after_a_number_of_requests(
    emulator: Emulator, blob: storage.Blob
) -> None:
    emulator.refuse_uploads_after(requests=1)
    upload(blob)
    for _ in range(2):
        with pytest.raises(ServiceUnavailable):
            upload(blob)
    assert blob.download_as_bytes() == b"new"
    emulator.heal()
    upload(blob)


def test_uploads_are_refused_after_a_number_of_bytes(
    emulator: Emulator, blob: storage.Blob
) -> None:
    blob.chunk_size = CHUNK
    emulator.refuse_uploads_after(size=2 * CHUNK)
    with pytest.raises(ServiceUnavailable):
        blob.upload_from_string(bytes(4 * CHUNK), retry=None)
    with pytest.raises(ServiceUnavailable):  # although it would fit
        upload(blob)
    assert emulator.objects(blob.name) == {}


def test_connections_of_uploads_are_dropped(emulator: Emulator, blob: storage.Blob) -> None:
    emulator.refuse_uploads_after(requests=0, drop=True)
    with pytest.raises(requests.ConnectionError):
        upload(blob)
    assert not blob.exists()


def test_a_vanished_bucket_is_not_found_until_heal(
    emulator: Emulator, blob: storage.Blob, client: storage.Client
) -> None:
    upload(blob)
    emulator.vanish()
    actions: list[Callable[[], object]] = [
        blob.download_as_bytes,
        lambda: upload(blob),
        lambda: list(client.list_blobs(emulator.bucket)),
        blob.bucket.reload,
    ]
    for action in actions:
        with pytest.raises(NotFound, match="bucket does not exist"):
            action()
    emulator.heal()
    assert blob.download_as_bytes() == b"new"


@pytest.mark.parametrize(("status", "error"), [(401, InvalidOperation), (403, Forbidden)])
def test_access_is_refused_until_heal(
    emulator: Emulator, blob: storage.Blob, status: int, error: type[Exception]
) -> None:
    """At status 401 the client tries to renew its token, which it can't."""
    emulator.refuse_access(status)
    for action in (blob.exists, lambda: upload(blob)):
        with pytest.raises(error):
            action()
    emulator.heal()
    upload(blob)


def test_writing_is_refused_and_reading_is_not(
    emulator: Emulator, blob: storage.Blob, client: storage.Client
) -> None:
    upload(blob)
    emulator.refuse_writes()
    for action in (lambda: upload(blob), lambda: upload_in_chunks(blob), blob.delete):
        with pytest.raises(Forbidden, match="may only read"):
            action()
    assert blob.download_as_bytes() == b"new"
    assert [each.name for each in client.list_blobs(emulator.bucket, prefix=blob.name)]
    emulator.heal()
    upload(blob)


def test_requests_are_executed_whose_answers_are_lost(
    emulator: Emulator, blob: storage.Blob
) -> None:
    emulator.lose_answers(1)
    with pytest.raises(requests.ConnectionError):
        upload(blob, if_generation_match=0)
    assert emulator.objects(blob.name) == {blob.name: b"new"}
    with pytest.raises(PreconditionFailed):
        upload(blob, if_generation_match=0)


def test_uploads_are_damaged_but_not_objects_of_put(emulator: Emulator, blob: storage.Blob) -> None:
    emulator.damage_uploads()
    upload(blob)
    assert emulator.objects(blob.name) == {blob.name: b"oew"}
    damaged = blob.crc32c
    emulator.put(blob.name, b"new")
    blob.reload()
    assert blob.crc32c != damaged and blob.download_as_bytes() == b"new"


def test_a_missing_bucket_is_not_found(client: storage.Client) -> None:
    with pytest.raises(GoogleAPICallError) as error:
        client.bucket("no-such-bucket").blob("object").upload_from_string(b"", retry=None)
    assert error.value.code == 404


def tensorflow(emulator: Emulator, bucket: str, program: str) -> subprocess.Popen[str]:
    """Starts a program with the names `gfile` and `folder`, the empty folder."""
    prelude = f"import tensorflow as tf; gfile = tf.io.gfile; folder = {bucket!r}\n"
    return subprocess.Popen(
        [sys.executable, "-c", prelude + program],
        env=environment_of_door({**emulator.environment, "TF_CPP_MIN_LOG_LEVEL": "2"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_tensorflow_reads_and_writes(emulator: Emulator, bucket: str, folder: str) -> None:
    emulator.put(f"{folder}/there.txt", b"written by another client")
    program = """
print(gfile.GFile(f"{folder}/there.txt").read(), gfile.stat(f"{folder}/there.txt").length)
gfile.makedirs(f"{folder}/new/folder")
with gfile.GFile(f"{folder}/new/long", "w") as file:
    file.write("0123456789" * 100_000)
with tf.io.TFRecordWriter(f"{folder}/new/records") as writer:
    for number in range(1000):
        writer.write(b"%d" % number)
print(len(list(tf.data.TFRecordDataset(f"{folder}/new/records"))))
gfile.rename(f"{folder}/new/long", f"{folder}/renamed")
gfile.rmtree(f"{folder}/new/folder")
print(gfile.exists(f"{folder}/new/long"), gfile.glob(f"{folder}/*"), sorted(gfile.listdir(folder)))
"""
    output, errors = tensorflow(emulator, bucket, program).communicate(timeout=60)
    names = ["new", "renamed", "there.txt"]
    assert output.splitlines() == [
        "written by another client 25",
        "1000",
        f"False {[f'{bucket}/{name}' for name in names]} {['new/', *names[1:]]}",
    ], errors
    objects = emulator.objects(folder)
    assert objects[f"{folder}/renamed"] == b"0123456789" * 100_000
    assert objects[f"{folder}/new/"] == b"" and f"{folder}/new/folder/" not in objects


def test_tensorflow_resumes_a_refused_upload(emulator: Emulator, bucket: str, folder: str) -> None:
    program = """
with gfile.GFile(f"{folder}/file", "w") as file:
    file.write("0123456789" * 100_000)
"""
    emulator.forget_requests()
    emulator.refuse_uploads_after(requests=1)  # the start of the upload, but not its content
    with tensorflow(emulator, bucket, program) as writing:
        limit = time.monotonic() + 60
        while not any(method == "PUT" for method, _ in emulator.requests()):
            assert writing.poll() is None and time.monotonic() < limit
            time.sleep(0.01)
        emulator.heal()
        _, errors = writing.communicate(timeout=60)
    assert writing.returncode == 0, errors
    assert emulator.objects(folder) == {f"{folder}/file": b"0123456789" * 100_000}
    assert sum(method == "PUT" for method, _ in emulator.requests()) > 1


def test_the_emulator_ends_with_the_process_that_started_it() -> None:
    pytest.importorskip("gcp_storage_emulator")
    program = """
import time, emulator
with emulator.Emulator() as running:
    print(running.environment["STORAGE_EMULATOR_HOST"], flush=True)
    time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=os.path.dirname(__file__),
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout
        address = urlsplit(owner.stdout.readline())
        assert address.hostname and address.port
        assert answers(address.hostname, address.port)
        owner.send_signal(signal.SIGKILL)
    limit = time.monotonic() + 10
    while answers(address.hostname, address.port):
        assert time.monotonic() < limit
        time.sleep(0.01)


def answers(host: str, port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex((host, port)) == 0
