"""The index of a set of shards: its settings, each shard, and the utterances that were skipped."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import add
from typing import Any

from speech.augmentation.waveform import NO_COPIES, Copies
from speech.features.front_end import CORPUS, FrontEnd
from speech.features.normalisation import Statistics, Sums
from speech.shards.paths import index_path, shard_path
from speech.system import storage, typed_json
from speech.system.typed_json import FieldError
from utils import Alphabet, is_number

INDEX_FORMAT = 1

# Width of a histogram's bar; utterances have about ten times as many frames as labels.
FRAMES_BAR = 10
LABELS_BAR = 5


@dataclass(frozen=True)
class Shard:
    """One shard file and its contents."""

    file: str  # name in the folder of the index
    start: int  # corpus position of its first utterance
    end: int  # corpus position after its last one
    records: int  # utterances written; the others of the range are in the index's `skipped`
    bytes: int  # size of the file
    crc32c: str  # checksum of the file, 8 hexadecimal digits
    audio_seconds: float  # of the utterances written
    longest_frames: int
    longest_label: int
    # Lower edge of a bar -> utterances; keys are text, as in JSON.
    frames_histogram: dict[str, int]
    labels_histogram: dict[str, int]
    # Sums of the features written; None: no features, or not normalised over the corpus.
    sums: Sums | None = None


@dataclass(frozen=True)
class Skipped:
    """An utterance of the corpus that is in no shard."""

    position: int
    utterance_id: str
    reason: str  # one of the reasons of speech/preparation
    detail: str  # the exact problem, for the person who repairs it


@dataclass(frozen=True)
class ShardSettings:
    """Settings of a set of shards; together with the corpus they determine its bytes."""

    front_end: FrontEnd
    alphabet: Alphabet
    partition_size: int  # corpus positions per shard
    max_sequence_length: int  # frames
    max_label_length: int  # labels
    padded: bool  # whether records are padded to these two lengths
    stride: int  # frames per output of the network for which CTC can align the labels
    copies: Copies = NO_COPIES  # augmented ones of each utterance; not in older indexes

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "alphabet": self.alphabet.to_json()}


@dataclass(frozen=True)
class Index:
    """Contents of a set of shards: all that training and evaluation need to read it."""

    settings: ShardSettings
    corpus_utterances: int  # number of positions in the corpus
    corpus_digest: str  # SHA-256, see corpus_digest in speech/preparation
    shards: tuple[Shard, ...] = ()  # by their start
    skipped: tuple[Skipped, ...] = ()  # by their position

    @property
    def records(self) -> int:
        return sum(shard.records for shard in self.shards)

    @property
    def bytes(self) -> int:
        return sum(shard.bytes for shard in self.shards)

    @property
    def audio_seconds(self) -> float:
        return sum(shard.audio_seconds for shard in self.shards)

    @property
    def longest_frames(self) -> int:
        return max((shard.longest_frames for shard in self.shards), default=0)

    @property
    def longest_label(self) -> int:
        return max((shard.longest_label for shard in self.shards), default=0)

    @property
    def frames_histogram(self) -> dict[int, int]:
        """Returns the utterances by their frames, rounded down to FRAMES_BAR; sorted."""
        total: Counter[int] = Counter()
        for shard in self.shards:
            total.update({int(edge): count for edge, count in shard.frames_histogram.items()})
        return dict(sorted(total.items()))

    @property
    def statistics(self) -> Statistics | None:
        """Returns statistics over these shards; None: features are not normalised over a corpus."""
        sums = [shard.sums for shard in self.shards if shard.sums]
        return reduce(add, sums).statistics if sums else None

    @property
    def complete(self) -> bool:
        """Tells whether the shards cover the whole corpus."""
        return sum(shard.end - shard.start for shard in self.shards) == self.corpus_utterances

    def with_shard(self, shard: Shard, skipped: Iterable[Skipped]) -> "Index":
        """Returns an index with one more shard and the utterances that it skipped."""
        return replace(
            self,
            shards=tuple(sorted((*self.shards, shard), key=lambda each: each.start)),
            skipped=tuple(sorted((*self.skipped, *skipped), key=lambda each: each.position)),
        )

    def without_shard(self, lost: Shard) -> "Index":
        """Returns the index as it was before `lost` was written."""
        return replace(
            self,
            shards=tuple(shard for shard in self.shards if shard != lost),
            skipped=tuple(
                each for each in self.skipped if not lost.start <= each.position < lost.end
            ),
        )

    def to_json(self) -> str:
        content = json.dumps(
            {
                "format": INDEX_FORMAT,
                "settings": self.settings.to_json(),
                "corpus": {"utterances": self.corpus_utterances, "sha256": self.corpus_digest},
                "shards": [asdict(shard) for shard in self.shards],
                "skipped": [asdict(skipped) for skipped in self.skipped],
            },
            indent=1,
            ensure_ascii=False,
        )
        # A file's name may hold bytes that aren't UTF-8, which JSON writes as \udcXX.
        return content.encode(errors="backslashreplace").decode() + "\n"

    @classmethod
    def from_json(cls, text: str, path: str) -> "Index":
        """Reads an index.

        Args:
            text: its JSON.
            path: for messages.

        Raises:
            UserError: it is no valid index.
        """
        remedy = "remove it and prepare the shards again"
        with typed_json.explain_errors(path, "an index of shards", remedy):
            content = typed_json.parse_object(text)
            typed_json.check_format(content, INDEX_FORMAT)
            file = typed_json.read(_IndexFile, content, "index")
            index = cls(
                file.settings,
                file.corpus.utterances,
                file.corpus.sha256,
                file.shards,
                file.skipped,
            )
            _check_consistent(index)
            return index


@dataclass(frozen=True)
class _Corpus:
    utterances: int
    sha256: str


@dataclass(frozen=True)
class _IndexFile:
    """The fields of an index's JSON."""

    format: int
    settings: ShardSettings
    corpus: _Corpus
    shards: tuple[Shard, ...]
    skipped: tuple[Skipped, ...]


