"""What training and recognition rely on, over every engine."""

import math
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_shards import random_utterances, write_shards
from tiny_training import (
    BINS,
    KINDS,
    NETWORK,
    TRAINING,
    VARIABLES,
    batches,
    checkpointed,
    curves,
    engine_in,
    model_config,
    predictions,
    tiny_shards,
    train,
)

from speech.engines import checkpoints
from speech.engines.devices import EAGER, ESTIMATOR, PJRT, has_estimator
from speech.engines.engine import Callbacks, Engine, InitialValues, StepState
from speech.engines.stopping import Stopping
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.evaluation_input import evaluation_input_fn
from speech.input_pipeline.parsing import transcripts
from speech.networks.config import NetworkConfig
from speech.optimisation import state
from speech.optimisation.curves import SUMMARY_STEPS
from speech.optimisation.learning_rate import learning_rate_at
from speech.shards.shard_set import ShardSet
from utils import ENGLISH, UserError


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def static(kind: str) -> bool:
    """Whether the engine's batches have one shape."""
    return kind == PJRT


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    frames = [20, 45, 31, 60, 22, 38, 27, 50, 41, 33, 25]
    return tiny_shards(tmp_path_factory.mktemp("shards"), frames)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return tiny_shards(tmp_path_factory.mktemp("two"), [30, 40])


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, two: ShardSet, kind: str
) -> tuple[Engine, Path]:
    """An engine after 60 steps on two utterances, and its folder."""
    folder = tmp_path_factory.mktemp("trained")
    return train(folder, two, 60, kind=kind), folder


def available() -> list[str]:
    """Returns the engines that run here, the first one at both ends."""
    kinds = [*([ESTIMATOR] if has_estimator() else []), EAGER]
    return [*kinds, kinds[0]]


def ignore(step: StepState) -> None:
    pass


# --- Callbacks ------------------------------------------------------------------------------------


def test_callbacks_come_after_every_step_and_before_every_checkpoint(
    tmp_path: Path, two: ShardSet, kind: str, static: bool
) -> None:
    engine = engine_in(tmp_path / "model", kind=kind)
    seen: list[tuple[str, int]] = []
    losses: list[float | None] = []

    def on_step(step: StepState) -> None:
        seen.append(("step", step.step))
        losses.append(step.loss)

    def before_save(step: StepState) -> None:
        seen.append(("save", step.step))

    callbacks = Callbacks(Stopping(), on_step, before_save)
    assert engine.train(batches(two, static=static), 2, 1.0, callbacks) == 2
    assert seen == [("save", 0), ("step", 1), ("step", 2), ("save", 2)]
    assert all(loss and loss > 0 for loss in losses)
    assert checkpointed(tmp_path / "model")["global_step"] == 2
    assert engine.is_leader
    engine.close()


def test_requested_stop_ends_training_after_the_step_with_a_checkpoint(
    tmp_path: Path, two: ShardSet, kind: str, static: bool
) -> None:
    stopping = Stopping()

    def stop(step: StepState) -> None:
        stopping.signal = signal.SIGTERM

    reached = engine_in(tmp_path / "model", kind=kind).train(
        batches(two, static=static), 50, 1.0, Callbacks(stopping, on_step=stop)
    )
    assert reached == checkpointed(tmp_path / "model")["global_step"] == 1


def test_learning_rate_scale_is_a_factor_on_every_step(
    tmp_path: Path, two: ShardSet, kind: str, static: bool
) -> None:
    engine = engine_in(tmp_path / "model", kind=kind)
    callbacks = Callbacks(Stopping(), ignore)
    engine.train(batches(two, static=static), 1, 1.0, callbacks)
    before = checkpointed(tmp_path / "model")
    engine.train(batches(two, static=static, start_step=1), 2, 0.0, callbacks)
    after = checkpointed(tmp_path / "model")
    np.testing.assert_array_equal(before["output/kernel"], after["output/kernel"])
    assert after["global_step"] == 2


# --- Steps ----------------------------------------------------------------------------------------


def test_training_lowers_the_loss_of_repeated_utterances(
    trained: tuple[Engine, Path], two: ShardSet, tmp_path: Path, kind: str, static: bool
) -> None:
    untrained = train(tmp_path / "m", two, 1, kind=kind)
    before = [each["ctc_loss"] for each in predictions(untrained, tmp_path / "m", two, static)[:2]]
    after = [each["ctc_loss"] for each in predictions(*trained, two, static)[:2]]
    assert sum(after) < 0.5 * sum(before)


