"""The interface between training and whatever runs its steps on devices.

The training loop, the evaluation on the development set and the recognition of a test set know an
engine by this interface alone. eager.py, pjrt.py and tpu_estimator.py implement it, and
choice.py chooses one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt

import constants
from speech.engines.stopping import Stopping

# Makes a tf.data.Dataset of (features, labels) as optimisation/step.py describes them. Its
# argument has the key "batch_size": utterances of the part of a batch that one device takes.
InputFn: TypeAlias = Callable[[Any], Any]

# A batch of the network's outputs:
#   log_probs      float32 [batch, outputs, classes], natural logarithms
#   output_length  int32 [batch]
#   ctc_loss       float32 [batch], in nats
#   aligned        float32 [batch], 0 where the transcript has no alignment, and so no loss
#   utterance_number  int32 [batch], the input's; see input_pipeline/evaluation_input.py
OutputBatch: TypeAlias = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class RunSettings:
    """Batch sizes and checkpoints of an engine; nothing in it changes what a model is."""

    model_dir: str
    eval_batch_size: int  # over all devices, also for prediction
    train_batch_size: int | None = None  # over all devices; None: the engine doesn't train
    iterations_per_loop: int = constants.ITERATIONS_PER_LOOP
    save_checkpoints_steps: int = constants.SAVE_CHECKPOINTS_STEPS
    keep_checkpoint_max: int = constants.KEEP_CHECKPOINT_MAX


@dataclass(frozen=True)
class InitialValues:
    """Variables of a trained model with which a new model starts."""

    checkpoint: str  # path of the trained model's checkpoint
    variables: tuple[str, ...]  # names of those that are loaded


@dataclass(frozen=True)
class StepState:
    """The state of a training after a step."""

    step: int
    loss: float | None  # of the step, in nats; None: it or a gradient wasn't finite: skipped
    bad_steps: int  # steps skipped so far
    latest_bad_step: int  # the last one of them; 0 if there was none

    @classmethod
    def of(cls, step: Any, loss: Any, bad_steps: Any, latest_bad_step: Any) -> "StepState":
        """Returns the state that optimisation/state.py's variables hold."""
        skipped = bool(bad_steps) and latest_bad_step == step
        return cls(
            int(step), None if skipped else float(loss), int(bad_steps), int(latest_bad_step)
        )


def _ignore(state: StepState) -> None:
    pass


@dataclass(frozen=True)
class Callbacks:
    """What an engine calls while it trains, and what it asks whether to stop."""

    stopping: Stopping
    on_step: Callable[[StepState], None]  # an exception that it raises ends training
    before_save: Callable[[StepState], None] = _ignore  # likewise, and nothing is saved


@dataclass(frozen=True)
class MeanLoss:
    """The loss of a network on a whole set."""

    loss: float  # mean over the utterances that have one, in nats
    unalignable_utterances: int  # which have more labels than the network has outputs


class Predictor(Protocol):
    """The part of an engine that recognition needs."""

    def predict(self, input_fn: InputFn, checkpoint: str) -> Iterator[OutputBatch]:
        """Yields the network's outputs for every batch, computed with a checkpoint's variables."""


class Engine(ABC):
    """Trains a network, measures its loss and computes its outputs.

    An engine is made for one network, one model directory and certain devices. An implementation
    provides `train` and `predict`; what concerns several processes or hosts has a default. The
    engines exchange models, so each of them:

    - starts from the model directory's latest checkpoint, or else from the initial values that it
      was given, or from the network's own;
    - saves checkpoints under the names of speech/engines/checkpoints.py, with the variables of the
      network, Adam's slots, `global_step` and those of speech/optimisation/state.py;
    - leaves the network as it is after a step whose loss or gradient isn't finite, and counts it.
    """

    @abstractmethod
    def train(
        self, input_fn: InputFn, until_step: int, learning_rate_scale: float, callbacks: Callbacks
    ) -> int:
        """Trains from the latest checkpoint on, and saves a checkpoint at the end.

        Calls `on_step` after every step (after the last of those that a device takes without its
        host), and `before_save` before every checkpoint. Once `stopping` is requested, the step
        that runs is the last one.

        Args:
            input_fn: batches from the latest checkpoint's step on. They are a function of the step,
                so an engine may continue with those of an earlier call.
            until_step: the last step to take, counted from the start of the whole training.
            learning_rate_scale: factor on the schedule's learning rate.

        Returns:
            The step of the checkpoint that was saved last.
        """

    @abstractmethod
    def predict(self, input_fn: InputFn, checkpoint: str) -> Iterator[OutputBatch]:
        """Yields the network's outputs for every batch, computed with a checkpoint's variables."""

    def mean_loss(self, input_fn: InputFn, checkpoint: str, steps: int) -> MeanLoss:
        """Measures the loss of a checkpoint on `steps` batches.

        It serves where several hosts feed the devices, and none has the outputs of all utterances.
        """
        raise NotImplementedError("an engine of a single host has the outputs of all utterances")

    @property
    def is_leader(self) -> bool:
        """Whether this process runs the training loop; False: it calls `follow` instead."""
        return True

    def follow(self, batches_from: Callable[[int], InputFn], callbacks: Callbacks) -> None:
        """Trains what the leader of several processes commands, until it ends the training.

        Args:
            batches_from: the input function of the batches after a step.
        """
        raise NotImplementedError("an engine of a single process has nobody to follow")

    def close(self) -> None:
        """Ends what runs beside this process's main thread; the last call of a program.

        A leader of several processes ends the others. It needn't return.
        """
        return
