"""The engine: which shards it writes, what it leaves alone, what it refuses and what it skips."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from emulator import Emulator
from full_disk import full_disk
from hypothesis import example, given, settings
from hypothesis import strategies as st

from speech.audio.reader import read_audio
from speech.augmentation.waveform import NO_COPIES, Copies, copies_of
from speech.corpora.formats.librispeech import librispeech
from speech.corpora.utterance import Utterance, with_copies
from speech.features.front_end import FrontEnd, extract
from speech.preparation import write_shards as engine
from speech.preparation.write_shards import labels_to_align, prepare, summary
from speech.shards.index import Index, ShardSettings, read_index
from speech.shards.records import encode_example
from speech.system import lock
from utils import ENGLISH, Alphabet, UserError

WriteSplit = Callable[[Path, dict[str, str]], None]

ROOT = Path(__file__).resolve().parents[2]

SETTINGS = ShardSettings(
    front_end=FrontEnd(),
    alphabet=ENGLISH,
    partition_size=3,
    max_sequence_length=50,
    max_label_length=12,
    padded=True,
    stride=2,
)

OVER_CORPUS = replace(SETTINGS, front_end=FrontEnd(mel_filters=6, deltas=1, normalisation="corpus"))

# What is wrong with the utterances of `corpus`, by their position.
WRONG = {
    1: engine.UNKNOWN_CHARACTER,
    3: engine.NO_AUDIO,
    4: engine.NO_TRANSCRIPT,
    5: engine.UNREADABLE,
    7: engine.UNALIGNABLE,
    8: engine.EMPTY,
    10: engine.TOO_LONG,
    11: engine.LABEL_TOO_LONG,
}
TRANSCRIPTS = {1: "NAÏVE", 7: "AAAAAAAAAAAA", 11: "THIRTEEN LONG"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, write_split: WriteSplit) -> list[Utterance]:
    """Twelve utterances, four of them good: one in each way that one can be bad."""
    folder = tmp_path_factory.mktemp("speech")
    write_split(folder, {f"1-1-{i:04d}": TRANSCRIPTS.get(i, f"IT{'S' * i}") for i in range(12)})
    good = librispeech([str(folder)])
    audio = [str(utterance.audio_path) for utterance in good]
    with open(audio[5], "r+b") as file:
        file.truncate(2000)
    no_samples = str(folder / "empty.wav")
    soundfile.write(no_samples, np.zeros(0), 16000)
    soundfile.write(audio[10], np.zeros(16000), 16000)
    changed = list(good)
    changed[3] = replace(good[3], audio_path=None, audio_bytes=None)
    changed[4] = replace(good[4], transcript=None)
    changed[8] = replace(good[8], audio_path=no_samples)
    changed[9] = replace(good[9], transcript="it's")
    return changed


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, corpus: list[Utterance]
) -> dict[str, bytes]:
    """The files of a run without incidents."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run(corpus, folder)
    return contents(folder)


def run(
    utterances: list[Utterance],
    folder: Path,
    settings: ShardSettings = SETTINGS,
    start: int = 0,
    workers: int = 1,
    strict: bool = False,
) -> Index:
    return prepare(utterances, str(folder / "t"), settings, start, workers, strict)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in `folder`: name -> bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def refusal(
    utterances: list[Utterance],
    folder: Path,
    settings: ShardSettings = SETTINGS,
    start: int = 0,
    strict: bool = False,
) -> str:
    with pytest.raises(UserError) as error:
        run(utterances, folder, settings, start, strict=strict)
    return str(error.value)


def reread(folder: Path) -> Index:
    index = read_index(str(folder / "t"))
    assert index is not None
    return index


# --- What is written ------------------------------------------------------------------------------


