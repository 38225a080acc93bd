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


def settings(
    *sources: Source,
    shares: Shares | None = None,
    name: str = "",
    limits: dict[str, int] | None = None,
) -> CorpusSettings:
    return CorpusSettings(sources, None, Reading(), RULES, shares, name, "data", limits or {})


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


def test_limits_take_the_first_utterances_of_a_set_also_of_a_divided_one(tables: Path) -> None:
    train = Source("train", "--train_files", [f"{tables}/train.csv"])
    test = Source("test", "--test_files", [f"{tables}/test.csv"])
    found = read_sets(settings(train, test, limits={"train": 3}))
    assert [len(each.utterances) for each in found] == [3, 10]
    (whole,) = read_sets(settings(train))
    assert found[0].utterances == whole.utterances[:3]
    divided = read_sets(
        settings(
            Source("", "--files_path", train.paths),
            shares=(80, 0, 20),
            limits={"train": 3, "dev": 9},
        )
    )
    assert [(each.name, len(each.utterances)) for each in divided] == [("train", 3), ("test", 2)]
