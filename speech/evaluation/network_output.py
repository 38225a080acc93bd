"""The network's output for an utterance: what decoders, caches and tuning work with."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class NetworkOutput:
    """An utterance's log-probabilities and loss, with its id and reference."""

    utterance_id: str
    reference: str
    log_probs: npt.NDArray[np.float32]  # [outputs, classes], natural logarithms
    loss: float | None  # CTC, in nats; None: more labels than the outputs can hold
