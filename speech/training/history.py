"""history.jsonl: the losses and development results of a training, beside its checkpoints.

It never has steps beyond the latest checkpoint. A resumed training reads the development results
from it, and so how long it has waited for a better one.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

from speech.system import storage, typed_json
from utils import UserError, lines_of

HISTORY_FILE = "history.jsonl"

# Kinds of records, as the file names them.
TRAINING, DEV = "training", "look"


@dataclass(frozen=True)
class TrainingPoint:
    """A step of training, or the last one of those that a TPU takes by itself."""

    step: int
    loss: float | None  # of the batch, in nats; None: it wasn't finite, the step was skipped
    learning_rate: float


@dataclass(frozen=True)
class DevResult:
    """The result of one evaluation on the development set."""

    step: int
    loss: float  # mean CTC loss, in nats
    wer: float | None  # greedy, over the whole set; None: not decoded, as on a pod
    cer: float | None
    beam_wer: float | None  # of a sample; None: not decoded by beam search
    beam_cer: float | None
    best: bool  # whether it was the best so far


class History:
    """The training points and development results of one model directory."""

    def __init__(self, model_dir: str, step: int) -> None:
        """Reads what is recorded up to `step`, that of the latest checkpoint.

        Later records belong to steps that will be taken again.

        Raises:
            UserError: the file is no history.
        """
        self.training: list[TrainingPoint] = []
        self.dev_results: list[DevResult] = []
        self._lines: list[str] = []
        self._path = storage.join(model_dir, HISTORY_FILE)
        if not step or not storage.exists(self._path):
            return
        for number, line in enumerate(lines_of(storage.read_text(self._path)), start=1):
            try:
                record = _parse(line)
            except ValueError as error:
                raise UserError(
                    f"{self._path}, line {number} is no record of a training: {error}. Remove the "
                    "line, or the file if its curves and the best result don't matter."
                ) from None
            if record.step <= step:
                self.add(record)

    @property
    def best(self) -> DevResult | None:
        return best_of(self.dev_results)

    def is_evaluated(self, step: int) -> bool:
        return bool(self.dev_results) and self.dev_results[-1].step == step

    def add(self, record: TrainingPoint | DevResult) -> None:
        if isinstance(record, DevResult):
            self.dev_results.append(record)
        else:
            self.training.append(record)
        kind = DEV if isinstance(record, DevResult) else TRAINING
        self._lines.append(json.dumps({"kind": kind, **dataclasses.asdict(record)}))

    def save(self) -> None:
        """Writes the whole file."""
        storage.write_text(self._path, "".join(f"{line}\n" for line in self._lines))


def _parse(line: str) -> TrainingPoint | DevResult:
    content = typed_json.parse_object(line)
    kind = content.pop("kind", None)
    if kind not in (TRAINING, DEV):
        raise typed_json.FieldError(f"its kind is {kind!r}")
    # A training that has diverged has losses that aren't finite.
    if kind == DEV:
        return typed_json.read(DevResult, content, kind, finite=False)
    return typed_json.read(TrainingPoint, content, kind, finite=False)


def records_after(model_dir: str, step: int) -> list[TrainingPoint | DevResult]:
    """Returns the records after a step, in their order; also of a training that is running.

    Only these are parsed: the file may have a million lines.

    Raises:
        ValueError: one can't be read.
    """
    records: list[TrainingPoint | DevResult] = []
    for line in reversed(lines_of(storage.read_text(storage.join(model_dir, HISTORY_FILE)))):
        record = _parse(line)
        if record.step <= step:
            break
        records.append(record)
    return records[::-1]


def best_of(results: Sequence[DevResult]) -> DevResult | None:
    """Returns the last result that was the best so far; None without any."""
    return next((each for each in reversed(results) if each.best), None)


def mean_loss(points: Sequence[TrainingPoint]) -> float | None:
    """Returns the mean over the steps that have a loss; None if none has."""
    losses = [point.loss for point in points if point.loss is not None]
    return sum(losses) / len(losses) if losses else None
