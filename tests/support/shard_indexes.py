"""Makes indexes of shards."""

from speech.features.front_end import FrontEnd
from speech.shards.index import Index, Shard, ShardSettings, Skipped
from utils import ENGLISH

SETTINGS = ShardSettings(
    front_end=FrontEnd(),
    alphabet=ENGLISH,
    partition_size=10,
    max_sequence_length=100,
    max_label_length=20,
    padded=True,
    stride=2,
)


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
