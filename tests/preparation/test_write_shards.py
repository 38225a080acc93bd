"""Writing shards: their contents, the index, skipped utterances, augmented copies."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from emulator import Emulator
from small_sets import OVER_CORPUS, SETTINGS, WRONG, contents, prepare_set, refusal, reread

from speech.audio.reader import read_audio
from speech.augmentation.waveform import NO_COPIES, Copies, copies_of
from speech.corpora.utterance import Utterance, with_copies
from speech.features.front_end import FrontEnd, extract
from speech.preparation import utterance as reasons
from speech.preparation import write_shards
from speech.preparation.utterance import PreparedUtterance, prepare_utterance
from speech.preparation.write_shards import prepare, summary
from speech.shards.index import Index, ShardSettings
from speech.shards.records import encode_example
from speech.system import lock
from utils import ENGLISH, UserError

ROOT = Path(__file__).resolve().parents[2]

# --- What is written ------------------------------------------------------------------------------


def test_shards_cover_ranges_of_positions_with_the_skipped_ones(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    index = prepare_set(corpus, tmp_path)
    names = ["t.00000000", "t.00000003", "t.00000006", "t.00000009"]
    assert sorted(os.listdir(tmp_path)) == [*names, "t.index.json"]
    assert [shard.file for shard in index.shards] == names
    assert [(shard.start, shard.end) for shard in index.shards] == [(0, 3), (3, 6), (6, 9), (9, 12)]
    assert [shard.records for shard in index.shards] == [2, 0, 1, 1]
    assert index.complete and index == reread(tmp_path)


def test_the_last_shard_ends_with_the_corpus(corpus: list[Utterance], tmp_path: Path) -> None:
    index = prepare_set(corpus, tmp_path, replace(SETTINGS, partition_size=5))
    assert [(shard.start, shard.end) for shard in index.shards] == [(0, 5), (5, 10), (10, 12)]
    assert index.complete


@pytest.mark.parametrize("padded", [True, False])
def test_records_hold_features_and_labels_of_the_good_utterances(
    corpus: list[Utterance], tmp_path: Path, padded: bool
) -> None:
    index = prepare_set(corpus, tmp_path, replace(SETTINGS, padded=padded))
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
    prepare_set(corpus, tmp_path, workers=2)
    assert contents(tmp_path) == undisturbed


def test_folders_are_made(corpus: list[Utterance], tmp_path: Path) -> None:
    prepare_set(corpus[:1], tmp_path / "new" / "folder")
    assert reread(tmp_path / "new" / "folder").records == 1


# --- Sums of the features -------------------------------------------------------------------------


def test_features_to_be_normalised_over_the_corpus_are_stored_with_their_sums(
    corpus: list[Utterance], tmp_path: Path
) -> None:
    index = prepare_set(corpus, tmp_path, OVER_CORPUS)
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
    assert prepare_set(corpus, tmp_path / "other").statistics is None


@pytest.mark.parametrize("workers", [1, 2])
def test_sums_are_the_same_after_a_kill_and_with_two_workers(
    corpus: list[Utterance], tmp_path: Path, workers: int
) -> None:
    prepare_set(corpus, tmp_path / "undisturbed", OVER_CORPUS)
    killed = tmp_path / "killed"
    prepare_set(corpus, killed, OVER_CORPUS, workers=workers)
    index = reread(killed).without_shard(reread(killed).shards[2])
    (killed / "t.index.json").write_text(index.to_json())
    (killed / "t.00000000").unlink()
    prepare_set(corpus, killed, OVER_CORPUS, workers=workers)
    assert contents(killed) == contents(tmp_path / "undisturbed")


# --- Skipped utterances ---------------------------------------------------------------------------


def test_every_reason_is_named_in_the_index(
    corpus: list[Utterance], undisturbed: dict[str, bytes]
) -> None:
    index = Index.from_json(undisturbed["t.index.json"].decode(), "")
    assert {skipped.position: skipped.reason for skipped in index.skipped} == WRONG
    assert all(corpus[each.position].utterance_id == each.utterance_id for each in index.skipped)
    details = {skipped.reason: skipped.detail for skipped in index.skipped}
    assert "'ï' (U+00EF" in details[reasons.UNKNOWN_CHARACTER]
    assert "1-1-0001" in details[reasons.UNKNOWN_CHARACTER]
    assert "1-1-0004.flac" in details[reasons.NO_TRANSCRIPT]
    assert "1-1-0005.flac can't be read" in details[reasons.UNREADABLE]
    assert "empty.wav: the file has no samples" in details[reasons.EMPTY]
    assert "1-1-0010.flac: 99 frames, at most 50" in details[reasons.TOO_LONG]
    assert "1-1-0011.flac: 13 labels, at most 12" in details[reasons.LABEL_TOO_LONG]
    needed = re.search(r"(\d+) outputs needed, (\d+) there", details[reasons.UNALIGNABLE])
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
    index = prepare_set(corpus[3:6], tmp_path)
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
    assert message.endswith("Correct it, or leave it out of the corpus.")
    assert sorted(os.listdir(tmp_path)) == ["t.00000000", "t.index.json"]


def test_strict_accepts_a_clean_corpus(corpus: list[Utterance], tmp_path: Path) -> None:
    assert prepare_set([corpus[i] for i in (0, 2, 6, 9)], tmp_path, strict=True).records == 4


def test_a_run_that_has_lost_its_lock_writes_nothing_over_its_successors_shards(
    corpus: list[Utterance],
    emulator: Emulator,
    own_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    folder = own_bucket.removeprefix(f"gs://{emulator.bucket}/")

    def meanwhile_taken_over(
        utterance: Utterance, settings: ShardSettings, describe: bool
    ) -> PreparedUtterance:
        successor = {"host": "elsewhere", "process": 1, "run": "another"}
        emulator.put(f"{folder}/.t.lock", json.dumps(successor).encode())
        time.sleep(0.5)
        return prepare_utterance(utterance, settings)

    monkeypatch.setattr(write_shards, "prepare_utterance", meanwhile_taken_over)
    with pytest.raises(UserError, match=r"\.t\.lock was taken over by another run"):
        prepare(corpus[:2], f"{own_bucket}/t", SETTINGS, 0, workers=1, strict=False)
    assert list(emulator.objects(folder)) == [f"{folder}/.t.lock"], "the successor's lock"


@pytest.mark.parametrize("workers", [1, 2])
def test_audio_missing_from_a_bucket_ends_the_run(
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
    with pytest.raises(UserError, match=r"a\.flac doesn't exist"):
        prepare_set(utterances, tmp_path, workers=workers)
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
    prepare_set(copied, folder, SPEEDS)
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


def test_copies_share_the_transcript_and_have_other_features(
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
    prepare_set(copied, tmp_path, SPEEDS, workers=3)
    assert contents(tmp_path) == undisturbed
    index = reread(tmp_path)
    for shard in index.shards[1:-1]:
        index = index.without_shard(shard)
        (tmp_path / shard.file).unlink()
    (tmp_path / "t.index.json").write_text(index.to_json())
    prepare_set(copied, tmp_path, SPEEDS)
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


def test_the_summary_names_the_augmentation(
    speeds: tuple[list[Utterance], dict[str, bytes]],
) -> None:
    index = Index.from_json(speeds[1]["t.index.json"].decode(), "")
    words = " ".join(summary("t", index).split())
    assert "copies 2 of each utterance: speed[factor=0.9:1.1], volume[p=0.5" in words
