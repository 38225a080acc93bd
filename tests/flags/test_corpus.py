"""Flags of prepare_csv.py: settings of a corpus and refused combinations."""

import importlib
from functools import partial

import pytest
from doors import parse_door_flags

import prepare_csv
from speech.augmentation.waveform import NO_COPIES
from speech.flags import corpus
from speech.preparation.sets import Source
from utils import ENGLISH, UserError

parse = partial(parse_door_flags, prepare_csv)


def test_sets_with_their_own_flags_are_sources() -> None:
    settings = corpus.corpus_from_flags(parse("--train_files=a.csv,b.csv", "--test_files=c.csv"))
    assert settings.sources == (
        Source("train", "--train_files", ["a.csv", "b.csv"]),
        Source("test", "--test_files", ["c.csv"]),
    )
    assert (settings.shares, settings.tfrecords_file, settings.tfrecords_dir) == (None, "", "data")


def test_a_corpus_is_one_set_or_divided() -> None:
    whole = (Source("", "--files_path", ["a.csv"]),)
    one = corpus.corpus_from_flags(parse("--files_path=a.csv", "--tfrecords_file=x/t"))
    assert (one.sources, one.shares, one.tfrecords_file) == (whole, None, "x/t")
    divided = corpus.corpus_from_flags(parse("--files_path=a.csv", "--split=80/10/10"))
    assert (divided.sources, divided.shares) == (whole, (80, 10, 10))
    assert divided.tfrecords_file == ""


def test_a_task_without_shards_needs_no_name_for_them() -> None:
    checked = corpus.corpus_from_flags(parse("--files_path=x/a.csv", "--check"))
    assert checked.tfrecords_file == "a"
    with pytest.raises(UserError, match=r"--files_path=x/a\.csv needs a name for its shards"):
        corpus.corpus_from_flags(parse("--files_path=x/a.csv"))


def test_only_training_sets_have_limits_and_copies_by_default() -> None:
    values = parse("--files_path=a.csv", "--augment=volume[dbfs=-20]", "--max_label_length=99")
    training, evaluation = corpus.shard_settings_from_flags(values, ENGLISH)
    assert (training.max_sequence_length, training.max_label_length) == (1729, 99)
    assert (evaluation.max_sequence_length, evaluation.max_label_length) == (3600, 99)
    assert training.copies.augmented_copies == 1 and evaluation.copies == NO_COPIES


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "There is no corpus"),
        (["--files_path=a", "--dev_files=b"], "--files_path is one set and --dev_files another"),
        (["--train_files=a", "--split=70/20/10"], "but --train_files are sets already"),
        (["--train_files=a", "--tfrecords_file=t"], "--tfrecords_file=t names one set"),
        (["--train_files=a", "--dev_files=b", "--starting_position=1"], "applies to one set"),
        (["--files_path=a", "--spell_numbers"], "--spell_numbers requires a language"),
        (["--files_path=a", "--split="], "--split= is empty"),
        (["--train_files=a", "--test_files=./a"], "sets must be disjoint"),
        (["--files_path=a", "--limit_train=1"], "--limit_train limits the train set"),
        (["--train_files=a", "--limit_test=1"], "give --test_files, or divide"),
        (["--files_path=gs://b/a.csv", "--tfrecords_file=t", "--stats"], "only local files"),
    ],
)
def test_contradictory_flags_are_refused(flags: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        corpus.check_corpus_flags(parse(*flags))


def test_limits_are_those_of_the_sets() -> None:
    settings = corpus.corpus_from_flags(
        parse("--train_files=a.csv", "--dev_files=b.csv", "--limit_train=5", "--limit_dev=0")
    )
    assert settings.limits == {"train": 5}
    corpus.check_corpus_flags(parse("--files_path=a.csv", "--split=80/10/10", "--limit_test=5"))


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ("x/test.csv", ["test"]),
        ("x/a.csv,x/b.tsv", ["a", "b"]),
        ("ru/test.csv,es/test.csv", ["ru_test.csv", "es_test.csv"]),
        ("gs://b/test.csv,b/test.csv", None),
    ],
)
def test_each_of_several_files_is_a_set(files: str, names: list[str] | None) -> None:
    door = importlib.import_module("eval")
    values = parse_door_flags(door, f"--test_files={files}", "--limit_test=2")
    if names is None:
        with pytest.raises(UserError, match="sets of the same name"):
            corpus.test_corpus_from_flags(values)
        return
    settings = corpus.test_corpus_from_flags(values)
    assert [each.name for each in settings.sources] == names
    assert [each.paths for each in settings.sources] == [[each] for each in files.split(",")]
    assert settings.limits == dict.fromkeys(names, 2)


def test_prepared_sets_need_no_corpus() -> None:
    corpus.check_corpus_flags(parse("--verify"))
