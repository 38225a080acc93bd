"""DeepSpeech's CSV files are written so that Mozilla's programs can read them."""

import csv
import os
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sounds import write_sound

from speech.audio.reader import read_audio
from speech.corpora.formats import deepspeech_csv
from speech.corpora.formats.reading import Reading
from speech.corpora.utterance import Utterance
from speech.preparation import csv_export
from speech.preparation import utterance as reasons
from speech.preparation.csv_export import Written, wav_folder, write_csv
from speech.system import storage
from speech.system.lock import exclusive
from utils import UserError

RATE = 16000


def listed(path: str, **options: str) -> list[Utterance]:
    return deepspeech_csv.read(path, Reading(**options))


def utterance(path: Path, transcript: str | None = "a", **changed: object) -> Utterance:
    size = path.stat().st_size if path.exists() else None
    known = Utterance(f"me-here/{path.stem}", str(path), transcript, "me", size)
    return replace(known, **changed)  # type: ignore[arg-type]


def written(tmp_path: Path, *utterances: Utterance) -> tuple[Written, list[dict[str, str]]]:
    path = tmp_path / "out" / "all.csv"
    result = write_csv(str(path), list(utterances), RATE)
    with open(path, encoding="utf-8", newline="") as file:
        return result, list(csv.DictReader(file))


def mozillas_samples(tmp_path: Path, row: dict[str, str]) -> np.ndarray:
    """Samples of a row as Mozilla's programs read them, which know 16-bit mono WAV alone."""
    path = tmp_path / "out" / row["wav_filename"]
    assert path.stat().st_size == int(row["wav_filesize"])
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def test_suitable_recordings_are_named_by_their_own_paths(tmp_path: Path) -> None:
    inside, outside = (write_sound(tmp_path / name) for name in ("out/wav/x.wav", "else/y.wav"))
    result, rows = written(tmp_path, utterance(inside), utterance(outside))
    assert [row["wav_filename"] for row in rows] == ["wav/x.wav", str(outside)]
    assert result == Written(2, 0, {})
    assert set(os.listdir(tmp_path / "out")) == {"all.csv", "wav"}
    for row, path in zip(rows, (inside, outside), strict=True):
        np.testing.assert_array_equal(mozillas_samples(tmp_path, row), read_audio(str(path), RATE))


def test_other_recordings_are_decoded_next_to_the_table(tmp_path: Path) -> None:
    sounds = [
        write_sound(tmp_path / "in/a.flac"),
        write_sound(tmp_path / "in/b.mp3"),
        write_sound(tmp_path / "in/c.wav", sample_rate=8000),
        tmp_path / "in/d.wav",
        tmp_path / "in/e.wav",
    ]
    soundfile.write(sounds[3], np.full((800, 2), 0.25), RATE)
    soundfile.write(sounds[4], np.array([0.5, 2.0, -2.0]), RATE, subtype="FLOAT")
    result, rows = written(tmp_path, *map(utterance, sounds))
    assert (result.rows, result.decoded) == (5, 5)
    for row, path in zip(rows, sounds, strict=True):
        assert row["wav_filename"].startswith(f"all_wav/me-here_{path.stem}-")
        expected = np.clip(read_audio(str(path), RATE), -32768, 32767)
        assert np.abs(mozillas_samples(tmp_path, row) - expected).max() <= 0.5
    assert mozillas_samples(tmp_path, rows[4]).tolist() == [16384, 32767, -32768]


def test_a_segment_is_cut_out(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "out/x.wav", seconds=0.5)
    samples = read_audio(str(path), RATE)
    first = utterance(path, start_seconds=0.1, seconds=0.2)
    last = utterance(path, utterance_id="me-here/x@0.4", start_seconds=0.4)
    start = utterance(path, utterance_id="me-here/x@0", seconds=0.1)
    after_end = utterance(path, utterance_id="me-here/x@1", start_seconds=1.0)
    result, rows = written(tmp_path, first, last, start, after_end)
    cut = [mozillas_samples(tmp_path, row).tolist() for row in rows]
    assert cut == [samples[1600:4800].tolist(), samples[6400:].tolist(), samples[:1600].tolist()]
    assert result.left_out == {reasons.UNREADABLE: ["me-here/x@1"]}


