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

# Width of a histogram's bar: frames and labels differ by a factor of about ten.
FRAMES_BAR = 10
LABELS_BAR = 5


@dataclass(frozen=True)
class Shard:
    """One shard file and what it holds."""

    file: str  # name beside the index
    start: int  # corpus position of its first utterance
    end: int  # corpus position behind its last one
    records: int  # utterances written; the others of the range are in the index's `skipped`
    bytes: int  # of the file
    crc32c: str  # of the file, 8 hexadecimal digits
    audio_seconds: float  # of the utterances written
    longest_frames: int
    longest_label: int
    # Lower edge of a histogram's bar -> utterances; keys are text because JSON's are.
    frames_histogram: dict[str, int]
    labels_histogram: dict[str, int]
    # Of the features written; None if there are none, or they are normalised otherwise.
    sums: Sums | None = None


@dataclass(frozen=True)
class Skipped:
    """An utterance that is in the corpus but in no shard."""

    position: int
    utterance_id: str
    reason: str  # one of speech.preparation.write_shards's reasons
    detail: str  # what exactly, for the person who mends it


@dataclass(frozen=True)
class ShardSettings:
    """What decides the bytes of a set of shards, apart from the corpus."""

    front_end: FrontEnd
    alphabet: Alphabet
    partition_size: int  # corpus positions a shard covers
    max_sequence_length: int  # frames
    max_label_length: int  # labels
    padded: bool  # whether records are padded to the two lengths above
    stride: int  # frames per output of the network that CTC has to align labels to
    copies: Copies = NO_COPIES  # that are made of each utterance; older indexes don't have them

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "alphabet": self.alphabet.to_json()}


@dataclass(frozen=True)
class Index:
    """What a set of shards is made of; training and evaluation need nothing else to read it."""

    settings: ShardSettings
    corpus_utterances: int  # positions in the corpus
    corpus_digest: str  # SHA-256, see prepare.corpus_digest
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
        """Frames, rounded down to FRAMES_BAR -> utterances; sorted."""
        total: Counter[int] = Counter()
        for shard in self.shards:
            total.update({int(edge): count for edge, count in shard.frames_histogram.items()})
        return dict(sorted(total.items()))

    @property
    def statistics(self) -> Statistics | None:
        """What normalises features over these shards; None if they are normalised otherwise."""
        sums = [shard.sums for shard in self.shards if shard.sums]
        return reduce(add, sums).statistics if sums else None

    @property
    def complete(self) -> bool:
        """Whether the shards cover the whole corpus."""
        return sum(shard.end - shard.start for shard in self.shards) == self.corpus_utterances

    def with_shard(self, shard: Shard, skipped: Iterable[Skipped]) -> "Index":
        """The index with one more shard and the utterances of its range that are not in it."""
        return replace(
            self,
            shards=tuple(sorted((*self.shards, shard), key=lambda each: each.start)),
            skipped=tuple(sorted((*self.skipped, *skipped), key=lambda each: each.position)),
        )

    def without_shard(self, lost: Shard) -> "Index":
        """The index before `lost` was written."""
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
        # The name of a file may hold bytes that aren't UTF-8; these, JSON has to write as \udcXX.
        return content.encode(errors="backslashreplace").decode() + "\n"

    @classmethod
    def from_json(cls, text: str, path: str) -> "Index":
        """The index in `text`; `path` is for the message of the UserError if it is none."""
        remedy = "remove it and prepare the shards again"
        with typed_json.explained(path, "an index of shards", remedy):
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
    """Raises FieldError where an index was changed into one that no preparation writes."""
    positions = [skipped.position for skipped in index.skipped]
    behind_last = 0
    for number, shard in enumerate(index.shards):
        where = f"shards[{number}]"
        if not behind_last <= shard.start <= shard.end <= index.corpus_utterances:
            raise FieldError(
                f"{where}: start {shard.start} and end {shard.end} must lie between {behind_last} "
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
        behind_last = shard.end


def _check_sums(where: str, shard: Shard, front_end: FrontEnd) -> None:
    """Sums must be there if features are to be normalised by them, and be of every bin."""
    bins = front_end.bins if front_end.normalisation == CORPUS and shard.records else 0
    found = shard.sums.bins if shard.sums else 0
    if found != bins:
        raise FieldError(f"{where}: sums of {found} bins, not of {bins}")


def histogram(lengths: Iterable[int], bar: int) -> dict[str, int]:
    """Lower edge of a bar -> how many of `lengths` lie in it, in the edges' order."""
    counts = Counter(length // bar * bar for length in lengths)
    return {str(edge): counts[edge] for edge in sorted(counts)}


def read_index(tfrecords_file: str) -> Index | None:
    """The index of a set, None if it has none yet."""
    path = index_path(tfrecords_file)
    if not storage.exists(path):
        return None
    return Index.from_json(storage.read_text(path), path)
