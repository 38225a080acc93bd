"""What a network makes of every utterance of a set, batch by batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speech.engines.engine import Predictor
from speech.features.normalisation import Statistics
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.evaluation_input import evaluation_input_fn
from speech.shards.shard_set import ShardSet
from utils import UserError


@dataclass(frozen=True)
class Recognition:
    """An utterance and its network's output."""

    utterance_id: str
    reference: str
    log_probs: npt.NDArray[np.float32]  # [outputs, labels], natural logarithms
    loss: float | None  # CTC, in nats; None: more labels than outputs can hold


def recognise(
    engine: Predictor,
    checkpoint: str,
    shards: ShardSet,
    batching: Batching,
    references: Sequence[tuple[str, str]],
    statistics: Statistics | None = None,
) -> Iterator[list[Recognition]]:
    """Every utterance of a set in the corpus's order, in batches.

    Args:
        references: ids and transcripts of the set, `dataset.transcripts`.
        statistics: the model's, if it has any.

    Raises:
        UserError: the network's output for an utterance isn't finite.
    """
    remaining = iter(references)
    batches = engine.predict(evaluation_input_fn(shards, batching, True, statistics), checkpoint)
    for batch in batches:
        columns = (batch["log_probs"], batch["output_length"], batch["ctc_loss"], batch["aligned"])
        # A TPU's last batch is filled up: zip ends with the references. These come last, so that
        # none is taken that has no row.
        rows = zip(zip(*columns, strict=True), remaining, strict=False)
        recognitions = [
            Recognition(*reference, log_probs[:length], float(loss) if aligned else None)
            for (log_probs, length, loss, aligned), reference in rows
        ]
        for each in recognitions:
            _check_finite(each, shards)
        yield recognitions
    assert next(remaining, None) is None, "an utterance was lost on the way"


def _check_finite(recognition: Recognition, shards: ShardSet) -> None:
    if np.isnan(recognition.log_probs).any():
        raise UserError(
            f"The network's output for the utterance {recognition.utterance_id} of "
            f"{shards.pattern} is no number. Prepare the shards without it if its features are "
            "broken (training names such utterances too); if all utterances are so, the network "
            "has diverged: take an earlier checkpoint."
        )
