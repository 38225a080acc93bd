"""Buckets, steps of an epoch, the shares of hosts, and the size of the shuffle buffer."""

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from absl import logging
from absl.testing import absltest
from hypothesis import given
from hypothesis import strategies as st
from input_batches import FRAMES, ON_POD

import constants
from speech.features.front_end import FrontEnd
from speech.input_pipeline.batching import (
    Batching,
    Shuffling,
    bucket_boundaries,
    host_records,
    host_shards,
    log_reading,
    shuffling,
    steps_per_epoch,
)
from speech.shards.index import Index, Shard, ShardSettings
from speech.shards.shard_set import ShardSet
from utils import ENGLISH

# --- An epoch of training -------------------------------------------------------------------------


def test_buckets_hold_about_the_same_number_of_utterances(shards: ShardSet) -> None:
    boundaries = bucket_boundaries(shards.index, Batching(2, static=False))
    counts = np.bincount(np.searchsorted(boundaries, FRAMES, "right"))
    assert counts.min() >= len(FRAMES) / len(counts) / 2


# --- Shuffling ------------------------------------------------------------------------------------


def test_buffer_holds_as_many_utterances_as_its_bytes_allow(
    shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    batching = Batching(4, static=False)
    fits = shuffling(shards.index, batching, None)
    assert fits.exact and (fits.buffered, fits.records) == (len(FRAMES), len(FRAMES))
    mean = float(np.mean(FRAMES)) * 4 * 4  # bytes, of 4 bins
    assert mean <= fits.utterance_bytes <= mean + 10 * 4 * 4
    for utterances in (1, len(FRAMES) - 1, len(FRAMES)):
        budget = utterances * fits.utterance_bytes
        monkeypatch.setattr(constants, "SHUFFLE_BUFFER_BYTES", budget)
        limited = shuffling(shards.index, batching, None)
        assert limited.buffered == utterances and limited.exact == (utterances == len(FRAMES))
    monkeypatch.setattr(constants, "SHUFFLE_BUFFER_BYTES", 1)
    assert shuffling(shards.index, batching, None).buffered == 1
    assert shuffling(shards.index, batching, 8).buffered == 8
    assert shuffling(shards.index, batching, 1000).exact


@pytest.fixture(autouse=True)
def verbose() -> Iterator[None]:
    """Logs INFO, which another test of this process may have silenced."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.INFO)
    yield
    logging.set_verbosity(before)


def logged(shards: ShardSet, batching: Batching, buffer: int | None) -> str:
    with absltest.TestCase().assertLogs(level="INFO") as logs:
        log_reading(shards.index, batching, buffer)
    return "\n".join(record.getMessage() for record in logs.records)


def test_log_says_whether_the_shuffle_is_exact(shards: ShardSet) -> None:
    batching = Batching(4, static=False)
    assert logged(shards, batching, None) == (
        "Shuffles exactly: all 37 utterances fit into the buffer (0.0 MiB)"
    )
    within = logged(shards, batching, 8)
    assert "Shuffles within 8 of 37 utterances at a time" in within
    assert "raise --shuffle_buffer_size to 37" in within


def test_sizes_of_buffers_are_logged_in_gibibytes() -> None:
    text = str(Shuffling(buffered=5000, records=28539, utterance_bytes=2**30 // 2500))
    assert "(2.0 GiB)" in text and "to 28539 (11.4 GiB)" in text


# --- Cores of a TPU, and hosts of a pod -----------------------------------------------------------


def index_of(records: list[int]) -> Index:
    """An index of shards of so many records."""
    shard = Shard("", 0, 0, 0, 0, "", 0.0, 10, 1, {}, {})
    shards = tuple(replace(shard, start=at, records=each) for at, each in enumerate(records))
    settings = ShardSettings(FrontEnd(), ENGLISH, 1, 64, 12, True, 2)
    return Index(settings, sum(records), "", shards)


@given(records=st.lists(st.integers(1, 50), min_size=1, max_size=80), hosts=st.integers(1, 8))
def test_shards_are_divided_whole_and_evenly_or_not_at_all(records: list[int], hosts: int) -> None:
    index = index_of(records)
    shares = host_records(index, hosts)
    divided = host_shards(index, hosts)
    assert sum(shares) == sum(records) and len(shares) == hosts
    if divided is None:
        assert max(shares) - min(shares) <= 1
    else:
        assert sorted(number for each in divided for number in each) == list(range(len(records)))
        assert [sum(records[number] for number in each) for each in divided] == shares
        assert min(shares) >= 0.95 * sum(records) / hosts
    # Every host has what the epoch's steps take of it.
    steps = steps_per_epoch(index, Batching(2 * hosts, static=True, hosts=hosts))
    assert steps == min(shares) // 2


def test_partition_size_that_the_log_advises_is_divided_evenly() -> None:
    index = index_of([10_000] * 14 + [1_234])
    assert host_shards(index, 4) is None
    with absltest.TestCase().assertLogs(level="WARNING") as logs:
        log_reading(index, Batching(64, static=True, hosts=4), None)
    (text,) = (record.getMessage() for record in logs.records)
    assert text.startswith("15 shards can't be divided evenly among 4 hosts")
    (advised,) = map(int, re.findall(r"--partition_size=(\d+)", text))
    for size in (advised, advised // 2):
        whole, rest = divmod(index.records, size)
        assert host_shards(index_of([size] * whole + [rest]), 4)


def test_log_says_that_hosts_read_their_own_shards(shards: ShardSet) -> None:
    text = logged(shards, replace(ON_POD, hosts=1), None)
    assert "hosts" not in text
    index = index_of([100] * 40)
    with absltest.TestCase().assertLogs(level="INFO") as logs:
        log_reading(index, ON_POD, None)
    exact, own = (record.getMessage() for record in logs.records)
    assert "all 2000 utterances" in exact
    assert own == "Each of 2 hosts reads its own shards, 2000 to 2000 utterances"
