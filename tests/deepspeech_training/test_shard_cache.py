"""Shards are kept as long as nothing that they depend on changes."""

import os
from pathlib import Path

import pytest
from sounds import write_sound

from speech.deepspeech_training.shard_cache import CachedSet, find_set
from speech.shards.index import read_index
from utils import UserError


def write_csv(folder: Path, *names: str) -> str:
    rows = [f"{name},1,a cat" for name in names]
    (folder / "set.csv").write_text("\n".join(["wav_filename,wav_filesize,transcript", *rows]))
    return str(folder / "set.csv")


def find(folder: Path, *arguments: str, name: str = "train", alphabet: str = "") -> CachedSet:
    return find_set(name, (str(folder / "set.csv"),), arguments, alphabet, "cache")


def test_folder_follows_what_the_shards_depend_on(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "a.wav")
    write_csv(tmp_path, "a.wav")
    first = find(tmp_path)
    assert find(tmp_path) == first
    assert first.pattern == f"{first.folder}/train.tfrecords.*"
    assert list(first.recordings.values()) == [str(sound)]
    others = {first.folder, find(tmp_path, "--winlen=0.04").folder}
    others.add(find(tmp_path, name="dev").folder)
    alphabet = tmp_path / "alphabet.txt"
    for text in ("a\nb\n", "a\nc\n"):
        alphabet.write_text(text)
        others.add(find(tmp_path, alphabet=str(alphabet)).folder)
    os.utime(sound, (1, 1))
    others.add(find(tmp_path).folder)
    write_sound(tmp_path / "b.wav")
    write_csv(tmp_path, "a.wav", "b.wav")
    others.add(find(tmp_path).folder)
    assert len(others) == 7


def test_a_missing_recording_is_named_with_its_row(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav")
    write_csv(tmp_path, "a.wav", "gone.wav")
    with pytest.raises(UserError, match=r"set\.csv:3: there is no .*gone\.wav \(of 1 missing"):
        find(tmp_path)


def test_the_default_alphabet_is_in_deepspeechs_order(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", seconds=0.5)
    found = find_set("train", (write_csv(tmp_path, "a.wav"),), (), "", str(tmp_path / "cache"))
    found.prepare("warning")
    index = read_index(found.pattern.removesuffix(".*"))
    assert index and "".join(index.settings.alphabet.characters) == " abcdefghijklmnopqrstuvwxyz'"
