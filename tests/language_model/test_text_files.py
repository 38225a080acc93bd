"""Text is read from plain and gzipped files and LibriSpeech's transcripts, in whole lines."""

import gzip
from pathlib import Path

import pytest
from arpa_models import write_lines

from speech.language_model import text_files
from speech.language_model.text_files import TextFile, find_text, read_blocks
from utils import UserError

FLAG = "--input_txt"


def test_plain_and_gzipped_files_read_alike(tmp_path: Path) -> None:
    plain = write_lines(tmp_path / "plain", ["one", "zwölf"])
    packed = tmp_path / "packed"  # detected by its content, not by its name
    packed.write_bytes(gzip.compress(Path(plain).read_bytes()))
    assert list(read_blocks(TextFile(plain, FLAG))) == ["one\nzwölf\n"]
    assert list(read_blocks(TextFile(str(packed), FLAG))) == ["one\nzwölf\n"]


def test_no_line_is_split_between_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "BLOCK", 7)
    lines = ["a b", "", "äöü" * 9, "last"]
    path = write_lines(tmp_path / "text", lines)
    with open(path, "a", encoding="utf-8") as file:
        file.write("without an end")
    blocks = list(read_blocks(TextFile(path, FLAG)))
    assert "".join(blocks) == "".join(f"{line}\n" for line in lines) + "without an end"
    assert len(blocks) > 2
    assert all(block.endswith("\n") for block in blocks[:-1])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    path = tmp_path / "1-2.trans.txt"
    path.write_bytes("".join(f"1-2-{i} WORD{i}\u2028END{end}" for i in range(20)).encode())
    for size in range(1, 40):
        monkeypatch.setattr(text_files, "BLOCK", size)
        blocks = list(read_blocks(TextFile(str(path), FLAG)))
        assert "".join(blocks) == "".join(f"word{i}\u2028end\n" for i in range(20))


def test_a_byte_order_mark_is_no_letter(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("\ufeffone\n".encode())
    assert list(read_blocks(TextFile(str(path), FLAG))) == ["one\n"]


def test_ids_of_utterances_are_no_words(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "1-2.trans.txt", ["1-2-0001 HELLO THERE", "1-2-0002", "1-2-3 A"])
    (block,) = read_blocks(TextFile(path, FLAG))
    assert block.split("\n") == ["hello there", "", "a", ""]
    # The rules of a language write capitals, as Turkish has them otherwise.
    (block,) = read_blocks(TextFile(path, FLAG, "tr"))
    assert block.split("\n") == ["HELLO THERE", "", "A", ""]


def test_a_folder_is_its_transcripts(tmp_path: Path) -> None:
    for chapter in ("2", "1"):
        (tmp_path / "8" / chapter).mkdir(parents=True)
        write_lines(tmp_path / "8" / chapter / f"8-{chapter}.trans.txt", ["8 A"])
        write_lines(tmp_path / "8" / chapter / "notes.txt", ["B"])
    found = find_text([str(tmp_path)], FLAG)
    assert [Path(file.path).name for file in found] == ["8-1.trans.txt", "8-2.trans.txt"]
    assert all(file.transcripts for file in found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "train.csv",
            'wav_filename,wav_filesize,transcript\nb.wav,1,"x,\ny"\na.wav,1,one\nc.wav,1,\n',
        ),
        ("train.TSV", "client_id\tpath\tsentence\n\tb\tx, y\n\ta\tone\n\tc\t\n"),
        ("train.json", '{"key": "b", "text": "x, y"}\n{"key": "a", "text": "one"}\n'),
    ],
)
def test_tables_are_their_transcripts_one_per_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (found,) = find_text([str(tmp_path / name)], FLAG)
    assert found.table and not found.transcripts
    assert list(read_blocks(found)) == ["one\nx, y\n"]


def test_spaces_of_a_table_s_transcripts_stay_for_the_rules(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('wav_filename,transcript\na.wav,"3\u00a0000\r\nmen"\n')
    (found,) = find_text([str(tmp_path / "a.csv")], FLAG)
    assert list(read_blocks(found)) == ["3\u00a0000 men\n"]


def test_the_language_chooses_the_column_of_commands(tmp_path: Path) -> None:
    (tmp_path / "commands.csv").write_text("id,es,de\n1,luz,Licht\n")
    (tmp_path / "1.wav").touch()
    (found,) = find_text([str(tmp_path / "commands.csv")], FLAG, "de")
    assert list(read_blocks(found)) == ["Licht\n"]


def test_tables_that_can_not_be_read_are_named_with_the_flag(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "words.csv", ["a,b", "c,d"])
    with pytest.raises(UserError, match=f"^{FLAG}: {path} has no column wav_filename"):
        list(read_blocks(TextFile(path, FLAG)))
    path = write_lines(tmp_path / "no.csv", ["wav_filename,transcript"])
    with pytest.raises(UserError, match=f"Name another corpus with {FLAG}"):
        list(read_blocks(TextFile(path, FLAG)))


def test_a_missing_or_empty_text_is_named(tmp_path: Path) -> None:
    empty = write_lines(tmp_path / "empty", [])
    for path, expected_message in (
        (empty, "is empty"),
        (str(tmp_path / "gone"), "doesn't exist"),
        (str(tmp_path), "is a folder without"),
    ):
        with pytest.raises(UserError, match=f"{FLAG}={path} {expected_message}"):
            find_text([path], FLAG)


def test_a_line_that_is_not_utf_8_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "BLOCK", 8)
    path = tmp_path / "text"
    path.write_bytes("one\ntwo\nthree\nfünf\n".encode("latin-1"))
    with pytest.raises(UserError, match=f"{FLAG}={path}, line 4, is not UTF-8"):
        list(read_blocks(TextFile(str(path), FLAG)))


def test_a_gzipped_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "text.gz"
    whole = gzip.compress(b"some words\n" * 1000)
    for damaged in (whole[:-12], whole[:30] + b"\0\0\0\0" + whole[34:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=f"{FLAG}={path} can't be read"):
            list(read_blocks(TextFile(str(path), FLAG)))
