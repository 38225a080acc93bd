"""An upload is complete, continues where it stopped, and sends nothing twice."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import google_crc32c
import pytest
from doors import ROOT, environment_of_door
from emulator import Emulator
from tiny_shards import random_utterances, write_shards

from speech.shards.index import Index, read_index
from speech.shards.paths import index_path
from speech.shards.shard_set import find_shards
from speech.shards.upload import MOST_PARTS, Uploaded, upload
from speech.shards.verify import verify
from speech.system import bucket, lock, storage
from utils import UserError

SHARDS = 3
NAMES = [f"t.{start:08d}" for start in range(0, 5 * SHARDS, 5)]


@pytest.fixture
def local(tmp_path: Path) -> str:
    """A set of three shards of five records; each has about 6 KB."""
    write_shards(tmp_path / "data", random_utterances([40] * 5 * SHARDS, bins=4), name="t")
    return str(tmp_path / "data" / "t")


@pytest.fixture
def long(tmp_path: Path) -> str:
    """A set of one shard of random bytes, of 5 MiB; its records can't be read."""
    return shard_of(tmp_path / "data" / "t", random.Random(0).randbytes(5 * 2**20))


def shard_of(path: Path, content: bytes) -> str:
    """A set of one shard with that content."""
    write_shards(path.parent, random_utterances([40], bins=4), name=path.name)
    path.with_name(f"{path.name}.00000000").write_bytes(content)
    crc32c = f"{google_crc32c.value(content):08x}"
    index = index_of(str(path))
    shard = replace(index.shards[0], bytes=len(content), crc32c=crc32c)
    storage.write_text(index_path(str(path)), replace(index, shards=(shard,)).to_json())
    return str(path)


def index_of(tfrecords_file: str) -> Index:
    index = read_index(tfrecords_file)
    assert index is not None
    return index


def contents(tfrecords_file: str) -> dict[str, bytes]:
    """Name -> content of every file of a local set's folder."""
    folder = Path(tfrecords_file).parent
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def objects(emulator: Emulator, folder: str) -> dict[str, bytes]:
    prefix = folder.removeprefix(f"gs://{emulator.bucket}/") + "/"
    return {
        name.removeprefix(prefix): content for name, content in emulator.objects(prefix).items()
    }


def settled(emulator: Emulator, folder: str) -> dict[str, bytes]:
    """The objects when the last requests of a process that was killed have been served."""
    before, now = None, objects(emulator, folder)
    while before != now:
        time.sleep(0.3)
        before, now = now, objects(emulator, folder)
    return now


def put(emulator: Emulator, path: str, content: bytes) -> None:
    emulator.put(path.removeprefix(f"gs://{emulator.bucket}/"), content)


def asked(emulator: Emulator) -> Counter[str]:
    """How often everything was asked for: a method, and for uploads the object's name.

    What the lock needs is left out.
    """

    def kind(method: str, path: str) -> str:
        name = re.search(r"&name=[^&]*?([^/&]*)$", path)
        return f"{method} {name[1]}" if name else method

    return Counter(kind(method, path) for method, path in requests(emulator))


def requests(emulator: Emulator) -> list[tuple[str, str]]:
    """(method, path) of all requests but those of the lock."""
    # The client looks at the bucket itself now and then, in another thread.
    own = f"/storage/v1/b/{emulator.bucket}?"
    return [
        (method, path)
        for method, path in emulator.requests()
        if not path.startswith(own) and ".t.lock" not in path
    ]


def sent(emulator: Emulator) -> list[str]:
    """Names of the objects of which data was sent, by their names."""
    return sorted(kind.split()[1] for kind in asked(emulator) if " " in kind)


def refusal(local: str, folder: str, part_bytes: int = 2**20) -> str:
    with pytest.raises(UserError) as error:
        upload(local, folder, part_bytes)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


# --- What arrives ---------------------------------------------------------------------------------


def test_everything_arrives_in_as_few_requests_as_there_are_files(
    emulator: Emulator, own_bucket: str, local: str
) -> None:
    emulator.forget_requests()
    done = upload(local, f"{own_bucket}/data")
    sizes = {name: len(content) for name, content in contents(local).items()}
    index = sizes.pop("t.index.json")
    assert index > 0 and done == Uploaded(SHARDS, 0, sum(sizes.values()))
    assert objects(emulator, f"{own_bucket}/data") == contents(local)
    # Is there an index (two requests, as it is missing)? Which shards, which parts?
    assert asked(emulator) == {
        "GET": 4,
        **{f"POST {name}": 1 for name in [*NAMES, "t.index.json"]},
    }
    # The index comes last: before it there is no set.
    _, last = requests(emulator)[-1]
    assert "name=" in last and last.endswith("t.index.json")


