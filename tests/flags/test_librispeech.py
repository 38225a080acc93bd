"""Flags of prepare_libri.py: the sets to prepare and refused combinations."""

from functools import partial
from pathlib import Path

import pytest
from doors import parse_door_flags

import prepare_libri
from speech.flags import librispeech
from speech.flags.librispeech import SplitSet
from utils import UserError

parse = partial(parse_door_flags, prepare_libri)


def test_folder_and_name_of_a_default_set_imply_each_other() -> None:
    dev = SplitSet(["x/dev-clean/"], "data/dev.tfrecords")
    assert librispeech.sets_from_flags(parse("--files_path=x/dev-clean/")) == [dev]
    (found,) = librispeech.sets_from_flags(parse("--tfrecords_file=y/test.tfrecords"))
    assert found == SplitSet(["data/LibriSpeech/test-clean"], "y/test.tfrecords")


def test_only_existing_default_sets_are_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(librispeech.sets_from_flags(parse())) == 3  # all of them, to name the download
    (tmp_path / "data/LibriSpeech/dev-clean").mkdir(parents=True)
    (found,) = librispeech.sets_from_flags(parse())
    assert found.tfrecords_file == "data/dev.tfrecords"


def test_dev_and_test_splits_are_for_evaluation() -> None:
    assert SplitSet(["x/dev-other", "test-clean/"], "t").for_evaluation
    assert not SplitSet(["dev-clean", "train-clean-100"], "t").for_evaluation


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--download=dev-clean", "--files_path=x"], "--download and --files_path can't be"),
        (["--augment=speed"], "--augment applies to one set"),
        (["--tfrecords_file=x/"], "--tfrecords_file=x/ is a folder"),
        (["--stats", "--files_path=gs://b/x"], "only local files"),
    ],
)
def test_contradictory_flags_are_refused(flags: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        librispeech.check_librispeech_flags(parse(*flags))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--files_path=speech"], "--files_path=speech needs a name"),
        (["--tfrecords_file=mine"], "--tfrecords_file=mine is not the name of a default set"),
        (["--starting_position=2"], "--starting_position applies to one set"),
    ],
)
def test_sets_without_folder_or_name_are_refused(flags: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        librispeech.sets_from_flags(parse(*flags))
