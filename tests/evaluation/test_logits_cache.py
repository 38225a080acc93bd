"""A network's output is kept, comes back as it was, and is never another's."""

import dataclasses
import logging as python_logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from emulator import Emulator
from full_disk import full_disk
from tiny_shards import random_utterances, write_shards

from speech.evaluation import logits_cache
from speech.evaluation.recognition import Recognition
from speech.shards.shard_set import ShardSet
from utils import UserError

LABELS = 5


def recognitions(seed: int = 0) -> list[Recognition]:
    rng = np.random.default_rng(seed)
    known = [("1-1-1", "a b", 7, 2.5), ("2-1-1", "", 0, None), ("1-1-2", "\u00e9 \u5b57", 3, 0.1)]
    return [
        Recognition(name, text, rng.normal(size=(frames, LABELS)).astype(np.float32), loss)
        for name, text, frames, loss in known
    ]


class Network:
    """Recognises a set, and knows how often it had to."""

    def __init__(self, found: list[Recognition]) -> None:
        self.found = found
        self.runs = 0

    def __call__(self) -> Iterator[list[Recognition]]:
        self.runs += 1
        yield self.found[:2]
        yield self.found[2:]


def assert_same(found: list[Recognition], expected: list[Recognition]) -> None:
    assert len(found) == len(expected)
    for each, other in zip(found, expected, strict=True):
        assert (each.utterance_id, each.reference) == (other.utterance_id, other.reference)
        assert each.loss == other.loss
        assert each.log_probs.dtype == np.float32
        np.testing.assert_array_equal(each.log_probs, other.log_probs)


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    return write_shards(tmp_path / "shards", random_utterances([20, 10, 30], 4))


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    return checkpoint_of(tmp_path / "model", b"weights")


def checkpoint_of(folder: Path, index: bytes, name: str = "model.ckpt-3") -> str:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.index").write_bytes(index)
    return str(folder / name)


