"""Records as TensorFlow reads them, shards as files, and the index beside them."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import tensorflow as tf
from full_disk import full_disk
from hypothesis import example, given, settings
from hypothesis import strategies as st

from speech.augmentation.waveform import Copies
from speech.features.front_end import FrontEnd
from speech.features.normalisation import Sums
from speech.shards.index import Index, Shard, ShardSettings, Skipped, histogram, read_index
from speech.shards.paths import index_path, shard_path
from speech.shards.records import ShardWriter, encode_example, frame_record
from speech.shards.shard_set import find_shards
from utils import ENGLISH, Alphabet, UserError

SETTINGS = ShardSettings(
    front_end=FrontEnd(),
    alphabet=ENGLISH,
    partition_size=10,
    max_sequence_length=100,
    max_label_length=20,
    padded=True,
    stride=2,
)


# --- Records --------------------------------------------------------------------------------------


def parsed(payload: bytes) -> dict[str, list[Any]]:
    """An example as TensorFlow's own parser has it: name -> values."""
    lists = tf.train.Example.FromString(payload).features.feature
    return {
        name: list(getattr(feature, feature.WhichOneof("kind")).value)
        for name, feature in lists.items()
    }


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 300),
    bins=st.integers(1, 5),
    label=st.lists(st.integers(0, 300), max_size=300),
    padded_frames=st.integers(0, 400),
    padded_labels=st.integers(0, 400),
    utterance_id=st.text(max_size=20),
    transcript=st.text(max_size=300),
    seed=st.integers(0, 2**32 - 1),
)
@example(1, 1, [], 0, 0, "", "", 0)
@example(127, 1, [127, 128] * 64, 128, 0, "é", "ж" * 64, 0)
def test_tensorflow_parses_what_was_encoded(
    frames: int,
    bins: int,
    label: list[int],
    padded_frames: int,
    padded_labels: int,
    utterance_id: str,
    transcript: str,
    seed: int,
) -> None:
    features = np.random.default_rng(seed).normal(size=(bins, frames)).astype(np.float32)
    values = parsed(
        encode_example(features, label, utterance_id, transcript, padded_frames, padded_labels)
    )
    stored = np.array(values.pop("features"), np.float32).reshape(bins, -1)  # [bins, frames]
    assert stored.shape[1] == max(frames, padded_frames)
    np.testing.assert_array_equal(stored[:, :frames], features)
    assert not stored[:, frames:].any()
    assert values == {
        "feature_length": [frames],
        "label": label + [0] * (padded_labels - len(label)),
        "label_length": [len(label)],
        "utterance_id": [utterance_id.encode()],
        "transcript": [transcript.encode()],
    }


def test_features_are_stored_bin_after_bin() -> None:
    features = np.array([[1, 2, 3], [10, 20, 30]], np.float32)  # [bins, frames]
    values = parsed(encode_example(features, [0], "a", "a", padded_frames=4))
    assert values["features"] == [1, 2, 3, 0, 10, 20, 30, 0]


def test_a_training_graph_parses_a_padded_record() -> None:
    features = np.random.default_rng(0).normal(size=(80, 50)).astype(np.float32)
    payload = encode_example(features, [7, 8], "84-1-0000", "hi", 100, 20)
    values = tf.io.parse_single_example(
        payload,
        {
            "features": tf.io.FixedLenFeature([80, 100, 1], tf.float32),
            "feature_length": tf.io.FixedLenFeature([], tf.int64),
            "label": tf.io.FixedLenFeature([20], tf.int64),
            "label_length": tf.io.FixedLenFeature([], tf.int64),
            "utterance_id": tf.io.FixedLenFeature([], tf.string),
            "transcript": tf.io.FixedLenFeature([], tf.string),
        },
    )
    np.testing.assert_array_equal(values["features"][:, :50, 0], features)
    assert (values["feature_length"], values["label_length"]) == (50, 2)
    assert values["transcript"].numpy() == b"hi"


def test_the_same_arguments_give_the_same_bytes() -> None:
    features = np.ones((3, 5), np.float32)
    one, other = (encode_example(np.array(features), [1], "a", "b", 7, 2) for _ in range(2))
    assert one == other


# --- Shards ---------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=400), max_size=5))
def test_tensorflow_reads_the_framing(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("framing") / "shard"
    path.write_bytes(b"".join(piece for payload in payloads for piece in frame_record(payload)))
    # TensorFlow checks both checksums of every record.
    assert list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) == payloads


def test_tensorflow_writes_the_same_framing(tmp_path: Path) -> None:
    path = str(tmp_path / "theirs")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(b"payload")
    assert Path(path).read_bytes() == b"".join(frame_record(b"payload"))


