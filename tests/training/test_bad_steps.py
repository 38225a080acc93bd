"""Steps that aren't finite, trained by TPUEstimator on shards with a broken utterance."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doors import TINY_NETWORK, assert_error, run_door
from tiny_shards import TinyUtterance, random_utterances, write_shards
from tiny_training import TRAINING, checkpointed, engine_in

from speech.engines.engine import Callbacks, StepState
from speech.engines.stopping import Stopping
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.training_input import TrainingInput, training_input_fn, utterance_ids
from speech.optimisation import state
from speech.shards.shard_set import ShardSet
from speech.training.bad_steps import BadSteps
from utils import UserError

BINS = 8
BROKEN = 2  # of the five utterances


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Five utterances, one of which isn't finite."""
    utterances = random_utterances([40, 41, 42, 43, 44], BINS)
    bad = utterances[BROKEN]
    features = bad.features.copy()
    features[7, 3] = np.inf
    utterances[BROKEN] = TinyUtterance(bad.utterance_id, bad.transcript, features)
    return write_shards(tmp_path_factory.mktemp("broken"), utterances, bins=BINS)


def input_fn(shards: ShardSet, start_step: int = 0, with_ids: bool = False) -> Any:
    batching = Batching(TRAINING.train_batch_size, static=False)
    return training_input_fn(
        TrainingInput(
            shards, batching, 1, shuffle_buffer_size=8, start_step=start_step, with_ids=with_ids
        )
    )


def bad_step_of(shards: ShardSet) -> int:
    """Returns the step of the first epoch that trains on the broken utterance."""
    batches = input_fn(shards)({"batch_size": 2}).take(3)
    finite = [np.isfinite(features["features"]).all() for features, _ in batches]
    return 1 + finite.index(False)


def test_bad_step_changes_nothing_and_its_utterance_is_named(
    broken: ShardSet, tmp_path: Path
) -> None:
    bad = bad_step_of(broken)
    named: list[tuple[int, list[str]]] = []

    def utterances_of(step: int) -> list[str]:
        ids = utterance_ids(input_fn(broken, step - 1, with_ids=True), 2)
        named.append((step, ids))
        return ids

    engine = engine_in(tmp_path)
    before: dict[str, Any] = {}
    for step in range(1, 4):
        watched = BadSteps(step - 1, 1, utterances_of)
        reached = engine.train(
            input_fn(broken, step - 1), step, 1.0, Callbacks(Stopping(), watched.check)
        )
        assert reached == step
        now = checkpointed(tmp_path)
        assert all(np.isfinite(value).all() for value in now.values())
        if before:
            same = [
                np.array_equal(now[each], before[each]) for each in now if each.endswith("/kernel")
            ]
            assert all(same) if step == bad else not any(same)
        before = now
    assert named == [(bad, [f"utterance-{BROKEN:04d}"])]
    assert (before[state.BAD_STEPS], before[state.LATEST_BAD_STEP]) == (1, bad)


def test_more_bad_steps_than_allowed_end_training(broken: ShardSet, tmp_path: Path) -> None:
    watched = BadSteps(0, 0, lambda step: [f"utterance of {step}"])
    with pytest.raises(UserError) as error:
        engine_in(tmp_path).train(
            input_fn(broken), 3, 1.0, Callbacks(Stopping(), on_step=watched.check)
        )
    message = str(error.value)
    assert f"utterance of {bad_step_of(broken)}" in message
    assert "more than --max_bad_steps=0" in message and "--learning_rate" in message


def test_bad_steps_before_the_training_was_resumed_are_not_named_again() -> None:
    watched = BadSteps(5, 2, lambda step: [f"utterance of {step}"])
    watched.check(StepState(6, 1.0, bad_steps=2, latest_bad_step=5))
    # A TPU takes several steps between two calls.
    with pytest.raises(UserError, match=r"of step 8 .*utterance of 8.* 3 such steps"):
        watched.check(StepState(10, 1.0, bad_steps=3, latest_bad_step=8))


def test_batch_of_finite_features_is_named_as_a_whole(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, random_utterances([40, 41, 42], BINS), bins=BINS)
    ids = [utterance_ids(input_fn(shards, step, with_ids=True), 2) for step in (0, 1)]
    assert sorted(ids[0] + ids[1]) == [f"utterance-{number:04d}" for number in range(3)]


@pytest.mark.slow
def test_door_skips_once_and_stops_when_it_repeats(broken: ShardSet, tmp_path: Path) -> None:
    flags = [
        f"--train_data={broken.pattern}",
        "--dev_data=",
        f"--model_dir={tmp_path / 'model'}",
        "--train_batch_size=2",
        "--max_epochs=2",
        *TINY_NETWORK,
    ]
    result = run_door("training.py", *flags)
    name = f"utterance-{BROKEN:04d}"
    assert_error(result, name, "more than --max_bad_steps=1")
    skipped = [line for line in result.stderr.splitlines() if "it is skipped" in line]
    assert len(skipped) == 2 and all(name in line for line in skipped)
    allowed = run_door("training.py", *flags, "--max_bad_steps=2")
    assert allowed.returncode == 0, allowed.stderr
