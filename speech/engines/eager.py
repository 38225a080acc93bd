"""The engine of TensorFlow without tf.estimator: one device, several GPUs, several machines.

The training step is traced once for all shapes of batches, and one call takes one step. A network
of its own computes outputs, so that an evaluation doesn't disturb the training.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import tensorflow as tf

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
from speech.engines.strategies import Distribution
from speech.engines.workers import Command, Workers
from speech.layers.cross_replica import StrategyReplicas
from speech.networks import prediction, registry
from speech.networks.config import ModelConfig
from speech.optimisation import curves, step_description
from speech.optimisation.adam import name_of
from speech.optimisation.state import TrainingState
from speech.optimisation.step import Tensors, training_step


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


class EagerEngine(Engine):
    """A network that TensorFlow's strategies train."""

    def __init__(
        self,
        config: ModelConfig,
        run: RunSettings,
        distribution: Distribution,
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
        self._distribution = distribution
        self._initial_values = initial_values
        self._described = described
        self._shared_settings = dict(shared_settings or {})
        self._workers = Workers(distribution) if distribution.cluster else None
        self._trainer: _Trainer | None = None
        self._predictor: EagerPredictor | None = None

    @property
    def is_leader(self) -> bool:
        cluster = self._distribution.cluster
        return cluster is None or cluster.chief

    # --- Training

    def train(
        self, input_fn: InputFn, until_step: int, learning_rate_scale: float, callbacks: Callbacks
    ) -> int:
        step = checkpoints.latest_step(self._run.model_dir)
        if self._workers:
            self._workers.send(
                Command(step, until_step, learning_rate_scale, self._shared_settings)
            )
        return self._train(input_fn, step, until_step, learning_rate_scale, callbacks)

    def follow(self, batches_from: Callable[[int], InputFn], callbacks: Callbacks) -> None:
        assert self._workers
        while command := self._workers.receive():
            step = checkpoints.latest_step(self._run.model_dir)
            command.check(self._shared_settings, step, self._run.model_dir)
            self._train(
                batches_from(step), step, command.until, command.learning_rate_scale, callbacks
            )

    def _train(
        self,
        input_fn: InputFn,
        step: int,
        until_step: int,
        learning_rate_scale: float,
        callbacks: Callbacks,
    ) -> int:
        with self._workers.explained_errors() if self._workers else nullcontext():
            trainer = self._prepared_trainer(step, callbacks)
            trainer.read_from(input_fn, step)
            scale = tf.constant(learning_rate_scale, tf.float32)
            stops = False
            while step < until_step and not stops:
                state, stops = trainer.take_step(scale, callbacks.stopping.requested)
                step = state.step
                callbacks.on_step(state)
                if not self._workers:  # several processes have to agree on the last step
                    stops = callbacks.stopping.requested
                if stops or step % self._run.save_checkpoints_steps == 0 or step == until_step:
                    self._save(trainer, callbacks)
        if stops:
            callbacks.stopping.request()  # another process may have been asked to
        return step

    def _prepared_trainer(self, step: int, callbacks: Callbacks) -> "_Trainer":
        """Returns the trainer with the variables of the latest checkpoint, which is of `step`."""
        if self._trainer and self._trainer.state_now().step == step:
            return self._trainer
        latest = checkpoints.latest_checkpoint(self._run.model_dir)
        if not self._trainer:
            self._trainer = _Trainer(self._config, self._run, self._distribution, self._described)
        if latest:
            checkpoints.restore(latest, self._trainer.saved)
        else:
            if self._initial_values:
                names = self._initial_values.variables
                chosen = {name: self._trainer.saved[name] for name in names}
                checkpoints.restore(self._initial_values.checkpoint, chosen)
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
            self._predictor = EagerPredictor(self._config, self._run)
        yield from self._predictor.predict(input_fn, checkpoint)

    def close(self) -> None:
        if self._workers:
            self._workers.close()


class _Trainer:
    """The network and the state of its training on the devices of a strategy.

    Attributes:
        saved: name in a checkpoint -> variable.
    """

    def __init__(
        self, config: ModelConfig, run: RunSettings, distribution: Distribution, described: bool
    ) -> None:
        self._config = config
        self._run = run
        self._distribution = distribution
        self._strategy = distribution.strategy
        self._described = described
        seed = config.training.random_seed
        with self._strategy.scope():
            self._network = registry.build(config.network, seed, replicas=StrategyReplicas())
            self._state = TrainingState(self._network)
        self.saved = self._state.saved
        self._step = tf.function(self._of_all_replicas, autograph=False, reduce_retracing=True)
        self._batches: Any = None  # an iterator
        self._batches_after = 0  # the step that its next batch follows
        self._writer: Any = None
        if distribution.cluster is None or distribution.cluster.chief:
            self._writer = tf.summary.create_file_writer(run.model_dir)

    def read_from(self, input_fn: InputFn, step: int) -> None:
        """Makes the batches after `step` those of the next steps, each divided among the replicas.

        If the last step was this one, its batches continue: another input would give the same ones,
        once it has read and shuffled them.
        """
        if self._batches and self._batches_after == step:
            return
        assert self._run.train_batch_size
        tf.random.set_seed(self._run.random_seed)  # the order of the data depends on it
        params = {"batch_size": self._run.train_batch_size // self._distribution.count}

        def dataset(_: Any) -> tf.data.Dataset:
            # Said, because a strategy otherwise asks before each step whether there is another.
            endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
            return input_fn(params).apply(endless)

        self._batches = iter(self._strategy.distribute_datasets_from_function(dataset))

    def take_step(self, learning_rate_scale: tf.Tensor, stop: bool) -> tuple[StepState, bool]:
        """Takes a step.

        Args:
            learning_rate_scale: float32 scalar.
            stop: whether this process wants to stop.

        Returns:
            The state after the step, and whether a process wants to stop.
        """
        wish = tf.constant(float(stop))
        step, plotted, state, described, wishes = self._step(
            self._batches, learning_rate_scale, wish
        )
        self._batches_after = int(step) + 1
        if self._writer and int(step) % curves.SUMMARY_STEPS == 0:
            curves.write(self._writer, step, plotted)
        if described and int(step) % step_description.STEPS == 0:
            names = [name_of(each) for each in self._network.trainable_variables]
            step_description.describe(step, described, names, self._config.alphabet)
        return StepState.of(*(each.numpy() for each in state)), bool(wishes)

    def _of_all_replicas(self, batches: Any, scale: tf.Tensor, wish: tf.Tensor) -> Any:
        results = self._strategy.run(self._of_replica, (*next(batches), scale, wish))
        first = self._strategy.experimental_local_results
        return tf.nest.map_structure(lambda each: first(each)[0], results)

    def _of_replica(
        self, features: Tensors, labels: Tensors, scale: tf.Tensor, wish: tf.Tensor
    ) -> Any:
        replicas = StrategyReplicas()
        step = training_step(
            self._network, self._state, self._config.training, features, labels, scale, replicas
        )
        described = []
        if self._described:
            described = step_description.described_values(step, features, labels)
        (wishes,) = replicas.total([tf.identity(wish)])  # a tensor on the replica's device
        with tf.control_dependencies([step.update]):
            state = [each.read_value() for each in self._state.of_steps]
        return step.number, step.curves, state, described, wishes

    def state_now(self) -> StepState:
        return StepState.of(*(each.numpy() for each in self._state.of_steps))

    def values(self) -> dict[str, Any]:
        """Returns the values of the variables by their names in a checkpoint."""
        return {name: each.read_value() for name, each in self.saved.items()}

    def flush(self) -> None:
        """Writes the curves so far to their file."""
        if self._writer:
            self._writer.flush()
