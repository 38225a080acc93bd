"""Records and shards as TensorFlow reads and writes them."""

import errno
import os
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import tensorflow as tf
from full_disk import full_disk
from hypothesis import example, given, settings
from hypothesis import strategies as st

from speech.shards.records import ShardWriter, encode_example, frame_record

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


def test_a_shard_has_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
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
    message = os.strerror(errno.EFBIG)
    with full_disk(4096), pytest.raises(OSError, match=message):
        write_and_fail(str(tmp_path / "shard"), bytes(5000), None)
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_shards_place_stays_alone(tmp_path: Path) -> None:
    (tmp_path / "shard").mkdir()
    with pytest.raises(IsADirectoryError):
        write_and_fail(str(tmp_path / "shard"), b"one", None)
    assert os.listdir(tmp_path) == ["shard"]
