"""LibriSpeech's layout -> utterances."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from emulator import Emulator
from small_split import SPOKEN

from speech.corpora.formats import registry
from speech.corpora.formats.librispeech import find_utterances
from speech.corpora.transcripts import normalise
from speech.corpora.utterance import Utterance
from speech.preparation.resume import corpus_digest
from speech.text.transcripts import TranscriptRules
from utils import UserError

WriteSplit = Callable[[Path, dict[str, str]], None]


def listed(*folders: Path) -> list[Utterance]:
    return find_utterances([str(folder) for folder in folders])


def refusal(*folders: Path) -> str:
    with pytest.raises(UserError) as error:
        listed(*folders)
    return str(error.value)


def test_utterances_are_sorted_by_id_with_their_audio_and_lower_case_transcript(
    split: Path,
) -> None:
    expected = [
        ("777-1-0000", "777/1/777-1-0000.flac", "the dog", "777"),
        ("84-10-0000", "84/10/84-10-0000.flac", "a cat", "84"),
        ("84-2-0000", "84/2/84-2-0000.flac", "hello", "84"),
        ("84-2-0001", "84/2/84-2-0001.flac", "mother's kitchen", "84"),
    ]
    assert listed(split) == [
        Utterance(name, str(split / path), transcript, speaker, (split / path).stat().st_size)
        for name, path, transcript, speaker in expected
    ]


def test_several_splits_are_merged_and_sorted(
    split: Path, tmp_path: Path, write_split: WriteSplit
) -> None:
    other = tmp_path / "dev-other"
    write_split(other, {"800-1-0000": "LAST BUT TWO", "100-1-0000": "FIRST"})
    merged = listed(split, other)
    assert [utterance.utterance_id for utterance in merged] == sorted(
        [*SPOKEN, "800-1-0000", "100-1-0000"]
    )
    assert listed(other, split) == merged


def test_the_speaker_is_the_folder_whatever_the_ids_look_like(
    split: Path, write_split: WriteSplit
) -> None:
    write_split(split, {"5-1-my_own": "HELLO"})
    (split / "5").rename(split / "anna")
    speakers = {each.utterance_id: each.speaker for each in listed(split)}
    assert speakers["5-1-my_own"] == "anna" and speakers["84-10-0000"] == "84"


def test_without_a_speakers_folder_or_audio_the_id_names_the_speaker(split: Path) -> None:
    assert [each.speaker for each in listed(split / "84", split / "777/1")] == ["777", *["84"] * 3]
    (split / "84/10/84-10-0000.flac").unlink()
    assert listed(split)[1].speaker == "84"


def test_audio_without_transcript_is_kept(split: Path) -> None:
    (split / "84/10/84-10.trans.txt").unlink()
    kept = {utterance.utterance_id: utterance.transcript for utterance in listed(split)}
    assert set(kept) == set(SPOKEN) and kept["84-10-0000"] is None


def test_transcript_without_audio_is_kept(split: Path) -> None:
    (split / "84/10/84-10-0000.flac").unlink()
    kept = {utterance.utterance_id: utterance.audio_path for utterance in listed(split)}
    assert set(kept) == set(SPOKEN) and kept["84-10-0000"] is None
    assert listed(split)[1].audio_bytes is None


def test_an_id_alone_is_no_transcript_and_empty_lines_are_none(split: Path) -> None:
    (split / "84/10/84-10.trans.txt").write_text("\n84-10-0000 \n\n  \n")
    assert len(listed(split)) == len(SPOKEN)
    assert listed(split)[1].transcript is None


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b""])
def test_byte_order_mark_spare_spaces_and_all_line_ends_are_tolerated(
    split: Path, end: bytes
) -> None:
    (split / "84/10/84-10.trans.txt").write_bytes(b"\xef\xbb\xbf84-10-0000  A CAT " + end)
    assert listed(split)[1].transcript == "a cat"


@pytest.mark.parametrize("space", "\u2028\u2029\u0085\v\f\x1c\x1d\x1e")
def test_other_separators_end_no_line_and_separate_words(split: Path, space: str) -> None:
    path = split / "84/10/84-10.trans.txt"
    path.write_text(f"84-10-0000 A{space}CAT\n", encoding="utf-8", newline="")
    found = listed(split)
    assert len(found) == len(SPOKEN)
    assert [each.transcript for each in normalise(found, TranscriptRules())][1] == "a cat"


def test_the_rules_of_a_language_change_the_case(split: Path) -> None:
    (split / "84/10/84-10.trans.txt").write_text("84-10-0000 IŞIK\n", encoding="utf-8")
    found = registry.read([str(split)], "librispeech", registry.Reading(language="tr"))
    assert normalise(found, TranscriptRules("tr"))[1].transcript == "ışık"  # noqa: RUF001


def test_a_broken_link_is_kept_without_size(split: Path) -> None:
    audio = split / "84/10/84-10-0000.flac"
    audio.unlink()
    audio.symlink_to(split / "nowhere")
    found = listed(split)[1]
    assert (found.audio_path, found.audio_bytes) == (str(audio), None)


def test_other_files_are_no_utterances(split: Path) -> None:
    (split / "84/10/notes.txt").write_text("84-10-0009 NOTHING\n")
    (split / "84/10/84-10-0009.wav").write_text("nothing")
    assert len(listed(split)) == len(SPOKEN)


def test_symbolic_links_are_followed(split: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    (linked / "777").mkdir(parents=True)
    (linked / "84").symlink_to(split / "84")
    (linked / "777/1").symlink_to(split / "777/1")
    assert len(listed(linked)) == len(SPOKEN)
    (tmp_path / "whole").symlink_to(split)
    assert len(listed(tmp_path / "whole")) == len(SPOKEN)


def test_a_link_to_a_folder_above_is_refused(split: Path) -> None:
    (split / "84/loop").symlink_to(split)
    message = refusal(split)
    assert "exists twice" in message or "is deeper" in message


def test_a_folder_of_splits_is_refused_and_one_of_them_named(
    split: Path, tmp_path: Path, write_split: WriteSplit
) -> None:
    inner = tmp_path / "data" / "LibriSpeech" / "dev-clean"
    write_split(inner, SPOKEN)
    for above in (inner.parent, inner.parent.parent):
        message = refusal(above)
        assert f"{above} seems to contain several splits" in message
        assert f"--files_path, as in {inner}, separated by commas" in message
    assert len(listed(split / "84", split / "777")) == len(SPOKEN)


def test_other_files_may_be_deeper(split: Path) -> None:
    (split / "84/2/notes/old").mkdir(parents=True)
    (split / "84/2/notes/old/about.txt").write_text("nothing")
    assert len(listed(split)) == len(SPOKEN)


@pytest.mark.parametrize("between", ["\t", " \t ", "\u00a0"])
def test_any_space_stands_between_id_and_transcript(split: Path, between: str) -> None:
    (split / "84/10/84-10.trans.txt").write_text(f"84-10-0000{between}A CAT\n", encoding="utf-8")
    assert listed(split)[1].transcript == "a cat"


def test_an_id_of_two_files_names_both(split: Path, tmp_path: Path) -> None:
    shutil.copytree(split, tmp_path / "copy")
    message = refusal(split, tmp_path / "copy")
    assert "exists twice" in message and "Remove one" in message
    assert f"{split}/" in message and f"{tmp_path / 'copy'}/" in message


def test_an_id_of_two_transcripts_names_file_and_line(split: Path) -> None:
    with open(split / "84/2/84-2.trans.txt", "a") as file:
        file.write("84-2-0000 AGAIN\n")
    message = refusal(split)
    assert "84-2.trans.txt, line 3: 84-2-0000 already has a transcript" in message


def test_a_missing_folder_names_the_download(tmp_path: Path) -> None:
    message = refusal(tmp_path / "dev-clean")
    assert f"{tmp_path / 'dev-clean'} is not a folder" in message
    assert "--files_path" in message and "--download=dev-clean" in message


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "dev-clean.tar.gz").write_text("")
    assert "is not a folder" in refusal(tmp_path / "dev-clean.tar.gz")


def test_an_empty_folder_names_the_layout(split: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folders in [(tmp_path / "empty",), (split, tmp_path / "empty")]:
        message = refusal(*folders)
        assert f"{tmp_path / 'empty'} contains no utterances" in message
        assert "SPEAKER/CHAPTER/*.flac" in message and "--files_path" in message


def test_transcripts_that_are_not_utf_8_are_named(split: Path) -> None:
    (split / "84/10/84-10.trans.txt").write_bytes("84-10-0000 DÉJÀ VU\n".encode("latin-1"))
    message = refusal(split)
    assert "84-10.trans.txt are not UTF-8" in message and "save them as UTF-8" in message


def test_transcripts_that_can_not_be_opened_are_named(split: Path) -> None:
    (split / "84/10/84-10.trans.txt").unlink()
    (split / "84/10/84-10.trans.txt").symlink_to(split / "nowhere")
    assert "84-10.trans.txt can't be read: No such file" in refusal(split)


# --- In a bucket ----------------------------------------------------------------------------------


@pytest.fixture
def in_bucket(emulator: Emulator, bucket: str, split: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The split, copied to a folder of its name in the bucket."""
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    for path in split.rglob("*.*"):
        target = f"{bucket}/{split.name}/{path.relative_to(split)}"
        emulator.put(target.removeprefix(f"gs://{emulator.bucket}/"), path.read_bytes())
    return f"{bucket}/{split.name}"


