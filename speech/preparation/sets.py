"""Reads a corpus and divides it into the sets that become shards."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from absl import logging

import constants
from speech.corpora import splits
from speech.corpora.formats import registry
from speech.corpora.transcripts import normalise
from speech.corpora.utterance import Utterance
from speech.system import storage
from speech.text.transcripts import TranscriptRules

# Set -> name of its shards.
SETS = {
    "train": constants.TRAIN_SET,
    "dev": constants.DEV_SET,
    "test": constants.TEST_SET,
}


@dataclass(frozen=True)
class CorpusSet:
    """A set of utterances that becomes one set of shards."""

    name: str  # of SETS, or of the shards
    tfrecords_file: str  # path that the shards' names begin with
    utterances: list[Utterance]
    for_evaluation: bool  # kept whole: no utterance is too long, and none has copies


@dataclass(frozen=True)
class Source:
    """Tables or folders of one set, or of a whole corpus that is divided into SETS."""

    name: str  # of SETS, or of a set to evaluate with; "": --files_path
    flag: str  # flag that names them, for messages
    paths: list[str]  # local or gs://


@dataclass(frozen=True)
class CorpusSettings:
    """Where a corpus is, how to read it, and where its shards go."""

    sources: tuple[Source, ...]  # one for each set, or --files_path alone
    format_name: str | None  # of registry.FORMATS; None: detected
    reading: registry.Reading
    rules: TranscriptRules
    shares: splits.Shares | None  # divide --files_path into SETS; None: one set
    tfrecords_file: str  # path that the shards' names of --files_path, as one set, begin with
    tfrecords_dir: str  # folder of the shards of SETS
    # Set -> number of its first utterances, in the order of their ids, that are used.
    limits: Mapping[str, int] = field(default_factory=dict)


def read_sets(corpus: CorpusSettings) -> list[CorpusSet]:
    """Reads the sets of a corpus with normalised transcripts.

    Raises:
        UserError: the corpus can't be read or divided.
    """
    sets = {each.name: _read(each, corpus) for each in corpus.sources}
    if corpus.tfrecords_file:
        name = os.path.basename(corpus.tfrecords_file)
        return [CorpusSet(name, corpus.tfrecords_file, sets[""], for_evaluation=False)]
    if corpus.shares:
        # Not --random_seed: another seed of the augmented copies must not change the test set.
        sets = splits.split(sets[""], corpus.shares, constants.RANDOM_SEED)
    return [
        CorpusSet(
            name,
            storage.join(corpus.tfrecords_dir, SETS.get(name, name)),
            found[: corpus.limits.get(name)],
            name != "train",
        )
        for name, found in sets.items()
        if found
    ]


def _read(source: Source, corpus: CorpusSettings) -> list[Utterance]:
    utterances = registry.read(source.paths, corpus.format_name, corpus.reading, source.flag)
    logging.info("%s: %d utterances", ", ".join(source.paths), len(utterances))
    return normalise(utterances, corpus.rules)
