"""Recordings of numbered commands are read as utterances."""

import logging
from pathlib import Path

import pytest
from sounds import write_sound

from speech.corpora.formats import commands
from speech.corpora.formats.reading import Reading
from speech.corpora.utterance import Utterance
from speech.system import storage
from utils import UserError


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    corpus = tmp_path / "mirror"
    corpus.mkdir()
    (corpus / "commands.csv").write_text('id,es\n1,enciende\n012,"sí, espejo"\n7,\n', "utf-8")
    return corpus


def listed(corpus: Path, *names: str, **options: str) -> list[Utterance]:
    for name in names:
        write_sound(corpus / name)
    return commands.read(str(corpus), Reading(**options))


@pytest.mark.parametrize(
    ("name", "speaker"),
    [
        ("maria_012.wav", "maria"),
        ("maria/012.wav", "maria"),
        ("maria/kitchen/take-2_12.flac", "maria"),
        ("speaker3-ok_espejo-0012.wav", "speaker3"),
        ("12.mp3", ""),
        ("maria_١٢.wav", "maria"),
        ("maria/०१२.wav", "maria"),
    ],
)
def test_the_number_at_a_name_s_end_is_the_command(corpus: Path, name: str, speaker: str) -> None:
    (found,) = listed(corpus, name)
    stem = f"mirror/{name.rpartition('.')[0]}"
    assert found == Utterance(
        f"{speaker}-{stem}" if speaker else stem,
        str(corpus / name),
        "sí, espejo",
        speaker,
        (corpus / name).stat().st_size,
        place=f"{corpus}/commands.csv:3",
    )


def test_the_table_s_numbers_may_be_in_the_digits_of_any_script(corpus: Path) -> None:
    (corpus / "commands.csv").write_text("id,ar\n٠١٢,نعم\n²,تربيع\n")  # noqa: RUF001
    found = listed(corpus, "maria_12.wav", "maria_²2.wav")
    assert [each.transcript for each in found] == ["نعم", None]


def test_a_pattern_matches_other_names(corpus: Path) -> None:
    (corpus / "commands.csv").write_text("id,es\nok_espejo,sí\n")
    (found,) = listed(
        corpus, "ok_espejo-maria.wav", id_pattern=r"(?P<id>[^/]+)-(?P<speaker>[^/]+)$"
    )
    assert (found.transcript, found.speaker) == ("sí", "maria")
    (alone,) = listed(corpus, id_pattern=r"(?P<id>[a-z]+_[a-z]+)")
    assert (alone.transcript, alone.speaker) == ("sí", "")


def test_recordings_without_command_are_kept_with_a_warning(
    corpus: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="absl"):
        found = listed(corpus, "m_1.wav", "m_7.wav", "m_99.wav", "012-m.wav", "._m_1.wav")
    assert {each.utterance_id: each.transcript for each in found} == {
        "m-mirror/m_1": "enciende",
        "m-mirror/m_7": None,
        "m-mirror/m_99": None,
        "mirror/012-m": None,
    }
    assert f"1 recordings have an id that is missing from {corpus}/commands.csv: " in caplog.text
    assert f"commands.csv: {corpus}/m_99.wav" in caplog.text
    assert "1 recordings have no id in their name" in caplog.text and "012-m.wav" in caplog.text
    assert f"1 commands have no recording: {corpus}/commands.csv:3" in caplog.text


def test_one_of_several_languages_is_chosen(corpus: Path) -> None:
    (corpus / "commands.csv").write_text("id;ES;de\n1;enciende;an\n")
    assert [each.transcript for each in listed(corpus, "m_1.wav", language="De")] == ["an"]
    with pytest.raises(UserError, match="several columns of texts, es, de: choose one with --lang"):
        listed(corpus)
    with pytest.raises(UserError, match="texts, es, de, and none is named --language=fr"):
        listed(corpus, language="fr")


@pytest.mark.parametrize("column", ["text", "es"])
def test_the_only_column_is_taken_in_any_language(corpus: Path, column: str) -> None:
    (corpus / "commands.csv").write_text(f"id,{column}\n1,enciende\n")
    assert [each.transcript for each in listed(corpus, "m_1.wav", language="pl")] == ["enciende"]


def test_recordings_may_be_in_an_audio_root(corpus: Path, tmp_path: Path) -> None:
    write_sound(tmp_path / "audio/maria_1.wav")
    (found,) = listed(corpus, audio_root=str(tmp_path / "audio"))
    assert (found.utterance_id, found.transcript) == ("maria-audio/maria_1", "enciende")


def test_the_table_stands_for_its_folder(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = listed(corpus, "m_1.wav")
    assert commands.read(f"{corpus}/commands.csv", Reading()) == found
    monkeypatch.chdir(corpus)
    (here,) = commands.read("commands.csv", Reading())
    assert here.utterance_id == found[0].utterance_id


def test_commands_in_a_bucket_are_the_same_corpus(corpus: Path, own_bucket: str) -> None:
    (found,) = listed(corpus, "maria/1.wav")
    for name in ("commands.csv", "maria/1.wav"):
        storage.write_bytes(f"{own_bucket}/mirror/{name}", (corpus / name).read_bytes())
    (there,) = commands.read(f"{own_bucket}/mirror", Reading())
    assert (there.utterance_id, there.transcript) == (found.utterance_id, found.transcript)
    assert there.audio_bytes == found.audio_bytes


@pytest.mark.parametrize(
    ("rows", "expected_message"),
    [
        ("1,a\n01,b\n,c\n", "line 3: id 1 repeats .*:2; line 4: id is empty"),
        ("1,a,b\n", "line 2: 3 fields instead of 2"),
    ],
)
def test_bad_commands_are_named_together(corpus: Path, rows: str, expected_message: str) -> None:
    (corpus / "commands.csv").write_text(f"id,es\n{rows}")
    with pytest.raises(UserError, match=expected_message):
        listed(corpus, "m_1.wav")


@pytest.mark.parametrize(
    ("pattern", "expected_message"),
    [
        ("(", "--id_pattern=( is not a regular expression: "),
        (r"\d+", r"--id_pattern=\d+ has no group for the id: write (?P<id>...)"),
        ("x(?P<id>y)", "has an id in its name that matches x(?P<id>y): the first is "),
    ],
)
def test_patterns_without_a_match_are_refused(
    corpus: Path, pattern: str, expected_message: str
) -> None:
    with pytest.raises(UserError) as error:
        listed(corpus, "m_1.wav", id_pattern=pattern)
    assert expected_message in str(error.value)


def test_missing_files_are_named(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mirror contains no recordings: .*with --audio_root"):
        listed(corpus)
    (corpus / "commands.csv").write_text("id\n1\n")
    with pytest.raises(UserError, match=r"has no column of texts: .*as in id,es"):
        listed(corpus, "m_1.wav")
    with pytest.raises(UserError, match=r"commands.csv can't be read"):
        listed(tmp_path / "nowhere")