def test_unusable_utterances_are_left_out_by_reason(tmp_path: Path) -> None:
    good = write_sound(tmp_path / "good.wav")
    short = write_sound(tmp_path / "short.flac")
    short.write_bytes(short.read_bytes()[:-100])
    (tmp_path / "none.wav").write_bytes(b"")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    result, rows = written(
        tmp_path,
        utterance(good),
        utterance(good, None, utterance_id="1"),
        utterance(good, audio_path=None, utterance_id="2"),
        utterance(short),
        *(utterance(tmp_path / f"{name}.wav") for name in ("none", "gone", "empty")),
    )
    assert [row["wav_filename"] for row in rows] == [str(good)]
    assert result.left_out == {
        reasons.NO_TRANSCRIPT: ["1"],
        reasons.NO_AUDIO: ["2", "me-here/gone"],
        reasons.UNREADABLE: ["me-here/short", "me-here/none"],
        reasons.EMPTY: ["me-here/empty"],
    }


def test_a_wav_that_is_cut_short_is_decoded(tmp_path: Path) -> None:
    short = write_sound(tmp_path / "out/short.wav")
    whole = read_audio(str(short), RATE)
    short.write_bytes(short.read_bytes()[:-100])
    result, (row,) = written(tmp_path, utterance(short))
    assert result.decoded == 1
    np.testing.assert_array_equal(mozillas_samples(tmp_path, row), whole[:-50])


def test_audio_decoded_by_an_earlier_run_is_reused(tmp_path: Path) -> None:
    first, second = (write_sound(tmp_path / name) for name in ("a.flac", "b.flac"))
    _, before = written(tmp_path, utterance(first))
    made = tmp_path / "out" / before[0]["wav_filename"]
    made.write_bytes(made.read_bytes() + b"kept")
    (made.parent / f".{made.name}.partial").write_bytes(b"of a killed run")
    (tmp_path / "out/all.csv").unlink()
    _, after = written(tmp_path, utterance(first), utterance(second))
    assert after[0]["wav_filename"] == before[0]["wav_filename"]
    assert made.read_bytes().endswith(b"kept") and len(after) == 2
    write_sound(first, seconds=0.1)  # another recording by now
    (tmp_path / "out/all.csv").unlink()
    _, rewritten = written(tmp_path, utterance(first))
    assert len(mozillas_samples(tmp_path, rewritten[0])) == 1600


def test_ids_of_any_letters_and_length_have_different_files(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.flac")
    ids = ["й" * 300, "ц" * 300, "a/b", "a_b", "..", "me-" + "x" * 300]
    _, rows = written(tmp_path, *(utterance(path, utterance_id=each) for each in ids))
    names = [os.path.basename(row["wav_filename"]) for row in rows]
    assert len(set(names)) == len(ids)
    assert all(name.isascii() and name[0].isalnum() and len(name) < 120 for name in names)


def test_a_table_in_a_bucket_is_refused() -> None:
    with pytest.raises(UserError, match=r"gs://b/train.csv is in a bucket.*name a local file"):
        write_csv("gs://b/train.csv", [], RATE)


def test_recordings_in_a_bucket_are_decoded(tmp_path: Path, own_bucket: str) -> None:
    path = write_sound(tmp_path / "x.wav")
    storage.write_bytes(f"{own_bucket}/x.wav", path.read_bytes())
    _, (row,) = written(tmp_path, utterance(path, audio_path=f"{own_bucket}/x.wav"))
    assert row["wav_filename"].startswith("all_wav/")
    np.testing.assert_array_equal(mozillas_samples(tmp_path, row), read_audio(str(path), RATE))


@pytest.mark.parametrize("rate", [0, -16000])
def test_a_rate_that_is_not_positive_is_refused(tmp_path: Path, rate: int) -> None:
    with pytest.raises(UserError, match=f"--sample_rate={rate} is not positive"):
        write_csv(str(tmp_path / "all.csv"), [], rate)


def test_speakers_have_a_column_if_any_is_known(tmp_path: Path) -> None:
    wav = write_sound(tmp_path / "out/x.wav")
    known = utterance(wav, speaker="anna, 2"), utterance(wav, utterance_id="here/y", speaker="")
    _, rows = written(tmp_path, *known)
    assert [row["speaker"] for row in rows] == ["anna, 2", ""]
    table = tmp_path / "out/all.csv"
    assert [each.speaker for each in listed(str(table))] == ["anna, 2", ""]
    table.unlink()
    _, rows = written(tmp_path, known[1])
    assert list(rows[0]) == ["wav_filename", "wav_filesize", "transcript"]


def decoded_files(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "out").rglob("*_wav/*")]


