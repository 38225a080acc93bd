"""The engine that TensorFlow's TPUEstimator drives: a TPU of v2 to v4, or one device.

It needs TensorFlow 2.15, the last one with tf.estimator.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from absl import logging

from speech.engines import checkpoints
from speech.engines.devices import Device
from speech.engines.engine import (
    Callbacks,
    Engine,
    InitialValues,
    InputFn,
    MeanLoss,
    OutputBatch,
    RunSettings,
    StepState,
)
from speech.engines.stopping import Stopping
from speech.optimisation.state import BAD_STEPS, LATEST_BAD_STEP, LOSS
from utils import UserError

_tpu = tf.compat.v1.estimator.tpu

ModelFn = Callable[..., Any]


class TpuEstimatorEngine(Engine):
    """A network that TPUEstimator trains and runs, on a TPU or on one device."""

    def __init__(
        self,
        model_fn_at: Callable[[float], ModelFn],
        run: RunSettings,
        device: Device,
        initial_values: InitialValues | None = None,
    ) -> None:
        """
        Args:
            model_fn_at: makes the model_fn for a factor on the schedule's learning rate.
            initial_values: of a new model; None: the network's own.

        Raises:
            UserError: a TPU couldn't save a checkpoint every `save_checkpoints_steps`.
        """
        self._model_fn_at = model_fn_at
        self._run = run
        self._device = device
        self._initial_values = initial_values
        # The one that computes outputs and losses, which a learning rate doesn't change. Made now,
        # so that settings that don't fit are refused before anything is trained.
        self._estimator = self._build(1.0)

    def _build(self, learning_rate_scale: float) -> Any:
        return build(
            self._model_fn_at(learning_rate_scale), self._run, self._device, self._initial_values
        )

    def train(
        self, input_fn: InputFn, until_step: int, learning_rate_scale: float, callbacks: Callbacks
    ) -> int:
        self._build(learning_rate_scale).train(
            input_fn,
            max_steps=until_step,
            hooks=[_StepHook(callbacks.on_step), _StopHook(callbacks.stopping)],
            saving_listeners=[_SaveListener(callbacks.before_save)],
        )
        return checkpoints.latest_step(self._run.model_dir)

    def mean_loss(self, input_fn: InputFn, checkpoint: str, steps: int) -> MeanLoss:
        metrics = self._estimator.evaluate(input_fn, steps=steps, checkpoint_path=checkpoint)
        return MeanLoss(float(metrics["ctc_loss"]), int(metrics["unalignable_utterances"]))

    def predict(self, input_fn: InputFn, checkpoint: str) -> Iterator[OutputBatch]:
        yield from self._estimator.predict(
            input_fn, checkpoint_path=checkpoint, yield_single_examples=False
        )


# --- Hooks ----------------------------------------------------------------------------------------


class StateReader:
    """Reads the variables of a training's state in the graph that is being built."""

    def __init__(self) -> None:
        found = {each.op.name: each for each in tf.compat.v1.global_variables()}
        self._variables = [
            tf.compat.v1.train.get_global_step(),
            *(found[name] for name in (LOSS, BAD_STEPS, LATEST_BAD_STEP)),
        ]

    def read(self, session: Any) -> StepState:
        """Reads the state between two steps; session: one without hooks."""
        return StepState.of(*session.run(self._variables))


class _StepHook(tf.estimator.SessionRunHook):
    """Calls a function with the state after every step."""

    def __init__(self, on_step: Callable[[StepState], None]) -> None:
        self._on_step = on_step

    def begin(self) -> None:
        self._reader = StateReader()

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self._on_step(self._reader.read(run_context.session))


class _SaveListener(tf.compat.v1.train.CheckpointSaverListener):
    """Calls a function with the state before every checkpoint."""

    def __init__(self, before_save: Callable[[StepState], None]) -> None:
        self._before_save = before_save

    def begin(self) -> None:
        self._reader = StateReader()

    def before_save(self, session: Any, global_step_value: int) -> None:
        self._before_save(self._reader.read(session))


class _StopHook(tf.estimator.SessionRunHook):
    """Ends training when that is requested; the estimator then saves a checkpoint."""

    def __init__(self, stopping: Stopping) -> None:
        self._stopping = stopping

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if self._stopping.requested:
            run_context.request_stop()


# --- Estimators -----------------------------------------------------------------------------------


def build(
    model_fn: ModelFn,
    run: RunSettings,
    device: Device,
    initial_values: InitialValues | None = None,
) -> Any:
    """Builds a TPUEstimator.

    Args:
        initial_values: of a model without a checkpoint in its folder; None: the network's own.

    Raises:
        UserError: a TPU couldn't save a checkpoint every `save_checkpoints_steps`.
    """
    config = _tpu.RunConfig(
        cluster=device.cluster,
        model_dir=run.model_dir,
        save_checkpoints_steps=run.save_checkpoints_steps,
        keep_checkpoint_max=run.keep_checkpoint_max,
        log_step_count_steps=None,
        tpu_config=_tpu.TPUConfig(
            iterations_per_loop=_iterations_per_loop(run) if device.is_tpu else 1,
            per_host_input_for_training=_tpu.InputPipelineConfig.PER_HOST_V2,
        ),
    )
    return _tpu.TPUEstimator(
        model_fn=model_fn,
        config=config,
        use_tpu=device.is_tpu,
        # It requires one even if it never trains.
        train_batch_size=run.train_batch_size or run.eval_batch_size,
        eval_batch_size=run.eval_batch_size,
        predict_batch_size=run.eval_batch_size,
        export_to_tpu=False,
        warm_start_from=_warm_start(initial_values) if initial_values else None,
    )


def _warm_start(values: InitialValues) -> tf.estimator.WarmStartSettings:
    # Each name is a regular expression that is matched from the start: without the end
    # conv_0/kernel would ask for the optimizer's conv_0/kernel/Adam, too.
    exact = [f"{re.escape(name)}:0$" for name in values.variables]
    return tf.estimator.WarmStartSettings(values.checkpoint, exact)


def _iterations_per_loop(run: RunSettings) -> int:
    """Returns the steps that a TPU takes by itself: those between two checkpoints, or a divisor.

    Nothing is saved within a loop. If checkpoints didn't align with loops, TensorFlow would save at
    the end of the next loop, later than required. Evaluations on the development set and the last
    step need no such care: a loop that would go beyond them is cut short.
    """
    save, loop = run.save_checkpoints_steps, run.iterations_per_loop
    if loop > save:
        logging.info(
            "A TPU takes %d steps by itself instead of --iterations_per_loop=%d, since checkpoints "
            "are saved in between (--save_checkpoints_steps=%d).",
            save,
            loop,
            save,
        )
        return save
    if save % loop:
        fitting = max(steps for steps in range(1, loop) if save % steps == 0)
        raise UserError(
            f"--save_checkpoints_steps={save} is no multiple of --iterations_per_loop={loop}, and "
            f"a TPU saves only between two loops: give --save_checkpoints_steps="
            f"{save + -save % loop} or --iterations_per_loop={fitting}."
        )
    return loop
