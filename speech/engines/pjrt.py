"""The engine of TPU v5e and later: jax runs the training step that TensorFlow has lowered.

Each core has the network's variables and takes a part of every batch. The variables stay on the
cores, and come to the host for a checkpoint. While a step runs the host prepares the next batch,
copies it to the cores, and starts the next step.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from speech.engines import checkpoints
from speech.engines.engine import (
    Callbacks,
    Engine,
    InitialValues,
    InputFn,
    OutputBatch,
    RunSettings,
    StepState,
)
from speech.engines.workers import Command
from speech.networks import prediction, registry
from speech.networks.config import ModelConfig
from speech.optimisation import curves, step_description
from speech.optimisation.adam import name_of
from speech.optimisation.step import Tensors
from speech.tpu.cores import Cores, State, broadcast, fetch, fetch_first, leave
from speech.tpu.lowering import Lowered, lower
from speech.tpu.program import Program, explained_errors
from speech.tpu.step_program import StepProgram

# Steps, or batches of an evaluation, that are started before the results of the first are read. A
# second one is enough for cores that never wait, and each has a batch in their memory.
IN_FLIGHT = 2


@dataclass(frozen=True)
class InputContext:
    """Tells input_pipeline.parsing.host_of which host this is, as TPUEstimator's context does."""

    host: int
    hosts: int

    def current_input_fn_deployment(self) -> tuple[Any, int, int, Any]:
        return self, self.host, self.hosts, None


class PjrtPredictor:
    """A network on this host's cores that computes outputs."""

    def __init__(self, config: ModelConfig, run: RunSettings, cores: Cores) -> None:
        self._config = config
        self._run = run
        self._cores = cores.own
        self._network = registry.build(
            config.network, config.training.random_seed, on_tpu=cores.are_tpu
        )
        self._variables = {name_of(each): each for each in self._network.variables}
        self._checkpoint: str | None = None
        self._state: State = {}
        self._prepared: tuple[Lowered, Program] | None = None

    def predict(self, input_fn: InputFn, checkpoint: str) -> Iterator[OutputBatch]:
        """Yields the network's outputs for every batch, computed with a checkpoint's variables."""
        batches = input_fn({"batch_size": self._run.eval_batch_size})
        self._restore(checkpoint)
        with explained_errors("Lower --eval_batch_size"):
            lowered, program = self._prepare(batches.element_spec)
            waiting: deque[Any] = deque()
            for batch in batches.as_numpy_iterator():
                placed = self._cores.split(tf.nest.flatten(batch))
                outputs, self._state = program(self._state, placed)
                waiting.append(lowered.pack(outputs))
                if len(waiting) == IN_FLIGHT:
                    yield fetch(waiting.popleft())
            for outputs in waiting:
                yield fetch(outputs)

    def _restore(self, checkpoint: str) -> None:
        if checkpoint != self._checkpoint:
            checkpoints.restore(checkpoint, self._variables)
            self._state = self._cores.replicate(_values(self._variables))
            self._checkpoint = checkpoint

    def _prepare(self, batch: Any) -> tuple[Lowered, Program]:
        """Returns the program for this host's batches; batch: nest of tf.TensorSpec."""
        specs = (_of_core(batch, self._cores),)
        if self._prepared is None or self._prepared[0].arguments != specs:
            lowered = lower(self._compute, self._variables, specs, self._cores.are_tpu)
            self._prepared = lowered, Program(lowered.hlo, self._cores)
        return self._prepared

    def _compute(self, batch: Tensors) -> Tensors:
        return prediction.predict(self._network, batch, self._config.training.bfloat16)


def _values(variables: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each.numpy() for name, each in variables.items()}


