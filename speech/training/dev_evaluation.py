"""Evaluates a network on the development set while it is trained."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from absl import logging

import constants
from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings, greedy_decode
from speech.engines.engine import Engine
from speech.evaluation import results
from speech.evaluation.error_rates import Errors
from speech.evaluation.network_output import NetworkOutput
from speech.evaluation.recognition import recognise
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.evaluation_input import evaluation_input_fn, evaluation_steps
from speech.input_pipeline.parsing import transcripts
from speech.networks.config import ModelConfig
from speech.shards.shard_set import ShardSet
from speech.training.heat_map import Sample
from speech.training.history import DevResult

# Metrics that can select the best checkpoint.
METRICS = ("wer", "cer", "loss")

# Utterances that TensorBoard shows.
SHOWN_SAMPLES = 5


@dataclass(frozen=True)
class DevEvaluation:
    """One evaluation on the development set, with some of its utterances."""

    result: DevResult
    samples: list[Sample]  # to be shown


class DevEvaluator:
    """Evaluates one checkpoint after another on the development set."""

    def __init__(
        self, shards: ShardSet, batching: Batching, config: ModelConfig, best_by: str
    ) -> None:
        """best_by: one of METRICS; of equally good results the one with the lower loss is best."""
        self._shards = shards
        self._batching = batching
        self._alphabet = config.alphabet
        self._statistics = config.statistics
        self._output_seconds = config.output_seconds
        self._best_by = best_by
        self._references = transcripts(shards)
        every = max(len(self._references) // constants.BEAM_SAMPLE, 1)
        chosen = self._references[::every][: constants.BEAM_SAMPLE]
        self._sample_ids = {utterance_id for utterance_id, _ in chosen}
        self._decoder = BeamSearchDecoder(config.alphabet, BeamSettings(constants.BEAM_WIDTH))

    def evaluate(
        self,
        engine: Engine,
        checkpoint: str,
        step: int,
        best: DevResult | None,
        is_stopped: Callable[[], bool],
    ) -> DevEvaluation | None:
        """Measures a checkpoint's error rates and loss on the development set.

        Args:
            best: the best result so far.
            is_stopped: called after every batch; True ends the evaluation.

        Returns:
            None if the evaluation was ended.
        """
        if self._batching.hosts > 1:  # TPUEstimator predicts on one host alone
            return DevEvaluation(self._ranked(self._loss_alone(engine, checkpoint, step), best), [])
        words, characters = Errors(), Errors()
        losses: list[float | None] = []
        sampled: list[tuple[NetworkOutput, str]] = []
        for batch in recognise(
            engine, checkpoint, self._shards, self._batching, self._references, self._statistics
        ):
            for each in batch:
                greedy = greedy_decode(each.log_probs, self._alphabet)
                words += results.word_errors(each.reference, greedy)
                characters += results.character_errors(each.reference, greedy)
                losses.append(each.loss)
                if each.utterance_id in self._sample_ids:
                    sampled.append((each, greedy))
            if is_stopped():
                return None
        samples = self._samples(sampled)
        known = [loss for loss in losses if loss is not None]
        self._warn_of_unalignable(len(losses) - len(known))
        pairs = [(each.reference, each.beam) for each in samples]
        result = DevResult(
            step=step,
            loss=sum(known) / len(known) if known else math.inf,
            wer=words.rate,
            cer=characters.rate,
            beam_wer=sum((results.word_errors(*pair) for pair in pairs), Errors()).rate,
            beam_cer=sum((results.character_errors(*pair) for pair in pairs), Errors()).rate,
            best=False,
        )
        return DevEvaluation(self._ranked(result, best), samples[:SHOWN_SAMPLES])

    def _samples(self, sampled: list[tuple[NetworkOutput, str]]) -> list[Sample]:
        beams = self._decoder.decode_batch(each.log_probs for each, _ in sampled)
        return [
            Sample(
                utterance_id=each.utterance_id,
                reference=each.reference,
                greedy=greedy,
                beam=beam,
                log_probs=each.log_probs[:, : self._alphabet.size],
                output_seconds=self._output_seconds,
            )
            for (each, greedy), beam in zip(sampled, beams, strict=True)
        ]

    def _loss_alone(self, engine: Engine, checkpoint: str, step: int) -> DevResult:
        found = engine.mean_loss(
            evaluation_input_fn(self._shards, self._batching, False, self._statistics),
            checkpoint,
            evaluation_steps(self._shards.index, self._batching),
        )
        self._warn_of_unalignable(found.unalignable_utterances)
        return DevResult(step, found.loss, None, None, None, None, best=False)

    def _ranked(self, result: DevResult, best: DevResult | None) -> DevResult:
        return replace(result, best=best is None or self._rank(result) < self._rank(best))

    def _rank(self, result: DevResult) -> tuple[float, float]:
        loss = math.inf if math.isnan(result.loss) else result.loss
        rate = {"wer": result.wer, "cer": result.cer, "loss": None}[self._best_by]
        return loss if rate is None else rate, loss

    def _warn_of_unalignable(self, utterances: int) -> None:
        if utterances:
            logging.warning(
                "%d of the %d utterances have more labels than the network has outputs and are in "
                "no loss: lower --stride_size.",
                utterances,
                self._shards.index.records,
            )


def format_result(result: DevResult, steps_per_epoch: int) -> str:
    """Formats a result as training logs it."""
    rates = ""
    if result.wer is not None and result.cer is not None:
        rates = f"  WER {result.wer:.2%}  CER {result.cer:.2%}"
    if result.beam_wer is not None and result.beam_cer is not None:
        rates += f"  by beam search, of a sample: WER {result.beam_wer:.2%}"
        rates += f"  CER {result.beam_cer:.2%}"
    return (
        f"epoch {result.step / steps_per_epoch:.2f}  step {result.step}  "
        f"dev loss {result.loss:.2f}{rates}{'  the best so far' if result.best else ''}"
    )
