"""Keeps a network's outputs for a whole set in a file, so that decoders can be tried on them.

A file is of one model and one set of shards: its name has a digest of both.
"""

import hashlib
import io
import os
import posixpath
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from absl import logging

from speech.evaluation.network_output import NetworkOutput
from speech.shards.shard_set import ShardSet
from speech.system import storage
from utils import UserError


def read(folder: str, model: str, shards: ShardSet) -> list[NetworkOutput] | None:
    """Reads the outputs for every utterance of a set.

    Args:
        folder: of the files; empty: there is no cache.
        model: path of the checkpoint or exported model that computed the outputs.

    Returns:
        None if the folder hasn't got them.

    Raises:
        UserError: the file is damaged, or can't be read.
    """
    if not folder:
        return None
    path = _path(folder, model, shards)
    if not storage.exists(path):
        return None
    logging.info("The network's output is in %s", path)
    return unpack(storage.read_bytes(path), path)


def write(folder: str, model: str, shards: ShardSet, outputs: Sequence[NetworkOutput]) -> None:
    """Writes the outputs for every utterance of a set; arguments are `read`'s.

    Raises:
        UserError: the file can't be written.
    """
    if folder:
        path = _path(folder, model, shards)
        storage.write_bytes(path, pack(outputs))
        logging.info("Kept the network's output in %s", path)


def _path(folder: str, model: str, shards: ShardSet) -> str:
    content = hashlib.sha256()
    for path in _identifying_files(model):
        content.update(storage.read_bytes(path))
    content.update(repr(sorted(asdict(shards.index).items())).encode())
    name = f"{posixpath.basename(model.rstrip('/'))}-{content.hexdigest()[:16]}.npz"
    return storage.join(folder, name)


def _identifying_files(model: str) -> list[str]:
    """Returns the files whose content tells a model from all others."""
    index = f"{model}.index"
    if storage.exists(index):
        return [index]  # a checkpoint's: it has the checksums of its variables
    if os.path.isfile(model):
        return [model]
    return sorted(path for path, _ in storage.files_below(model)) or [model]


def pack(outputs: Sequence[NetworkOutput]) -> bytes:
    """Packs outputs into the bytes of a file, one array for each field."""
    content = io.BytesIO()
    log_probs = [each.log_probs for each in outputs]
    np.savez(
        content,
        utterance_id=np.array([each.utterance_id for each in outputs]),
        reference=np.array([each.reference for each in outputs]),
        loss=np.array([each.loss for each in outputs], np.float64),  # NaN: None
        # Numbers of outputs; the file's format has the older word.
        frames=np.array([len(each) for each in log_probs], np.int64),
        log_probs=np.concatenate(log_probs) if log_probs else np.zeros((0, 0), np.float32),
    )
    return content.getvalue()


def unpack(content: bytes, path: str) -> list[NetworkOutput]:
    """Unpacks what `pack` packed; path: for messages.

    Raises:
        UserError: the content is damaged.
    """
    try:
        with np.load(io.BytesIO(content)) as arrays:
            columns = {name: arrays[name] for name in arrays.files}
        ends = np.cumsum(columns["frames"])
        starts = ends - columns["frames"]
        log_probs = [
            columns["log_probs"][start:end] for start, end in zip(starts, ends, strict=True)
        ]
        rows = zip(
            columns["utterance_id"].tolist(),
            columns["reference"].tolist(),
            log_probs,
            columns["loss"].tolist(),
            strict=True,
        )
        return [
            NetworkOutput(utterance_id, reference, each, None if np.isnan(loss) else loss)
            for utterance_id, reference, each, loss in rows
        ]
    # The readers of archives raise whatever they stumble over: RuntimeError, zlib.error, ...
    except Exception as error:
        raise UserError(
            f"{path} in --logits_cache is damaged ({error!r}): remove it, and it is made again."
        ) from None
