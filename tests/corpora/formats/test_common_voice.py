"""Common Voice's tables are read as utterances."""

from pathlib import Path

import pytest
from sounds import write_sound

from speech.corpora.formats import common_voice
from speech.corpora.formats.reading import Reading
from speech.corpora.utterance import Utterance
from utils import UserError

HEADER = "client_id\tpath\tsentence\tup_votes"
CLIENT = "ab12" * 32


def table(tmp_path: Path, *rows: str) -> str:
    path = tmp_path / "ru" / "validated.tsv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in (HEADER, *rows)), encoding="utf-8")
    return str(path)


def test_clips_are_next_to_the_table(tmp_path: Path) -> None:
    clip = write_sound(tmp_path / "ru/clips/cv_1.mp3")
    path = table(tmp_path, f'{CLIENT}\tcv_1.mp3\tЩит: "лифт.\t2')
    assert common_voice.read(path, Reading()) == [
        Utterance(
            "ab12ab12ab-ru/clips/cv_1",
            str(clip),
            'Щит: "лифт.',
            "ab12ab12ab",
            clip.stat().st_size,
            place=f"{path}:2",
        )
    ]


def test_paths_may_have_no_suffix_or_another(tmp_path: Path) -> None:
    rows = [f"{CLIENT}\t{name}\tja\t2" for name in ("cv_1", "cv_1.2", "cv_2.MP3", "cv_3.wav")]
    found = common_voice.read(table(tmp_path, *rows), Reading())
    names = [str(each.audio_path).rpartition("/")[2] for each in found]
    assert names == ["cv_1.mp3", "cv_1.2.mp3", "cv_2.MP3", "cv_3.wav"]
    assert [each.audio_bytes for each in found] == [None] * 4


def test_clips_may_be_in_an_audio_root(tmp_path: Path) -> None:
    clip = write_sound(tmp_path / "wav/cv_1.wav")
    path = table(tmp_path, "\tcv_1.wav\t \t2")
    (found,) = common_voice.read(path, Reading(audio_root=str(tmp_path / "wav")))
    assert (found.utterance_id, found.audio_path) == ("wav/cv_1", str(clip))
    assert (found.speaker, found.transcript) == ("", None)


def test_a_client_id_that_is_no_hash_is_the_speaker(tmp_path: Path) -> None:
    (found,) = common_voice.read(table(tmp_path, "speaker_number_12\tx\tja\t2"), Reading())
    assert found.speaker == "speaker_number_12"


def test_bad_rows_are_named_together(tmp_path: Path) -> None:
    path = table(tmp_path, "a\tx", "a\t\tb\t2", "a\tx\tb\t2")
    with pytest.raises(UserError, match=r"line 2: 2 fields instead of 4; line 3: path is empty. C"):
        common_voice.read(path, Reading())
