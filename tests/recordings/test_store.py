"""The folder of recorded takes: what it keeps, what it forgets, and who may open it."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from doors import ROOT

from speech.recordings.store import (
    DATABASE,
    Check,
    Correction,
    DatabaseGoneError,
    Prompt,
    RecordingStore,
    Speaker,
    read_usable_takes,
)
from utils import UserError

CONSENT = "I agree."
GOOD = Check()
PROMPTS = [Prompt("1", "turn on the light"), Prompt("2", "turn it off"), Prompt("3", "good night")]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordingStore]:
    with contextlib.closing(RecordingStore(str(tmp_path / "recorded"))) as store:
        store.set_prompts(PROMPTS)
        yield store


def speaker_of(store: RecordingStore, name: str = "anna") -> Speaker:
    speaker = store.find_speaker(store.add_speaker(name, CONSENT))
    assert speaker is not None
    return speaker


def add(
    store: RecordingStore,
    speaker: Speaker,
    take_id: str,
    said: Prompt | Correction = PROMPTS[0],
    sound: bytes = b"sound",
    check: Check = GOOD,
) -> None:
    store.add_take(speaker, take_id, sound, 1.5, check, said)


def files(store: RecordingStore) -> list[bytes]:
    return [each.read_bytes() for each in Path(store.folder, "audio").rglob("*.flac")]


def test_take_is_kept_with_its_prompt_check_and_sound(store: RecordingStore) -> None:
    anna = speaker_of(store)
    add(store, anna, "take-one", check=Check("This is quiet."))
    (take,) = store.takes_of(anna)
    assert (take.take_id, take.text, take.prompt_id) == ("take-one", "turn on the light", "1")
    assert (take.seconds, take.check) == (1.5, Check("This is quiet."))
    assert Path(store.audio_path(take.audio)).read_bytes() == b"sound"


def test_second_take_of_a_prompt_replaces_the_first(store: RecordingStore) -> None:
    anna = speaker_of(store)
    add(store, anna, "one", sound=b"first")
    add(store, anna, "two", sound=b"second")
    assert [each.take_id for each in store.takes_of(anna)] == ["two"]
    assert files(store) == [b"second"]


def test_same_take_may_be_sent_twice(store: RecordingStore) -> None:
    anna = speaker_of(store)
    add(store, anna, "one")
    add(store, anna, "one")
    assert len(store.takes_of(anna)) == 1 and files(store) == [b"sound"]


def test_sound_that_two_takes_share_is_kept_until_both_are_removed(store: RecordingStore) -> None:
    anna, ben = speaker_of(store), speaker_of(store, "ben")
    add(store, anna, "one")
    add(store, ben, "two")
    assert files(store) == [b"sound"]
    store.remove_speaker(anna)
    assert files(store) == [b"sound"]
    store.remove_take(store.takes_of(ben)[0])
    assert files(store) == []


def test_prompts_that_others_read_least_come_first(store: RecordingStore) -> None:
    anna, ben = speaker_of(store), speaker_of(store, "ben")
    add(store, ben, "one", PROMPTS[0])
    add(store, ben, "two", PROMPTS[1], check=Check("Nothing was heard.", usable=False))
    offered = store.offered_prompts(anna, store.takes_of(anna))
    assert [(each.prompt.prompt_id, each.others) for each in offered] == [
        ("2", 0),
        ("3", 0),
        ("1", 1),
    ]


def test_prompt_whose_text_was_changed_is_to_be_read_again(store: RecordingStore) -> None:
    anna = speaker_of(store)
    add(store, anna, "one", PROMPTS[0])
    store.set_prompts([Prompt("1", "turn on the lamp"), PROMPTS[1]])
    assert [each.take for each in store.offered_prompts(anna, store.takes_of(anna))] == [None, None]
    assert store.has_prompt("3") and not store.has_prompt("4")
    assert [each.text for each in store.takes_of(anna)] == ["turn on the light"]


def test_nothing_of_a_removed_speaker_is_left_in_any_file(store: RecordingStore) -> None:
    anna, ben = speaker_of(store, "annabella"), speaker_of(store, "benedict")
    for number in range(50):
        add(store, anna, f"of-anna-{number}", Correction(f"secret {number}", "seecret", "m", ""))
    add(store, ben, "of-ben", sound=b"sound of ben")
    store.remove_speaker(anna)
    left = b"".join(each.read_bytes() for each in Path(store.folder).rglob("*") if each.is_file())
    for private in (b"annabella", b"secret", b"seecret", b"of-anna"):
        assert private not in left
    assert b"benedict" in left and files(store) == [b"sound of ben"]


def test_take_of_a_removed_speaker_is_refused_and_leaves_no_file(store: RecordingStore) -> None:
    anna = speaker_of(store)
    store.remove_speaker(anna)
    with pytest.raises(sqlite3.IntegrityError):
        add(store, anna, "late")
    assert files(store) == []


def test_reader_sees_usable_takes_while_the_folder_is_open(store: RecordingStore) -> None:
    anna = speaker_of(store)
    add(store, anna, "good", PROMPTS[0])
    add(store, anna, "bad", PROMPTS[1], check=Check("Nothing was heard.", usable=False))
    assert [each.take_id for each in read_usable_takes(store.folder)] == ["good"]


def test_second_server_is_refused(store: RecordingStore) -> None:
    with pytest.raises(UserError, match="--recordings"):
        RecordingStore(store.folder)


def test_folder_without_a_database_or_with_a_damaged_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no recordings\.sqlite"):
        read_usable_takes(str(tmp_path))
    (tmp_path / DATABASE).write_bytes(b"no database at all" * 100)
    with pytest.raises(UserError, match="can't be opened"):
        read_usable_takes(str(tmp_path))
    with pytest.raises(UserError, match="can't be opened"):
        RecordingStore(str(tmp_path))


def test_database_of_a_later_version_is_refused(tmp_path: Path) -> None:
    RecordingStore(str(tmp_path)).close()
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        database.execute("PRAGMA user_version = 2")
    with pytest.raises(UserError, match="version 2"):
        RecordingStore(str(tmp_path))


def test_only_files_of_takes_are_ever_removed(store: RecordingStore) -> None:
    anna = speaker_of(store)
    add(store, anna, "take")
    folder = Path(store.folder)
    others = [folder / "audio" / name for name in ("song.mp3", "ff/thesis.wav", "ff/00.flac")]
    (folder / "audio" / "ff").mkdir(exist_ok=True)
    for each in others:
        each.write_bytes(b"another's")
    store.remove_speaker(anna)
    store.close()
    RecordingStore(str(folder)).close()
    assert all(each.read_bytes() == b"another's" for each in others)
    # Nor those of a database that is gone: it may be restored.
    with contextlib.closing(RecordingStore(str(folder))) as opened:
        add(opened, speaker_of(opened), "kept", Correction("a", "b", "model", ""))
    for each in folder.glob(f"{DATABASE}*"):
        each.unlink()
    with contextlib.closing(RecordingStore(str(folder))) as opened:
        assert b"sound" in files(opened)


def test_bad_take_doesnt_replace_a_good_one_of_the_same_text(store: RecordingStore) -> None:
    anna = speaker_of(store)
    bad = Check("Nothing was heard.", usable=False)
    add(store, anna, "first", check=bad)
    add(store, anna, "good")
    add(store, anna, "bad", sound=b"silence", check=bad)
    assert [each.take_id for each in store.takes_of(anna)] == ["good"]
    assert files(store) == [b"sound"]
    add(store, anna, "other text", Prompt("1", "turn on the lamp"), b"silence", bad)
    assert [each.take_id for each in store.takes_of(anna)] == ["other text"]


def test_deletion_doesnt_wait_for_a_reader_and_is_completed_later(store: RecordingStore) -> None:
    anna = speaker_of(store)
    add(store, anna, "take", Correction("secret words", "heard", "model", ""))
    log = Path(store.folder, f"{DATABASE}-wal")
    with contextlib.closing(sqlite3.connect(Path(store.folder, DATABASE))) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM takes").fetchall()
        store.remove_speaker(anna)
        assert files(store) == []
    store.close()
    RecordingStore(store.folder).close()
    assert not log.exists() or not log.read_bytes()
    assert b"secret words" not in Path(store.folder, DATABASE).read_bytes()


def test_many_speakers_store_takes_at_once(store: RecordingStore) -> None:
    def record(number: int) -> None:
        speaker = speaker_of(store, f"speaker {number}")
        for prompt in PROMPTS:
            sound = f"{number} {prompt.prompt_id}".encode()
            add(store, speaker, f"take-{number}-{prompt.prompt_id}", prompt, sound)

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(record, range(20)))
    assert len(read_usable_takes(store.folder)) == len(files(store)) == 60


_WRITER = """
import sys
from speech.recordings.store import Check, Prompt, RecordingStore
store = RecordingStore(sys.argv[1])
speaker = store.find_speaker(store.add_speaker("anna", "I agree."))
for number in range(100000):
    prompt = Prompt(str(number), "text")
    store.set_prompts([prompt])
    store.add_take(speaker, f"take-{number}", b"sound %d" % number, 1.0, Check(), prompt)
    print(number, flush=True)
