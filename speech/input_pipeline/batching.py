"""How utterances become batches: buckets of like lengths, steps of an epoch, hosts, shuffling.

On a TPU every batch has one static shape, padded to the lengths in the shards' index. On a CPU or
GPU a batch is padded to its longest utterance, and a training batch has utterances of like lengths.
All of it is computed from the index alone.
"""

import bisect
from dataclasses import dataclass, replace

from absl import logging

import constants
from speech.shards.index import FRAMES_BAR, Index

# Minimum mean number of batches of a bucket in an epoch. Fewer buckets need more padding; more
# buckets leave more batches incomplete at an epoch's end.
BATCHES_PER_BUCKET = 4
MOST_BUCKETS = 16

# The shards are divided among the hosts of a pod if the host with the fewest utterances gets at
# least this share of the mean. Utterances that other hosts have in excess wait for another epoch.
LEAST_SHARE = 0.95


@dataclass(frozen=True)
class Batching:
    """How utterances become batches."""

    batch_size: int  # over all cores
    static: bool  # one shape for all batches, as a TPU requires
    hosts: int = 1  # that feed parts of a batch; several only on a TPU pod
    replicas: int = 1  # parts of a training batch, see speech/engines/distributed.py
    own_replicas: range = range(1)  # replicas that this process feeds

    @property
    def uncut(self) -> "Batching":
        """The same batches without a division among replicas."""
        return replace(self, replicas=1, own_replicas=range(1))


@dataclass(frozen=True)
class Shuffling:
    """How well the utterances that one host reads are shuffled in an epoch."""

    buffered: int  # utterances that the next one is drawn from
    records: int  # utterances of a host in an epoch
    utterance_bytes: int  # mean, without padding

    @property
    def exact(self) -> bool:
        """Whether every order of the epoch is equally likely."""
        return self.buffered >= self.records

    def __str__(self) -> str:
        if self.exact:
            return (
                f"Shuffles exactly: all {self.records} utterances fit into the buffer "
                f"({self._size(self.records)})"
            )
        return (
            f"Shuffles within {self.buffered} of {self.records} utterances at a time "
            f"({self._size(self.buffered)}): raise --shuffle_buffer_size to {self.records} "
            f"({self._size(self.records)}) for an exact shuffle, or prepare smaller partitions"
        )

    def _size(self, utterances: int) -> str:
        size = utterances * self.utterance_bytes
        return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def bucket_boundaries(index: Index, batching: Batching) -> list[int]:
    """Returns the frames at which buckets of like lengths begin; [] is one bucket for all.

    They are edges of the index's histogram; buckets have about the same number of utterances.
    """
    buckets = min(index.records // (BATCHES_PER_BUCKET * batching.batch_size), MOST_BUCKETS)
    if batching.static or buckets < 2:
        return []
    boundaries: list[int] = []
    seen = 0
    for frames, count in index.frames_histogram.items():
        if (
            len(boundaries) < buckets - 1
            and seen >= index.records * (len(boundaries) + 1) / buckets
        ):
            boundaries.append(frames)
        seen += count
    return boundaries


def steps_per_epoch(index: Index, batching: Batching) -> int:
    """Returns the exact number of batches of one epoch; incomplete ones count unless static.

    With static batches the utterances that don't fill a batch wait for the next epoch's shuffle,
    and so do those that one host of a pod has in excess of another.
    """
    if batching.static:
        return min(host_records(index, batching.hosts)) * batching.hosts // batching.batch_size
    boundaries = bucket_boundaries(index, batching)
    counts = [0] * (len(boundaries) + 1)
    for frames, count in index.frames_histogram.items():
        counts[bisect.bisect_right(boundaries, frames)] += count
    return sum(-(-count // batching.batch_size) for count in counts)


def host_shards(index: Index, hosts: int) -> list[list[int]] | None:
    """Returns the shard numbers of each host; None if whole shards can't be divided evenly.

    LEAST_SHARE defines even. The largest shards are assigned first, each to the host with the
    fewest utterances so far.
    """
    numbers: list[list[int]] = [[] for _ in range(hosts)]
    records = [0] * hosts
    sizes = [shard.records for shard in index.shards]
    for number in sorted(range(len(sizes)), key=lambda each: (-sizes[each], each)):
        host = records.index(min(records))
        numbers[host].append(number)
        records[host] += sizes[number]
    even = min(records) >= LEAST_SHARE * index.records / hosts
    return [sorted(each) for each in numbers] if even else None


def host_records(index: Index, hosts: int) -> list[int]:
    """Returns the utterances of each host: those of its shards, or every `hosts`th of the set."""
    divided = host_shards(index, hosts)
    if divided is None:
        return [len(range(host, index.records, hosts)) for host in range(hosts)]
    return [sum(index.shards[number].records for number in numbers) for numbers in divided]


def shuffling(index: Index, batching: Batching, shuffle_buffer_size: int | None) -> Shuffling:
    """Returns how training shuffles.

    Args:
        shuffle_buffer_size: utterances; None: as many as constants.SHUFFLE_BUFFER_BYTES hold. That
            depends on the index alone, so that the order is the same on every machine.
    """
    records = max(host_records(index, batching.hosts))
    # Upper edges of the bars: never fewer frames than there are.
    frames = sum((edge + FRAMES_BAR) * count for edge, count in index.frames_histogram.items())
    utterance_bytes = frames * index.settings.front_end.bins * 4 // max(index.records, 1)
    size = shuffle_buffer_size or max(constants.SHUFFLE_BUFFER_BYTES // max(utterance_bytes, 1), 1)
    return Shuffling(min(size, max(records, 1)), records, utterance_bytes)


def log_reading(index: Index, batching: Batching, shuffle_buffer_size: int | None) -> None:
    """Logs how training shuffles, and what the hosts of a pod read."""
    logging.info("%s", shuffling(index, batching, shuffle_buffer_size))
    if batching.hosts == 1:
        return
    records = host_records(index, batching.hosts)
    if host_shards(index, batching.hosts):
        logging.info(
            "Each of %d hosts reads its own shards, %d to %d utterances",
            batching.hosts,
            min(records),
            max(records),
        )
    else:
        # Shards per host of which one is at most the share 1 - LEAST_SHARE.
        shards = round(1 / (1 - LEAST_SHARE)) * batching.hosts
        logging.warning(
            "%d shards can't be divided evenly among %d hosts: each host reads all of them for its "
            "part of the utterances. Prepare with --partition_size=%d or less to avoid this.",
            len(index.shards),
            batching.hosts,
            max(index.records // shards, 1),
        )
