"""Resuming a set: what a second run writes, and what it refuses."""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from full_disk import full_disk
from small_sets import SETTINGS, contents, prepare_set, refusal, reread

from speech.corpora.formats.librispeech import find_utterances
from speech.corpora.utterance import Utterance
from speech.features.front_end import FrontEnd
from speech.shards.index import ShardSettings
from utils import Alphabet

WriteSplit = Callable[[Path, dict[str, str]], None]

# --- A second run ---------------------------------------------------------------------------------


def test_a_finished_set_is_left_as_it_is_with_a_message(
    corpus: list[Utterance], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = prepare_set(corpus, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with caplog.at_level(logging.INFO, "absl"):
        assert prepare_set(corpus, tmp_path) == first
    assert "is finished: nothing to do" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


@pytest.mark.parametrize("harm", ["deleted", "cut short"])
def test_a_lost_shard_is_written_again_and_no_other(
    corpus: list[Utterance],
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    caplog: pytest.LogCaptureFixture,
    harm: str,
) -> None:
    prepare_set(corpus, tmp_path)
    lost = tmp_path / "t.00000006"
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("t.0*")}
    if harm == "deleted":
        lost.unlink()
    else:
        os.truncate(lost, 100)
    prepare_set(corpus, tmp_path)
    assert "t.00000006 is missing or has changed" in caplog.text
    assert contents(tmp_path) == undisturbed
    changed = [path for path, time in written.items() if path.stat().st_mtime_ns != time]
    assert changed == [lost]


def test_a_killed_run_is_finished_to_the_same_bytes(
    corpus: list[Utterance], tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    prepare_set(corpus, tmp_path)
    # As after a kill between a shard's renaming and the index, with the next one half written.
    index = reread(tmp_path)
    for shard in index.shards[1:]:
        index = index.without_shard(shard)
    (tmp_path / "t.index.json").write_text(index.to_json())
    (tmp_path / "t.00000006").unlink()
    (tmp_path / "t.00000009").unlink()
    (tmp_path / ".t.00000006.partial").write_bytes(b"half")
    (tmp_path / ".t.index.json.partial").write_bytes(b"half")
    prepare_set(corpus, tmp_path)
    assert contents(tmp_path) == undisturbed


def test_a_folder_in_the_place_of_a_shard_is_an_error(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    (tmp_path / "t.00000003").mkdir()
    message = refusal(corpus, tmp_path)
    assert "t.00000003 can't be written: Is a directory. Remove that folder, then run" in message
    (tmp_path / "t.00000003").rmdir()
    prepare_set(corpus, tmp_path)


def test_a_full_disk_is_an_error_and_the_run_is_finished_later(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    ordered = [corpus[i] for i in (1, 0, 3, 4, 6, 2)]  # a shard of one record, then one of two
    with full_disk(20000):
        message = refusal(ordered, tmp_path / "set")
    assert "t.00000003 can't be written: File too large" in message
    assert sorted(os.listdir(tmp_path / "set")) == ["t.00000000", "t.index.json"]
    prepare_set(ordered, tmp_path / "set")
    prepare_set(ordered, tmp_path / "again")
    assert contents(tmp_path / "set") == contents(tmp_path / "again")


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        (replace(SETTINGS, partition_size=4), "partition_size 3 then, 4 now"),
        (replace(SETTINGS, padded=False), "padded True then, False now"),
        (replace(SETTINGS, stride=1), "stride 2 then, 1 now"),
        (replace(SETTINGS, front_end=FrontEnd(mel_filters=40)), "mel_filters 80 then, 40 now"),
        (
            replace(SETTINGS, front_end=FrontEnd(window_seconds=0.025), max_label_length=13),
            "window_seconds 0.02 then, 0.025 now; max_label_length 12 then, 13 now",
        ),
        (replace(SETTINGS, alphabet=Alphabet(("a", "b"))), "now"),
    ],
)
def test_other_settings_are_refused_with_both_values(
    corpus: list[Utterance], tmp_path: Path, changed: ShardSettings, names: str
) -> None:
    prepare_set(corpus, tmp_path)
    before = contents(tmp_path)
    message = refusal(corpus, tmp_path, changed)
    assert f"{tmp_path}/t.index.json was made with other settings" in message
    assert names in message and "--tfrecords_file" in message
    assert contents(tmp_path) == before


def test_another_alphabet_is_shown(corpus: list[Utterance], tmp_path: Path) -> None:
    prepare_set(corpus[:1], tmp_path)
    message = refusal(corpus[:1], tmp_path, replace(SETTINGS, alphabet=Alphabet(("ж",))))
    assert "alphabet ['a', 'b'" in message and "then, ['ж'] now" in message


def test_another_corpus_is_refused(corpus: list[Utterance], tmp_path: Path) -> None:
    prepare_set(corpus, tmp_path)
    before = contents(tmp_path)
    shorter = refusal(corpus[:11], tmp_path)
    assert "belongs to another corpus: 12 utterances then, 11 now" in shorter
    renamed = [*corpus[:11], replace(corpus[11], utterance_id="other")]
    assert "or some audio or transcript has changed" in refusal(renamed, tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("position", "changes"),
    [
        (0, {"transcript": "it is"}),
        (4, {"transcript": "its"}),  # there was none
        (0, {"audio_path": None, "audio_bytes": None}),
        (3, {"audio_path": __file__, "audio_bytes": 1}),  # there was none
        (0, {"audio_bytes": 1}),  # a file of another size
    ],
)
def test_a_changed_corpus_is_refused(
    corpus: list[Utterance], tmp_path: Path, position: int, changes: dict[str, Any]
) -> None:
    """Otherwise its shards would mix both."""
    prepare_set(corpus, tmp_path)
    before = contents(tmp_path)
    changed = list(corpus)
    changed[position] = replace(corpus[position], **changes)
    message = refusal(changed, tmp_path)
    assert "or some audio or transcript has changed" in message
    assert "Remove the old set" in message and "--tfrecords_file" in message
    assert contents(tmp_path) == before


def test_a_changed_audio_file_is_refused(tmp_path: Path, write_split: WriteSplit) -> None:
    write_split(tmp_path / "speech", {"1-1-0000": "IT", "1-1-0001": "IT"})
    utterances = find_utterances([str(tmp_path / "speech")])
    prepare_set(utterances, tmp_path / "set")
    soundfile.write(str(utterances[1].audio_path), np.zeros(5000), 16000)
    changed = find_utterances([str(tmp_path / "speech")])
    assert "some audio or transcript has changed" in refusal(changed, tmp_path / "set")


def test_names_that_are_not_utf_8_can_be_in_an_index(
    tmp_path: Path, write_split: WriteSplit
) -> None:
    write_split(tmp_path / "speech", {"1-1-0000": "IT", "1-1-0001": "IT"})
    audio = tmp_path / "speech/1/1/1-1-0001.flac"
    audio.rename(os.fsdecode(bytes(audio.parent) + b"/1-1-\xff.flac"))
    index = prepare_set(find_utterances([str(tmp_path / "speech")]), tmp_path / "set")
    assert (index.records, [each.position for each in index.skipped]) == (1, [1, 2])
    assert index.skipped[1].utterance_id == "1-1-\udcff"
    assert reread(tmp_path / "set") == index
    assert prepare_set(find_utterances([str(tmp_path / "speech")]), tmp_path / "set") == index


# --- --starting_position --------------------------------------------------------------------------


def test_a_set_begun_in_the_middle_is_completed_from_0(
    corpus: list[Utterance], tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    index = prepare_set(corpus, tmp_path, start=6)
    assert [shard.start for shard in index.shards] == [6, 9] and not index.complete
    assert [skipped.position for skipped in index.skipped] == [7, 8, 10, 11]
    assert prepare_set(corpus, tmp_path).complete
    assert contents(tmp_path) == undisturbed


def test_a_start_that_cuts_through_a_shard_is_refused(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    prepare_set(corpus, tmp_path, start=4)
    message = refusal(corpus, tmp_path, start=0)
    assert "--starting_position=0 would cut through t.00000004" in message
    assert "start at 1 plus a multiple of 3" in message
    assert prepare_set(corpus, tmp_path, start=1).shards[0].start == 1


@pytest.mark.parametrize("start", [12, 100])
def test_a_start_after_the_corpus_is_refused(
    corpus: list[Utterance], tmp_path: Path, start: int
) -> None:
    message = refusal(corpus, tmp_path, start=start)
    assert f"--starting_position={start} is outside the corpus of 12" in message
    assert not list(tmp_path.iterdir())
