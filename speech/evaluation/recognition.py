"""Computes a checkpoint's outputs for sets of utterances."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from absl import logging

from speech.engines import tpu_estimator
from speech.evaluation.network_output import NetworkOutput
from speech.features.normalisation import Statistics
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.evaluation_input import FILLING, evaluation_input_fn
from speech.input_pipeline.parsing import transcripts
from speech.networks.config import ModelConfig, check_same_front_end
from speech.shards.shard_set import ShardSet, find_shards
from utils import UserError


@dataclass(frozen=True)
class Recogniser:
    """A checkpoint on a device, which computes outputs for one set after another."""

    config: ModelConfig
    predictor: Any  # a TPUEstimator
    checkpoint: str
    model_dir: str
    batching: Batching

    def outputs_of(self, shards: ShardSet) -> list[NetworkOutput]:
        """Computes the output for every utterance of a set, in the corpus's order.

        Raises:
            UserError: as `recognise`, or a file can't be read.
        """
        with tpu_estimator.explained_errors(self.model_dir):
            batches = recognise(
                self.predictor,
                self.checkpoint,
                shards,
                self.batching,
                transcripts(shards),
                self.config.statistics,
            )
            # Copies: a view would keep its whole batch, padding included, in memory.
            return [
                replace(each, log_probs=each.log_probs.copy())
                for batch in batches
                for each in batch
            ]


def on_device(
    model_fn: Any,
    config: ModelConfig,
    checkpoint: str,
    model_dir: str,
    eval_batch_size: int,
    tpu: tpu_estimator.TpuSettings,
) -> Recogniser:
    """Finds the device and builds the model for it.

    Args:
        model_fn: the model's, for a TPUEstimator.
        eval_batch_size: utterances in a batch, over all cores.

    Raises:
        UserError: the TPU can't be found, or has several hosts.
    """
    device = tpu_estimator.find_device(tpu)
    if device.hosts > 1:
        raise UserError(
            f"The TPU {tpu.name} has {device.hosts} hosts, and TPUEstimator recognises on one host "
            "only: name a TPU with one host, or leave out --use_tpu."
        )
    run = tpu_estimator.RunSettings(model_dir, eval_batch_size=eval_batch_size)
    return Recogniser(
        config,
        tpu_estimator.build(model_fn, run, device),
        checkpoint,
        model_dir,
        Batching(eval_batch_size, static=device.is_tpu),
    )


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
            "%d of the set's %d utterances were skipped in preparation; the rates below exclude "
            "them.",
            len(shards.index.skipped),
            shards.index.corpus_utterances,
        )
    return shards


def recognise(
    predictor: Any,
    checkpoint: str,
    shards: ShardSet,
    batching: Batching,
    references: Sequence[tuple[str, str]],
    statistics: Statistics | None = None,
) -> Iterator[list[NetworkOutput]]:
    """Computes the output for every utterance of a set, batch by batch, in the corpus's order.

    Args:
        predictor: a TPUEstimator.
        references: (id, transcript) of the set's utterances, `parsing.transcripts`.
        statistics: the model's, if it has any.

    Raises:
        UserError: an output has NaN.
        AssertionError: an utterance is missing, or came twice.
    """
    batches = predictor.predict(
        evaluation_input_fn(shards, batching, True, statistics),
        checkpoint_path=checkpoint,
        yield_single_examples=False,
    )
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
            _check_finite(each, shards)
        np.add.at(times, numbers[numbers != FILLING], 1)
        yield outputs
    assert (times == 1).all(), "an utterance is missing in the network's outputs, or came twice"


def _check_finite(output: NetworkOutput, shards: ShardSet) -> None:
    if np.isnan(output.log_probs).any():
        raise UserError(
            f"The network's output for the utterance {output.utterance_id} of {shards.pattern} has "
            "NaN. If only some utterances have it, their features are broken: prepare the shards "
            "without them (training names such utterances too). If all have it, the network has "
            "diverged: use an earlier checkpoint."
        )
