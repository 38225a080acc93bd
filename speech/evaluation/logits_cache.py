"""A network's output for a whole set, kept in a file, so that decoders can be tried at no cost."""

import hashlib
import io
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import asdict

import numpy as np
from absl import logging

from speech.evaluation.recognition import Recognition
from speech.shards.shard_set import ShardSet
from speech.system import storage
from utils import UserError


def read_or_make(
    folder: str, checkpoint: str, shards: ShardSet, make: Callable[[], Iterator[list[Recognition]]]
) -> list[Recognition]:
    """The network's output for every utterance of a set.

    Args:
        folder: where it is kept; empty: nowhere.
        checkpoint: that `make` recognises with. A file in the folder is of one checkpoint and one
            set of shards, to the bit.
        make: recognises the set, batch by batch; called if the folder hasn't got it.

    Raises:
        UserError: the file in the folder is damaged, or none can be written there.
    """
    if not folder:
        return _copied(make())
    storage.make_folder(folder)
    path = storage.join(folder, f"{_key(checkpoint, shards)}.npz")
    if storage.exists(path):
        logging.info("The network's output is in %s", path)
        return _read(path)
    recognitions = _copied(make())
    storage.write_bytes(path, _packed(recognitions))
    logging.info("Kept the network's output in %s", path)
    return recognitions


def _copied(batches: Iterator[list[Recognition]]) -> list[Recognition]:
    """All utterances, each one's log-probabilities by themselves, without the batch's padding."""
    return [
        Recognition(each.utterance_id, each.reference, each.log_probs.copy(), each.loss)
        for batch in batches
        for each in batch
    ]


def _key(checkpoint: str, shards: ShardSet) -> str:
    """A name for what a checkpoint makes of a set."""
    content = hashlib.sha256()
    # The index of a checkpoint has the checksums of its variables.
    content.update(storage.read_bytes(f"{checkpoint}.index"))
    content.update(repr(sorted(asdict(shards.index).items())).encode())
    return f"{posixpath.basename(checkpoint)}-{content.hexdigest()[:16]}"


def _packed(recognitions: list[Recognition]) -> bytes:
    content = io.BytesIO()
    log_probs = [each.log_probs for each in recognitions]
    np.savez(
        content,
        utterance_id=np.array([each.utterance_id for each in recognitions]),
        reference=np.array([each.reference for each in recognitions]),
        loss=np.array([each.loss for each in recognitions], np.float64),  # NaN: None
        frames=np.array([len(each) for each in log_probs], np.int64),
        log_probs=np.concatenate(log_probs) if log_probs else np.zeros((0, 0), np.float32),
    )
    return content.getvalue()


def _read(path: str) -> list[Recognition]:
    try:
        with np.load(io.BytesIO(storage.read_bytes(path))) as content:
            columns = {name: content[name] for name in content.files}
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
            Recognition(utterance_id, reference, each, None if np.isnan(loss) else loss)
            for utterance_id, reference, each, loss in rows
        ]
    except UserError:
        raise
    # The readers of archives raise whatever they stumble over: RuntimeError, zlib.error, ...
    except Exception as error:
        raise UserError(
            f"{path} in --logits_cache is damaged ({error!r}): remove it, and it is made anew."
        ) from None
