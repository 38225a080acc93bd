"""Test sets that have no shards: they are prepared for the model, in a temporary folder."""

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence

from absl import logging

import constants
from speech.audio.headers import find_cut
from speech.augmentation.waveform import NO_COPIES
from speech.networks.config import ModelConfig
from speech.preparation import write_shards
from speech.preparation.sets import CorpusSet, CorpusSettings, read_sets
from speech.preparation.utterance import UNKNOWN_CHARACTER
from speech.shards.index import ShardSettings, Skipped
from speech.shards.paths import shard_pattern
from utils import UserError

# Number of skipped utterances, or recordings cut short, that are named; the others are counted.
NAMED = 10


@contextlib.contextmanager
def prepared(corpus: CorpusSettings, config: ModelConfig) -> Iterator[list[str]]:
    """Prepares sets with a model's front end and alphabet, and removes them in the end.

    Utterances are resampled and skipped as prepare_csv.py does it, but none is too long.

    Args:
        corpus: its tfrecords_dir isn't used.

    Yields:
        a glob of each set's shards.

    Raises:
        UserError: a set can't be read or written, or no utterance of it is usable.
    """
    settings = _shard_settings(config)
    sets = read_sets(corpus)
    with tempfile.TemporaryDirectory(prefix="deep-speech-") as folder:
        yield [_prepare(each, folder, settings) for each in sets]


def _shard_settings(config: ModelConfig) -> ShardSettings:
    return ShardSettings(
        front_end=config.front_end,
        alphabet=config.alphabet,
        partition_size=constants.PARTITION_SIZE,
        max_sequence_length=constants.LONGEST_SEQUENCE,
        max_label_length=constants.LONGEST_LABEL,
        padded=False,
        stride=config.network.stride_size,
        copies=NO_COPIES,
    )


def _prepare(corpus_set: CorpusSet, folder: str, settings: ShardSettings) -> str:
    """Writes a set's shards into a folder; returns their glob."""
    name = corpus_set.name
    tfrecords_file = os.path.join(folder, name)
    index = write_shards.prepare(
        corpus_set.utterances, tfrecords_file, settings, 0, os.cpu_count() or 1, strict=False
    )
    if index.skipped:
        message = f"{name}: {_describe(index.skipped)}"
        if not index.records:
            raise UserError(f"No utterance can be used. {message}")
        logging.warning("%s", message)
    recordings = {each.audio_path for each in corpus_set.utterances if each.audio_path}
    if cut := [f"{path}: {found}" for path in sorted(recordings) if (found := find_cut(path))]:
        message = f"{len(cut)} recordings are cut short, and evaluated as far as they go"
        logging.warning("%s: %s: %s.", name, message, _first(cut))
    return shard_pattern(tfrecords_file)


def _describe(skipped: Sequence[Skipped]) -> str:
    """Counts skipped utterances by reason and names the first ones."""
    reasons = Counter(each.reason for each in skipped)
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    hint = " (see --language)" if UNKNOWN_CHARACTER in reasons else ""
    named = _first([each.detail or each.utterance_id for each in skipped])
    return f"{len(skipped)} utterances are skipped, {counts}{hint}: {named}."


def _first(details: Sequence[str]) -> str:
    """Joins the first details, and counts the others."""
    more = len(details) - NAMED
    return "; ".join(details[:NAMED]) + (f"; and {more} more" if more > 0 else "")
