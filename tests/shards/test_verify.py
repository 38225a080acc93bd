"""Verification reports every damaged shard, with any kind of damage."""

import glob
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from emulator import Emulator
from tiny_shards import random_utterances, write_shards

from speech.corpora.formats.librispeech import find_utterances
from speech.features.front_end import FrontEnd
from speech.preparation.write_shards import prepare
from speech.shards import verify
from speech.shards.index import ShardSettings, read_index
from speech.shards.paths import index_path
from speech.shards.records import RECORD_FOOTER, RECORD_HEADER, frame_record, read_records
from speech.shards.upload import upload
from speech.system import storage
from utils import ENGLISH, UserError

WriteSplit = Callable[[Path, dict[str, str]], None]

RECORDS = 5  # a shard
SHARDS = 4


@pytest.fixture
def local(tmp_path: Path) -> str:
    """A set of four shards of five records."""
    folder = tmp_path / "data[1]"  # also a pattern
    write_shards(folder, random_utterances([40] * RECORDS * SHARDS, bins=4), name="t")
    return str(folder / "t")


@pytest.fixture(params=["local", "bucket"])
def written(request: pytest.FixtureRequest, local: str) -> str:
    """The same set on this machine, and in a bucket."""
    if request.param == "local":
        return local
    folder = f"{request.getfixturevalue('own_bucket')}/data[1]"
    upload(local, folder)
    return f"{folder}/t"


def shard(tfrecords_file: str, number: int) -> str:
    return f"{tfrecords_file}.{number * RECORDS:08d}"


def read(path: str) -> bytes:
    with storage.open_reader(path) as file:
        return file.read()


def write(path: str, content: bytes) -> None:
    writer = storage.open_writer(path)
    writer.write(content)
    writer.commit()
    writer.close()


def records(path: str) -> list[bytes]:
    with storage.open_reader(path) as file:
        return list(read_records(file))


def framed(payloads: list[bytes]) -> bytes:
    return b"".join(piece for payload in payloads for piece in frame_record(payload))


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def test_a_whole_set_is_counted(written: str) -> None:
    size = sum(storage.sizes(f"{glob.escape(written)}.0*").values())
    assert verify.verify(written) == verify.Verified(RECORDS * SHARDS, size, ())


PAYLOAD = 1000  # a position in the first record's payload


@pytest.mark.parametrize(
    ("record", "position", "problem"),
    [
        (0, RECORD_HEADER.size + PAYLOAD, "is damaged"),
        (2, RECORD_HEADER.size + PAYLOAD, "is damaged"),
        (4, -1, "is damaged"),  # in the payload's checksum
        (0, 0, "has a damaged length"),
        (3, 7, "has a damaged length"),
        (1, 8, "has a damaged length"),  # in the length's checksum
    ],
)
def test_a_changed_bit_is_found_wherever_it_is(
    written: str, record: int, position: int, problem: str
) -> None:
    path = shard(written, 1)
    sizes = [sum(map(len, frame_record(payload))) for payload in records(path)]
    start = sum(sizes[:record])
    write(path, flipped(read(path), start + position % sizes[record]))
    found = verify.verify(written)
    assert found.damages == (f"{path}: the record at byte {start} {problem}",)
    assert found.records == RECORDS * (SHARDS - 1)
    assert found.bytes == sum(storage.sizes(f"{glob.escape(written)}.0*").values()) - sum(sizes)


@pytest.mark.parametrize("cut", [1, RECORD_FOOTER.size, 500, -1, -RECORD_HEADER.size])
def test_a_file_cut_short_is_found(written: str, cut: int) -> None:
    """cut: bytes missing from the last record, or, if negative, its remaining bytes."""
    path = shard(written, 3)
    last = sum(map(len, frame_record(records(path)[-1])))
    start = len(read(path)) - last
    write(path, read(path)[: start + (last - cut if cut > 0 else -cut)])
    assert verify.verify(written).damages == (f"{path}: the record at byte {start} is cut short",)


def test_records_that_are_missing_or_too_many_are_found(written: str) -> None:
    few, many, none = (shard(written, number) for number in (0, 1, 2))
    payloads = records(few)
    write(few, framed(payloads[:2] + payloads[3:]))
    write(many, framed([*records(many), b"one more"]))
    write(none, b"")
    assert verify.verify(written).damages == (
        f"{few}: has 4 records, the index says 5",
        f"{many}: has 6 records, the index says 5",
        f"{none}: has 0 records, the index says 5",
    )