@pytest.mark.slow
def test_resumed_training_draws_the_dropout_of_undisturbed_training(
    tmp_path: Path, two: ShardSet, kind: str
) -> None:
    training = replace(TRAINING, dropout=0.3)
    train(tmp_path / "straight", two, 4, training, kind=kind)
    train(tmp_path / "resumed", two, 2, training, kind=kind)
    train(tmp_path / "resumed", two, 4, training, kind=kind)
    train(tmp_path / "without", two, 4, kind=kind)
    folders = ("straight", "resumed", "without")
    straight, resumed, without = (checkpointed(tmp_path / folder) for folder in folders)
    for name, value in straight.items():
        np.testing.assert_allclose(value, resumed[name], rtol=1e-5, atol=1e-7, err_msg=name)
    assert not np.allclose(straight["output/kernel"], without["output/kernel"])


@pytest.mark.parametrize("clip", [0.0, 1e-3, 1e6])
def test_clip_gradients_bounds_what_adam_sees(
    tmp_path: Path, two: ShardSet, kind: str, clip: float
) -> None:
    """After one step Adam's first moment is a tenth of the gradient."""
    train(tmp_path / "m", two, 1, replace(TRAINING, clip_gradients=clip), kind=kind)
    moments = [v for name, v in checkpointed(tmp_path / "m").items() if name.endswith("/Adam")]
    norm = 10 * math.sqrt(sum(float((moment**2).sum()) for moment in moments))
    if clip == 1e-3:
        assert norm == pytest.approx(clip, rel=1e-4)
    else:
        assert 0.1 < norm < 1e6


def test_unalignable_utterance_is_counted_and_trains_nothing(
    tmp_path: Path, kind: str, static: bool
) -> None:
    good, bad = random_utterances([30, 8], BINS)
    shards = write_shards(tmp_path, [good, replace(bad, transcript="aaaaaa")], bins=BINS)
    engine = train(tmp_path / "m", shards, 2, kind=kind)
    assert dict(curves(tmp_path / "m")["unalignable_utterances"])[0] == 1
    assert all(np.isfinite(value).all() for value in checkpointed(tmp_path / "m").values())
    found = predictions(engine, tmp_path / "m", shards, static)[:2]
    assert [each["aligned"] for each in found] == [1, 0]
    assert found[0]["ctc_loss"] > 0 and found[1]["ctc_loss"] == 0


@pytest.mark.slow
def test_bfloat16_trains_float32_variables(
    tmp_path: Path, two: ShardSet, kind: str, static: bool
) -> None:
    training = replace(TRAINING, bfloat16=True, dropout=0.1)
    engine = train(tmp_path / "m", two, 2, training, kind=kind)
    rough = predictions(engine, tmp_path / "m", two, static)[:2]
    variables = checkpointed(tmp_path / "m")
    assert all(variables[name].dtype == np.float32 for name in VARIABLES)
    assert all(np.isfinite(variables[name]).all() for name in VARIABLES)
    assert all(np.isfinite(each["ctc_loss"]) for each in rough)
    # The same checkpoint serves float32, with nearly the same losses.
    fine = predictions(engine_in(tmp_path / "m", kind=kind), tmp_path / "m", two, static)
    for one, other in zip(rough, fine, strict=False):
        assert one["ctc_loss"] == pytest.approx(other["ctc_loss"], rel=0.05)


# --- What a training writes -----------------------------------------------------------------------


def test_curves_are_in_tensorboards_files(trained: tuple[Engine, Path]) -> None:
    found = curves(trained[1])
    names = ("loss", "learning_rate", "gradient_norm", "unalignable_utterances")
    assert set(names) <= set(found)
    for name in names:
        steps = [step for step, _ in found[name]]
        assert steps and all(step % SUMMARY_STEPS == 0 for step in steps), name
    assert dict(found["loss"])[50] > 0 and dict(found["gradient_norm"])[50] > 0
    assert dict(found["unalignable_utterances"])[50] == 0
    rate = learning_rate_at(TRAINING, 50)
    assert dict(found["learning_rate"])[50] == pytest.approx(rate, rel=1e-4)


def test_a_described_step_shows_each_gradients_norm_and_one_utterance(
    tmp_path: Path, two: ShardSet, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, two, 2, kind=kind, described=True)
    (description,) = re.findall(r"^D step \d+\n(?:  .*\n)+", capfd.readouterr().err, re.MULTILINE)
    norms = re.findall(r"gradient norm ([\d.]+)  (\S+)", description)
    assert {name for _, name in norms} == VARIABLES
    step, whole = curves(tmp_path)["gradient_norm"][0]
    assert f"D step {step}\n" in description
    assert math.sqrt(sum(float(norm) ** 2 for norm, _ in norms)) == pytest.approx(whole, rel=1e-3)
    shapes = re.findall(r"(features|logits) \[\w+, \w+\] \[(\d+) (\d+)\]", description)
    (_, frames, bins), (_, outputs, classes) = shapes
    assert int(frames) in (30, 40) and int(bins) == BINS
    assert int(outputs) == int(frames) / NETWORK.stride_size and int(classes) == ENGLISH.size
    label = re.search(r"label: (.+)", description)
    assert label and label[1] in dict(transcripts(two)).values()
    numbers = " ".join(map(str, ENGLISH.encode(label[1])))
    assert f"labels: [{numbers}]\n" in description