@pytest.mark.parametrize("folder", ["", "/", "/data/of//mine//"])
def test_the_folder_may_be_written_in_several_ways(
    emulator: Emulator, own_bucket: str, local: str, folder: str
) -> None:
    upload(local, own_bucket + folder)
    assert objects(emulator, (own_bucket + folder).rstrip("/")) == contents(local)


def test_training_and_verification_take_what_has_arrived(own_bucket: str, local: str) -> None:
    upload(local, f"{own_bucket}/data", part_bytes=1000)
    target = f"{own_bucket}/data/t"
    shards = find_shards(f"{target}.*")
    assert shards.files == tuple(f"{own_bucket}/data/{name}" for name in NAMES)
    assert shards.index == find_shards(f"{local}.*").index
    verified = verify(target)
    assert (verified.records, verified.damages) == (5 * SHARDS, ())


@pytest.mark.parametrize(("part_bytes", "parts"), [(1024, 6), (2**12, 2), (1, MOST_PARTS)])
def test_a_shard_of_several_parts_is_joined_and_nothing_else_is_left(
    emulator: Emulator, own_bucket: str, local: str, part_bytes: int, parts: int
) -> None:
    emulator.forget_requests()
    done = upload(local, own_bucket, part_bytes)
    assert done.bytes == sum(len(contents(local)[name]) for name in NAMES)
    assert objects(emulator, own_bucket) == contents(local)
    counted = asked(emulator)
    assert counted["DELETE"] == SHARDS * parts and counted["GET"] == 4
    assert [f".{name}.part{n:02d}" for name in NAMES for n in range(parts)] == [
        name for name in sent(emulator) if ".part" in name
    ]
    assert all(count == 1 for kind, count in counted.items() if ".part" in kind)


