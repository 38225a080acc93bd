"""What engines without tf.estimator have in common: checkpoints, commands, the order of a step.

An engine is a trainer, which has the variables on its devices and takes the steps, with a predictor
and the processes that train together.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from speech.engines import checkpoints
from speech.engines.engine import (
    Callbacks,
    Engine,
    InitialValues,
    InputFn,
    OutputBatch,
    Predictor,
    RunSettings,
    StepState,
)
from speech.engines.processes import Command, Processes
from speech.networks.config import ModelConfig
from speech.optimisation import curves, step_description


class Trainer(ABC):
    """A network and the state of its training on devices."""

    @abstractmethod
    def explained_errors(self) -> AbstractContextManager[None]:
        """Turns errors of the devices, or of other processes, into a UserError."""

    @abstractmethod
    def read_from(self, input_fn: InputFn) -> None:
        """Makes the input's batches those of the next steps."""

    @abstractmethod
    def scale_learning_rate(self, factor: float) -> None:
        """Sets the factor on the schedule's learning rate."""

    @abstractmethod
    def start_step(self, stop: bool) -> Any:
        """Starts a step, and returns what `end_step` takes.

        Args:
            stop: whether this process wants to stop.
        """

    @abstractmethod
    def end_step(self, started: Any) -> tuple[StepState, bool]:
        """Waits for a step, and writes its curves.

        Returns:
            The state after the step, and whether a process wants to stop.
        """

    @abstractmethod
    def restore(self, checkpoint: str, names: Sequence[str] | None = None) -> None:
        """Takes variables from a checkpoint; None: all of them."""

    @abstractmethod
    def state_now(self) -> StepState:
        """Returns the state after the last step that was ended."""

    @abstractmethod
    def values(self) -> dict[str, Any]:
        """Returns the values of the variables by their names in a checkpoint."""

    @abstractmethod
    def flush(self) -> None:
        """Writes the curves so far to their file."""