@pytest.mark.parametrize("utterances", [3, 1, 0])
def test_what_was_made_once_comes_back(
    tmp_path: Path,
    shards: ShardSet,
    checkpoint: str,
    utterances: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = recognitions()[:utterances]
    network, folder = Network(made), tmp_path / "new" / "logits"
    with caplog.at_level(python_logging.INFO, logger="absl"):
        first = logits_cache.read_or_make(str(folder), checkpoint, shards, network)
        (name,) = os.listdir(folder)
        assert f"Kept the network's output in {folder / name}" in caplog.text
        caplog.clear()
        again = logits_cache.read_or_make(str(folder), checkpoint, shards, network)
        assert f"The network's output is in {folder / name}" in caplog.text
    assert_same(first, made)
    assert_same(again, made)
    assert network.runs == 1
    assert name.startswith("model.ckpt-3-") and os.listdir(folder) == [name]


def test_without_a_folder_nothing_is_kept(shards: ShardSet, checkpoint: str) -> None:
    network = Network(recognitions())
    for runs in (1, 2):
        found = logits_cache.read_or_make("", checkpoint, shards, network)
        assert_same(found, recognitions())
        assert network.runs == runs


def test_batches_may_use_their_memory_again(shards: ShardSet, checkpoint: str) -> None:
    """What is returned isn't a view into a batch with its padding."""
    batch = np.zeros((2, 9, LABELS), np.float32)  # [batch, frames, labels]

    def network() -> Iterator[list[Recognition]]:
        for number in range(3):
            batch[:] = number
            yield [Recognition(f"{number}-{i}", "a", batch[i, :4], 1.0) for i in range(2)]

    found = logits_cache.read_or_make("", checkpoint, shards, network)
    assert [each.log_probs[0, 0] for each in found] == [0, 0, 1, 1, 2, 2]
    assert all(each.log_probs.base is None for each in found)


def test_another_checkpoint_or_other_shards_are_kept_apart(
    tmp_path: Path, shards: ShardSet, checkpoint: str
) -> None:
    folder = str(tmp_path / "logits")
    utterances = random_utterances([20, 10, 30], 4)
    utterances[1].features[3, 2] += 1
    settings = dataclasses.replace(shards.index.settings, stride=4)
    index = dataclasses.replace(shards.index, settings=settings)
    cases = [
        (checkpoint, shards),
        (checkpoint_of(tmp_path / "model", b"weights", "model.ckpt-4"), shards),
        (checkpoint_of(tmp_path / "other", b"others"), shards),
        (checkpoint, write_shards(tmp_path / "others", utterances)),
        (checkpoint, dataclasses.replace(shards, index=index)),
    ]
    for seed, (path, data) in enumerate(cases):
        network = Network(recognitions(seed))
        assert_same(logits_cache.read_or_make(folder, path, data, network), recognitions(seed))
        assert network.runs == 1
    assert len(os.listdir(folder)) == len(cases)
    for seed, (path, data) in enumerate(cases):
        network = Network([])
        assert_same(logits_cache.read_or_make(folder, path, data, network), recognitions(seed))
        assert network.runs == 0


def test_copies_of_checkpoint_and_shards_share_what_is_kept(
    tmp_path: Path, shards: ShardSet, checkpoint: str
) -> None:
    folder = str(tmp_path / "logits")
    logits_cache.read_or_make(folder, checkpoint, shards, Network(recognitions()))
    copy = checkpoint_of(tmp_path / "copy", b"weights")
    again = write_shards(tmp_path / "again", random_utterances([20, 10, 30], 4))
    network = Network([])
    assert_same(logits_cache.read_or_make(folder, copy, again, network), recognitions())


def test_a_damaged_file_is_told(tmp_path: Path, shards: ShardSet, checkpoint: str) -> None:
    folder = tmp_path / "logits"
    network = Network(recognitions())
    logits_cache.read_or_make(str(folder), checkpoint, shards, network)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    turned = bytearray(whole)
    turned[whole.index(b"log_probs.npy") + 200] ^= 1
    for content in (b"", b"text", whole[:-30], whole[: len(whole) // 2], bytes(turned)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"--logits_cache is damaged.*remove it") as error:
            logits_cache.read_or_make(str(folder), checkpoint, shards, network)
        assert str(path) in str(error.value)
    path.unlink()
    assert_same(logits_cache.read_or_make(str(folder), checkpoint, shards, network), recognitions())
    assert path.read_bytes() == whole


def test_a_place_that_can_not_be_written_is_told(
    tmp_path: Path, shards: ShardSet, checkpoint: str
) -> None:
    (tmp_path / "file").write_text("")
    network = Network(recognitions())
    with pytest.raises(UserError, match="file/logits can't be made"):
        logits_cache.read_or_make(f"{tmp_path}/file/logits", checkpoint, shards, network)
    assert network.runs == 0
    folder = tmp_path / "logits"
    with full_disk(100), pytest.raises(UserError, match="can't be written: File too large"):
        logits_cache.read_or_make(str(folder), checkpoint, shards, network)
    assert os.listdir(folder) == []


def test_a_network_that_fails_leaves_nothing(
    tmp_path: Path, shards: ShardSet, checkpoint: str
) -> None:
    def network() -> Iterator[list[Recognition]]:
        yield recognitions()[:2]
        raise UserError("The network's output is no number.")

    with pytest.raises(UserError, match="no number"):
        logits_cache.read_or_make(str(tmp_path / "logits"), checkpoint, shards, network)
    assert os.listdir(tmp_path / "logits") == []


def test_it_is_kept_in_a_bucket(
    emulator: Emulator, own_bucket: str, shards: ShardSet, checkpoint: str
) -> None:
    network = Network(recognitions())
    folder = f"{own_bucket}/logits"
    for _ in range(2):
        found = logits_cache.read_or_make(folder, checkpoint, shards, network)
        assert_same(found, recognitions())
    assert network.runs == 1
    prefix = folder.removeprefix(f"gs://{emulator.bucket}/")
    ((name, content),) = emulator.objects(prefix).items()
    assert name.startswith(f"{prefix}/model.ckpt-3-")
    emulator.put(name, content[:-20])
    with pytest.raises(UserError, match=f"gs://{emulator.bucket}/{name} in --logits_cache is dam"):
        logits_cache.read_or_make(folder, checkpoint, shards, network)