def test_a_part_is_sent_in_several_requests(
    emulator: Emulator, own_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is more than 8 MiB goes up piece by piece."""
    monkeypatch.setattr(bucket, "CHUNK_BYTES", 4 * 2**20)
    long = shard_of(tmp_path / "data" / "t", random.Random(1).randbytes(19 * 2**20))
    emulator.forget_requests()
    done = upload(long, own_bucket, part_bytes=10 * 2**20)
    assert done == Uploaded(1, 0, 19 * 2**20)
    assert objects(emulator, own_bucket) == contents(long)
    counted = asked(emulator)
    assert [counted[f"PUT .{NAMES[0]}.part{n:02d}"] for n in range(3)] == [3, 3, 0]


def test_a_name_may_have_a_patterns_characters(
    emulator: Emulator, own_bucket: str, tmp_path: Path
) -> None:
    write_shards(tmp_path / "a", random_utterances([40] * 5, bins=4), name="t")
    (tmp_path / "a").rename(tmp_path / "a[1]")
    local, folder = str(tmp_path / "a[1]" / "t"), f"{own_bucket}/b[0-9]"
    assert upload(local, folder).sent == 1
    assert upload(local, folder) == Uploaded(0, 1, 0)
    assert objects(emulator, folder) == contents(local)
    assert verify(local) == verify(f"{folder}/t")


def test_shards_without_records_arrive(emulator: Emulator, own_bucket: str, tmp_path: Path) -> None:
    empty = shard_of(tmp_path / "data" / "t", b"")
    assert upload(empty, own_bucket) == Uploaded(1, 0, 0)
    assert objects(emulator, own_bucket) == contents(empty)
    assert upload(empty, own_bucket) == Uploaded(0, 1, 0)


def test_other_sets_of_the_folder_are_left_alone(
    emulator: Emulator, own_bucket: str, local: str
) -> None:
    others = {"u.00000000": b"u", "t.more.00000000": b"m", ".t.more.00000000.part00": b"p"}
    for name, content in others.items():
        put(emulator, f"{own_bucket}/{name}", content)
    upload(local, own_bucket, part_bytes=1000)
    assert objects(emulator, own_bucket) == {**contents(local), **others}


# --- A second time, and after a stop --------------------------------------------------------------


@pytest.mark.parametrize("part_bytes", [1000, 2**20])
def test_the_second_time_no_shard_is_sent(
    emulator: Emulator, own_bucket: str, local: str, part_bytes: int
) -> None:
    upload(local, own_bucket, part_bytes)
    emulator.forget_requests()
    assert upload(local, own_bucket, part_bytes) == Uploaded(0, SHARDS, 0)
    assert asked(emulator) == {"GET": 4, "POST t.index.json": 1}
    assert objects(emulator, own_bucket) == contents(local)


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("requests", [0, 3, 11])
def test_after_an_outage_only_what_is_missing_is_sent(
    emulator: Emulator, own_bucket: str, local: str, requests: int, drop: bool
) -> None:
    """18 parts of three shards."""
    emulator.refuse_uploads_after(requests=requests, drop=drop)
    message = refusal(local, own_bucket, part_bytes=1000)
    assert message.startswith(f"{own_bucket}/") and "can't be reached: " in message
    assert message.endswith("run the same command again: it continues.")
    there = objects(emulator, own_bucket)
    assert "t.index.json" not in there and len(there) <= requests
    emulator.heal()

    emulator.forget_requests()
    done = upload(local, own_bucket, part_bytes=1000)
    assert objects(emulator, own_bucket) == contents(local)
    whole = [name for name in there if name in NAMES]
    assert done.already_there == len(whole)
    assert not set(there) & set(sent(emulator)), "sent again"
    # Whole shards and parts of others: what has arrived is all the shards' bytes but these.
    parts = sum(len(content) for name, content in there.items())
    assert done.bytes == sum(len(contents(local)[name]) for name in NAMES) - parts


def test_an_upload_that_is_killed_continues_where_it_was(
    emulator: Emulator, own_bucket: str, long: str
) -> None:
    part_bytes = 2**17  # 40 parts are too many: of 32 each has 160 KiB
    program = (
        "import sys; from speech.shards.upload import upload;"
        "upload(*sys.argv[1:3], int(sys.argv[3]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, long, own_bucket, str(part_bytes)],
        cwd=ROOT,
        env=environment_of_door(emulator.environment),
        stderr=subprocess.DEVNULL,
    ) as killed:
        until = time.monotonic() + 30
        while len(objects(emulator, own_bucket)) < 5:
            assert killed.poll() is None and time.monotonic() < until
            time.sleep(0.001)
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    there = settled(emulator, own_bucket)
    assert len(there) >= 5 and "t.index.json" not in there
    assert there.pop(".t.lock")  # of the killed process: taken over
    emulator.forget_requests()
    done = upload(long, own_bucket, part_bytes)
    assert objects(emulator, own_bucket) == contents(long)
    assert not set(there) & set(sent(emulator)), "sent again"
    assert done.bytes == 5 * 2**20 - sum(map(len, there.values()))
    assert asked(emulator)["DELETE"] == MOST_PARTS


def test_parts_of_another_size_are_replaced_and_removed(
    emulator: Emulator, own_bucket: str, local: str
) -> None:
    """As in an older version, and after an upload that stopped while it removed its parts."""
    for number in range(9):
        put(emulator, f"{own_bucket}/.{NAMES[0]}.part{number:02d}", bytes(77))
    upload(local, own_bucket, part_bytes=1000)
    assert objects(emulator, own_bucket) == contents(local)
    put(emulator, f"{own_bucket}/.{NAMES[0]}.part00", bytes(77))
    assert upload(local, own_bucket, part_bytes=1000) == Uploaded(0, SHARDS, 0)
    assert objects(emulator, own_bucket) == contents(local)


def test_an_incomplete_set_is_copied_with_a_warning_and_completed_later(
    emulator: Emulator, own_bucket: str, local: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole, path = index_of(local), Path(f"{local}.00000010")
    last = path.read_bytes()
    path.unlink()
    storage.write_text(index_path(local), whole.without_shard(whole.shards[2]).to_json())
    assert upload(local, own_bucket).sent == 2
    assert f"{local} is incomplete: only its finished shards are copied" in caplog.text
    assert objects(emulator, own_bucket) == contents(local)

    path.write_bytes(last)
    storage.write_text(index_path(local), whole.to_json())
    caplog.clear()
    assert upload(local, own_bucket) == Uploaded(1, 2, len(last))
    assert "incomplete" not in caplog.text
    assert objects(emulator, own_bucket) == contents(local)


def test_a_shard_that_was_damaged_or_lost_in_the_bucket_is_sent_again(
    emulator: Emulator, own_bucket: str, local: str
) -> None:
    upload(local, own_bucket)
    put(emulator, f"{own_bucket}/{NAMES[0]}", b"damaged")
    bucket.delete(f"{own_bucket}/{NAMES[2]}")
    assert upload(local, own_bucket).sent == 2
    assert objects(emulator, own_bucket) == contents(local)


# --- What is refused ------------------------------------------------------------------------------


def test_a_set_that_is_not_there(own_bucket: str, tmp_path: Path) -> None:
    message = refusal(str(tmp_path / "t"), own_bucket)
    assert message.startswith(f"{tmp_path}/t.index.json is missing: prepare the shards first")


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_shard_of_another_size_is_refused_before_anything_is_sent(
    emulator: Emulator, own_bucket: str, local: str, damage: str
) -> None:
    if damage == "cut":
        os.truncate(f"{local}.00000010", 1000)
    else:
        os.remove(f"{local}.00000010")
    message = refusal(local, own_bucket)
    assert message.startswith(f"{local}.00000010 differs from what was written: remove it")
    assert "repeat the command that prepared it" in message
    assert objects(emulator, own_bucket) == {}


@pytest.mark.parametrize("part_bytes", [1000, 2**20])
def test_a_changed_shard_is_refused_and_nothing_of_it_is_sent(
    emulator: Emulator, own_bucket: str, local: str, part_bytes: int
) -> None:
    with open(f"{local}.00000005", "r+b") as file:
        file.seek(100)
        file.write(b"x")
    emulator.forget_requests()
    message = refusal(local, own_bucket, part_bytes)
    assert message.startswith(f"{local}.00000005 differs from what was written: remove it")
    assert not [name for name in sent(emulator) if NAMES[1] in name or "index" in name]
    assert not [name for name in objects(emulator, own_bucket) if NAMES[1] in name]


@pytest.mark.parametrize("other", ["settings", "corpus"])
def test_another_set_of_that_name_in_the_bucket_is_left_alone(
    emulator: Emulator, own_bucket: str, local: str, other: str
) -> None:
    index = index_of(local)
    if other == "settings":
        there = replace(index, settings=replace(index.settings, padded=False))
    else:
        there = replace(index, corpus_digest="of another")
    put(emulator, f"{own_bucket}/t.index.json", there.to_json().encode())
    message = refusal(local, own_bucket)
    assert message.startswith(f"{own_bucket}/t.index.json belongs to another set")
    assert "remove it, or upload to another folder" in message
    assert list(objects(emulator, own_bucket)) == ["t.index.json"]


def test_a_set_that_is_further_in_the_bucket_is_left_alone(
    emulator: Emulator, own_bucket: str, local: str
) -> None:
    upload(local, own_bucket)
    before = objects(emulator, own_bucket)
    whole = index_of(local)
    storage.write_text(index_path(local), whole.without_shard(whole.shards[1]).to_json())
    message = refusal(local, own_bucket)
    assert message.startswith(f"{own_bucket}/t.index.json lists 1 shards that {local} doesn't have")
    assert objects(emulator, own_bucket) == before


@pytest.mark.parametrize("part_bytes", [1000, 2**20])
def test_what_arrives_damaged_is_removed_and_told(
    emulator: Emulator, own_bucket: str, local: str, part_bytes: int
) -> None:
    emulator.damage_uploads()
    message = refusal(local, own_bucket, part_bytes)
    assert re.match(rf"{own_bucket}/t\.000000(00|05|10) arrived damaged and is removed", message)
    emulator.heal()
    left = objects(emulator, own_bucket)
    assert "t.index.json" not in left
    upload(local, own_bucket, part_bytes)
    assert objects(emulator, own_bucket) == contents(local)


def test_a_second_upload_to_the_same_place_is_refused(
    emulator: Emulator,
    own_bucket: str,
    local: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    send, under_way = bucket.send, threading.Event()

    def slowly(file: object, size: int, path: str) -> object:
        under_way.set()
        time.sleep(0.5)
        return send(file, size, path)

    monkeypatch.setattr(bucket, "send", slowly)
    with ThreadPoolExecutor(1) as other:
        first = other.submit(upload, local, own_bucket, 1000)
        assert under_way.wait(10)
        message = refusal(local, own_bucket, 1000)
        assert f"Another run (process {os.getpid()} on " in message
        assert first.result(timeout=60).sent == SHARDS
    assert objects(emulator, own_bucket) == contents(local)


def test_a_bucket_that_is_not_there(local: str, own_bucket: str) -> None:
    message = refusal(local, "gs://no-such-bucket/data")
    assert message.startswith("gs://no-such-bucket/data/.t.lock doesn't exist: check the bucket")


def test_ctrl_c_ends_it_promptly(
    emulator: Emulator, own_bucket: str, long: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, halves = bucket.send, threading.Semaphore(0)

    def slowly(file: object, size: int, path: str) -> object:
        halves.release()
        time.sleep(0.5)
        return send(file, size, path)

    def interrupt() -> None:
        for _ in range(3):
            halves.acquire()
        main = threading.main_thread().ident
        assert main
        signal.pthread_kill(main, signal.SIGINT)

    monkeypatch.setattr(bucket, "send", slowly)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            upload(long, own_bucket, 2**17)  # 32 parts: 4 turns of 8
        assert time.monotonic() - started < 1.5
        interrupting.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert objects(emulator, own_bucket) == {}
