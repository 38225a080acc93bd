"""The engine of TensorFlow without tf.estimator: one device, several GPUs, several machines.

The training step is traced once for all shapes of batches, and one call takes one step. A network
of its own computes outputs, so that an evaluation doesn't disturb the training.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import tensorflow as tf

from speech.engines import checkpoints
from speech.engines.engine import InputFn, OutputBatch, Predictor, RunSettings, StepState
from speech.engines.processes import Processes
from speech.engines.strategies import Distribution
from speech.engines.trainer import StepLog, Trainer, TrainerEngine
from speech.engines.workers import Workers
from speech.layers.cross_replica import StrategyReplicas
from speech.networks import prediction, registry
from speech.networks.config import ModelConfig
from speech.optimisation.adam import name_of
from speech.optimisation.reported_step import ReportedStep
from speech.optimisation.state import TrainingState
from speech.optimisation.step import Tensors


class EagerPredictor:
    """A network on this process's first device that computes outputs."""

    def __init__(self, config: ModelConfig, run: RunSettings) -> None:
        self._config = config
        self._run = run
        self._network = registry.build(config.network, config.training.random_seed)
        self._checkpoint: str | None = None
        self._predict = tf.function(self._compute, autograph=False)

    def _compute(self, batch: Tensors) -> Tensors:
        return prediction.predict(self._network, batch, self._config.training.bfloat16)

    def predict(self, input_fn: InputFn, checkpoint: str) -> Iterator[OutputBatch]:
        """Yields the network's outputs for every batch, computed with a checkpoint's variables."""
        if checkpoint != self._checkpoint:
            variables = {name_of(each): each for each in self._network.variables}
            checkpoints.restore(checkpoint, variables)
            self._checkpoint = checkpoint
        batches = input_fn({"batch_size": self._run.eval_batch_size})
        # Traced for the shape that all batches have in common, not for each one's.
        compute = self._predict.get_concrete_function(batches.element_spec)
        for batch in batches:
            yield {name: each.numpy() for name, each in compute(batch).items()}


class EagerEngine(TrainerEngine):
    """A network that TensorFlow's strategies train."""

    def __init__(
        self, config: ModelConfig, run: RunSettings, distribution: Distribution, **more: Any
    ) -> None:
        """more: see TrainerEngine."""
        processes = Workers(distribution) if distribution.cluster else Processes()
        super().__init__(config, run, processes, **more)
        self._distribution = distribution

    def _make_trainer(self) -> Trainer:
        return _EagerTrainer(
            self._config, self._run, self._distribution, self._processes, self._described
        )

    def _make_predictor(self) -> Predictor:
        return EagerPredictor(self._config, self._run)


class _EagerTrainer(Trainer):
    """The network and the state of its training on the devices of a strategy."""

    def __init__(
        self,
        config: ModelConfig,
        run: RunSettings,
        distribution: Distribution,
        processes: Processes,
        described: bool,
    ) -> None:
        self._run = run
        self._distribution = distribution
        self._strategy = distribution.strategy
        self._processes = processes
        seed, replicas = config.training.random_seed, StrategyReplicas()
        with self._strategy.scope():
            network = registry.build(config.network, seed, replicas=replicas)
            self._state = TrainingState(network)
        self._reported = ReportedStep(network, self._state, config.training, replicas, described)
        self._step = tf.function(self._of_all_replicas, autograph=False, reduce_retracing=True)
        self._batches: Any = None  # an iterator
        self._scale = tf.ones([])
        self._log: StepLog | None = None
        if processes.is_leader:
            names = [name_of(each) for each in network.trainable_variables]
            self._log = StepLog(run.model_dir, config, names)

    def explained_errors(self) -> AbstractContextManager[None]:
        if isinstance(self._processes, Workers):
            return self._processes.explained_errors()
        return nullcontext()

    # --- Steps

    def read_from(self, input_fn: InputFn) -> None:
        assert self._run.train_batch_size
        params = {"batch_size": self._run.train_batch_size // self._distribution.count}

        def dataset(_: Any) -> tf.data.Dataset:
            # Said, because a strategy otherwise asks before each step whether there is another.
            endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
            return input_fn(params).apply(endless)

        self._batches = iter(self._strategy.distribute_datasets_from_function(dataset))

    def scale_learning_rate(self, factor: float) -> None:
        self._scale = tf.constant(factor, tf.float32)

    def start_step(self, stop: bool) -> Any:
        return self._step(self._batches, self._scale, tf.constant(float(stop)))

    def end_step(self, started: Any) -> tuple[StepState, bool]:
        if self._log:
            self._log.write(started["number"], started["curves"], started["described"])
        return StepState.of(*(each.numpy() for each in started["state"])), bool(started["wishes"])

    def _of_all_replicas(self, batches: Any, scale: tf.Tensor, wish: tf.Tensor) -> Any:
        results = self._strategy.run(self._reported.take, (*next(batches), scale, wish))
        first = self._strategy.experimental_local_results
        return tf.nest.map_structure(lambda each: first(each)[0], results)

    # --- State

    def restore(self, checkpoint: str, names: Sequence[str] | None = None) -> None:
        saved = self._state.saved
        chosen = saved if names is None else {name: saved[name] for name in names}
        checkpoints.restore(checkpoint, chosen)

    def state_now(self) -> StepState:
        return StepState.of(*(each.numpy() for each in self._state.of_steps))

    def values(self) -> dict[str, Any]:
        return {name: each.read_value() for name, each in self._state.saved.items()}

    def flush(self) -> None:
        if self._log:
            self._log.flush()
