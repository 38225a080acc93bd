"""Folders of audio with a text file next to each audio file."""

from pathlib import Path

import pytest
from sounds import write_sound

from speech.corpora.formats import folders, registry
from speech.corpora.formats.reading import Reading
from speech.corpora.utterance import Utterance
from speech.system import storage
from utils import UserError


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    corpus = tmp_path / "talks"
    write_sound(corpus / "anna/day 1/x.wav")
    write_sound(corpus / "ben/y.FLAC")
    write_sound(corpus / "z.mp3")
    (corpus / "anna/day 1/x.txt").write_text("\ufeffEin Satz,\r\n\r\n  und noch  einer.\n")
    (corpus / "ben/y.txt").write_text("Hallo")
    return corpus


def listed(folder: Path) -> dict[str, Utterance]:
    found = folders.read(str(folder), Reading())
    known = {each.utterance_id: each for each in found}
    assert len(known) == len(found)
    return known


def test_texts_belong_to_the_audio_of_their_name(corpus: Path) -> None:
    found = listed(corpus)
    assert list(found) == ["anna-talks/anna/day 1/x", "ben-talks/ben/y", "talks/z"]
    assert found["anna-talks/anna/day 1/x"] == Utterance(
        "anna-talks/anna/day 1/x",
        str(corpus / "anna/day 1/x.wav"),
        "Ein Satz, und noch  einer.",
        "anna",
        (corpus / "anna/day 1/x.wav").stat().st_size,
        place=str(corpus / "anna/day 1/x.txt"),
    )
    assert found["ben-talks/ben/y"].transcript == "Hallo"


def test_audio_or_text_alone_is_kept(corpus: Path) -> None:
    (corpus / "ben/y.FLAC").unlink()
    (corpus / "z.txt").write_text(" \n")
    found = listed(corpus)
    assert found["ben-talks/ben/y"].audio_path is None
    assert found["talks/z"].transcript is None
    assert found["talks/z"].place == str(corpus / "z.txt")
    (corpus / "z.txt").unlink()
    assert listed(corpus)["talks/z"].place == str(corpus / "z.mp3")


def test_a_text_may_have_the_full_name_of_its_audio(tmp_path: Path) -> None:
    for name in ("3.wav", "3.mp3", "4.wav"):
        write_sound(tmp_path / name)
    for name in ("3.wav.txt", "3.mp3.TXT", "4.txt", "5.wav.txt"):
        (tmp_path / name).write_text(name.lower())
    assert registry.detect(str(tmp_path)) == "folder"
    found = folders.read(str(tmp_path), Reading())
    transcripts = {
        each.audio_path and Path(each.audio_path).name: each.transcript for each in found
    }
    assert transcripts == {
        "3.wav": "3.wav.txt",
        "3.mp3": "3.mp3.txt",
        "4.wav": "4.txt",
        None: "5.wav.txt",
    }


def test_two_texts_of_one_recording_are_named(tmp_path: Path) -> None:
    write_sound(tmp_path / "3.wav")
    for name in ("3.wav.txt", "3.txt"):
        (tmp_path / name).touch()
    with pytest.raises(UserError) as error:
        folders.read(str(tmp_path), Reading())
    for part in ("3.wav.txt", "3.txt", "has two texts, ", "Correct or remove it"):
        assert part in str(error.value)


def test_hidden_and_other_files_are_no_utterances(corpus: Path) -> None:
    for name in ("._z.mp3", ".z.txt", "z.json", "Thumbs.db"):
        (corpus / name).write_bytes(b"\xff")
    assert len(listed(corpus)) == 3


def test_texts_that_can_not_be_read_are_named_together(corpus: Path) -> None:
    (corpus / "ben/y.txt").write_bytes(b"a\n\xff")
    (corpus / "z.txt").symlink_to(corpus / "nowhere")
    with pytest.raises(UserError) as error:
        listed(corpus)
    assert "y.txt, line 2, is not UTF-8" in str(error.value)
    assert "z.txt can't be read: No such file" in str(error.value)
    assert ".." not in str(error.value) and ".;" not in str(error.value)


def test_a_folder_in_a_bucket_is_the_same_corpus(corpus: Path, own_bucket: str) -> None:
    for path in corpus.rglob("*.*"):
        storage.write_bytes(f"{own_bucket}/talks/{path.relative_to(corpus)}", path.read_bytes())
    there = folders.read(f"{own_bucket}/talks", Reading())
    here = listed(corpus)
    assert [
        (each.utterance_id, each.transcript, each.speaker, each.audio_bytes) for each in there
    ] == [
        (each.utterance_id, each.transcript, each.speaker, each.audio_bytes)
        for each in here.values()
    ]