class TrainerEngine(Engine):
    """An engine that a trainer and a predictor make up.

    A subclass makes them, each at its first use.
    """

    steps_in_flight = 1  # that are started before the first of them is waited for

    def __init__(
        self,
        config: ModelConfig,
        run: RunSettings,
        processes: Processes,
        initial_values: InitialValues | None = None,
        shared_settings: Mapping[str, Any] | None = None,
        described: bool = False,
    ) -> None:
        """
        Args:
            initial_values: of a new model; None: the network's own.
            shared_settings: what must be the same in all processes that train together, as JSON
                represents it.
            described: whether to print gradients and logits of some steps, see
                optimisation/step_description.py.
        """
        self._config = config
        self._run = run
        self._processes = processes
        self._initial_values = initial_values
        # All processes have to start, stop and save at the same steps.
        self._shared_settings = {
            **(shared_settings or {}),
            "iterations_per_loop": run.iterations_per_loop,
            "save_checkpoints_steps": run.save_checkpoints_steps,
        }
        self._described = described
        self._trainer: Trainer | None = None
        self._input_after: int | None = None  # the step that the trainer's next batch follows
        self._predictor: Predictor | None = None

    @abstractmethod
    def _make_trainer(self) -> Trainer:
        pass

    @abstractmethod
    def _make_predictor(self) -> Predictor:
        pass

    @property
    def is_leader(self) -> bool:
        return self._processes.is_leader

    def train(
        self, input_fn: InputFn, until_step: int, learning_rate_scale: float, callbacks: Callbacks
    ) -> int:
        step = checkpoints.latest_step(self._run.model_dir)
        command = Command(step, until_step, learning_rate_scale, self._shared_settings)
        self._processes.broadcast(command.encode())
        return self._execute(command, input_fn, callbacks)

    def follow(self, batches_from: Callable[[int], InputFn], callbacks: Callbacks) -> None:
        while message := self._processes.broadcast(b""):
            command = Command.decode(message)
            step = checkpoints.latest_step(self._run.model_dir)
            command.check(self._shared_settings, step, self._run.model_dir)
            self._execute(command, batches_from(step), callbacks)

    def _execute(self, command: Command, input_fn: InputFn, callbacks: Callbacks) -> int:
        """Trains; returns the last step, of which the latest checkpoint is."""
        if not self._trainer:
            self._trainer = self._make_trainer()
        trainer, step = self._trainer, command.step
        every, stops = self._run.save_checkpoints_steps, False
        with trainer.explained_errors():
            self._restore(trainer, step, callbacks)
            # Batches continue where they were: another input would give the same ones, once it has
            # read and shuffled them.
            if self._input_after != step:
                trainer.read_from(input_fn)
            self._input_after = None  # unknown if a step fails
            trainer.scale_learning_rate(command.learning_rate_scale)
            while step < command.until and not stops:
                checkpoint = min(command.until, (step // every + 1) * every)
                step, stops = self._take_steps(trainer, step, checkpoint, callbacks)
                self._save(trainer, callbacks)
        self._input_after = step
        if stops:
            callbacks.stopping.request()  # another process may have been asked to
        return step

    def _take_steps(
        self, trainer: Trainer, step: int, until_step: int, callbacks: Callbacks
    ) -> tuple[int, bool]:
        """Trains to a step, or until a stop is requested.

        Returns:
            The last step, and whether a stop was requested.
        """
        started: deque[Any] = deque()
        stops = False
        while started or (step < until_step and not stops):
            while step < until_step and not stops and len(started) < self.steps_in_flight:
                started.append(trainer.start_step(callbacks.stopping.requested))
                step += 1
            state, wished = trainer.end_step(started.popleft())
            callbacks.on_step(state)
            # Several processes have to agree on the last step.
            own = not self._processes.several and callbacks.stopping.requested
            stops = stops or wished or own
        return step, stops

    def _restore(self, trainer: Trainer, step: int, callbacks: Callbacks) -> None:
        """Gives a trainer the variables of the latest checkpoint, which is of `step`."""
        latest = checkpoints.latest_checkpoint(self._run.model_dir)
        if latest is None:
            if self._initial_values:
                values = self._initial_values
                trainer.restore(values.checkpoint, values.variables)
            self._save(trainer, callbacks)
        elif trainer.state_now().step != step or not step:
            trainer.restore(latest)

    def _save(self, trainer: Trainer, callbacks: Callbacks) -> None:
        if self.is_leader:
            callbacks.before_save(trainer.state_now())
            checkpoints.save(self._run.model_dir, trainer.values(), self._run.keep_checkpoint_max)
            trainer.flush()

    def predict(self, input_fn: InputFn, checkpoint: str) -> Iterator[OutputBatch]:
        if not self._predictor:
            self._predictor = self._make_predictor()
        yield from self._predictor.predict(input_fn, checkpoint)

    def close(self) -> None:
        self._processes.close()


class StepLog:
    """Writes the curves of a training, and describes some of its steps."""

    def __init__(self, model_dir: str, config: ModelConfig, variables: Sequence[str]) -> None:
        """variables: names of the network's trainable ones."""
        self._writer = tf.summary.create_file_writer(model_dir)
        self._alphabet = config.alphabet
        self._variables = variables

    def write(self, step: Any, plotted: Mapping[str, Any], described: Sequence[Any]) -> None:
        """Writes what is due after a step.

        Args:
            step: int64 scalar, the steps before.
            plotted: see optimisation/step.py's Step.curves.
            described: from step_description.described_values, or empty.
        """
        if int(step) % curves.SUMMARY_STEPS == 0:
            curves.write(self._writer, tf.constant(step), plotted)
        if len(described) and int(step) % step_description.STEPS == 0:
            values = [tf.constant(each) for each in described]
            step_description.describe(tf.constant(step), values, self._variables, self._alphabet)

    def flush(self) -> None:
        """Writes the curves so far to their file."""
        self._writer.flush()
