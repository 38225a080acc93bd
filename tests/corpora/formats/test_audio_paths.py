"""Paths of recordings, and the ids built from them."""

import os
from pathlib import Path

import pytest
from emulator import Emulator

from speech.corpora.formats.audio_paths import AudioPaths


def test_paths_are_below_the_root_or_absolute(tmp_path: Path) -> None:
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav/x.wav").write_bytes(b"RIFF")
    path = str(tmp_path / "wav/x.wav")
    assert AudioPaths(str(tmp_path)).find("wav/x.wav") == (path, 4)
    assert AudioPaths(str(tmp_path / "wav")).find("x.wav") == (path, 4)
    assert AudioPaths("/nowhere").find(path) == (path, 4)
    assert AudioPaths(str(tmp_path)).find("gone.wav") == (str(tmp_path / "gone.wav"), None)


def test_backslashes_are_slashes_unless_a_file_has_this_name(tmp_path: Path) -> None:
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav/x.wav").write_bytes(b"RIFF")
    audio = AudioPaths(str(tmp_path))
    assert audio.find("wav\\x.wav ") == (str(tmp_path / "wav/x.wav"), 4)
    assert audio.find("wav\\gone.wav") == (str(tmp_path / "wav/gone.wav"), None)
    (tmp_path / "wav\\x.wav").write_bytes(b"RIFFRIFF")
    assert audio.find("wav\\x.wav") == (str(tmp_path / "wav\\x.wav"), 8)


def test_a_name_that_no_file_can_have_is_missing(tmp_path: Path) -> None:
    assert AudioPaths(str(tmp_path)).find("a" * 5000)[1] is None


def test_ids_start_with_the_root_s_own_folder() -> None:
    audio = AudioPaths("/data/ru")
    assert audio.utterance_id("/data/ru/wav/x.1.wav", "") == "ru/wav/x.1"
    assert audio.utterance_id("/data/ru/../en/x.wav", "anna") == "anna-en/x"
    assert audio.utterance_id("/data/ru/wav/x.wav", "anna", 12.5) == "anna-ru/wav/x@12.5"
    assert audio.utterance_id("/data/ru/wav/x.wav", "", 0.0) == "ru/wav/x@0"
    assert audio.utterance_id("/data/ru/wav/x.wav", "", 86400.0625) == "ru/wav/x@86400.062"


def test_ids_are_the_same_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ru").mkdir()
    monkeypatch.chdir(tmp_path / "ru")
    for root, path in (("", "wav/x.wav"), (".", "./wav/x.wav"), ("../ru/", "../ru/wav/x.wav")):
        assert AudioPaths(root).utterance_id(path, "") == "ru/wav/x"


def test_paths_outside_the_corpus_keep_three_parts() -> None:
    assert AudioPaths("/data/ru").utterance_id("/home/anna/my/wav/x.wav", "") == "my/wav/x"
    assert AudioPaths("/ru").utterance_id("/home/anna/my/wav/x.wav", "") == "my/wav/x"
    assert AudioPaths("/").utterance_id("/home/anna/my/wav/x.wav", "") == "my/wav/x"
    assert AudioPaths("/ru").utterance_id("/ru/a/b/c/x.wav", "") == "ru/a/b/c/x"
    assert AudioPaths("/data/ru").utterance_id("gs://my-bucket/a/b/c/x.wav", "") == "b/c/x"


def test_the_first_dash_follows_the_speaker() -> None:
    audio = AudioPaths("/data/my-ru")
    assert audio.utterance_id("/data/my-ru/wav/x-1.wav", "") == "my_ru/wav/x-1"
    assert audio.utterance_id("/data/my-ru/x.wav", "anna-maria l/k") == "anna_maria_l_k-my-ru/x"


def test_names_that_are_not_utf_8_become_ids_that_are() -> None:
    path = os.fsdecode(b"/data/ru/\xff.wav")
    assert AudioPaths("/data/ru").utterance_id(path, "") == "ru/\\udcff"


def test_a_bucket_s_folder_is_listed_once(
    emulator: Emulator, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    prefix = bucket.removeprefix(f"gs://{emulator.bucket}/")
    for name in ("ru/wav/anna/x.wav", "ru/wav/ben/x.wav", "en/x.wav"):
        emulator.put(f"{prefix}/{name}", b"RIFF")

    def lists() -> int:
        return sum("/o?" in path for _, path in emulator.requests())

    audio = AudioPaths(f"{bucket}/ru/")
    emulator.forget_requests()
    assert audio.find("wav/anna/x.wav") == (f"{bucket}/ru/wav/anna/x.wav", 4)
    assert audio.find("wav/ben/x.wav") == (f"{bucket}/ru/wav/ben/x.wav", 4)
    assert audio.find("wav/ben/y.wav") == (f"{bucket}/ru/wav/ben/y.wav", None)
    assert lists() == 1
    assert audio.find("../en//x.wav") == (f"{bucket}/en/x.wav", 4)
    assert audio.find(f"{bucket}/en/x.wav")[1] == 4
    assert lists() == 2
    assert not [path for _, path in emulator.requests() if "/o/" in path]
    assert audio.utterance_id(f"{bucket}/ru/wav/ben/x.wav", "") == "ru/wav/ben/x"
