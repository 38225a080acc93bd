"""Writes shards of random features in the format of the preparation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speech.features.front_end import CORPUS, UTTERANCE, FrontEnd
from speech.features.normalisation import Sums
from speech.shards.index import FRAMES_BAR, LABELS_BAR, Index, Shard, ShardSettings, histogram
from speech.shards.paths import index_path, shard_path
from speech.shards.records import ShardWriter, encode_example
from speech.shards.shard_set import ShardSet, find_shards
from speech.system import storage
from utils import ENGLISH, Alphabet


@dataclass(frozen=True)
class TinyUtterance:
    """An utterance with features instead of audio."""

    utterance_id: str
    transcript: str
    features: npt.NDArray[np.float32]  # [frames, bins]


def random_utterances(
    frames: Sequence[int], bins: int, seed: int = 0, letters: str = "abc "
) -> list[TinyUtterance]:
    """Returns an utterance for each number of frames; its transcript can be aligned."""
    rng = np.random.default_rng(seed)
    return [
        TinyUtterance(
            utterance_id=f"utterance-{number:04d}",
            transcript="".join(rng.choice(list(letters), min(3 + number % 3, 1 + length // 8))),
            features=rng.normal(size=[length, bins]).astype(np.float32),
        )
        for number, length in enumerate(frames)
    ]


def write_shards(
    folder: Path,
    utterances: Sequence[TinyUtterance],
    *,
    name: str = "tiny.tfrecords",
    partition_size: int = 5,
    padded: bool = True,
    bins: int = 4,
    longest: tuple[int, int] = (64, 12),
    normalisation: str = UTTERANCE,
    alphabet: Alphabet = ENGLISH,
) -> ShardSet:
    """Writes the shards of `utterances`; longest: frames and labels that records are padded to."""
    settings = ShardSettings(
        front_end=FrontEnd(mel_filters=bins, normalisation=normalisation),
        alphabet=alphabet,
        partition_size=partition_size,
        max_sequence_length=longest[0],
        max_label_length=longest[1],
        padded=padded,
        stride=2,
    )
    tfrecords_file = str(folder / name)
    index = Index(settings, corpus_utterances=len(utterances), corpus_digest="")
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(utterances), partition_size):
        own = utterances[start : start + partition_size]
        index = index.with_shard(_write_shard(tfrecords_file, start, own, settings), [])
    storage.write_text(index_path(tfrecords_file), index.to_json())
    return find_shards(f"{tfrecords_file}.*")


def _write_shard(
    tfrecords_file: str, start: int, utterances: Sequence[TinyUtterance], settings: ShardSettings
) -> Shard:
    path = shard_path(tfrecords_file, start)
    frames = [len(each.features) for each in utterances]
    labels = [len(settings.alphabet.encode(each.transcript)) for each in utterances]
    with ShardWriter(path) as writer:
        for each in utterances:
            writer.write(
                encode_example(
                    each.features.T,
                    settings.alphabet.encode(each.transcript),
                    each.utterance_id,
                    each.transcript,
                    settings.max_sequence_length if settings.padded else 0,
                    settings.max_label_length if settings.padded else 0,
                )
            )
        crc32c = writer.commit()
    return Shard(
        file=Path(path).name,
        start=start,
        end=start + len(utterances),
        records=len(utterances),
        bytes=writer.bytes,
        crc32c=crc32c,
        audio_seconds=sum(frames) * settings.front_end.step_seconds,
        longest_frames=max(frames),
        longest_label=max(labels),
        frames_histogram=histogram(frames, FRAMES_BAR),
        labels_histogram=histogram(labels, LABELS_BAR),
        sums=(
            Sums.of(np.concatenate([each.features for each in utterances]).T)
            if settings.front_end.normalisation == CORPUS
            else None
        ),
    )