"""


@pytest.mark.parametrize("lost", [DATABASE, f"{DATABASE}-wal", "."])
def test_nothing_is_confirmed_once_the_database_was_moved(store: RecordingStore, lost: str) -> None:
    anna, path = speaker_of(store), Path(store.folder, lost).resolve()
    add(store, anna, "before")
    path.rename(path.with_name("moved"))
    with pytest.raises(DatabaseGoneError, match="was deleted or replaced while the server runs"):
        add(store, anna, "lost", PROMPTS[1], b"lost")
    assert not Path(store.folder).exists() or files(store) == [b"sound"]
    path.with_name("moved").rename(path)
    add(store, anna, "after", PROMPTS[2], b"after")
    assert [each.take_id for each in read_usable_takes(store.folder)] == ["before", "after"]


def test_killed_writer_loses_no_take_that_was_reported_as_stored(tmp_path: Path) -> None:
    folder = tmp_path / "recorded"
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    reported = [int(writer.stdout.readline()) for _ in range(40)]
    os.kill(writer.pid, signal.SIGKILL)
    reported += [int(each) for each in writer.stdout.read().split()]
    writer.wait()
    with contextlib.closing(RecordingStore(str(folder))) as opened:
        takes = read_usable_takes(str(folder))
        assert [each.take_id for each in takes][: len(reported)] == [f"take-{n}" for n in reported]
        for each in takes:
            assert Path(opened.audio_path(each.audio)).is_file()
        assert len(files(opened)) == len(takes)
