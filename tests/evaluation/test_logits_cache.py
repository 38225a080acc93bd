"""A network's outputs are stored, read back unchanged, and never another network's."""

import dataclasses
import logging as python_logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from emulator import Emulator
from full_disk import full_disk
from tiny_shards import random_utterances, write_shards

from speech.evaluation import logits_cache
from speech.evaluation.network_output import NetworkOutput
from speech.shards.shard_set import ShardSet
from utils import UserError

CLASSES = 5


def outputs_of(seed: int = 0) -> list[NetworkOutput]:
    rng = np.random.default_rng(seed)
    known = [("1-1-1", "a b", 7, 2.5), ("2-1-1", "", 0, None), ("1-1-2", "\u00e9 \u5b57", 3, 0.1)]
    return [
        NetworkOutput(name, text, rng.normal(size=(length, CLASSES)).astype(np.float32), loss)
        for name, text, length, loss in known
    ]


def assert_same(found: Sequence[NetworkOutput] | None, expected: Sequence[NetworkOutput]) -> None:
    assert found is not None and len(found) == len(expected)
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
def test_outputs_come_back_as_they_were(
    tmp_path: Path,
    shards: ShardSet,
    checkpoint: str,
    utterances: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made, folder = outputs_of()[:utterances], tmp_path / "new" / "logits"
    with caplog.at_level(python_logging.INFO, logger="absl"):
        assert logits_cache.read(str(folder), checkpoint, shards) is None
        logits_cache.write(str(folder), checkpoint, shards, made)
        (name,) = os.listdir(folder)
        assert f"Kept the network's output in {folder / name}" in caplog.text
        caplog.clear()
        assert_same(logits_cache.read(str(folder), checkpoint, shards), made)
        assert f"The network's output is in {folder / name}" in caplog.text
    assert name.startswith("model.ckpt-3-") and os.listdir(folder) == [name]


def test_without_a_folder_nothing_is_kept(
    tmp_path: Path, shards: ShardSet, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    logits_cache.write("", checkpoint, shards, outputs_of())
    assert logits_cache.read("", checkpoint, shards) is None
    assert os.listdir(tmp_path / "here") == []


def test_another_checkpoint_or_other_shards_have_their_own_file(
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
        assert logits_cache.read(folder, path, data) is None
        logits_cache.write(folder, path, data, outputs_of(seed))
    assert len(os.listdir(folder)) == len(cases)
    for seed, (path, data) in enumerate(cases):
        assert_same(logits_cache.read(folder, path, data), outputs_of(seed))


def test_copies_of_checkpoint_and_shards_share_a_file(
    tmp_path: Path, shards: ShardSet, checkpoint: str
) -> None:
    folder = str(tmp_path / "logits")
    logits_cache.write(folder, checkpoint, shards, outputs_of())
    copy = checkpoint_of(tmp_path / "copy", b"weights")
    again = write_shards(tmp_path / "again", random_utterances([20, 10, 30], 4))
    assert_same(logits_cache.read(folder, copy, again), outputs_of())


def test_a_damaged_file_is_an_error(tmp_path: Path, shards: ShardSet, checkpoint: str) -> None:
    folder = tmp_path / "logits"
    logits_cache.write(str(folder), checkpoint, shards, outputs_of())
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    turned = bytearray(whole)
    turned[whole.index(b"log_probs.npy") + 200] ^= 1
    for content in (b"", b"text", whole[:-30], whole[: len(whole) // 2], bytes(turned)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"--logits_cache is damaged.*remove it") as error:
            logits_cache.read(str(folder), checkpoint, shards)
        assert str(path) in str(error.value)
    path.unlink()
    logits_cache.write(str(folder), checkpoint, shards, outputs_of())
    assert path.read_bytes() == whole


def test_a_file_that_can_not_be_written_is_an_error(
    tmp_path: Path, shards: ShardSet, checkpoint: str
) -> None:
    folder = tmp_path / "logits"
    with full_disk(100), pytest.raises(UserError, match="can't be written: File too large"):
        logits_cache.write(str(folder), checkpoint, shards, outputs_of())
    assert os.listdir(folder) == []


def test_files_may_be_in_a_bucket(
    emulator: Emulator, own_bucket: str, shards: ShardSet, checkpoint: str
) -> None:
    folder = f"{own_bucket}/logits"
    assert logits_cache.read(folder, checkpoint, shards) is None
    logits_cache.write(folder, checkpoint, shards, outputs_of())
    assert_same(logits_cache.read(folder, checkpoint, shards), outputs_of())
    prefix = folder.removeprefix(f"gs://{emulator.bucket}/")
    ((name, content),) = emulator.objects(prefix).items()
    assert name.startswith(f"{prefix}/model.ckpt-3-")
    emulator.put(name, content[:-20])
    with pytest.raises(UserError, match=f"gs://{emulator.bucket}/{name} in --logits_cache is dam"):
        logits_cache.read(folder, checkpoint, shards)


def test_exported_models_are_told_apart_by_their_content(tmp_path: Path, shards: ShardSet) -> None:
    folder = str(tmp_path / "logits")
    lite, other = tmp_path / "model.tflite", tmp_path / "other" / "model.tflite"
    saved = tmp_path / "saved_model"
    for number, path in enumerate(
        (lite, other, saved / "saved_model.pb", saved / "variables/data")
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]))
    for seed, model in enumerate((lite, other, saved)):
        assert logits_cache.read(folder, str(model), shards) is None
        logits_cache.write(folder, str(model), shards, outputs_of(seed))
        assert_same(logits_cache.read(folder, str(model), shards), outputs_of(seed))
    (saved / "variables/data").write_bytes(b"changed")
    assert logits_cache.read(folder, str(saved), shards) is None