def test_checkpoint_holds_the_networks_variables_and_adams(trained: tuple[Engine, Path]) -> None:
    names = set(checkpointed(trained[1]))
    slots = {f"{name}/{slot}" for name in VARIABLES for slot in ("Adam", "Adam_1")}
    others = {"beta1_power", "beta2_power", "global_step", state.LOSS}
    others |= {state.BAD_STEPS, state.LATEST_BAD_STEP}
    assert names == VARIABLES | slots | others


def test_new_model_starts_with_the_given_values_and_no_others(
    tmp_path: Path, two: ShardSet, kind: str, static: bool
) -> None:
    train(tmp_path / "source", two, 3, kind=kind)
    source = checkpointed(tmp_path / "source")
    given = InitialValues(str(tmp_path / "source" / "model.ckpt-3"), ("conv_0/kernel",))
    engine = engine_in(tmp_path / "new", kind=kind, initial_values=given)
    engine.train(batches(two, static=static), 1, 0.0, Callbacks(Stopping(), ignore))
    found = checkpointed(tmp_path / "new")
    np.testing.assert_array_equal(found["conv_0/kernel"], source["conv_0/kernel"])
    assert not np.array_equal(found["rnn/kernel"], source["rnn/kernel"])
    assert found["global_step"] == 1


def test_checkpoint_of_another_network_is_refused(tmp_path: Path, two: ShardSet) -> None:
    train(tmp_path / "m", two, 1)
    wider = NetworkConfig.of(
        BINS, ENGLISH.size, conv_channels=(2, 3), recurrent_unit_size=10, context_size=5
    )
    config = replace(model_config(), network=wider)
    with pytest.raises(UserError, match=r"has \w+/\w+ of the shape .* another network"):
        predictions(engine_in(tmp_path / "m", config=config), tmp_path / "m", two)


# --- Outputs --------------------------------------------------------------------------------------


def test_predictions_are_distributions_whatever_the_batch(
    trained: tuple[Engine, Path], shards: ShardSet, static: bool
) -> None:
    single = predictions(*trained, shards, static)
    filled = predictions(*trained, shards, static=True)
    assert len(single) == (12 if static else 11) and len(filled) == 12
    for one, other in zip(single, filled, strict=False):
        length = one["output_length"]
        assert length == other["output_length"]
        np.testing.assert_allclose(np.exp(one["log_probs"]).sum(axis=1), 1.0, rtol=1e-5)
        np.testing.assert_allclose(
            one["log_probs"][:length], other["log_probs"][:length], atol=1e-4
        )
        assert one["ctc_loss"] == pytest.approx(other["ctc_loss"], rel=1e-4)


def test_checkpoint_restores_to_the_same_predictions(
    trained: tuple[Engine, Path], shards: ShardSet, kind: str, static: bool
) -> None:
    restored = predictions(engine_in(trained[1], kind=kind), trained[1], shards, static)
    for one, other in zip(restored, predictions(*trained, shards, static), strict=True):
        np.testing.assert_array_equal(one["log_probs"], other["log_probs"])


def test_an_evaluation_does_not_disturb_the_training(
    tmp_path: Path, two: ShardSet, kind: str, static: bool
) -> None:
    engine = train(tmp_path / "m", two, 2, kind=kind)
    before = str(tmp_path / "m" / "model.ckpt-0")
    callbacks = Callbacks(Stopping(), ignore)
    input_fn = evaluation_input_fn(two, Batching(4, static), for_prediction=True)
    assert list(engine.predict(input_fn, before))
    engine.train(batches(two, static=static, start_step=2), 4, 1.0, callbacks)
    train(tmp_path / "straight", two, 2, kind=kind)
    train(tmp_path / "straight", two, 4, kind=kind)
    straight, found = checkpointed(tmp_path / "straight"), checkpointed(tmp_path / "m")
    for name, value in straight.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-7, err_msg=name)


# --- Moves between engines ------------------------------------------------------------------------


def test_a_training_that_moves_between_engines_is_one_that_never_moved(
    tmp_path: Path, shards: ShardSet
) -> None:
    training = replace(TRAINING, dropout=0.1, clip_gradients=10.0)

    def losses_of(folder: Path, kinds: list[str]) -> list[float]:
        losses = []

        def on_step(step: StepState) -> None:
            assert step.loss is not None
            losses.append(step.loss)

        for part, kind in enumerate(kinds, start=1):
            train(folder, shards, 5 * part, training, on_step, static=True, kind=kind)
        assert checkpoints.latest_step(str(folder)) == len(losses) == 5 * len(kinds)
        return losses

    moved = losses_of(tmp_path / "moved", available())
    straight = losses_of(tmp_path / "straight", [EAGER] * len(available()))
    np.testing.assert_allclose(moved, straight, rtol=1e-5)
