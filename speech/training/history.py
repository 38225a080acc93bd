"""history.jsonl: what a training has seen, in a model directory beside its checkpoints.

It never tells of more than the latest checkpoint does. Training that continues reads from it what
its looks at the development data were, and so how long it has waited for a better one.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

from speech.system import storage, typed_json
from utils import UserError, lines_of

HISTORY_FILE = "history.jsonl"


@dataclass(frozen=True)
class TrainingPoint:
    """A step of training, or the last one of those that a TPU takes by itself."""

    step: int
    loss: float | None  # of the batch; None: it wasn't finite, the step was skipped
    learning_rate: float


@dataclass(frozen=True)
class Look:
    """One evaluation on the development data."""

    step: int
    loss: float  # mean CTC loss, in nats
    wer: float | None  # greedy, over the whole set; None: not decoded, as on a pod
    cer: float | None
    beam_wer: float | None  # of a sample; None: not decoded so
    beam_cer: float | None
    best: bool  # whether it was the best so far


class History:
    """The points and looks of one model directory."""

    def __init__(self, model_dir: str, step: int) -> None:
        """Reads what was seen up to `step`, that of the latest checkpoint.

        What goes beyond it belongs to steps that will be taken again.

        Raises:
            UserError: the file is no history.
        """
        self.training: list[TrainingPoint] = []
        self.looks: list[Look] = []
        self._lines: list[str] = []
        self._path = storage.join(model_dir, HISTORY_FILE)
        if not step or not storage.exists(self._path):
            return
        for number, line in enumerate(lines_of(storage.read_text(self._path)), start=1):
            try:
                record = _record(line)
            except ValueError as error:
                raise UserError(
                    f"{self._path}, line {number} is no record of a training: {error}. Remove the "
                    "line, or the file if its curves and the best look don't matter."
                ) from None
            if record.step <= step:
                self.add(record)

    @property
    def best(self) -> Look | None:
        return best_of(self.looks)

    def looked_at(self, step: int) -> bool:
        return bool(self.looks) and self.looks[-1].step == step

    def add(self, record: TrainingPoint | Look) -> None:
        if isinstance(record, Look):
            self.looks.append(record)
        else:
            self.training.append(record)
        kind = "look" if isinstance(record, Look) else "training"
        self._lines.append(json.dumps({"kind": kind, **dataclasses.asdict(record)}))

    def save(self) -> None:
        """Writes the file, whole."""
        storage.write_text(self._path, "".join(f"{line}\n" for line in self._lines))


def _record(line: str) -> TrainingPoint | Look:
    content = typed_json.parse_object(line)
    kind = content.pop("kind", None)
    if kind not in ("training", "look"):
        raise typed_json.FieldError(f"its kind is {kind!r}")
    # A training that has diverged saw losses that aren't finite.
    if kind == "look":
        return typed_json.read(Look, content, kind, finite=False)
    return typed_json.read(TrainingPoint, content, kind, finite=False)


def best_of(looks: Sequence[Look]) -> Look | None:
    """The last look that was the best so far; None without any."""
    return next((look for look in reversed(looks) if look.best), None)


def mean_loss(points: Sequence[TrainingPoint]) -> float | None:
    """Of the steps that had a loss; None if none had."""
    losses = [point.loss for point in points if point.loss is not None]
    return sum(losses) / len(losses) if losses else None
