"""A checkpoint on a device, ready to compute outputs for one set after another."""

from dataclasses import dataclass, replace
from typing import Any

from speech.engines import devices, errors
from speech.engines.engine import Predictor, RunSettings
from speech.engines.tpu_estimator import TpuEstimatorEngine
from speech.evaluation.network_output import NetworkOutput
from speech.evaluation.recognition import recognise
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.parsing import transcripts
from speech.networks.config import ModelConfig
from speech.shards.shard_set import ShardSet
from utils import UserError


@dataclass(frozen=True)
class Recogniser:
    """A checkpoint on a device, which computes outputs for one set after another."""

    config: ModelConfig
    engine: Predictor
    checkpoint: str
    model_dir: str
    batching: Batching

    def outputs_of(self, shards: ShardSet) -> list[NetworkOutput]:
        """Computes the output for every utterance of a set, in the corpus's order.

        Raises:
            UserError: as `recognise`, or a file can't be read.
        """
        with errors.explain_errors(self.model_dir):
            batches = recognise(
                self.engine,
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
    tpu: devices.TpuSettings,
) -> Recogniser:
    """Finds the device and builds the model for it.

    Args:
        model_fn: the model's, for a TPUEstimator.
        eval_batch_size: utterances in a batch, over all cores.

    Raises:
        UserError: the TPU can't be found, or has several hosts.
    """
    device = devices.find_device(tpu)
    if device.hosts > 1:
        raise UserError(
            f"The TPU {tpu.name} has {device.hosts} hosts, and TPUEstimator recognises on one host "
            "only: name a TPU with one host, or leave out --use_tpu."
        )
    run = RunSettings(model_dir, eval_batch_size=eval_batch_size)
    return Recogniser(
        config,
        TpuEstimatorEngine(lambda _: model_fn, run, device),
        checkpoint,
        model_dir,
        Batching(eval_batch_size, static=device.is_tpu),
    )
