"""What a training run has seen: its steps and its looks at the development data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingPoint:
    step: int
    loss: float | None  # of the batch; None: it wasn't finite, the step was skipped
    learning_rate: float


@dataclass(frozen=True)
class Look:
    """One evaluation on the development data."""

    step: int
    loss: float  # mean CTC loss, in nats
    wer: float  # greedy, over the whole development set
    cer: float
    beam_wer: float | None  # of a sample; None: not decoded so
    beam_cer: float | None
    best: bool  # whether it was the best so far
