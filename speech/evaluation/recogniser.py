"""What computes outputs for one set after another: a checkpoint on a device, or another model."""

from dataclasses import dataclass, replace
from typing import Protocol

from speech.engines import checkpoints, devices, errors
from speech.engines.choice import ModelFnBuilder, make_predictor
from speech.engines.engine import Predictor, RunSettings
from speech.evaluation.network_output import NetworkOutput
from speech.evaluation.recognition import recognise
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.parsing import transcripts
from speech.networks.config import ModelConfig
from speech.shards.shard_set import ShardSet
from utils import UserError


class Recogniser(Protocol):
    """A model that computes outputs for one set after another."""

    @property
    def path(self) -> str:
        """The path of the checkpoint, or of the exported model."""

    @property
    def step(self) -> int:
        """Number of steps that it was trained for; 0: unknown."""

    def outputs_of(self, shards: ShardSet) -> list[NetworkOutput]:
        """Computes the output for every utterance of a set, in the corpus's order.

        Raises:
            UserError: an output has NaN, or a file can't be read.
        """


@dataclass(frozen=True)
class CheckpointRecogniser:
    """A checkpoint on a device, which computes outputs for one set after another."""

    config: ModelConfig
    engine: Predictor
    path: str  # of the checkpoint
    model_dir: str
    batching: Batching

    @property
    def step(self) -> int:
        return checkpoints.steps_of(self.path)

    def outputs_of(self, shards: ShardSet) -> list[NetworkOutput]:
        with errors.explain_errors(self.model_dir):
            batches = recognise(
                self.engine,
                self.path,
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
    settings: devices.DeviceSettings,
    config: ModelConfig,
    checkpoint: str,
    run: RunSettings,
    model_fn_builder: ModelFnBuilder,
) -> CheckpointRecogniser:
    """Finds the device and builds the model for it.

    Args:
        model_fn_builder: model.model_fn_builder, for a TPUEstimator.

    Raises:
        UserError: the device can't be found, or the TPU has several hosts.
    """
    device = devices.find_device(settings)
    if device.hosts > 1:
        raise UserError(
            f"The TPU {settings.tpu.name} has {device.hosts} hosts, and recognition uses one host "
            "only: name a TPU with one host, or leave out --use_tpu."
        )
    engine = make_predictor(device, config, run, model_fn_builder)
    batching = device.batching(run.eval_batch_size)
    return CheckpointRecogniser(config, engine, checkpoint, run.model_dir, batching)
