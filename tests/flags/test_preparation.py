"""Flags of the doors that prepare shards: settings and refused combinations."""

import functools

import pytest
from doors import parse_flags

from speech.features import front_end
from speech.flags import preparation as prepare_flags
from speech.preparation.beam import Runner
from speech.preparation.tasks import ExecutionSettings
from utils import ENGLISH, UserError


def define_flags() -> None:
    prepare_flags.define_shard_flags()
    prepare_flags.define_front_end_flags()
    prepare_flags.define_task_flags()


parse = functools.partial(parse_flags, define_flags)


def lengths(for_evaluation: bool, *arguments: str) -> tuple[int, int]:
    found = prepare_flags.shard_settings_from_flags(parse(*arguments), ENGLISH, for_evaluation)
    return found.max_sequence_length, found.max_label_length


def test_an_evaluation_set_is_kept_whole_by_default() -> None:
    assert lengths(False) == (1729, 338)
    assert lengths(True) == (3600, 600)
    assert lengths(True, "--max_sequence_length=900") == (900, 600)


def test_flags_become_execution_settings() -> None:
    values = parse("--workers=3", "--starting_position=20", "--strict")
    execution = prepare_flags.execution_from_flags(values)
    assert execution == ExecutionSettings(20, 3, None, True)
    beam = prepare_flags.execution_from_flags(
        parse("--runner=DirectRunner", "--runner_options=a=b,c")
    )
    assert beam.runner == Runner("DirectRunner", ["a=b", "c"], None)


def test_a_flag_without_effect_on_the_features_is_refused() -> None:
    with pytest.raises(UserError, match=r"--numcep=20 has no effect on --features=fbank"):
        prepare_flags.front_end_from_flags(parse("--numcep=20"))
    assert prepare_flags.front_end_from_flags(parse("--numcep=20", "--features=mfcc")).bins == 20


def test_deepspeechs_features_take_window_step_rate_and_normalisation() -> None:
    found = prepare_flags.front_end_from_flags(
        parse("--features=deepspeech", "--sample_rate=8000", "--winlen=0.025", "--winstep=0.01")
    )
    assert found == front_end.deepspeech(8000, 0.025, 0.01)
    assert (found.bins, found.fft_size, found.normalisation) == (26, 256, "none")
    with pytest.raises(UserError, match=r"--numcep=20 has no effect on --features=deepspeech"):
        prepare_flags.front_end_from_flags(parse("--numcep=20", "--features=deepspeech"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stats", "--verify"], "--stats and --verify"),
        (["--runner="], "--runner= names no Apache Beam runner"),
        (["--runner_options=a=b"], "--runner_options requires --runner"),
        (["--stats", "--upload_to=gs://a/b"], "--stats and --upload_to"),
    ],
)
def test_several_tasks_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare_flags.check_task_flags(parse(*arguments))


def test_verification_before_an_upload_is_one_task() -> None:
    prepare_flags.check_task_flags(parse("--verify", "--upload_to=gs://a/b"))


@pytest.mark.parametrize("name", ["data/", "data/..", "t.00000020", "t.index.json"])
def test_a_name_that_no_set_can_have_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"--tfrecords_file="):
        prepare_flags.check_name(name)