def test_shards_cover_ranges_of_positions_with_the_skipped_ones(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    index = run(corpus, tmp_path)
    names = ["t.00000000", "t.00000003", "t.00000006", "t.00000009"]
    assert sorted(os.listdir(tmp_path)) == [*names, "t.index.json"]
    assert [shard.file for shard in index.shards] == names
    assert [(shard.start, shard.end) for shard in index.shards] == [(0, 3), (3, 6), (6, 9), (9, 12)]
    assert [shard.records for shard in index.shards] == [2, 0, 1, 1]
    assert index.complete and index == reread(tmp_path)


def test_the_last_shard_ends_with_the_corpus(corpus: list[Utterance], tmp_path: Path) -> None:
    index = run(corpus, tmp_path, replace(SETTINGS, partition_size=5))
    assert [(shard.start, shard.end) for shard in index.shards] == [(0, 5), (5, 10), (10, 12)]
    assert index.complete


@pytest.mark.parametrize("padded", [True, False])
def test_records_hold_features_and_labels_of_the_good_utterances(
    corpus: list[Utterance], tmp_path: Path, padded: bool
) -> None:
    index = run(corpus, tmp_path, replace(SETTINGS, padded=padded))
    written = [
        payload
        for shard in index.shards
        for payload in tf.data.TFRecordDataset(str(tmp_path / shard.file)).as_numpy_iterator()
    ]
    good = [utterance for i, utterance in enumerate(corpus) if i not in WRONG]
    expected = [
        encode_example(
            extract(read_audio(str(each.audio_path), 16000), FrontEnd()).T,
            ENGLISH.encode(str(each.transcript)),
            each.utterance_id,
            str(each.transcript),
            *((50, 12) if padded else (0, 0)),
        )
        for each in good
    ]
    assert written == expected


def test_the_index_counts_lengths_and_seconds_of_what_was_written(
    corpus: list[Utterance], undisturbed: dict[str, bytes]
) -> None:
    index = Index.from_json(undisturbed["t.index.json"].decode(), "")
    good = [utterance for i, utterance in enumerate(corpus) if i not in WRONG]
    samples = [len(read_audio(str(utterance.audio_path), 16000)) for utterance in good]
    frames = [FrontEnd().frames(count) for count in samples]
    labels = [len(str(utterance.transcript)) for utterance in good]
    assert index.audio_seconds == pytest.approx(sum(samples) / 16000, abs=0.004)
    assert (index.longest_frames, index.longest_label) == (max(frames), max(labels))
    assert sum(index.frames_histogram.values()) == len(good)
    assert set(index.frames_histogram) == {count // 10 * 10 for count in frames}
    for shard in index.shards:
        assert shard.bytes == len(undisturbed[shard.file])


def test_two_workers_write_the_same_bytes_as_one(
    corpus: list[Utterance], tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    run(corpus, tmp_path, workers=2)
    assert contents(tmp_path) == undisturbed


def test_folders_are_made(corpus: list[Utterance], tmp_path: Path) -> None:
    run(corpus[:1], tmp_path / "new" / "folder")
    assert reread(tmp_path / "new" / "folder").records == 1


def test_transcripts_are_written_in_the_form_of_their_labels(tmp_path: Path) -> None:
    """A letter and a combining accent are the alphabet's letter, in the record too."""
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.zeros(8000), 16000)
    settings = replace(SETTINGS, alphabet=Alphabet(("a", "é")))
    prepared = engine.prepare_utterance(Utterance("1", path, "ae\u0301", "1"), settings)
    example = tf.train.Example.FromString(prepared.payload).features.feature
    assert example["transcript"].bytes_list.value[0].decode() == "a\u00e9"
    assert list(example["label"].int64_list.value)[: prepared.labels] == [0, 1]


# --- Sums of the features -------------------------------------------------------------------------


def test_features_to_be_normalised_over_the_corpus_are_stored_with_their_sums(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    index = run(corpus, tmp_path, OVER_CORPUS)
    good = [str(each.audio_path) for i, each in enumerate(corpus) if i not in WRONG]
    stored = [extract(read_audio(path, 16000), OVER_CORPUS.front_end) for path in good]
    assert [shard.records for shard in index.shards] == [2, 0, 1, 1]
    assert index.shards[1].sums is None
    together = np.concatenate(stored).astype(np.float64)  # [frames, bins]
    statistics = index.statistics
    assert statistics is not None and statistics == reread(tmp_path).statistics
    np.testing.assert_allclose(statistics.mean, together.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(statistics.deviation, together.std(axis=0), rtol=1e-9)
    first = index.shards[0].sums
    assert first is not None and first.frames == len(stored[0]) + len(stored[1])
    assert run(corpus, tmp_path / "other").statistics is None


@pytest.mark.parametrize("workers", [1, 2])
def test_sums_are_the_same_after_a_kill_and_with_two_workers(
    corpus: list[Utterance], tmp_path: Path, workers: int
) -> None:
    run(corpus, tmp_path / "undisturbed", OVER_CORPUS)
    killed = tmp_path / "killed"
    run(corpus, killed, OVER_CORPUS, workers=workers)
    index = reread(killed).without_shard(reread(killed).shards[2])
    (killed / "t.index.json").write_text(index.to_json())
    (killed / "t.00000000").unlink()
    run(corpus, killed, OVER_CORPUS, workers=workers)
    assert contents(killed) == contents(tmp_path / "undisturbed")


# --- A second run ---------------------------------------------------------------------------------


def test_a_finished_set_is_left_alone_and_said_so(
    corpus: list[Utterance], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = run(corpus, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with caplog.at_level(logging.INFO, "absl"):
        assert run(corpus, tmp_path) == first
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
    run(corpus, tmp_path)
    lost = tmp_path / "t.00000006"
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("t.0*")}
    if harm == "deleted":
        lost.unlink()
    else:
        os.truncate(lost, 100)
    run(corpus, tmp_path)
    assert "t.00000006 is missing or has changed" in caplog.text
    assert contents(tmp_path) == undisturbed
    changed = [path for path, time in written.items() if path.stat().st_mtime_ns != time]
    assert changed == [lost]


def test_a_killed_run_is_finished_to_the_same_bytes(
    corpus: list[Utterance], tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    run(corpus, tmp_path)
    # As after a kill between a shard's renaming and the index, with the next one half written.
    index = reread(tmp_path)
    for shard in index.shards[1:]:
        index = index.without_shard(shard)
    (tmp_path / "t.index.json").write_text(index.to_json())
    (tmp_path / "t.00000006").unlink()
    (tmp_path / "t.00000009").unlink()
    (tmp_path / ".t.00000006.partial").write_bytes(b"half")
    (tmp_path / ".t.index.json.partial").write_bytes(b"half")
    run(corpus, tmp_path)
    assert contents(tmp_path) == undisturbed


def test_a_folder_in_a_shard_s_place_is_to_be_removed(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    (tmp_path / "t.00000003").mkdir()
    message = refusal(corpus, tmp_path)
    assert "t.00000003 can't be written: Is a directory. Remove that folder, then run" in message
    (tmp_path / "t.00000003").rmdir()
    run(corpus, tmp_path)


def test_a_full_disk_is_told_and_the_run_finished_later(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    ordered = [corpus[i] for i in (1, 0, 3, 4, 6, 2)]  # a shard of one record, then one of two
    with full_disk(20000):
        message = refusal(ordered, tmp_path / "set")
    assert "t.00000003 can't be written: File too large" in message
    assert sorted(os.listdir(tmp_path / "set")) == ["t.00000000", "t.index.json"]
    run(ordered, tmp_path / "set")
    run(ordered, tmp_path / "again")
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
    run(corpus, tmp_path)
    before = contents(tmp_path)
    message = refusal(corpus, tmp_path, changed)
    assert f"{tmp_path}/t.index.json was made with other settings" in message
    assert names in message and "--tfrecords_file" in message
    assert contents(tmp_path) == before


def test_another_alphabet_is_shown(corpus: list[Utterance], tmp_path: Path) -> None:
    run(corpus[:1], tmp_path)
    message = refusal(corpus[:1], tmp_path, replace(SETTINGS, alphabet=Alphabet(("ж",))))
    assert "alphabet ['a', 'b'" in message and "then, ['ж'] now" in message


def test_another_corpus_is_refused(corpus: list[Utterance], tmp_path: Path) -> None:
    run(corpus, tmp_path)
    before = contents(tmp_path)
    shorter = refusal(corpus[:11], tmp_path)
    assert "is of another corpus: 12 utterances then, 11 now" in shorter
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
def test_a_mended_corpus_is_refused(
    corpus: list[Utterance], tmp_path: Path, position: int, changes: dict[str, Any]
) -> None:
    """Its shards would hold something of both."""
    run(corpus, tmp_path)
    before = contents(tmp_path)
    mended = list(corpus)
    mended[position] = replace(corpus[position], **changes)
    message = refusal(mended, tmp_path)
    assert "or some audio or transcript has changed" in message
    assert "Remove the old set" in message and "--tfrecords_file" in message
    assert contents(tmp_path) == before


def test_a_mended_audio_file_is_refused(tmp_path: Path, write_split: WriteSplit) -> None:
    write_split(tmp_path / "speech", {"1-1-0000": "IT", "1-1-0001": "IT"})
    utterances = librispeech([str(tmp_path / "speech")])
    run(utterances, tmp_path / "set")
    soundfile.write(str(utterances[1].audio_path), np.zeros(5000), 16000)
    mended = librispeech([str(tmp_path / "speech")])
    assert "some audio or transcript has changed" in refusal(mended, tmp_path / "set")


def test_names_that_are_not_utf_8_can_be_in_an_index(
    tmp_path: Path, write_split: WriteSplit
) -> None:
    write_split(tmp_path / "speech", {"1-1-0000": "IT", "1-1-0001": "IT"})
    audio = tmp_path / "speech/1/1/1-1-0001.flac"
    audio.rename(os.fsdecode(bytes(audio.parent) + b"/1-1-\xff.flac"))
    index = run(librispeech([str(tmp_path / "speech")]), tmp_path / "set")
    assert (index.records, [each.position for each in index.skipped]) == (1, [1, 2])
    assert index.skipped[1].utterance_id == "1-1-\udcff"
    assert reread(tmp_path / "set") == index
    assert run(librispeech([str(tmp_path / "speech")]), tmp_path / "set") == index


def test_a_link_into_nowhere_is_no_audio(tmp_path: Path) -> None:
    (tmp_path / "a.flac").symlink_to(tmp_path / "nowhere")
    index = run([Utterance("1", str(tmp_path / "a.flac"), "a", "1")], tmp_path / "set")
    assert [skipped.reason for skipped in index.skipped] == [engine.NO_AUDIO]


# --- --starting_position --------------------------------------------------------------------------


def test_what_was_begun_in_the_middle_is_completed_from_0(
    corpus: list[Utterance], tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    index = run(corpus, tmp_path, start=6)
    assert [shard.start for shard in index.shards] == [6, 9] and not index.complete
    assert [skipped.position for skipped in index.skipped] == [7, 8, 10, 11]
    assert run(corpus, tmp_path).complete
    assert contents(tmp_path) == undisturbed


def test_a_start_that_cuts_through_a_shard_is_refused(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    run(corpus, tmp_path, start=4)
    message = refusal(corpus, tmp_path, start=0)
    assert "--starting_position=0 would cut through t.00000004" in message
    assert "start at 1 plus a multiple of 3" in message
    assert run(corpus, tmp_path, start=1).shards[0].start == 1


@pytest.mark.parametrize("start", [12, 100])
def test_a_start_behind_the_corpus_is_refused(
    corpus: list[Utterance], tmp_path: Path, start: int
) -> None:
    message = refusal(corpus, tmp_path, start=start)
    assert f"--starting_position={start} lies outside the corpus of 12" in message
    assert not list(tmp_path.iterdir())


# --- Skipped utterances ---------------------------------------------------------------------------


def test_every_reason_is_named_in_the_index(
    corpus: list[Utterance], undisturbed: dict[str, bytes]
) -> None:
    index = Index.from_json(undisturbed["t.index.json"].decode(), "")
    assert {skipped.position: skipped.reason for skipped in index.skipped} == WRONG
    assert all(corpus[each.position].utterance_id == each.utterance_id for each in index.skipped)
    details = {skipped.reason: skipped.detail for skipped in index.skipped}
    assert "'ï' (U+00EF" in details[engine.UNKNOWN_CHARACTER]
    assert "1-1-0001" in details[engine.UNKNOWN_CHARACTER]
    assert "1-1-0004.flac" in details[engine.NO_TRANSCRIPT]
    assert "1-1-0005.flac can't be read" in details[engine.UNREADABLE]
    assert "empty.wav: the file has no samples" in details[engine.EMPTY]
    assert "1-1-0010.flac: 99 frames, at most 50" in details[engine.TOO_LONG]
    assert "1-1-0011.flac: 13 labels, at most 12" in details[engine.LABEL_TOO_LONG]
    needed = re.search(r"(\d+) outputs needed, (\d+) there", details[engine.UNALIGNABLE])
    assert needed is not None and int(needed[1]) == 23 and int(needed[2]) <= 20


def test_the_summary_counts_every_reason(undisturbed: dict[str, bytes]) -> None:
    index = Index.from_json(undisturbed["t.index.json"].decode(), "")
    lines = [line.split() for line in summary("data/t", index).splitlines()]
    assert ["data/t"] in lines and ["shards", "4"] in lines
    assert ["skipped", "8,", "named", "in", "data/t.index.json"] in lines
    assert ["utterances", "4", "of", "12"] in lines
    for reason in WRONG.values():
        assert [*reason.split(), "1"] in lines
    assert "incomplete" not in summary("data/t", index)
    part = index.without_shard(index.shards[0])
    assert "9 of 12 positions covered" in summary("data/t", part)


def test_every_utterance_skipped_is_a_set_without_records(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    index = run(corpus[3:6], tmp_path)
    assert (index.records, len(index.skipped), index.longest_frames) == (0, 3, 0)
    assert (tmp_path / "t.00000000").read_bytes() == b""
    assert re.search(r"utterances +0 of 3\n", summary("t", index))


@pytest.mark.parametrize("position", WRONG)
def test_strict_stops_at_any_of_them_and_leaves_no_half_shard(
    corpus: list[Utterance], tmp_path: Path, position: int
) -> None:
    clean = [corpus[i] for i in (0, 2, 6, 9)]
    settings = replace(SETTINGS, partition_size=2)
    message = refusal([*clean[:3], corpus[position]], tmp_path, settings, strict=True)
    assert f"{corpus[position].utterance_id}: {WRONG[position]}" in message
    assert "--strict" in message
    assert sorted(os.listdir(tmp_path)) == ["t.00000000", "t.index.json"]


def test_strict_has_nothing_against_a_clean_corpus(corpus: list[Utterance], tmp_path: Path) -> None:
    assert run([corpus[i] for i in (0, 2, 6, 9)], tmp_path, strict=True).records == 4


def ctc_can_align(label: list[int], outputs: int) -> bool:
    """Whether TensorFlow's CTC loss of a label over this many outputs is finite."""
    indices = [[0, i] for i in range(len(label))]
    sparse = tf.SparseTensor(indices, np.array(label, np.int32), [1, len(label)])
    try:
        loss = tf.compat.v1.nn.ctc_loss(sparse, np.zeros((outputs, 1, 4), np.float32), [outputs])
    except tf.errors.InvalidArgumentError:  # not enough time for the label even without repeats
        return False
    return bool(np.isfinite(loss.numpy()).all())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=8))
@example([1, 1])
@example([0, 1, 0])
@example([2, 2, 2, 1, 1])
def test_an_utterance_is_alignable_where_tensorflows_loss_is_finite(label: list[int]) -> None:
    needed = labels_to_align(label)
    assert ctc_can_align(label, needed)
    assert needed == 1 or not ctc_can_align(label, needed - 1)


def test_one_output_more_or_less_decides(tmp_path: Path) -> None:
    path = str(tmp_path / "a.wav")
    for frames, reason in [(21, ""), (20, engine.UNALIGNABLE)]:
        soundfile.write(path, np.zeros(320 + 160 * (frames - 1)), 16000)
        utterance = Utterance("1", path, "abbcdefghi", "1")  # 10 labels and a blank: 11 outputs
        assert engine.prepare_utterance(utterance, SETTINGS).reason == reason


def test_a_run_that_has_lost_its_lock_writes_nothing_over_its_successors_shards(
    corpus: list[Utterance],
    emulator: Emulator,
    own_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    prepare_utterance = engine.prepare_utterance
    folder = own_bucket.removeprefix(f"gs://{emulator.bucket}/")

    def meanwhile_taken_over(
        utterance: Utterance, settings: ShardSettings, described: bool
    ) -> engine.Prepared:
        successor = {"host": "elsewhere", "process": 1, "run": "another"}
        emulator.put(f"{folder}/.t.lock", json.dumps(successor).encode())
        time.sleep(0.5)
        return prepare_utterance(utterance, settings)

    monkeypatch.setattr(engine, "prepare_utterance", meanwhile_taken_over)
    with pytest.raises(UserError, match=r"\.t\.lock was taken over by another run"):
        prepare(corpus[:2], f"{own_bucket}/t", SETTINGS, 0, workers=1, strict=False)
    assert list(emulator.objects(folder)) == [f"{folder}/.t.lock"], "the successor's lock"


# --- Processes ------------------------------------------------------------------------------------


class Deadly(Utterance):
    """Ends the process that unpickles it, as the out-of-memory killer would."""

    def __reduce__(self) -> tuple[Callable[[int], object], tuple[int]]:
        return signal.raise_signal, (signal.SIGKILL,)


class Signalled(Utterance):
    """The same by a signal without a name of its own."""

    def __reduce__(self) -> tuple[Callable[[int], object], tuple[int]]:
        return signal.raise_signal, (signal.SIGRTMIN + 3,)


class Raising(Utterance):
    """Brings the process down that unpickles it."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return int, ("no number",)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [(Deadly, "SIGKILL, out of memory"), (Signalled, r"signal \d\d"), (Raising, "1")],
)
def test_a_worker_that_dies_is_told_with_its_utterance_and_a_remedy(
    corpus: list[Utterance], tmp_path: Path, kind: type[Utterance], cause: str
) -> None:
    utterances = [*corpus[:7], kind("1-1-0007", "x.flac", None, "1"), *corpus[8:]]
    told = rf"A worker process died \(.*{cause}.*\) at 1-1-0007, x\.flac.*--workers"
    with pytest.raises(UserError, match=told):
        run(utterances, tmp_path, workers=2)
    assert sorted(os.listdir(tmp_path)) == ["t.00000000", "t.00000003", "t.index.json"]


@pytest.mark.parametrize("workers", [1, 2])
def test_audio_that_a_bucket_does_not_give_ends_the_run_and_is_not_skipped(
    emulator: Emulator,
    bucket: str,
    corpus: list[Utterance],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    utterances = [*corpus[:4], replace(corpus[6], audio_path=f"{bucket}/a.flac")]
    with pytest.raises(UserError, match=r"a\.flac isn't there"):
        run(utterances, tmp_path, workers=workers)
    assert sorted(os.listdir(tmp_path)) == ["t.00000000", "t.index.json"]


def test_preparing_imports_no_tensorflow() -> None:
    program = "import prepare_libri, sys; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


# --- Augmented copies -----------------------------------------------------------------------------

SPEEDS = replace(
    SETTINGS,
    partition_size=4,
    max_sequence_length=60,
    copies=copies_of(["speed[factor=0.9:1.1]", "volume[p=0.5,dbfs=-20~10]"], 2, random_seed=1),
)


@pytest.fixture(scope="module")
def speeds(
    tmp_path_factory: pytest.TempPathFactory, corpus: list[Utterance]
) -> tuple[list[Utterance], dict[str, bytes]]:
    """The corpus with its copies, and the files of a run without incidents."""
    folder = tmp_path_factory.mktemp("speeds")
    copied = with_copies(corpus, 2)
    run(copied, folder, SPEEDS)
    return copied, contents(folder)


def examples_of(index: Index, files: dict[str, bytes], folder: Path) -> dict[str, Any]:
    """Utterance id -> name -> tf.train.Feature."""
    examples = {}
    for shard in index.shards:
        (folder / shard.file).write_bytes(files[shard.file])
        for payload in tf.data.TFRecordDataset(str(folder / shard.file)).as_numpy_iterator():
            features = tf.train.Example.FromString(payload).features.feature
            examples[features["utterance_id"].bytes_list.value[0].decode()] = features
    return examples


def test_copies_have_their_utterance_s_transcript_and_features_of_their_own(
    speeds: tuple[list[Utterance], dict[str, bytes]], tmp_path: Path
) -> None:
    copied, files = speeds
    index = Index.from_json(files["t.index.json"].decode(), "")
    examples = examples_of(index, files, tmp_path)
    good = [each for each in copied if not each.copy and each.utterance_id in examples]
    assert len(good) == 4 and len(examples) == 12
    front_end = SPEEDS.front_end
    for each in good:
        three = [examples[f"{each.utterance_id}{mark}"] for mark in ("", "#1", "#2")]
        assert len({one["transcript"].bytes_list.value[0] for one in three}) == 1
        assert len({tuple(one["label"].int64_list.value) for one in three}) == 1
        samples = read_audio(str(each.audio_path), 16000)
        frames = [one["feature_length"].int64_list.value[0] for one in three]
        assert frames == [front_end.frames(round(len(samples) / by)) for by in (1, 0.9, 1.1)]
        stored = np.reshape(three[0]["features"].float_list.value, [80, 60])[:, : frames[0]]
        np.testing.assert_array_equal(stored.T, extract(samples, front_end))


def test_copies_are_the_same_with_any_number_of_workers_and_after_a_kill(
    speeds: tuple[list[Utterance], dict[str, bytes]], tmp_path: Path
) -> None:
    copied, undisturbed = speeds
    run(copied, tmp_path, SPEEDS, workers=3)
    assert contents(tmp_path) == undisturbed
    index = reread(tmp_path)
    for shard in index.shards[1:-1]:
        index = index.without_shard(shard)
        (tmp_path / shard.file).unlink()
    (tmp_path / "t.index.json").write_text(index.to_json())
    run(copied, tmp_path, SPEEDS)
    assert contents(tmp_path) == undisturbed


@pytest.mark.parametrize(
    ("copies", "names"),
    [
        (
            copies_of(["speed"], 2, 1),
            "augment ('speed[factor=0.9:1.1]', 'volume[p=0.5,dbfs=-20~10]",
        ),
        (replace(SPEEDS.copies, random_seed=2), "random_seed 1 then, 2 now"),
        (replace(SPEEDS.copies, noise_sha256="new"), "noise_sha256  then, new now"),
        (NO_COPIES, "augmented_copies 2 then, 0 now"),
    ],
)
def test_other_copies_are_refused(
    speeds: tuple[list[Utterance], dict[str, bytes]], tmp_path: Path, copies: Copies, names: str
) -> None:
    copied, files = speeds
    (tmp_path / "t.index.json").write_bytes(files["t.index.json"])
    assert names in refusal(copied, tmp_path, replace(SPEEDS, copies=copies))


def test_unreadable_noise_stops_the_run_and_is_named(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise/broken.wav").write_bytes(b"no sound")
    copies = copies_of([f"overlay[source={tmp_path}/noise]"], 1, 1)
    message = refusal(with_copies(corpus, 1), tmp_path / "set", replace(SETTINGS, copies=copies))
    assert f"{tmp_path}/noise/broken.wav can't be read as audio" in message


def test_summary_tells_of_the_copies(speeds: tuple[list[Utterance], dict[str, bytes]]) -> None:
    index = Index.from_json(speeds[1]["t.index.json"].decode(), "")
    told = " ".join(summary("t", index).split())
    assert "copies 2 of each utterance: speed[factor=0.9:1.1], volume[p=0.5" in told
