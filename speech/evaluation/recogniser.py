"""A model's checkpoint, ready to recognise one set of shards after another."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from absl import logging

from speech.engines.devices import TpuSettings, find_device
from speech.engines.engine import Engine, RunSettings
from speech.engines.errors import explain_errors
from speech.engines.tpu_estimator import TpuEstimatorEngine
from speech.evaluation.recognition import Recognition, recognise
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.parsing import transcripts
from speech.networks.config import ModelConfig, check_same_front_end
from speech.shards.shard_set import ShardSet, find_shards
from utils import UserError


@dataclass(frozen=True)
class Recogniser:
    """A checkpoint on a device."""

    config: ModelConfig
    engine: Engine
    checkpoint: str
    model_dir: str
    batching: Batching

    def recognise(self, shards: ShardSet) -> Iterator[list[Recognition]]:
        """Every utterance of a set in the corpus's order, in batches; errors as `recognise`."""
        with explain_errors(self.model_dir):
            yield from recognise(
                self.engine,
                self.checkpoint,
                shards,
                self.batching,
                transcripts(shards),
                self.config.statistics,
            )


def find_set(pattern: str, config: ModelConfig, model_dir: str) -> ShardSet:
    """The shards of a set that a model can recognise; warns of what preparation left out.

    Raises:
        UserError: there are none, or they are of another front end or alphabet.
    """
    shards = find_shards(pattern)
    settings = shards.index.settings
    check_same_front_end(config, settings.front_end, settings.alphabet, pattern, model_dir)
    if shards.index.skipped:
        logging.warning(
            "%d of the set's %d utterances were skipped in preparation and are in no rate below.",
            len(shards.index.skipped),
            shards.index.corpus_utterances,
        )
    return shards


def on_device(
    model_fn: Any,
    config: ModelConfig,
    checkpoint: str,
    model_dir: str,
    eval_batch_size: int,
    tpu: TpuSettings,
) -> Recogniser:
    """Finds the device and builds the model for it.

    Args:
        model_fn: of the model, `model.model_fn_builder`.
        eval_batch_size: over all cores.

    Raises:
        UserError: the TPU isn't there, or has several hosts.
    """
    device = find_device(tpu)
    if device.hosts > 1:
        raise UserError(
            f"The TPU {tpu.name} has {device.hosts} hosts, and TPUEstimator recognises on "
            "one host alone: name a TPU with one, or leave out --use_tpu."
        )
    run = RunSettings(model_dir, eval_batch_size=eval_batch_size)
    return Recogniser(
        config,
        TpuEstimatorEngine(lambda _: model_fn, run, device),
        checkpoint,
        model_dir,
        Batching(eval_batch_size, static=device.is_tpu),
    )
