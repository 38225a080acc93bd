"""Corpora of any format become one list of utterances with unique ids."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import write_sound

from speech.corpora.formats import registry
from speech.corpora.formats.reading import Reading
from speech.corpora.formats.registry import FORMATS, check_disjoint, detect, read
from speech.corpora.utterance import Utterance
from speech.system import storage
from utils import UserError

WriteSplit = Callable[[Path, dict[str, str]], None]

CSV = "wav_filename,wav_filesize,transcript\n"


@pytest.fixture
def corpora(tmp_path: Path, write_split: WriteSplit) -> dict[str, Path]:
    """One corpus of each format, of one utterance."""
    write_split(tmp_path / "librispeech", {"84-1-0000": "A CAT"})
    for name in ("csv", "common_voice", "json", "commands", "folder"):
        write_sound(tmp_path / name / ("clips/1.mp3" if name == "common_voice" else "1.wav"))
    texts = {
        "csv/train.csv": CSV + "1.wav,7,a cat\n",
        "common_voice/train.tsv": "client_id\tpath\tsentence\nanna\t1.mp3\ta cat\n",
        "json/train.json": '{"key": "1.wav", "text": "a cat"}\n',
        "commands/commands.csv": "id,en\n1,a cat\n",
        "folder/1.txt": "a cat\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    tables = ("csv/train.csv", "common_voice/train.tsv", "json/train.json")
    return {name: tmp_path / name for name in ("librispeech", "commands", "folder")} | {
        table.partition("/")[0]: tmp_path / table for table in tables
    }


def listed(*paths: Path | str, format_name: str | None = None) -> list[Utterance]:
    return read([str(path) for path in paths], format_name, Reading())


def refusal(*paths: Path | str, format_name: str | None = None, flag: str = "--files_path") -> str:
    with pytest.raises(UserError) as error:
        read([str(path) for path in paths], format_name, Reading(), flag)
    return str(error.value)


def test_every_format_is_detected_and_read(corpora: dict[str, Path]) -> None:
    assert corpora.keys() | {"recordings"} == FORMATS.keys()  # tested beside its reader
    for name, path in corpora.items():
        assert detect(str(path)) == name
        (found,) = listed(path)
        assert (found.transcript, listed(path, format_name=name)) == ("a cat", [found])
        assert found.audio_bytes


def test_corpora_of_several_formats_are_one_sorted_by_id(corpora: dict[str, Path]) -> None:
    paths = list(corpora.values())
    found = listed(*paths)
    assert [each.utterance_id for each in found] == [
        *("84-1-0000", "anna-common_voice/clips/1", "commands/1", "csv/1", "folder/1", "json/1")
    ]
    assert listed(*reversed(paths)) == found


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "wav_filename\ttranscript\n", "csv"),
        ("a.tsv", "Wav_Filename\ttranscript\n", "csv"),
        ("a.csv", "client_id,path,sentence\n", "common_voice"),
        ("a.csv", "a,b\n", "csv"),
        ("a.TSV", "a\tb\n", "common_voice"),
        ("a.jsonl", "", "json"),
        ("a.manifest", "x", "json"),
        ("a.txt", ' [{"key"', "json"),
        ("commands.csv", "id;es\n", "commands"),
        ("commands.csv", "a,b\n", "commands"),
        ("a.csv", "id,es\n", "csv"),
    ],
)
def test_tables_are_detected_by_their_content(
    tmp_path: Path, name: str, text: str, expected: str
) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / name).write_text(text, encoding)
        assert detect(str(tmp_path / name)) == expected


def test_an_unknown_table_names_the_missing_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,es\n1,sí\n", "utf-8")
    message = refusal(tmp_path / "a.csv")
    assert "has no column wav_filename and transcript" in message
    assert "It may be of the format commands" in message


def test_a_folder_of_tables_names_them(asterisk_ru: str) -> None:
    tables = ", ".join(f"{asterisk_ru}/{name}.csv" for name in ("dev", "test", "train"))
    message = refusal(asterisk_ru)
    assert f"with tables ({tables}): name the tables with --files_path." in message


def test_folders_of_audio_alone_are_not_guessed(corpora: dict[str, Path]) -> None:
    (corpora["folder"] / "1.txt").unlink()
    message = refusal(corpora["folder"])
    assert "is a folder without commands.csv, *.trans.txt, or *.txt next to audio files" in message
    (found,) = listed(corpora["folder"], format_name="folder")
    assert found.transcript is None


def test_corpora_in_a_bucket_are_detected(corpora: dict[str, Path], own_bucket: str) -> None:
    above = corpora["folder"].parent
    for path in above.rglob("*.*"):
        storage.write_bytes(f"{own_bucket}/{path.relative_to(above)}", path.read_bytes())
    for path in corpora.values():
        there = f"{own_bucket}/{path.relative_to(above)}"
        assert [each.utterance_id for each in listed(there)] == [
            each.utterance_id for each in listed(path)
        ]
        assert all(str(each.audio_path).startswith("gs://") for each in listed(there))
    assert "is a folder with tables" in refusal(f"{own_bucket}/csv")
    assert detect(own_bucket.rpartition("/")[0]) == "librispeech"  # all of the bucket
    assert "doesn't exist. Name a table" in refusal(f"{own_bucket}/nothing")


@pytest.mark.parametrize(
    ("name", "text", "expected_message"),
    [
        ("gone.csv", None, "gone.csv doesn't exist. Name a table or a folder with --input_txt."),
        (
            "a.pdf",
            "nothing",
            "a.pdf is not a table of a known format (commands, common_voice, csv,",
        ),
        (
            "a.csv",
            CSV,
            "a.csv contains no utterances of the format csv. Name another corpus with --i",
        ),
        ("a.csv", "", "a.csv is empty: fill it, or name another file."),
    ],
)
def test_unreadable_corpora_are_named(
    tmp_path: Path, name: str, text: str | None, expected_message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    assert expected_message in refusal(tmp_path / name, flag="--input_txt")


def test_invalid_flags_are_refused(corpora: dict[str, Path], tmp_path: Path) -> None:
    table = corpora["csv"]
    assert "Name a table or a folder with --files_path" in refusal()
    assert "--format=wav is unknown: choose one of commands, " in refusal(table, format_name="wav")
    assert "--files_path names" in refusal(table, f"{tmp_path}/json/../csv/train.csv")


@pytest.mark.parametrize("format_name", ["csv", "common_voice", "json"])
def test_a_folder_for_a_format_of_tables_names_those_in_it(
    corpora: dict[str, Path], format_name: str
) -> None:
    table = corpora["csv"]
    message = refusal(table.parent, format_name=format_name, flag="--train_files")
    assert message == (
        f"{table.parent} is a folder, and --format={format_name} requires tables: name the tables "
        f"in it with --train_files ({table})."
    )


@pytest.mark.parametrize("format_name", ["librispeech", "folder", "commands"])
def test_a_table_for_a_format_of_folders_is_refused(
    corpora: dict[str, Path], format_name: str
) -> None:
    message = refusal(corpora["csv"], format_name=format_name, flag="--train_files")
    assert f"--format={format_name} requires" in message and "folder" in message
    assert "--train_files, or leave out --format." in message


def test_the_messages_of_a_reader_contain_the_flag(tmp_path: Path) -> None:
    (tmp_path / "split").mkdir()
    message = refusal(tmp_path / "split", format_name="librispeech", flag="--dev_files")
    assert "--dev_files" in message and "--files_path" not in message


@pytest.mark.parametrize(
    ("name", "setting", "expected_message"),
    [
        ("csv", "id_pattern", "--id_pattern=x has no effect on the format csv, only on commands:"),
        ("librispeech", "audio_root", "only on csv and common_voice and json and commands:"),
        ("folder", "audio_root", "--audio_root=x has no effect on the format folder"),
    ],
)
def test_options_without_effect_are_refused(
    corpora: dict[str, Path], name: str, setting: str, expected_message: str
) -> None:
    for chosen in (name, None):
        with pytest.raises(UserError) as error:
            read([str(corpora[name])], chosen, Reading(**{setting: "x"}))
        assert expected_message in str(error.value)


def test_an_option_of_one_of_several_corpora_is_accepted(
    corpora: dict[str, Path],
) -> None:
    paths = [str(corpora["csv"]), str(corpora["commands"])]
    assert len(read(paths, None, Reading(id_pattern=r"(?P<id>\d)"))) == 2


def test_a_path_in_two_sets_is_refused(corpora: dict[str, Path], tmp_path: Path) -> None:
    table = str(corpora["csv"])
    check_disjoint(
        {"--train_files": [table], "--dev_files": [f"{table}.other"], "--test_files": []}
    )
    with pytest.raises(UserError) as error:
        check_disjoint(
            {"--train_files": [table], "--test_files": [f"{tmp_path}/x/../csv/train.csv"]}
        )
    assert "csv/train.csv is named by --train_files and by --test_files" in str(error.value)
    with pytest.raises(UserError, match="--train_files and by --dev_files"):
        check_disjoint({"--train_files": ["gs://b/ru/"], "--dev_files": ["gs://b/ru"]})
    with pytest.raises(UserError, match="--dev_files names a twice"):
        check_disjoint({"--train_files": ["b"], "--dev_files": ["a", "a"]})


PIECES = st.sampled_from(
    [
        *(b"wav_filename", b"transcript", b"path", b"sentence", b"id", b"es", b'{"key": "x"', b"7"),
        *(
            b'"text": "a"',
            b"}",
            b"[",
            b"]",
            b",",
            b";",
            b"\t",
            b"\n",
            b"\r",
            b'"',
            b"\\ud800",
            b"\0",
        ),
        *(
            b"\xff\xfe",
            b"\xef\xbb\xbf",
            "é".encode(),
            b"\xe9",
            b"gs:/",
            b"/",
            b"\\u0000",
            b"-",
            b"1e999",
        ),
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(PIECES | st.binary(max_size=3), max_size=30), st.sampled_from(sorted(FORMATS)))
def test_whatever_is_in_a_table_is_read_or_refused(pieces: list[bytes], name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / ("commands.csv" if name == "commands" else "a.tsv")
        table.write_bytes(b"".join(pieces))
        for chosen in (name, None):
            found = read_or_message(str(table), chosen)
            if isinstance(found, str):
                assert len(found.splitlines()) == 1
            else:
                assert found and all(each.utterance_id.encode() for each in found)


def read_or_message(path: str, format_name: str | None) -> list[Utterance] | str:
    try:
        return read([path], format_name, Reading())
    except UserError as error:
        return str(error)


# --- Equal ids ------------------------------------------------------------------------------------


def test_rows_of_one_recording_are_numbered_by_place(tmp_path: Path) -> None:
    for name in ("b", "a"):
        rows = "".join(f"/x/y/z/w.wav,1,{name}{line}\n" for line in range(2, 13))
        (tmp_path / f"{name}.csv").write_text(CSV + rows)
    found = listed(tmp_path / "b.csv", tmp_path / "a.csv")
    assert found == listed(tmp_path / "a.csv", tmp_path / "b.csv")
    transcripts = {each.utterance_id: each.transcript for each in found}
    assert len(transcripts) == 22
    assert transcripts["y/z/w"] == "a2" and transcripts["y/z/w (2)"] == "a3"
    assert transcripts["y/z/w (11)"] == "a12" and transcripts["y/z/w (12)"] == "b2"


def test_a_number_in_the_name_of_a_file_is_skipped(tmp_path: Path) -> None:
    rows = [
        {"key": f"{name}.wav", "text": text}
        for name, text in (("x", "1"), ("x (2)", "2"), ("x", "3"), ("x (2)", "4"), ("x", "5"))
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, indent=1))
    folder = tmp_path.name.replace("-", "_")
    transcripts = {each.utterance_id: each.transcript for each in listed(path)}
    assert transcripts == {
        f"{folder}/x": "1",
        f"{folder}/x (2)": "2",
        f"{folder}/x (3)": "3",
        f"{folder}/x (4)": "5",
        f"{folder}/x (2) (2)": "4",
    }


def test_files_that_differ_in_their_suffix_are_numbered(corpora: dict[str, Path]) -> None:
    write_sound(corpora["folder"] / "1.flac")
    found = listed(corpora["folder"])
    assert [(each.utterance_id, str(each.audio_path)[-4:]) for each in found] == [
        ("folder/1", "flac"),
        ("folder/1 (2)", ".wav"),
    ]


# --- The documents --------------------------------------------------------------------------------


def test_the_documents_example_of_another_corpus_reads_it(tmp_path: Path) -> None:
    text = (Path(registry.__file__).parents[3] / "docs/corpora.md").read_text(encoding="utf-8")
    code = text[text.index("```python\n") + len("```python\n") :]
    defined: dict[str, object] = {}
    exec(code[: code.index("```")], defined)
    wav = write_sound(tmp_path / "LJ/wavs/LJ001-0001.wav")
    (tmp_path / "LJ/metadata.csv").write_text('LJ001-0001|Mr. "X" 1|mister x one\n')
    reader = defined["read"]
    assert callable(reader)
    assert reader(str(tmp_path / "LJ"), Reading()) == [
        Utterance(
            "lj-LJ/wavs/LJ001-0001",
            str(wav),
            "mister x one",
            "lj",
            wav.stat().st_size,
            place=f"{tmp_path}/LJ/metadata.csv:1",
        )
    ]
