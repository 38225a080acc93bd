"""Utterances, and the copies of them that augmentation makes."""

from dataclasses import replace
from pathlib import Path

import pytest

from speech.corpora.formats.librispeech import find_utterances
from speech.corpora.utterance import Utterance, transcript_of, with_copies
from utils import UserError


def listed(folder: Path) -> list[Utterance]:
    return find_utterances([str(folder)])


def test_a_blank_text_is_no_transcript() -> None:
    assert transcript_of(" Two  words\n") == " Two  words\n"
    assert [transcript_of(blank) for blank in ("", " ", "\t\u00a0\n")] == [None] * 3


def test_copies_directly_follow_their_utterance(split: Path) -> None:
    utterances = listed(split)
    copied = with_copies(utterances, 2)
    assert [each.utterance_id for each in copied[:4]] == [
        *("777-1-0000", "777-1-0000#1", "777-1-0000#2", "84-10-0000")
    ]
    assert copied[::3] == utterances
    assert [each.copy for each in copied] == [0, 1, 2] * len(utterances)
    for original, copy in zip(copied[::3], copied[2::3], strict=True):
        assert copy.recorded_id == original.recorded_id == original.utterance_id
        assert replace(copy, utterance_id=original.utterance_id, copy=0) == original
    assert with_copies(utterances, 0) == utterances


def test_utterances_without_audio_or_transcript_have_no_copies(split: Path) -> None:
    (split / "84/2/84-2-0000.flac").unlink()
    (split / "84/2/84-2-0002.flac").write_bytes(b"")
    ids = [
        each.utterance_id for each in with_copies(listed(split), 1) if "-2-" in each.utterance_id
    ]
    assert ids == ["84-2-0000", "84-2-0001", "84-2-0001#1", "84-2-0002"]


def test_an_utterance_with_the_id_of_a_copy_is_refused(split: Path) -> None:
    (split / "84/2/84-2-0001#1.flac").write_bytes(b"")
    with pytest.raises(UserError, match="84-2-0001#1 has the id of a copy of 84-2-0001"):
        with_copies(listed(split), 1)


def test_where_is_the_place_else_the_audio_file_else_the_id() -> None:
    assert Utterance("id", "a.wav", "a", "", place="train.csv:2").where == "train.csv:2"
    assert Utterance("id", "a.wav", "a", "").where == "a.wav"
    assert Utterance("id", None, "a", "").where == "id"