def test_a_shard_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "train.tfrecords.00000000"
    with ShardWriter(str(path)) as writer:
        writer.write(b"one")
        writer.write(b"two")
        assert not path.exists()
        assert not list(tmp_path.glob("train*")), "a pattern would find a shard that isn't whole"
        crc32c = writer.commit()
    assert os.listdir(tmp_path) == [path.name]
    assert path.stat().st_size == writer.bytes
    assert crc32c == f"{google_crc32c.value(path.read_bytes()):08x}"
    assert list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) == [b"one", b"two"]


def test_checksum_of_a_shard_without_records_is_0(tmp_path: Path) -> None:
    with ShardWriter(str(tmp_path / "empty")) as writer:
        assert writer.commit() == "00000000"


def write_and_fail(path: str, payload: bytes, error: BaseException | None) -> None:
    with ShardWriter(path) as writer:
        writer.write(payload)
        if error is not None:
            raise error
        writer.commit()


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_exception_leaves_nothing_behind(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        write_and_fail(str(tmp_path / "shard"), b"one", error)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    told = os.strerror(errno.EFBIG)
    with full_disk(4096), pytest.raises(OSError, match=told):
        write_and_fail(str(tmp_path / "shard"), bytes(5000), None)
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_shards_place_stays_alone(tmp_path: Path) -> None:
    (tmp_path / "shard").mkdir()
    with pytest.raises(IsADirectoryError):
        write_and_fail(str(tmp_path / "shard"), b"one", None)
    assert os.listdir(tmp_path) == ["shard"]


# --- The index ------------------------------------------------------------------------------------


def shard_at(start: int, name: str = "train.tfrecords", size: int = 0) -> Shard:
    return Shard(
        file=f"{name}.{start:08d}",
        start=start,
        end=start + 10,
        records=9,
        bytes=size,
        crc32c="0badcafe",
        audio_seconds=12.345,
        longest_frames=90 + start,
        longest_label=15,
        frames_histogram={"80": 8, f"{90 + start}": 1},
        labels_histogram={"5": 9},
    )


def skipped_at(position: int) -> Skipped:
    return Skipped(position, f"84-1-{position:04d}", "unknown character", "the 'ж' in 'ж\"ж'")


FULL = (
    Index(SETTINGS, 30, "d1ce" * 16)
    .with_shard(shard_at(20), [skipped_at(21)])
    .with_shard(shard_at(0), [skipped_at(3)])
    .with_shard(shard_at(10), [skipped_at(19)])
)


def test_the_index_comes_back_from_its_json() -> None:
    russian = Alphabet(tuple('абвгдеёж "'))
    for index in (
        FULL,
        Index(SETTINGS, 0, ""),
        replace(FULL, settings=replace(SETTINGS, alphabet=russian, padded=False)),
    ):
        text = index.to_json()
        assert Index.from_json(text, "path") == index
        assert Index.from_json(text, "path").to_json() == text


def test_shards_are_in_order_however_they_were_added() -> None:
    assert [shard.start for shard in FULL.shards] == [0, 10, 20]
    assert [skipped.position for skipped in FULL.skipped] == [3, 19, 21]


def test_totals_are_over_the_shards() -> None:
    assert (FULL.records, FULL.longest_frames, FULL.longest_label) == (27, 110, 15)
    assert FULL.audio_seconds == pytest.approx(37.035)
    assert FULL.frames_histogram == {80: 24, 90: 1, 100: 1, 110: 1}
    assert list(FULL.frames_histogram) == [80, 90, 100, 110]
    assert FULL.complete


def test_a_lost_shard_takes_its_skipped_utterances_along() -> None:
    index = FULL.without_shard(FULL.shards[1])
    assert [shard.start for shard in index.shards] == [0, 20]
    assert [skipped.position for skipped in index.skipped] == [3, 21]
    assert not index.complete
    assert index.with_shard(FULL.shards[1], [FULL.skipped[1]]) == FULL


def test_a_histogram_counts_by_lower_edge_in_order() -> None:
    assert list(histogram([105, 9, 10, 19, 0], 10).items()) == [("0", 2), ("10", 2), ("100", 1)]
    assert histogram([], 10) == {}


# --- A set of shards on disk ----------------------------------------------------------------------


def write_set(
    folder: Path, name: str = "train.tfrecords", starts: tuple[int, ...] = (0, 10)
) -> str:
    """Writes shards of a few bytes and their index; returns the pattern that finds them."""
    tfrecords_file = str(folder / name)
    index = Index(SETTINGS, 10 * len(starts), "d1ce" * 16)
    for start in starts:
        record = b"".join(frame_record(bytes(start)))
        Path(shard_path(tfrecords_file, start)).write_bytes(record)
        index = index.with_shard(shard_at(start, name, len(record)), [skipped_at(start + 5)])
    Path(index_path(tfrecords_file)).write_text(index.to_json())
    return f"{tfrecords_file}.*"


def refusal(pattern: str) -> str:
    with pytest.raises(UserError) as error:
        find_shards(pattern)
    return str(error.value)


def test_shards_are_found_in_order_with_their_index(tmp_path: Path) -> None:
    pattern = write_set(tmp_path, starts=(20, 0, 10))
    found = find_shards(pattern)
    assert found.pattern == pattern
    assert [Path(path).name[-8:] for path in found.files] == ["00000000", "00000010", "00000020"]
    assert found.index == read_index(str(tmp_path / "train.tfrecords"))


def test_a_pattern_of_some_shards_gives_an_index_of_only_those(tmp_path: Path) -> None:
    write_set(tmp_path, starts=(0, 10, 20))
    for pattern, starts in {"*.000000[12]0": [10, 20], "*.00000000": [0]}.items():
        found = find_shards(str(tmp_path / pattern))
        assert [shard.start for shard in found.index.shards] == starts
        assert found.index.records == 9 * len(starts)
        assert len(found.files) == len(starts)


def test_a_folder_whose_name_is_a_pattern_is_that_folder(tmp_path: Path) -> None:
    for folder in (tmp_path / "d[1]", tmp_path / "d1"):
        folder.mkdir()
        pattern = write_set(folder, "t[0].tfrecords")
        found = find_shards(pattern)
        assert {Path(path).parent for path in found.files} == {folder}
        assert len(find_shards(f"{folder}/t[0].tfrecords.000000[01]0").files) == 2
    (tmp_path / "d[1]" / "t[0].tfrecords.00000010").unlink()
    assert "is missing" in refusal(f"{tmp_path}/d[1]/t[0].tfrecords.*")


def test_other_sets_beside_are_left_out(tmp_path: Path) -> None:
    write_set(tmp_path, "dev.tfrecords")
    assert len(find_shards(write_set(tmp_path)).files) == 2


def test_a_pattern_without_shards_tells_how_to_make_them(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / ".train.tfrecords.00000020.partial").write_text("")
    for pattern in ("test.tfrecords.*", "*.index.json", ".train*"):
        message = refusal(str(tmp_path / pattern))
        assert f"No shards match {tmp_path / pattern}" in message
        assert "prepare_libri.py" in message
        assert "--download=train-clean-100" in message and "--files_path" in message


@pytest.mark.parametrize(
    ("pattern", "warned"), [("train.tfrecords.*", True), ("*.00000000", False)]
)
def test_a_set_that_is_not_finished_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pattern: str, warned: bool
) -> None:
    """Whoever names only some of its shards knows what they leave out."""
    write_set(tmp_path, starts=(0, 10, 20))
    path = tmp_path / "train.tfrecords.index.json"
    index = Index.from_json(path.read_text(), "")
    path.write_text(index.without_shard(index.shards[2]).to_json())
    (tmp_path / "train.tfrecords.00000020").unlink()
    find_shards(str(tmp_path / pattern))
    assert (f"{tmp_path}/train.tfrecords is incomplete" in caplog.text) == warned