def test_a_split_in_a_bucket_is_the_same_corpus(
    emulator: Emulator, in_bucket: str, split: Path
) -> None:
    emulator.forget_requests()
    found = find_utterances([in_bucket])
    assert found == [
        replace(each, audio_path=str(each.audio_path).replace(str(split), in_bucket))
        for each in listed(split)
    ]
    assert corpus_digest(found) == corpus_digest(listed(split))
    # The sizes of the audio come with the one list.
    requested = [path for _, path in emulator.requests()]
    assert sum("/o?" in path for path in requested) == 1
    assert sum(".trans.txt" in path for path in requested) == 3
    assert not [path for path in requested if ".flac" in path]


def test_other_splits_in_the_bucket_are_not_listed(emulator: Emulator, in_bucket: str) -> None:
    other_split = f"{in_bucket}-2/1/1/1-1-0000.flac".removeprefix(f"gs://{emulator.bucket}/")
    emulator.put(other_split, b"")
    assert {each.utterance_id for each in find_utterances([f"{in_bucket}/"])} == set(SPOKEN)


def test_an_empty_folder_of_a_bucket_names_the_layout(in_bucket: str) -> None:
    for folder in (f"{in_bucket}/nothing", f"{in_bucket}/84/2/84-2.trans.txt"):
        with pytest.raises(UserError, match=f"{folder} contains no utterances"):
            find_utterances([folder])


def test_a_folder_of_splits_in_a_bucket_is_refused(in_bucket: str, bucket: str) -> None:
    with pytest.raises(UserError, match=f"{bucket} seems to contain several.*as in {in_bucket}"):
        find_utterances([bucket])


def test_a_missing_bucket_is_named(in_bucket: str) -> None:
    with pytest.raises(UserError, match="gs://no-such-bucket/speech doesn't exist"):
        find_utterances(["gs://no-such-bucket/speech"])
