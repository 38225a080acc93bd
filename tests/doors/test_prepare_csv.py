"""prepare_csv.py from the command line: its shards, and its messages for bad input."""

import csv
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from doors import run_door
from planted_corpus import voice, words
from sounds import write_sound

from speech.shards.index import read_index
from speech.text.alphabets import read_alphabet
from utils import UTF_8

# Transcripts of a set, one a recording.
GERMAN = ["Grüß Gott!", "Ja, gern.", "Nein -- nie"]


def run(folder: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    """Runs the door in `folder`; the environment sets no folders."""
    return run_door("prepare_csv.py", "--workers=1", *flags, folder=folder)


def made(folder: Path, *flags: str) -> str:
    """Returns the output of a call that must succeed."""
    outcome = run(folder, *flags)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def refusal(folder: Path, *flags: str) -> str:
    """Returns the message of a call that must fail with an error."""
    outcome = run(folder, *flags)
    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stderr
    return outcome.stderr[outcome.stderr.index("error: ") :]


def write_table(path: Path, transcripts: list[str], seconds: float = 1.0) -> Path:
    """A DeepSpeech CSV and its recordings, wav/NAME-N.wav."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["wav_filename", "wav_filesize", "transcript"])
        for number, transcript in enumerate(transcripts, start=1):
            name = f"wav/{path.stem}-{number}.wav"
            sound = write_sound(path.parent / name, seconds)
            table.writerow([name, sound.stat().st_size, transcript])
    return path


def transcripts_of(tfrecords_file: Path) -> dict[str, str]:
    """Utterance's id -> transcript, of a set of shards."""
    import tensorflow as tf

    found = {}
    for shard in sorted(tfrecords_file.parent.glob(f"{tfrecords_file.name}.0*")):
        for payload in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator():
            feature = tf.train.Example.FromString(payload).features.feature
            utterance_id, transcript = (
                feature[name].bytes_list.value[0].decode()
                for name in ("utterance_id", "transcript")
            )
            found[utterance_id] = transcript
    return found


def skipped(tfrecords_file: Path) -> list[str]:
    index = read_index(str(tfrecords_file))
    assert index is not None
    return [each.reason for each in index.skipped]


@pytest.fixture
def german(tmp_path: Path) -> Path:
    """The folder of three tables of German."""
    for name in ("train", "dev", "test"):
        write_table(tmp_path / "de" / f"{name}.csv", [f"{each} {name}" for each in GERMAN])
    return tmp_path


SETS = ("--train_files=de/train.csv", "--dev_files=de/dev.csv", "--test_files=de/test.csv")


# --- Sets -----------------------------------------------------------------------------------------


def test_three_tables_become_the_three_sets_of_training(german: Path) -> None:
    made(german, *SETS, "--language=de", "--nopad")
    assert transcripts_of(german / "data/train.tfrecords") == {
        "de/wav/train-1": "grüß gott train",
        "de/wav/train-2": "ja gern train",
        "de/wav/train-3": "nein nie train",
    }
    lengths = {}
    for name in ("train", "dev", "test"):
        index = read_index(str(german / f"data/{name}.tfrecords"))
        assert index is not None and index.records == 3
        assert "".join(index.settings.alphabet.characters).endswith("äöüß ")
        lengths[name] = index.settings.max_sequence_length
    assert lengths == {"train": 1729, "dev": 3600, "test": 3600}


def test_the_same_command_again_does_nothing(german: Path) -> None:
    flags = ("--files_path=de/train.csv", "--tfrecords_file=t", "--language=de", "--nopad")
    made(german, *flags)
    shard = german / "t.00000000"
    before = (shard.read_bytes(), shard.stat().st_mtime_ns)
    outcome = run(german, *flags)
    assert "nothing to do" in outcome.stderr
    assert (shard.read_bytes(), shard.stat().st_mtime_ns) == before
    assert "alphabet" in refusal(german, *flags[:2], "--nopad", "--alphabet=utf-8")


def test_several_corpora_of_other_formats_become_one_set(german: Path) -> None:
    write_sound(german / "more/a.mp3", 1.0)
    manifest = {"audio_filepath": "a.mp3", "offset": 0.25, "duration": 0.5, "text": "Mehr"}
    (german / "more/m.json").write_text(json.dumps(manifest) + "\n")
    made(
        german, "--files_path=de/train.csv,more/m.json", "--tfrecords_file=t", "--language=de",
        "--nopad",
    )  # fmt: skip
    found = transcripts_of(german / "t")
    assert len(found) == 4 and found["more/a@0.25"] == "mehr"
    index = read_index(str(german / "t"))
    assert index is not None and index.audio_seconds == pytest.approx(3.5, abs=0.001)


def test_split_keeps_speakers_apart(tmp_path: Path) -> None:
    rows = ["id,es", "1,¡Hola!", "2,Adiós"]
    (tmp_path / "es").mkdir()
    (tmp_path / "es/commands.csv").write_text("\n".join(rows))
    for speaker in range(10):
        for command in (1, 2):
            write_sound(tmp_path / f"es/s{speaker}_{command}.wav", 0.5)
    made(tmp_path, "--files_path=es", "--split=70/20/10", "--language=es", "--nopad")
    speakers = []
    for name, count in (("train", 14), ("dev", 4), ("test", 2)):
        found = transcripts_of(tmp_path / f"data/{name}.tfrecords")
        assert len(found) == count and set(found.values()) == {"hola", "adiós"}
        speakers.append({utterance_id.split("-")[0] for utterance_id in found})
    assert not speakers[0] & speakers[1] and not (speakers[0] | speakers[1]) & speakers[2]


def test_only_the_training_set_gets_augmented_copies(german: Path) -> None:
    made(german, *SETS, "--language=de", "--nopad", "--augment=volume[dbfs=-20]")
    assert len(transcripts_of(german / "data/train.tfrecords")) == 6
    assert len(transcripts_of(german / "data/test.tfrecords")) == 3


def test_missing_and_broken_audio_is_skipped_and_named(german: Path) -> None:
    table = german / "de/train.csv"
    table.write_text(table.read_text() + "wav/none.wav,1,weg\nwav/bad.mp3,1,kaputt\n")
    (german / "de/wav/bad.mp3").write_bytes(b"<html>404 not found</html>")
    printed = made(german, "--files_path=de/train.csv", "--tfrecords_file=t", "--language=de")
    assert sorted(skipped(german / "t")) == ["no audio", "unreadable audio"]
    assert "3 of 5" in printed


def test_names_that_are_not_utf_8_are_prepared_and_exported(tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/c/an\xffna")
    os.makedirs(folder)
    write_sound(tmp_path / "1.flac", 1.0).rename(Path(folder, "1.flac"))
    Path(folder, "1.txt").write_text("one")
    made(tmp_path, "--files_path=c", "--tfrecords_file=t", "--nopad")
    assert list(transcripts_of(tmp_path / "t").values()) == ["one"]
    assert "rows: 1" in made(tmp_path, "--files_path=c", "--write_csv=out")
    assert "udcff" in (tmp_path / "out/c.csv").read_text(encoding="utf-8")


def test_any_text_can_be_written_in_bytes(tmp_path: Path) -> None:
    write_table(tmp_path / "zh/all.csv", ["今天天气很好", "مرحبا"])
    made(tmp_path, "--files_path=zh/all.csv", "--tfrecords_file=t", "--alphabet=utf-8", "--nopad")
    assert set(transcripts_of(tmp_path / "t").values()) == {"今天天气很好", "مرحبا"}
    index = read_index(str(tmp_path / "t"))
    assert index is not None and index.settings.alphabet == UTF_8


def test_shards_can_be_verified_and_measured(german: Path) -> None:
    made(german, *SETS, "--language=de", "--nopad")
    assert made(german, "--verify").count("are whole") == 3
    measured = made(german, *SETS, "--language=de", "--stats")
    assert measured.count("3 of 3 usable") == 3 and "Recommended" in measured


# --- Characters -----------------------------------------------------------------------------------


def test_all_rows_with_unknown_characters_are_named_before_preparation(
    german: Path,
) -> None:
    outcome = run(german, "--files_path=de/train.csv", "--tfrecords_file=t")
    message = outcome.stderr
    assert "ü (U+00FC, LATIN SMALL LETTER U WITH DIAERESIS): 1 utterance: de/train.csv:2" in message
    for lacking in ("G (U+0047", "J (U+004A", "N (U+004E", "! (U+0021", ", (U+002C", "- (U+002D"):
        assert lacking in message
    with open(german / "report/unknown_characters.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["place"] for row in rows} == {f"de/train.csv:{line}" for line in (2, 3, 4)}


def test_strict_stops_at_unknown_characters_and_names_them_all(german: Path) -> None:
    message = refusal(german, "--files_path=de/train.csv", "--tfrecords_file=t", "--strict")
    assert "ü (U+00FC" in message and "- (U+002D" in message and "--make_alphabet" in message
    assert not list(german.glob("t.*"))


def test_a_forgotten_language_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    write_table(tmp_path / "ru/all.csv", ["кот", "дом"])
    message = refusal(tmp_path, "--files_path=ru/all.csv", "--tfrecords_file=t")
    assert "т (U+0442" in message and "--language" in message
    assert not list(tmp_path.glob("*t.*"))
    made(tmp_path, "--files_path=ru/all.csv", "--tfrecords_file=t", "--language=ru", "--nopad")


def test_a_language_without_its_own_rules_uses_a_made_alphabet(
    tmp_path: Path,
) -> None:
    write_table(tmp_path / "pl/all.csv", ["Cześć, Łucja!", "Do widzenia."])
    flags = ("--files_path=pl/all.csv", "--tfrecords_file=t", "--language=pl", "--nopad")
    assert "--make_alphabet" in refusal(tmp_path, *flags)
    made(tmp_path, *flags[:1], "--language=pl", "--make_alphabet", "--alphabet=pl.txt")
    made(tmp_path, *flags, "--alphabet=pl.txt")
    assert set(transcripts_of(tmp_path / "t").values()) == {"cześć łucja", "do widzenia"}


def test_make_alphabet_writes_an_alphabet_of_the_corpus(german: Path) -> None:
    printed = made(german, *SETS, "--language=de", "--make_alphabet")
    assert "LATIN SMALL LETTER SHARP S" in printed and "data/alphabet.txt" in printed
    written = read_alphabet(str(german / "data/alphabet.txt"))
    assert written.characters[0] == " " and {"ü", "ß"} < set(written.characters)
    assert not list((german / "data").glob("*.tfrecords*"))
    made(german, *SETS, "--language=de", "--alphabet=data/alphabet.txt", "--nopad")
    assert skipped(german / "data/train.tfrecords") == []


def test_make_alphabet_leaves_out_and_reports_suspicious_characters(tmp_path: Path) -> None:
    write_table(tmp_path / "ru/all.csv", ["кот 7", "дом", "дoм"])  # a Latin o
    printed = made(tmp_path, "--files_path=ru/all.csv", "--make_alphabet", "--alphabet=a.txt")
    assert "digit" in printed and "Latin among Cyrillic" in printed
    assert read_alphabet(str(tmp_path / "a.txt")).characters == tuple(" дкмот")
    assert "left out: o (U+006F, LATIN SMALL LETTER O)" in (tmp_path / "a.txt").read_text()


def test_flags_normalise_numbers_and_diacritics(tmp_path: Path) -> None:
    pytest.importorskip("num2words")
    write_table(tmp_path / "fr/all.csv", ["L\u2019été a 90 jours"])
    flags = ("--language=fr", "--spell_numbers", "--strip_diacritics", "--nopad")
    made(tmp_path, "--files_path=fr/all.csv", "--tfrecords_file=t", *flags)
    assert set(transcripts_of(tmp_path / "t").values()) == {"l'ete a quatre vingt dix jours"}


# --- --check and --write_csv ----------------------------------------------------------------------


def test_check_finds_planted_defects_and_writes_no_shards(tmp_path: Path) -> None:
    (tmp_path / "c/wav").mkdir(parents=True)
    rows: dict[str, list[list[object]]] = {"train": [], "test": []}
    for name, table in rows.items():
        for number in range(6):
            sound = voice(f"{name}{number}", 3.0)
            path = tmp_path / f"c/wav/{name}-{number}.wav"
            soundfile.write(path, sound, 16000)
            table.append([f"wav/{path.name}", path.stat().st_size, words(path.name, 42)])
    same, rate = soundfile.read(tmp_path / "c/wav/train-0.wav", dtype="int16")
    soundfile.write(tmp_path / "c/wav/leak.flac", same, rate)
    soundfile.write(tmp_path / "c/wav/silent.wav", np.zeros(32000), 16000)
    soundfile.write(tmp_path / "c/wav/loud.wav", np.clip(30 * voice("loud", 3.0), -1, 1), 16000)
    rows["test"].append(["wav/leak.flac", 5, rows["train"][0][2]])
    rows["test"].append(["wav/silent.wav", 64044, "nothing is said"])
    rows["test"].append(["wav/loud.wav", 96044, "größer als alles was man hat"])
    rows["test"].append(["wav/gone.wav", 1, "no such file"])
    for name, table in rows.items():
        with open(tmp_path / f"c/{name}.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["wav_filename", "wav_filesize", "transcript"], *table])
    outcome = run(tmp_path, "--train_files=c/train.csv", "--test_files=c/test.csv", "--check")
    assert outcome.returncode == 1
    assert "error: found" in outcome.stderr
    with open(tmp_path / "report/check.csv", encoding="utf-8") as file:
        found = {(row["place"], row["kind"]) for row in csv.DictReader(file)}
    expected = {
        ("c/test.csv:8", "same audio in two sets"),
        ("c/test.csv:8", "wrong size"),
        ("c/test.csv:9", "silence"),
        ("c/test.csv:10", "clipping"),
        ("c/test.csv:10", "unknown characters"),
        ("c/test.csv:11", "missing audio"),
    }
    assert expected <= found
    assert not {place for place, _ in found if place.startswith("c/train.csv")}
    assert "<audio" in (tmp_path / "report/check.html").read_text(encoding="utf-8")
    assert not (tmp_path / "data").exists()


def test_check_of_a_good_corpus_succeeds(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    rows: list[list[Any]] = [["wav_filename", "transcript"]]
    for number in range(6):
        soundfile.write(tmp_path / f"c/{number}.wav", voice(f"good{number}", 3.0), 16000)
        rows.append([f"{number}.wav", words(f"good{number}", 42)])
    with open(tmp_path / "c/all.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert "found nothing wrong in 6 utterances" in made(
        tmp_path, "--files_path=c/all.csv", "--check"
    )


def test_an_exported_csv_prepares_to_the_same_shards(german: Path) -> None:
    sound, rate = soundfile.read(german / "de/wav/train-1.wav")
    soundfile.write(german / "de/wav/train-1.flac", sound, rate)
    (german / "de/wav/train-1.wav").unlink()
    table = german / "de/train.csv"
    table.write_text(table.read_text().replace("train-1.wav", "train-1.flac"))
    flags = ("--language=de", "--nopad")
    printed = made(german, "--train_files=de/train.csv", "--write_csv=csv", *flags[:1])
    assert "csv/train.csv: rows: 3" in printed and "decoded: 1" in printed
    made(german, "--files_path=de/train.csv", "--tfrecords_file=a", *flags)
    made(german, "--files_path=csv/train.csv", "--tfrecords_file=b", *flags)
    one, other = (transcripts_of(german / name) for name in "ab")
    assert sorted(one.values()) == sorted(other.values())


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ([], ["no corpus", "--train_files", "docs/corpora.md"]),
        (["--files_path=nowhere.csv", "--tfrecords_file=t"], ["nowhere.csv", "--files_path"]),
        (["--train_files=nowhere.csv"], ["nowhere.csv", "--train_files"]),
        (["--files_path=de/train.csv"], ["--tfrecords_file", "--split"]),
        (["--files_path=de", "--tfrecords_file=t"], ["de/dev.csv", "de/train.csv"]),
        (["--files_path=de/train.csv", "--split=70,20,10"], ["70,20,10", "--split=70/20/10"]),
        (["--train_files=de/train.csv", "--split=70/20/10"], ["--split=70/20/10", "--files_path"]),
        (["--train_files=de/train.csv", "--files_path=de/dev.csv"], ["is one set and --train_"]),
        (["--train_files=de/train.csv,"], ["--train_files=de/train.csv,", "empty name"]),
        (["--train_files=de/train.csv", "--tfrecords_file=t"], ["--tfrecords_dir"]),
        ([*SETS, "--language=xx"], ["--language=xx", "de (German)"]),
        ([*SETS, "--spell_numbers"], ["--language"]),
        ([*SETS, "--check", "--stats"], ["--check and --stats"]),
        ([*SETS, "--write_csv=de"], ["de/train.csv", "--write_csv"]),
        (["--train_files=de/dev.csv", "--test_files=./de/dev.csv"], ["--test_files", "dev.csv"]),
        (["--verify"], ["data/train.tfrecords", "prepare them first"]),
        (["--files_path=de/train.csv", "--split="], ["--split="]),
        ([*SETS, "--write_csv="], ["--write_csv="]),
        ([*SETS, "--starting_position=1"], ["--starting_position"]),
        ([*SETS, "--alphabet=none.txt"], ["none.txt"]),
        ([*SETS, "--format=folder"], ["de/train.csv"]),
    ],
)
def test_a_wrong_call_is_refused_with_the_reason(
    german: Path, flags: list[str], parts: list[str]
) -> None:
    message = refusal(german, *flags)
    for part in parts:
        assert part in message
    assert not [*german.glob("**/*.tfrecords*"), *german.glob("**/t.*")]


# --- Real speech ----------------------------------------------------------------------------------


def test_real_russian_becomes_shards(asterisk_ru: str, tmp_path: Path) -> None:
    sets = [f"--{name}_files={asterisk_ru}/{name}.csv" for name in ("train", "dev", "test")]
    made(tmp_path, *sets, "--language=ru", "--nopad")
    found = transcripts_of(tmp_path / "data/test.tfrecords")
    assert len(found) == 25
    assert set("".join(found.values())) <= set(" абвгдеёжзийклмнопрстуфхцчшщъыьэюя")
    # One prompt of half a minute is longer than what is trained with.
    assert skipped(tmp_path / "data/train.tfrecords") == ["too many frames"]