def test_a_finished_set_is_not_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    find_shards(write_set(tmp_path))
    assert not caplog.text


def test_a_pattern_of_several_sets_names_them(tmp_path: Path) -> None:
    write_set(tmp_path)
    write_set(tmp_path, "dev.tfrecords")
    message = refusal(str(tmp_path / "*"))
    assert f"{tmp_path}/dev.tfrecords, {tmp_path}/train.tfrecords: name one" in message


def test_a_missing_index_is_named(tmp_path: Path) -> None:
    pattern = write_set(tmp_path)
    (tmp_path / "train.tfrecords.index.json").unlink()
    assert f"{tmp_path}/train.tfrecords.index.json is missing" in refusal(pattern)


def test_a_shard_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    pattern = write_set(tmp_path)
    with open(tmp_path / "train.tfrecords.00000010", "ab") as file:
        file.write(b"x")
    assert "train.tfrecords.00000010 has 27 bytes, its index says 26" in refusal(pattern)


def test_a_shard_that_the_index_does_not_know_is_named(tmp_path: Path) -> None:
    pattern = write_set(tmp_path)
    (tmp_path / "train.tfrecords.00000020").write_bytes(b"")
    message = refusal(pattern)
    assert "index.json doesn't know train.tfrecords.00000020" in message and "prepare" in message


