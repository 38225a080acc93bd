"""Prepares sets from a small corpus with an unusable utterance of each kind."""

from dataclasses import replace
from pathlib import Path

import pytest

from speech.corpora.utterance import Utterance
from speech.features.front_end import FrontEnd
from speech.preparation import utterance as reasons
from speech.preparation import write_shards
from speech.shards.index import Index, ShardSettings, read_index
from utils import ENGLISH, UserError

SETTINGS = ShardSettings(
    front_end=FrontEnd(),
    alphabet=ENGLISH,
    partition_size=3,
    max_sequence_length=50,
    max_label_length=12,
    padded=True,
    stride=2,
)

OVER_CORPUS = replace(SETTINGS, front_end=FrontEnd(mel_filters=6, deltas=1, normalisation="corpus"))

# Reasons of the unusable utterances of the fixture `corpus`, by position.
WRONG = {
    1: reasons.UNKNOWN_CHARACTER,
    3: reasons.NO_AUDIO,
    4: reasons.NO_TRANSCRIPT,
    5: reasons.UNREADABLE,
    7: reasons.UNALIGNABLE,
    8: reasons.EMPTY,
    10: reasons.TOO_LONG,
    11: reasons.LABEL_TOO_LONG,
}
TRANSCRIPTS = {1: "NAÏVE", 7: "AAAAAAAAAAAA", 11: "THIRTEEN LONG"}


def prepare_set(
    utterances: list[Utterance],
    folder: Path,
    settings: ShardSettings = SETTINGS,
    start: int = 0,
    workers: int = 1,
    strict: bool = False,
) -> Index:
    """Prepares the set `t` in `folder`."""
    return write_shards.prepare(utterances, str(folder / "t"), settings, start, workers, strict)


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the files in `folder`: name -> bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def refusal(
    utterances: list[Utterance],
    folder: Path,
    settings: ShardSettings = SETTINGS,
    start: int = 0,
    strict: bool = False,
) -> str:
    """Returns the message of a preparation that fails."""
    with pytest.raises(UserError) as error:
        prepare_set(utterances, folder, settings, start, strict=strict)
    return str(error.value)


def reread(folder: Path) -> Index:
    """Reads the index of the set `t`."""
    index = read_index(str(folder / "t"))
    assert index is not None
    return index
