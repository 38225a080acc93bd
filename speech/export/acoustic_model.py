"""What all models have in common, however they are stored, and the names in exported ones."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from speech.export.description import Description

Floats = npt.NDArray[np.float32]
Samples = npt.NDArray[np.int16] | Floats

# What a network carries from one piece of an utterance to the next.
State = tuple[Any, ...]

LITE_SUFFIX = ".tflite"

# Signatures: of SavedModels, of TensorFlow Lite files, and of both.
FEATURES, SAMPLES = "features", "samples"
FRONT_END, NETWORK = "front_end", "network"
STREAM = "stream"

# Inputs and outputs of STREAM: state_0, state_1, ...
STATE_PREFIX = "state_"


class AcousticModel(Protocol):
    """A model that computes natural-log probabilities, float32 [outputs, classes]."""

    @property
    def description(self) -> Description: ...

    def of_features(self, features: Floats) -> Floats:
        """Returns the output for features, float32 [frames, bins], at least one frame."""

    def of_samples(self, samples: Samples) -> Floats:
        """Returns the output for samples, int16 or float32 [samples] at int16 scale, not none."""

    def of_batch(self, batch: Sequence[Floats]) -> list[Floats]:
        """Returns the output of `of_features` for each utterance of a batch."""

    @property
    def carries_state(self) -> bool:
        """Whether there is `stream`: not for networks without a state, nor for older exports."""

    def stream(
        self, features: Floats, padding: tuple[int, int], state: State | None
    ) -> tuple[Floats, State]:
        """Returns the output for a piece of an utterance, [outputs, classes], and the new state.

        Args:
            features: float32 [frames, bins], as for `of_features`, for the windows of at least one
                output; see DeepSpeechLstm.stream.
            padding: number of frames of zeros before and after these.
            state: returned with the previous piece; None for the first one.
        """


def state_name(number: int) -> str:
    """Returns the name of a part of the state."""
    return f"{STATE_PREFIX}{number}"


class StreamSignature:
    """A signature STREAM for one utterance, with its state as a tuple."""

    def __init__(
        self, call: Callable[..., Mapping[str, Any]], shapes: Mapping[str, Sequence[int | None]]
    ) -> None:
        """
        Args:
            call: takes and returns arrays by name.
            shapes: of the inputs.
        """
        self._call = call
        self._units = [int(shape[2] or 0) for shape in state_of(shapes)]

    def __call__(
        self, features: Floats, padding: tuple[int, int], state: State | None
    ) -> tuple[Floats, State]:
        """Returns outputs and new state; see `AcousticModel.stream`."""
        if state is None:
            state = tuple(np.zeros((1, 1, units), np.float32) for units in self._units)
        named = {state_name(number): each for number, each in enumerate(state)}
        outputs = self._call(
            features=features[np.newaxis], padding=np.array(padding, np.int32), **named
        )
        return np.asarray(outputs["log_probs"])[0], state_of(outputs)


def state_of(named: Mapping[str, Any]) -> State:
    """Returns those of a signature's inputs or outputs that are the state, in order."""
    count = sum(name.startswith(STATE_PREFIX) for name in named)
    return tuple(named[state_name(number)] for number in range(count))