def _check_consistent(index: Index) -> None:
    """Raises FieldError if an index has contents that no preparation writes."""
    positions = [skipped.position for skipped in index.skipped]
    previous_end = 0
    for number, shard in enumerate(index.shards):
        where = f"shards[{number}]"
        if not previous_end <= shard.start <= shard.end <= index.corpus_utterances:
            raise FieldError(
                f"{where}: start {shard.start} and end {shard.end} must be between {previous_end} "
                f"and {index.corpus_utterances}"
            )
        if not shard.file.endswith(shard_path("", shard.start)):
            raise FieldError(f"{where}: file {shard.file!r} is no name of start {shard.start}")
        left_out = sum(shard.start <= position < shard.end for position in positions)
        if shard.records + left_out != shard.end - shard.start:
            raise FieldError(
                f"{where}: {shard.records} records and {left_out} skipped don't fill start "
                f"{shard.start} to end {shard.end}"
            )
        for edge in (*shard.frames_histogram, *shard.labels_histogram):
            if not is_number(edge):
                raise FieldError(f"{where}: a histogram has {edge!r}, which is no number")
        _check_sums(where, shard, index.settings.front_end)
        previous_end = shard.end


def _check_sums(where: str, shard: Shard, front_end: FrontEnd) -> None:
    """Raises FieldError unless a shard has sums of every bin exactly when they are needed."""
    bins = front_end.bins if front_end.normalisation == CORPUS and shard.records else 0
    found = shard.sums.bins if shard.sums else 0
    if found != bins:
        raise FieldError(f"{where}: sums of {found} bins, not of {bins}")


def histogram(lengths: Iterable[int], bar: int) -> dict[str, int]:
    """Returns the number of lengths in each bar of width `bar`, by its lower edge; sorted."""
    counts = Counter(length // bar * bar for length in lengths)
    return {str(edge): counts[edge] for edge in sorted(counts)}


def read_index(tfrecords_file: str) -> Index | None:
    """Reads the index of a set; None if it has none yet."""
    path = index_path(tfrecords_file)
    if not storage.exists(path):
        return None
    return Index.from_json(storage.read_text(path), path)
