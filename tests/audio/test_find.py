"""Which recordings a command line names."""

import os
from pathlib import Path

import pytest
from emulator import Emulator

from speech.audio.find import find_audio_files
from utils import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with recordings and other files."""
    monkeypatch.chdir(tmp_path)
    names = ["b.wav", "a.FLAC", "notes.txt", "x/c.mp3", "x/y/d.ogg", "x/y/e.txt", "odd[1].wav"]
    for name in [*names, "x/.hidden.wav", "x/speech.pcm"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"sound")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("no sound")
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        (["b.wav", "a.FLAC"], ["a.FLAC", "b.wav"]),
        (["notes.txt"], ["notes.txt"]),  # what it holds is the reader's concern
        (["x"], ["x/c.mp3", "x/y/d.ogg"]),
        (["x/"], ["x/c.mp3", "x/y/d.ogg"]),
        (["*.wav"], ["b.wav", "odd[1].wav"]),
        (["odd[1].wav"], ["odd[1].wav"]),
        (["?.*"], ["a.FLAC", "b.wav"]),
        (["x/*.pcm"], ["x/speech.pcm"]),
        (["x/*"], ["x/c.mp3", "x/y/d.ogg"]),
        (["**/*.ogg"], ["x/y/d.ogg"]),
        (["x/**"], ["x/c.mp3", "x/y/d.ogg"]),
        (["x", "x/c.mp3", "./x/y/../c.mp3", "x/*.mp3"], ["./x/y/../c.mp3", "x/y/d.ogg"]),
        (["b.wav", "-", "-"], ["-", "b.wav"]),
    ],
)
def test_files_folders_and_patterns_are_sorted_and_each_once(
    arguments: list[str], files: list[str]
) -> None:
    assert find_audio_files(arguments) == files
    assert find_audio_files(reversed(arguments)) == files


def test_a_link_and_its_file_are_one(folder: Path) -> None:
    os.symlink(folder / "b.wav", folder / "z.wav")
    os.symlink(folder / "x", folder / "other")
    assert find_audio_files(["z.wav", "b.wav", "other/c.mp3", "x"]) == [
        "b.wav",
        "other/c.mp3",
        "x/y/d.ogg",
    ]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "no.wav",
            r"^no\.wav doesn't exist: name files, folders, patterns, or - for standard",
        ),
        ("*.aiff", r"^\*\.aiff matches no audio: name files"),
        ("texts/*", r"^texts/\* matches no audio"),
        ("texts", r"^texts has no audio: .*\.wav, \.flac"),
        ("", r"^'' doesn't exist"),
    ],
)
def test_what_names_nothing_is_said(argument: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_audio_files(["b.wav", argument])


def test_no_argument_is_an_error() -> None:
    with pytest.raises(UserError, match="No audio is named: name files"):
        find_audio_files([])


def test_a_bucket_has_files_folders_and_patterns(emulator: Emulator, own_bucket: str) -> None:
    prefix = own_bucket.removeprefix(f"gs://{emulator.bucket}/")
    for name in ("a.wav", "x/b.flac", "x/c.txt"):
        emulator.put(f"{prefix}/{name}", b"sound")
    assert find_audio_files([f"{own_bucket}/x/c.txt"]) == [f"{own_bucket}/x/c.txt"]
    assert find_audio_files([own_bucket]) == [f"{own_bucket}/a.wav", f"{own_bucket}/x/b.flac"]
    emulator.put(f"{prefix}/y[1]/d.wav", b"")
    assert find_audio_files([f"{own_bucket}/y[1]"]) == [f"{own_bucket}/y[1]/d.wav"]
    assert find_audio_files([f"{own_bucket}/y[1]/*"]) == [f"{own_bucket}/y[1]/d.wav"]
    assert find_audio_files([f"{own_bucket}/y[1]/d.wav"]) == [f"{own_bucket}/y[1]/d.wav"]
    assert find_audio_files([f"{own_bucket}/x/*"]) == [f"{own_bucket}/x/b.flac"]
    with pytest.raises(UserError, match="nothing has no audio"):
        find_audio_files([f"{own_bucket}/nothing"])
