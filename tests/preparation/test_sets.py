"""Reading a corpus into sets."""

from pathlib import Path

import pytest

from speech.corpora.formats.reading import Reading
from speech.corpora.splits import Shares
from speech.preparation.sets import CorpusSettings, Source, read_sets
from speech.text.transcripts import TranscriptRules

RULES = TranscriptRules("de")


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Tables of two sets, whose speakers are unknown."""
    for name in ("train", "test"):
        rows = [f"{name}{number}.wav,Ja!" for number in range(10)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["wav_filename,transcript", *rows]))
    return tmp_path


def settings(*sources: Source, shares: Shares | None = None, name: str = "") -> CorpusSettings:
    return CorpusSettings(sources, None, Reading(), RULES, shares, name, "data")


def test_each_set_has_its_name_and_normalised_transcripts(tables: Path) -> None:
    sources = [
        Source(name, f"--{name}_files", [f"{tables}/{name}.csv"]) for name in ("train", "test")
    ]
    train, test = read_sets(settings(*sources))
    assert (train.name, train.tfrecords_file, train.for_evaluation) == (
        *("train", "data/train.tfrecords", False),
    )
    assert (test.name, test.tfrecords_file, test.for_evaluation) == (
        *("test", "data/test.tfrecords", True),
    )
    assert [each.transcript for each in train.utterances] == ["ja"] * 10


def test_a_whole_corpus_is_one_training_set(tables: Path) -> None:
    source = Source("", "--files_path", [f"{tables}/train.csv", f"{tables}/test.csv"])
    (found,) = read_sets(settings(source, name="x/all"))
    assert (found.name, found.tfrecords_file, found.for_evaluation) == ("all", "x/all", False)
    assert len(found.utterances) == 20


def test_a_divided_corpus_has_only_sets_with_a_share(tables: Path) -> None:
    source = Source("", "--files_path", [f"{tables}/train.csv"])
    found = read_sets(settings(source, shares=(80, 0, 20)))
    assert [(each.name, len(each.utterances)) for each in found] == [("train", 8), ("test", 2)]
