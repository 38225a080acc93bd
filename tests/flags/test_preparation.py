"""The flags of the doors that make shards: what they ask for, and what can't be meant."""

import functools

import pytest
from doors import parse_flags

from speech.flags import preparation as prepare_flags
from speech.flags.preparation import Making
from speech.preparation.beam import Runner
from utils import ENGLISH, UserError


def define_flags() -> None:
    prepare_flags.define_shard_flags()
    prepare_flags.define_front_end_flags()
    prepare_flags.define_task_flags()


parse = functools.partial(parse_flags, define_flags)


def lengths(whole: bool, *arguments: str) -> tuple[int, int]:
    found = prepare_flags.asked_settings(parse(*arguments), ENGLISH, whole)
    return found.max_sequence_length, found.max_label_length


def test_a_set_for_evaluation_is_kept_whole_unless_a_flag_says_otherwise() -> None:
    assert lengths(False) == (1729, 338)
    assert lengths(True) == (3600, 600)
    assert lengths(True, "--max_sequence_length=900") == (900, 600)


def test_how_shards_are_made_is_what_the_flags_say() -> None:
    asked = prepare_flags.asked_making(parse("--workers=3", "--starting_position=20", "--strict"))
    assert asked == Making(20, 3, None, True)
    beam = prepare_flags.asked_making(parse("--runner=DirectRunner", "--runner_options=a=b,c"))
    assert beam.runner == Runner("DirectRunner", ["a=b", "c"], None)


def test_a_flag_that_the_features_have_no_use_for_is_refused() -> None:
    with pytest.raises(UserError, match=r"--numcep=20 means nothing to --features=fbank"):
        prepare_flags.asked_front_end(parse("--numcep=20"))
    assert prepare_flags.asked_front_end(parse("--numcep=20", "--features=mfcc")).bins == 20


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--stats", "--verify"], "--stats and --verify"),
        (["--runner="], "--runner= names no Apache Beam runner"),
        (["--runner_options=a=b"], "--runner_options are of"),
        (["--stats", "--upload_to=gs://a/b"], "--stats and --upload_to"),
    ],
)
def test_tasks_of_which_one_would_be_left_undone_are_refused(
    arguments: list[str], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        prepare_flags.check_tasks(parse(*arguments))


def test_verifying_before_an_upload_is_one_task() -> None:
    prepare_flags.check_tasks(parse("--verify", "--upload_to=gs://a/b"))


@pytest.mark.parametrize("name", ["data/", "data/..", "t.00000020", "t.index.json"])
def test_what_no_set_can_be_called_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"--tfrecords_file="):
        prepare_flags.check_name(name)