@pytest.mark.parametrize("pattern", ["data/*", "data//train.tfrecords.*", "*/train*"])
def test_a_listed_shard_that_is_missing_is_named(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "data").mkdir()
    write_set(tmp_path / "data", starts=(0, 10, 20))
    (tmp_path / "data" / "train.tfrecords.00000010").unlink()
    message = refusal(f"{tmp_path}/{pattern}")
    assert "train.tfrecords.00000010, which" in message and "is missing" in message


def test_a_missing_shard_outside_the_pattern_is_no_matter(tmp_path: Path) -> None:
    write_set(tmp_path, starts=(0, 10, 20))
    (tmp_path / "train.tfrecords.00000010").unlink()
    assert len(find_shards(str(tmp_path / "*.000000[02]0")).files) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not an index of shards"),
        ("{", "is not an index of shards"),
        ("[]", "is not an index of shards"),
        ("{}", "is not an index of shards (index: format is missing)"),
        ('{"format": 1}', "is not an index of shards"),
        (
            '{"format": 2}',
            "is not an index of shards (it has format 2, this program reads format 1)",
        ),
        (FULL.to_json().replace('"crc32c"', '"md5"'), "is not an index of shards"),
        (FULL.to_json()[:-20], "is not an index of shards"),
    ],
)
def test_what_is_no_index_of_this_format_is_told(tmp_path: Path, text: str, message: str) -> None:
    pattern = write_set(tmp_path)
    path = tmp_path / "train.tfrecords.index.json"
    path.write_text(text)
    assert f"{path} {message}" in refusal(pattern)
    assert "prepare the shards again" in refusal(pattern)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("records", "ten", "shards[1]: records 'ten' is no whole number"),
        ("records", 8, "shards[1]: 8 records and 1 skipped don't fill start 10 to end 20"),
        ("records", True, "shards[1]: records True is no whole number"),
        ("bytes", -1, "shards[1]: bytes -1 is no whole number"),
        ("bytes", 1.5, "shards[1]: bytes 1.5 is no whole number"),
        ("end", 25, "shards[1]: 9 records and 2 skipped don't fill start 10 to end 25"),
        ("end", 31, "shards[1]: start 10 and end 31 must lie between 10 and 30"),
        ("start", 9, "shards[1]: start 9 and end 20 must lie between 10 and 30"),
        ("file", "x", "shards[1]: file 'x' is no name of start 10"),
        ("file", "train.tfrecords.00000020", "is no name of start 10"),
        ("crc32c", 7, "shards[1]: crc32c 7 is not of the type it had"),
        ("audio_seconds", "1", "shards[1]: audio_seconds '1' is no number"),
        ("frames_histogram", {"x": 9}, "shards[1]: a histogram has 'x', which is no number"),
        ("labels_histogram", {"5": "9"}, "shards[1]: labels_histogram['5'] '9' is no whole number"),
        ("labels_histogram", [], "shards[1]: labels_histogram [] is no object"),
    ],
)
def test_a_shard_that_was_changed_by_hand_is_told_with_its_field(
    field: str, value: object, says: str
) -> None:
    content = json.loads(FULL.to_json())
    content["shards"][1][field] = value
    with pytest.raises(UserError, match="remove it and prepare the shards again") as error:
        Index.from_json(json.dumps(content), "train.index.json")
    assert says in str(error.value)
    assert str(error.value).startswith("train.index.json is not an index of shards (")


@pytest.mark.parametrize(
    ("part", "field", "says"),
    [
        ("settings", "partition_size", "settings: partition_size 'x' is no whole number"),
        ("settings", "front_end", "is not an index of shards"),
        ("settings", "padded", "settings: padded 'x' is not of the type it had"),
        ("corpus", "utterances", "corpus: utterances 'x' is no whole number"),
        ("shards", None, "is not an index of shards"),
        ("skipped", 0, "is not an index of shards"),
    ],
)
def test_what_else_was_changed_by_hand_is_told(
    part: str, field: str | int | None, says: str
) -> None:
    content = json.loads(FULL.to_json())
    if field is None:
        content[part] = "x"
    else:
        content[part][field] = "x"
    with pytest.raises(UserError) as error:
        Index.from_json(json.dumps(content), "train.index.json")
    assert says in str(error.value)


def test_the_front_end_s_numbers_are_checked_too() -> None:
    content = json.loads(FULL.to_json())
    content["settings"]["front_end"]["pre_emphasis"] = "x"
    with pytest.raises(UserError, match="front_end: pre_emphasis 'x' is no number"):
        Index.from_json(json.dumps(content), "train.index.json")


