"""Recordings by their utterances' ids."""

from collections.abc import Callable
from pathlib import Path

import pytest

from speech.corpora.recordings import find_audio
from speech.system import storage
from utils import UserError

WriteSplit = Callable[[Path, dict[str, str]], None]


def test_recordings_in_librispeechs_layout_are_found(
    tmp_path: Path, write_split: WriteSplit
) -> None:
    write_split(tmp_path / "test", {"84-1-0000": "HELLO", "84-2-0001": "YOU"})
    write_split(tmp_path / "more", {"7-1-0000": "AND"})
    audio = find_audio([str(tmp_path / "test"), str(tmp_path / "more")])
    for path in tmp_path.rglob("*.flac"):
        assert audio(path.stem) == path.read_bytes()
    assert audio("84-1-0009") is None


def test_copy_has_the_recording_of_its_original(tmp_path: Path) -> None:
    (tmp_path / "1-1-1.wav").write_bytes(b"first")
    (tmp_path / "1-1-2#1.wav").write_bytes(b"its own")
    audio = find_audio([str(tmp_path)])
    assert audio("1-1-1#12") == b"first"
    assert audio("1-1-2#1") == b"its own"  # a file may have such a name
    assert audio("1-1-2") is None
    assert audio("1-1-1#x") is None


def test_the_path_in_the_id_distinguishes_files_of_one_name(tmp_path: Path) -> None:
    for path in ("my-ru/wav/1.wav", "en/wav/1.wav", "en/more/1.wav"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    audio = find_audio([str(tmp_path)])
    assert audio("anna-my-ru/wav/1") == audio("my_ru/wav/1") == b"my-ru/wav/1.wav"
    assert audio("anna-en/wav/1#2") == audio("en/wav/1 (3)") == b"en/wav/1.wav"
    assert audio("en/more/1 (2)#1") == b"en/more/1.wav"
    assert audio("other/1") is None  # it may be any of them
    assert find_audio([str(tmp_path / "en/more")])("en/more/1") == b"en/more/1.wav"


def test_segments_have_no_recording(tmp_path: Path) -> None:
    (tmp_path / "1.wav").write_bytes(b"all of it")
    audio = find_audio([str(tmp_path)])
    assert audio("ru/1") == b"all of it"
    assert [audio(each) for each in ("ru/1@12.5", "ru/1@0 (2)", "ru/1@3#1")] == [None] * 3


def test_the_first_folder_wins_and_within_it_flac(tmp_path: Path) -> None:
    for folder, name in (("a", "1.wav"), ("a", "1.FLAC"), ("b", "1.flac"), ("b", "2.mp3")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text(folder + name)
    audio = find_audio([str(tmp_path / "a"), str(tmp_path / "b")])
    assert (audio("1"), audio("2")) == (b"a1.FLAC", b"b2.mp3")


def test_recordings_in_a_bucket_are_found(own_bucket: str) -> None:
    storage.write_bytes(f"{own_bucket}/test/84/1/84-1-0000.flac", b"fLaC...")
    assert find_audio([f"{own_bucket}/test"])("84-1-0000") == b"fLaC..."


def test_a_deleted_recording_is_none(tmp_path: Path) -> None:
    (tmp_path / "1.wav").write_bytes(b"RIFF")
    audio = find_audio([str(tmp_path)])
    (tmp_path / "1.wav").unlink()
    assert audio("1") is None


@pytest.mark.parametrize("name", ["nowhere", "texts"])
def test_a_folder_without_recordings_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "1.trans.txt").write_text("1 A")
    with pytest.raises(UserError, match=f"{name} contains no recordings"):
        find_audio([str(tmp_path / name)])
