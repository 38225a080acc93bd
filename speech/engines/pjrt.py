"""The engine of TPU v5e and later: jax runs the training step that TensorFlow has lowered.

Each core has the network's variables and takes a part of every batch. The variables stay on the
cores, and come to the host for a checkpoint. While a step runs the host prepares the next batch,
copies it to the cores, and starts the next step.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from speech.engines import checkpoints
from speech.engines.engine import InputFn, OutputBatch, Predictor, RunSettings, StepState
from speech.engines.processes import Processes
from speech.engines.trainer import StepLog, Trainer, TrainerEngine
from speech.networks import prediction, registry
from speech.networks.config import ModelConfig
from speech.optimisation import step_description
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


class _Hosts(Processes):
    """The hosts of a pod, each of which runs this program."""

    def __init__(self, cores: Cores) -> None:
        self._cores = cores

    @property
    def is_leader(self) -> bool:
        return self._cores.host == 0

    @property
    def several(self) -> bool:
        return self._cores.hosts > 1

    def broadcast(self, message: bytes) -> bytes:
        return broadcast(message) if self.several else message

    def close(self) -> None:
        if self.is_leader:
            self.broadcast(b"")
        leave()


class PjrtEngine(TrainerEngine):
    """A network that jax trains on the cores of a TPU, or on what stands in for them."""

    def __init__(self, config: ModelConfig, run: RunSettings, cores: Cores, **more: Any) -> None:
        """more: see TrainerEngine."""
        super().__init__(config, run, _Hosts(cores), **more)
        self._cores = cores
        self.steps_in_flight = min(run.iterations_per_loop, IN_FLIGHT)

    def _make_trainer(self) -> Trainer:
        return _PjrtTrainer(self._config, self._run, self._cores, self._described)

    def _make_predictor(self) -> Predictor:
        return PjrtPredictor(self._config, self._run, self._cores)


class _PjrtTrainer(Trainer):
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
        self._wishes = {stop: self._for_each_core(float(stop)) for stop in (False, True)}
        self._log: StepLog | None = None
        if cores.host == 0:
            names = [name_of(each) for each in self._step.network.trainable_variables]
            self._log = StepLog(run.model_dir, config, names)

    def explained_errors(self) -> AbstractContextManager[None]:
        return explained_errors("Lower --train_batch_size")

    # --- Steps

    def read_from(self, input_fn: InputFn) -> None:
        cores, size = self._cores, self._run.train_batch_size
        assert size
        params: dict[str, Any] = {"batch_size": size // cores.hosts}
        if cores.hosts > 1:
            params["context"] = InputContext(cores.host, cores.hosts)
        batches = input_fn(params)
        features, labels = _of_core(batches.element_spec, cores)
        if self._lowered is None or self._lowered.arguments[:2] != (features, labels):
            logging.info("Compiles the training step, which can take a minute or two.")
            self._lowered = self._step.lower(features, labels)
            self._program = Program(self._lowered.hlo, cores)
        self._batches = batches.as_numpy_iterator()

    def scale_learning_rate(self, factor: float) -> None:
        self._scale = self._for_each_core(factor)

    def _for_each_core(self, number: float) -> list[Any]:
        return self._cores.split([np.full([self._cores.own.count], number, np.float32)])

    def start_step(self, stop: bool) -> Any:
        assert self._lowered and self._program
        batch = self._cores.split(tf.nest.flatten(next(self._batches)))
        arguments = [*batch, *self._scale, *self._wishes[stop]]
        outputs, self._on_cores = self._program(self._on_cores, arguments)
        return self._lowered.pack(outputs)

    def end_step(self, started: Any) -> tuple[StepState, bool]:
        described = started.pop("described")
        found = fetch_first(started)
        if self._log:
            step = found["number"]
            due = described and step % step_description.STEPS == 0  # only then worth the copy
            self._log.write(step, found["curves"], fetch_first(described) if due else [])
        return StepState.of(*found["state"]), bool(found["wishes"])

    # --- State

    def restore(self, checkpoint: str, names: Sequence[str] | None = None) -> None:
        saved = self._step.state.saved
        chosen = saved if names is None else {name: saved[name] for name in names}
        checkpoints.restore(checkpoint, chosen)
        self._on_cores.update(self._cores.replicate(_values(chosen)))

    def state_now(self) -> StepState:
        names = [name_of(each) for each in self._step.state.of_steps]
        return StepState.of(*fetch_first([self._on_cores[name] for name in names]))

    def values(self) -> dict[str, Any]:
        return dict(fetch_first(self._on_cores))

    def flush(self) -> None:
        if self._log:
            self._log.flush()