def _of_core(batch: Any, cores: Cores) -> Any:
    """Returns the specification of a core's part of a batch.

    Args:
        batch: nest of tf.TensorSpec of what all of this host's cores take.
    """

    def part(spec: tf.TensorSpec) -> tf.TensorSpec:
        rows, *rest = spec.shape.as_list()
        assert rows and rows % cores.own.count == 0, "the cores divide batches of one shape"
        return tf.TensorSpec([rows // cores.own.count, *rest], spec.dtype)

    return tf.nest.map_structure(part, batch)


class PjrtEngine(Engine):
    """A network that jax trains on the cores of a TPU, or on what stands in for them."""

    def __init__(
        self,
        config: ModelConfig,
        run: RunSettings,
        cores: Cores,
        initial_values: InitialValues | None = None,
        shared_settings: Mapping[str, Any] | None = None,
        described: bool = False,
    ) -> None:
        """
        Args:
            initial_values: of a new model; None: the network's own.
            shared_settings: what must be the same on all hosts, as JSON represents it.
            described: whether to print gradients and logits of some steps, see
                optimisation/step_description.py.
        """
        self._config = config
        self._run = run
        self._cores = cores
        self._initial_values = initial_values
        self._described = described
        # All hosts have to start, stop and save at the same steps.
        self._shared_settings = {
            **(shared_settings or {}),
            "iterations_per_loop": run.iterations_per_loop,
            "save_checkpoints_steps": run.save_checkpoints_steps,
        }
        self._trainer: _Trainer | None = None
        self._predictor: PjrtPredictor | None = None

    @property
    def is_leader(self) -> bool:
        return self._cores.host == 0

    # --- Training

    def train(
        self, input_fn: InputFn, until_step: int, learning_rate_scale: float, callbacks: Callbacks
    ) -> int:
        step = checkpoints.latest_step(self._run.model_dir)
        if self._cores.hosts > 1:
            command = Command(step, until_step, learning_rate_scale, self._shared_settings)
            broadcast(json.dumps(asdict(command)).encode())
        return self._train(input_fn, step, until_step, learning_rate_scale, callbacks)

    def follow(self, batches_from: Callable[[int], InputFn], callbacks: Callbacks) -> None:
        while message := broadcast(b""):
            command = Command(**json.loads(message))
            step = checkpoints.latest_step(self._run.model_dir)
            command.check(self._shared_settings, step, self._run.model_dir)
            scale = command.learning_rate_scale
            self._train(batches_from(step), step, command.until, scale, callbacks)

    def _train(
        self,
        input_fn: InputFn,
        step: int,
        until_step: int,
        learning_rate_scale: float,
        callbacks: Callbacks,
    ) -> int:
        with explained_errors("Lower --train_batch_size"):
            trainer = self._prepared_trainer(step, callbacks)
            trainer.read_from(input_fn, step)
            trainer.scale_learning_rate(learning_rate_scale)
            every, stops = self._run.save_checkpoints_steps, False
            while step < until_step and not stops:
                checkpoint = min(until_step, (step // every + 1) * every)
                step, stops = self._take_steps(trainer, step, checkpoint, callbacks)
                self._save(trainer, callbacks)
        if stops:
            callbacks.stopping.request()  # another host may have been asked to
        return step

    def _take_steps(
        self, trainer: "_Trainer", step: int, until_step: int, callbacks: Callbacks
    ) -> tuple[int, bool]:
        """Trains to a step, or until a stop is requested.

        Returns:
            The last step, and whether a stop was requested.
        """
        in_flight = min(self._run.iterations_per_loop, IN_FLIGHT)
        alone = self._cores.hosts == 1
        stops = False
        running: deque[Any] = deque()
        while running or (step < until_step and not stops):
            while step < until_step and not stops and len(running) < in_flight:
                running.append(trainer.start_step(callbacks.stopping.requested))
                step += 1
            state, of_any_host = trainer.end_step(running.popleft())
            callbacks.on_step(state)
            stops = stops or (callbacks.stopping.requested if alone else of_any_host)
        return step, stops

    def _prepared_trainer(self, step: int, callbacks: Callbacks) -> "_Trainer":
        """Returns the trainer with the variables of the latest checkpoint, which is of `step`."""
        if self._trainer and self._trainer.state_now().step == step:
            return self._trainer
        latest = checkpoints.latest_checkpoint(self._run.model_dir)
        if not self._trainer:
            self._trainer = _Trainer(self._config, self._run, self._cores, self._described)
        if latest:
            self._trainer.restore(latest)
        else:
            if self._initial_values:
                values = self._initial_values
                self._trainer.restore(values.checkpoint, values.variables)
            self._save(self._trainer, callbacks)
        return self._trainer

    def _save(self, trainer: "_Trainer", callbacks: Callbacks) -> None:
        if self.is_leader:
            callbacks.before_save(trainer.state_now())
            checkpoints.save(self._run.model_dir, trainer.values(), self._run.keep_checkpoint_max)
            trainer.flush()

    # --- Outputs

    def predict(self, input_fn: InputFn, checkpoint: str) -> Iterator[OutputBatch]:
        if not self._predictor:
            self._predictor = PjrtPredictor(self._config, self._run, self._cores)
        yield from self._predictor.predict(input_fn, checkpoint)

    def close(self) -> None:
        if self.is_leader and self._cores.hosts > 1:
            broadcast(b"")
        leave()


class _Trainer:
    """The network and the state of its training on the cores."""

    def __init__(
        self, config: ModelConfig, run: RunSettings, cores: Cores, described: bool
    ) -> None:
        self._config = config
        self._run = run
        self._cores = cores
        self._step = StepProgram(config, cores.count, cores.are_tpu, described)
        self._on_cores = cores.replicate(_values(self._step.state.saved))
        self._lowered: Lowered | None = None
        self._program: Program | None = None
        self._batches: Any = None  # an iterator
        self._batches_after: int | None = None  # the step that its next batch follows
        self._wishes = {stop: self._for_each_core(float(stop)) for stop in (False, True)}
        self._writer: Any = None
        if cores.host == 0:
            self._writer = tf.summary.create_file_writer(run.model_dir)

    # --- Steps

    def read_from(self, input_fn: InputFn, step: int) -> None:
        """Makes the batches after `step` those of the next steps.

        If the last step was this one, its batches continue: another input would give the same ones,
        once it has read and shuffled them.
        """
        if self._batches_after == step:
            return
        cores, size = self._cores, self._run.train_batch_size
        assert size
        params: dict[str, Any] = {"batch_size": size // cores.hosts}
        if cores.hosts > 1:
            params["context"] = InputContext(cores.host, cores.hosts)
        tf.random.set_seed(self._run.random_seed)  # the order of the data depends on it
        batches = input_fn(params)
        features, labels = _of_core(batches.element_spec, cores)
        if self._lowered is None or self._lowered.arguments[:2] != (features, labels):
            logging.info("Compiles the training step, which can take a minute or two.")
            self._lowered = self._step.lower(features, labels)
            self._program = Program(self._lowered.hlo, cores)
        self._batches, self._batches_after = batches.as_numpy_iterator(), step

    def scale_learning_rate(self, factor: float) -> None:
        """Sets the factor on the schedule's learning rate."""
        self._scale = self._for_each_core(factor)

    def _for_each_core(self, number: float) -> list[Any]:
        return self._cores.split([np.full([self._cores.own.count], number, np.float32)])

    def start_step(self, stop: bool) -> Any:
        """Starts a step, and returns what `end_step` takes; stop: whether this host wants to."""
        assert self._lowered and self._program and self._batches_after is not None
        batch = self._cores.split(tf.nest.flatten(next(self._batches)))
        self._batches_after += 1
        arguments = [*batch, *self._scale, *self._wishes[stop]]
        outputs, self._on_cores = self._program(self._on_cores, arguments)
        return self._lowered.pack(outputs)

    def end_step(self, outputs: Any) -> tuple[StepState, bool]:
        """Waits for a step, and writes its values.

        Returns:
            The state after the step, and whether a host wants to stop.
        """
        described = outputs.pop("described")
        found = fetch_first(outputs)
        step = tf.constant(found["number"])
        if self._writer and found["number"] % curves.SUMMARY_STEPS == 0:
            curves.write(self._writer, step, found["curves"])
        if described and found["number"] % step_description.STEPS == 0:
            names = [name_of(each) for each in self._step.network.trainable_variables]
            values = [tf.constant(each) for each in fetch_first(described)]
            step_description.describe(step, values, names, self._config.alphabet)
        return StepState.of(*found["state"]), bool(found["wishes"])

    # --- State

    def restore(self, checkpoint: str, names: tuple[str, ...] | None = None) -> None:
        """Takes variables from a checkpoint; None: all of them."""
        saved = self._step.state.saved
        chosen = saved if names is None else {name: saved[name] for name in names}
        checkpoints.restore(checkpoint, chosen)
        self._on_cores.update(self._cores.replicate(_values(chosen)))

    def state_now(self) -> StepState:
        names = [name_of(each) for each in self._step.state.of_steps]
        return StepState.of(*fetch_first([self._on_cores[name] for name in names]))

    def values(self) -> dict[str, Any]:
        """Returns the values of the variables by their names in a checkpoint."""
        return dict(fetch_first(self._on_cores))

    def flush(self) -> None:
        """Writes the curves so far to their file."""
        if self._writer:
            self._writer.flush()