def test_a_table_of_the_corpus_is_never_overwritten(tmp_path: Path) -> None:
    write_sound(tmp_path / "out/x.flac")
    (tmp_path / "out/all.csv").write_text("wav_filename,transcript,mood\nx.flac,a,glad\n")
    (tmp_path / "linked").symlink_to(tmp_path / "out")
    source = tmp_path / "out/all.csv"
    before = source.read_bytes()
    for path in (source, tmp_path / "linked/all.csv"):
        with pytest.raises(UserError, match=r"all.csv is a table of this corpus.*--write_csv"):
            write_csv(str(path), listed(str(source)), RATE)
    assert source.read_bytes() == before and not decoded_files(tmp_path)


@pytest.mark.parametrize(
    "there", ["", "wav_filename,wav_filesize,transcript\ny.wav,9,b\n", "mine\n"]
)
def test_an_existing_file_is_refused_before_anything_is_decoded(tmp_path: Path, there: str) -> None:
    path = write_sound(tmp_path / "x.flac")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/all.csv").write_text(there)
    with pytest.raises(
        UserError, match=r"all.csv exists with other content.*another folder with --write_c"
    ):
        written(tmp_path, utterance(path))
    assert (tmp_path / "out/all.csv").read_text() == there and not decoded_files(tmp_path)


def test_a_folder_with_the_name_of_the_table_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "all.csv").mkdir()
    with pytest.raises(UserError, match=r"all.csv exists and can't be read: Is a directory"):
        write_csv(str(tmp_path / "all.csv"), [], RATE)


def test_a_table_written_meanwhile_by_another_run_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "out/all.csv"

    def read_slowly(*arguments: object) -> np.ndarray:
        table.write_text("another's\n")
        return np.ones(9, np.int16)

    monkeypatch.setattr(csv_export, "read_samples", read_slowly)
    with pytest.raises(UserError, match=r"all.csv exists with other content"):
        written(tmp_path, utterance(write_sound(tmp_path / "x.flac")))
    assert table.read_text() == "another's\n"


def test_a_finished_export_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "bad.flac").write_bytes(b"bad")
    given = [utterance(write_sound(tmp_path / f"{n}.flac"), f"text {n}") for n in range(3)]
    given.append(utterance(tmp_path / "bad.flac"))
    first = written(tmp_path, *given)
    assert written(tmp_path, *given) == first
    with pytest.raises(UserError, match="exists with other content"):
        written(tmp_path, *given[1:])


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with (
        exclusive(str(tmp_path / "out/.all.csv.lock")),
        pytest.raises(UserError, match=r"Another run .* is writing this table: .*--write_csv"),
    ):
        written(tmp_path)


def test_workers_write_what_one_process_writes(tmp_path: Path) -> None:
    (tmp_path / "bad.flac").write_bytes(b"bad")
    given = [utterance(write_sound(tmp_path / f"{n}.flac"), f"text {n}") for n in range(5)]
    given.insert(2, utterance(tmp_path / "bad.flac"))
    one, several = (str(tmp_path / name / "all.csv") for name in ("one", "several"))
    assert write_csv(one, given, RATE) == write_csv(several, given, RATE, workers=2)
    assert Path(one).read_bytes() == Path(several).read_bytes()
    assert {path.name: path.read_bytes() for path in Path(wav_folder(one)).iterdir()} == {
        path.name: path.read_bytes() for path in Path(wav_folder(several)).iterdir()
    }


TRANSCRIPTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
TRICKY = st.sampled_from(
    [',"', '"', "a\r\nb", "\r", "שלום, עולם", "\ufeffa", "a;b\tc", "'", "\u2028"]
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists((TRANSCRIPTS | TRICKY).filter(lambda text: bool(text.strip())), max_size=4))
def test_an_exported_table_is_read_back(tmp_path: Path, transcripts: list[str]) -> None:
    sounds = [tmp_path / "out/x.wav", tmp_path / "y.flac"]
    for sound in sounds:
        if not sound.exists():
            write_sound(sound)
    utterances = [
        utterance(sounds[number % 2], text, utterance_id=f"me-here/{number}")
        for number, text in enumerate(transcripts)
    ]
    path = str(tmp_path / "out/all.csv")
    storage.remove(path)
    assert write_csv(path, utterances, RATE).rows == len(transcripts)
    found = listed(path)
    assert [each.transcript for each in found] == transcripts
    for before, after in zip(utterances, found, strict=True):
        assert after.stated_bytes == after.audio_bytes
        np.testing.assert_array_equal(
            read_audio(str(after.audio_path), RATE), read_audio(str(before.audio_path), RATE)
        )


def test_the_folder_has_the_name_of_the_table() -> None:
    assert wav_folder("/data/ru/train.csv") == "/data/ru/train_wav"