def test_copies_are_kept_and_an_older_index_has_none() -> None:
    copies = Copies(("reverb[p=0.5]", "speed"), 2, 7, "abc")
    index = replace(FULL, settings=replace(FULL.settings, copies=copies))
    assert Index.from_json(index.to_json(), "") == index
    content = json.loads(FULL.to_json())
    del content["settings"]["copies"]
    assert Index.from_json(json.dumps(content), "") == FULL


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("augment", "speed", "copies: augment 'speed' is no list"),
        ("augment", [1], "copies: augment[0] 1 is not of the type it had"),
        ("augmented_copies", "2", "copies: augmented_copies '2' is no whole number"),
        ("noise_sha256", 5, "copies: noise_sha256 5 is not of the type it had"),
    ],
)
def test_copies_that_were_changed_by_hand_are_told(field: str, value: object, says: str) -> None:
    content = json.loads(FULL.to_json())
    content["settings"]["copies"][field] = value
    with pytest.raises(UserError) as error:
        Index.from_json(json.dumps(content), "train.index.json")
    assert says in str(error.value)


# --- Sums of the features -------------------------------------------------------------------------

OVER_CORPUS = replace(
    FULL,
    settings=replace(SETTINGS, front_end=FrontEnd(mel_filters=2, normalisation="corpus")),
    shards=tuple(
        replace(shard, sums=Sums(1 + number, (0.1, 1.0 + number), (0.3, 9.0)))
        for number, shard in enumerate(FULL.shards)
    ),
)


def test_an_index_with_sums_comes_back_from_its_json_and_gives_statistics() -> None:
    text = OVER_CORPUS.to_json()
    assert Index.from_json(text, "path") == OVER_CORPUS
    assert Index.from_json(text, "path").to_json() == text
    statistics = OVER_CORPUS.statistics
    assert statistics is not None
    np.testing.assert_allclose(statistics.mean, [0.3 / 6, 1])
    np.testing.assert_allclose(statistics.deviation, np.sqrt([0.9 / 6 - 0.0025, 27 / 6 - 1]))
    assert FULL.statistics is None
    # Of the shards that a pattern names, these alone count.
    alone = replace(OVER_CORPUS, shards=OVER_CORPUS.shards[1:2])
    assert alone.statistics == Sums(2, (0.1, 2.0), (0.3, 9.0)).statistics


@pytest.mark.parametrize(
    ("sums", "says"),
    [
        (None, "shards[1]: sums of 0 bins, not of 2"),
        ({"frames": 5, "values": [1.0], "squares": [1.0]}, "shards[1]: sums of 1 bins, not of 2"),
        ({"frames": 0, "values": [1, 2], "squares": [1, 2]}, "frames 0 is no positive number"),
        ({"frames": 5, "values": [1, 2]}, "squares"),
        ([], "is not an index of shards"),
    ],
)
def test_sums_that_were_changed_by_hand_are_told(sums: object, says: str) -> None:
    content = json.loads(OVER_CORPUS.to_json())
    content["shards"][1]["sums"] = sums
    with pytest.raises(UserError, match="remove it and prepare the shards again") as error:
        Index.from_json(json.dumps(content), "train.index.json")
    assert says in str(error.value)


def test_sums_that_nothing_asked_for_are_told() -> None:
    content = json.loads(FULL.to_json())
    content["shards"][0]["sums"] = {"frames": 5, "values": [1.0], "squares": [1.0]}
    with pytest.raises(UserError, match=r"shards\[0\]: sums of 1 bins, not of 0"):
        Index.from_json(json.dumps(content), "train.index.json")


def test_an_index_of_the_first_version_is_read() -> None:
    content = json.loads(FULL.to_json())
    front_end = content["settings"]["front_end"]
    front_end["bins"] = front_end.pop("mel_filters")
    for key in ("features", "coefficients", "deltas", "normalisation"):
        del front_end[key]
    for shard in content["shards"]:
        del shard["sums"]
    assert Index.from_json(json.dumps(content), "train.index.json") == FULL


def test_every_key_of_the_settings_is_needed(tmp_path: Path) -> None:
    content = json.loads(FULL.to_json())
    for key in content["settings"].keys() - {"copies"}:  # which older indexes don't have
        without = {name: value for name, value in content["settings"].items() if name != key}
        with pytest.raises(UserError, match="is not an index"):
            Index.from_json(json.dumps({**content, "settings": without}), "train.index.json")


def test_a_set_without_index_yet_has_none(tmp_path: Path) -> None:
    assert read_index(str(tmp_path / "train.tfrecords")) is None
