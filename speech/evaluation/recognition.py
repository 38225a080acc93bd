"""Computes a checkpoint's outputs for sets of utterances."""

from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from speech.engines.engine import Predictor
from speech.evaluation.network_output import NetworkOutput
from speech.features.normalisation import Statistics
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.evaluation_input import FILLING, evaluation_input_fn
from speech.networks.config import ModelConfig, check_same_front_end
from speech.shards.shard_set import ShardSet, find_shards
from utils import UserError


def find_set(pattern: str, config: ModelConfig, model_dir: str) -> ShardSet:
    """Finds the shards of a set that a model can recognise; warns of skipped utterances.

    Raises:
        UserError: there are none, or their front end or alphabet isn't the model's.
    """
    shards = find_shards(pattern)
    settings = shards.index.settings
    check_same_front_end(config, settings.front_end, settings.alphabet, pattern, model_dir)
    if shards.index.skipped:
        logging.warning(
            "%d of the set's %d utterances were skipped in preparation; the rates below "
            "exclude them.",
            len(shards.index.skipped),
            shards.index.corpus_utterances,
        )
    return shards


def recognise(
    engine: Predictor,
    checkpoint: str,
    shards: ShardSet,
    batching: Batching,
    references: Sequence[tuple[str, str]],
    statistics: Statistics | None = None,
) -> Iterator[list[NetworkOutput]]:
    """Computes the output for every utterance of a set, batch by batch, in the corpus's order.

    Args:
        references: (id, transcript) of the set's utterances, `parsing.transcripts`.
        statistics: the model's, if it has any.

    Raises:
        UserError: an output has NaN.
        AssertionError: an utterance is missing, or came twice.
    """
    batches = engine.predict(evaluation_input_fn(shards, batching, True, statistics), checkpoint)
    times = np.zeros(len(references), np.int64)  # [utterances], how often each one came
    for batch in batches:
        # An utterance's number goes through the network with its features, since strings can't.
        numbers = batch["utterance_number"]  # [batch]
        columns = (batch["log_probs"], batch["output_length"], batch["ctc_loss"], batch["aligned"])
        outputs = []
        for number, log_probs, length, loss, aligned in zip(numbers, *columns, strict=True):
            if number != FILLING:
                utterance_id, reference = references[number]
                outputs.append(
                    NetworkOutput(
                        utterance_id,
                        reference,
                        log_probs[:length],
                        float(loss) if aligned else None,
                    )
                )
        for each in outputs:
            check_finite(each, shards)
        np.add.at(times, numbers[numbers != FILLING], 1)
        yield outputs
    assert (times == 1).all(), "an utterance is missing in the network's outputs, or came twice"


def check_finite(output: NetworkOutput, shards: ShardSet) -> None:
    """Raises a UserError that names the utterance if the network's output for it has NaN."""
    if np.isnan(output.log_probs).any():
        raise UserError(
            f"The network's output for the utterance {output.utterance_id} of {shards.pattern} has "
            "NaN. If only some utterances have it, their features are broken: prepare the shards "
            "without them (training names such utterances too). If all have it, the network has "
            "diverged: use an earlier checkpoint."
        )