def test_swapped_records_and_swapped_shards_are_found(written: str) -> None:
    """All of it is well-formed and of the right number."""
    payloads = records(shard(written, 0))
    write(shard(written, 0), framed([payloads[1], payloads[0], *payloads[2:]]))
    one, other = (read(shard(written, number)) for number in (1, 2))
    write(shard(written, 1), other)
    write(shard(written, 2), one)
    index = read_index(written)
    assert index is not None
    first, second, third = verify.verify(written).damages
    assert first.startswith(f"{shard(written, 0)}: has the checksum ")
    assert first.endswith(f", the index says {index.shards[0].crc32c}")
    mixed = [index.shards[number].crc32c for number in (2, 1)]
    assert second == (
        f"{shard(written, 1)}: has the checksum {mixed[0]}, the index says {mixed[1]}"
    )
    assert third.startswith(f"{shard(written, 2)}: has the checksum {mixed[1]}")


def test_every_damaged_shard_is_reported(written: str, emulator: Emulator) -> None:
    write(shard(written, 0), flipped(read(shard(written, 0)), PAYLOAD))
    write(shard(written, 1), read(shard(written, 1))[:-1])
    if storage.in_bucket(written):
        emulator.delete(shard(written, 3).removeprefix(f"gs://{emulator.bucket}/"))
    else:
        os.remove(shard(written, 3))
    found = verify.verify(written)
    assert [damage.split(": ")[0] for damage in found.damages] == [
        shard(written, number) for number in (0, 1, 3)
    ]
    assert found.damages[2] == f"{shard(written, 3)}: is missing"
    assert found.records == RECORDS


def test_a_shard_that_can_not_be_read_is_reported(local: str) -> None:
    os.remove(shard(local, 2))
    os.mkdir(shard(local, 2))
    assert verify.verify(local).damages == (f"{shard(local, 2)}: can't be read: Is a directory",)


def test_a_set_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path}/t\.index\.json is missing: name the set"):
        verify.verify(str(tmp_path / "t"))


def test_an_incomplete_set_is_verified_as_far_as_it_is(
    local: str, caplog: pytest.LogCaptureFixture
) -> None:
    index = read_index(local)
    assert index is not None
    storage.write_text(index_path(local), index.without_shard(index.shards[1]).to_json())
    assert verify.verify(local).records == RECORDS * (SHARDS - 1)
    assert f"{local} is incomplete: only its finished shards are read" in caplog.text


def test_a_bucket_that_vanishes_is_reported(
    emulator: Emulator, own_bucket: str, local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(local, own_bucket)
    open_reader = storage.open_reader

    def open_and_vanish(path: str) -> object:
        emulator.vanish()
        return open_reader(path)

    monkeypatch.setattr(storage, "open_reader", open_and_vanish)
    with pytest.raises(
        UserError, match=rf"{own_bucket}/t\.000000.. doesn't exist: check the bucket"
    ):
        verify.verify(f"{own_bucket}/t")


def test_ctrl_c_does_not_wait_for_the_shards_that_are_read(
    local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(file: object) -> object:
        for payload in read_records(file):  # type: ignore[arg-type]
            time.sleep(0.5)
            yield payload

    def interrupt() -> None:
        main = threading.main_thread().ident
        assert main
        signal.pthread_kill(main, signal.SIGINT)

    monkeypatch.setattr(verify, "read_records", slowly)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(0.2, interrupt).start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            verify.verify(local)
        assert time.monotonic() - started < 1.5
    finally:
        signal.signal(signal.SIGINT, before)


def test_after_removing_what_is_damaged_and_preparing_again_all_is_whole(
    tmp_path: Path, write_split: WriteSplit
) -> None:
    write_split(tmp_path / "speech", {f"1-1-{number:04d}": "IT" for number in range(6)})
    settings = ShardSettings(
        front_end=FrontEnd(mel_filters=4),
        alphabet=ENGLISH,
        partition_size=2,
        max_sequence_length=50,
        max_label_length=12,
        padded=True,
        stride=2,
    )
    utterances, target = find_utterances([str(tmp_path / "speech")]), str(tmp_path / "t")
    prepare(utterances, target, settings, 0, workers=1, strict=False)
    whole = {name: read(name) for name in storage.sizes(f"{glob.escape(target)}.*")}
    damaged = [f"{target}.00000000", f"{target}.00000004"]
    for path in damaged:
        write(path, flipped(read(path), PAYLOAD))  # of the same size: preparing doesn't notice
    found = [damage.split(": ")[0] for damage in verify.verify(target).damages]
    assert found == damaged
    for path in found:
        os.remove(path)
    prepare(utterances, target, settings, 0, workers=1, strict=False)
    assert verify.verify(target).damages == ()
    assert {name: read(name) for name in storage.sizes(f"{glob.escape(target)}.*")} == whole
