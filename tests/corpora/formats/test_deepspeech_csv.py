"""DeepSpeech's CSV files are read."""

from pathlib import Path

import pytest
from sounds import write_sound

from speech.corpora.formats import deepspeech_csv
from speech.corpora.formats.reading import Reading
from speech.corpora.utterance import Utterance
from utils import UserError

RATE = 16000


def table(tmp_path: Path, *rows: str, header: str = "wav_filename,wav_filesize,transcript") -> str:
    path = tmp_path / "ru" / "train.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in (header, *rows)), encoding="utf-8")
    return str(path)


def listed(path: str, **options: str) -> list[Utterance]:
    return deepspeech_csv.read(path, Reading(**options))


def test_a_row_is_an_utterance(tmp_path: Path) -> None:
    wav = write_sound(tmp_path / "ru/wav/x.wav")
    path = table(tmp_path, "wav/x.wav,17,Да «Нет»")
    (found,) = listed(path)
    assert found == Utterance(
        "ru/wav/x",
        str(wav),
        "Да «Нет»",
        "",
        wav.stat().st_size,
        stated_bytes=17,
        place=f"{path}:2",
    )


def test_paths_start_at_the_audio_root_if_there_is_one(tmp_path: Path) -> None:
    wav = write_sound(tmp_path / "audio/wav/x.wav")
    (found,) = listed(table(tmp_path, "wav/x.wav,1,a"), audio_root=str(tmp_path / "audio"))
    assert (found.audio_path, found.utterance_id) == (str(wav), "audio/wav/x")


def test_missing_audio_keeps_its_path(tmp_path: Path) -> None:
    (found,) = listed(table(tmp_path, "wav/x.wav,1,a"))
    assert found.audio_path == str(tmp_path / "ru/wav/x.wav")
    assert found.audio_bytes is None


@pytest.mark.parametrize("size", ["", "1.5", "many", "-3", "²", "9" * 5000])
def test_a_size_that_is_no_number_is_ignored(tmp_path: Path, size: str) -> None:
    (found,) = listed(table(tmp_path, f"x.wav,{size},a"))
    assert found.stated_bytes is None


def test_empty_transcripts_are_none(tmp_path: Path) -> None:
    found = listed(table(tmp_path, "x.wav,1,", 'y.wav,1," "', "z.wav,1, a"))
    assert [each.transcript for each in found] == [None, None, " a"]


def test_speakers_come_from_their_column_or_a_client_id(tmp_path: Path) -> None:
    header = "wav_filename,wav_filesize,transcript,Speaker,client_id"
    hashed = "0123456789abcdef" * 8
    path = table(
        tmp_path, f"x.wav,1,a,anna,{hashed}", f"y.wav,1,a,,{hashed}", "z.wav,1,a,,", header=header
    )
    assert [(each.speaker, each.utterance_id) for each in listed(path)] == [
        ("anna", "anna-ru/x"),
        ("0123456789", "0123456789-ru/y"),
        ("", "ru/z"),
    ]


def test_all_bad_rows_are_in_one_error(tmp_path: Path) -> None:
    path = table(tmp_path, "x.wav,1", " ,1,a", "y.wav,1,a")
    with pytest.raises(UserError) as error:
        listed(path)
    assert str(error.value) == (
        f"{path} can't be used: line 2: 2 fields instead of 3; line 3: wav_filename is empty. "
        "Correct or remove them."
    )


def test_real_speech_is_read_whole(asterisk_ru: str) -> None:
    for name, count in (("train", 200), ("dev", 25), ("test", 25)):
        found = listed(f"{asterisk_ru}/{name}.csv")
        assert len(found) == count
        assert all(each.stated_bytes == each.audio_bytes for each in found)
        assert all(each.audio_bytes and each.transcript for each in found)
        assert len({each.utterance_id for each in found}) == count
        assert {each.utterance_id.split("/")[0] for each in found} == {"asterisk_ru"}


# --- Writing --------------------------------------------------------------------------------------
