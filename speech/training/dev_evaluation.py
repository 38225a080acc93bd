"""Looks at the development data while a network is trained."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from absl import logging

import constants
from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings, greedy_decode
from speech.evaluation import results
from speech.evaluation.network_output import NetworkOutput
from speech.evaluation.recognition import recognise
from speech.evaluation.results import Errors
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.evaluation_input import evaluation_input_fn, evaluation_steps
from speech.input_pipeline.parsing import transcripts
from speech.networks.config import ModelConfig
from speech.shards.shard_set import ShardSet
from speech.training.heat_map import Sample
from speech.training.history import Look

# By what a look may be the best one.
MEASURES = ("wer", "cer", "loss")

# Utterances that TensorBoard shows.
SHOWN = 5


@dataclass(frozen=True)
class Seen:
    """What a look saw."""

    look: Look
    samples: list[Sample]  # to be shown


class Looker:
    """Recognises the development data with one checkpoint after another."""

    def __init__(
        self, shards: ShardSet, batching: Batching, config: ModelConfig, best_by: str
    ) -> None:
        """best_by: of MEASURES; equally good looks are told apart by their loss."""
        self._shards = shards
        self._batching = batching
        self._alphabet = config.alphabet
        self._statistics = config.statistics
        self._output_seconds = config.output_seconds
        self._best_by = best_by
        self._references = transcripts(shards)
        every = max(len(self._references) // constants.BEAM_SAMPLE, 1)
        chosen = self._references[::every][: constants.BEAM_SAMPLE]
        self._sample = {utterance_id for utterance_id, _ in chosen}
        self._decoder = BeamSearchDecoder(config.alphabet, BeamSettings(constants.BEAM_WIDTH))

    def look(
        self,
        trainer: Any,
        checkpoint: str,
        step: int,
        best: Look | None,
        stopped: Callable[[], bool],
    ) -> Seen | None:
        """A checkpoint's error rates and loss on the development data.

        Args:
            trainer: a TPUEstimator.
            best: the best look so far.
            stopped: asked after every batch; the look is given up once it is true.

        Returns:
            None if it was given up.
        """
        if self._batching.hosts > 1:  # which TPUEstimator can't recognise on
            return Seen(self._judged(self._loss_alone(trainer, checkpoint, step), best), [])
        words, characters = Errors(), Errors()
        losses: list[float | None] = []
        sampled: list[tuple[NetworkOutput, str]] = []
        for batch in recognise(
            trainer,
            checkpoint,
            self._shards,
            self._batching,
            self._references,
            self._statistics,
        ):
            for each in batch:
                greedy = greedy_decode(each.log_probs, self._alphabet)
                words += results.word_errors(each.reference, greedy)
                characters += results.character_errors(each.reference, greedy)
                losses.append(each.loss)
                if each.utterance_id in self._sample:
                    sampled.append((each, greedy))
            if stopped():
                return None
        samples = self._samples(sampled)
        known = [loss for loss in losses if loss is not None]
        self._tell_of_unalignable(len(losses) - len(known))
        pairs = [(each.reference, each.beam) for each in samples]
        look = Look(
            step=step,
            loss=sum(known) / len(known) if known else math.inf,
            wer=words.rate,
            cer=characters.rate,
            beam_wer=sum((results.word_errors(*pair) for pair in pairs), Errors()).rate,
            beam_cer=sum((results.character_errors(*pair) for pair in pairs), Errors()).rate,
            best=False,
        )
        return Seen(self._judged(look, best), samples[:SHOWN])

    def _samples(self, sampled: list[tuple[NetworkOutput, str]]) -> list[Sample]:
        beams = self._decoder.decode_batch(each.log_probs for each, _ in sampled)
        return [
            Sample(
                utterance_id=each.utterance_id,
                reference=each.reference,
                greedy=greedy,
                beam=beam,
                log_probs=each.log_probs,
                output_seconds=self._output_seconds,
            )
            for (each, greedy), beam in zip(sampled, beams, strict=True)
        ]

    def _loss_alone(self, trainer: Any, checkpoint: str, step: int) -> Look:
        metrics = trainer.evaluate(
            evaluation_input_fn(self._shards, self._batching, False, self._statistics),
            steps=evaluation_steps(self._shards.index, self._batching),
            checkpoint_path=checkpoint,
        )
        self._tell_of_unalignable(int(metrics["unalignable_utterances"]))
        return Look(step, float(metrics["ctc_loss"]), None, None, None, None, best=False)

    def _judged(self, look: Look, best: Look | None) -> Look:
        return replace(look, best=best is None or self._rank(look) < self._rank(best))

    def _rank(self, look: Look) -> tuple[float, float]:
        loss = math.inf if math.isnan(look.loss) else look.loss
        rate = {"wer": look.wer, "cer": look.cer, "loss": None}[self._best_by]
        return loss if rate is None else rate, loss

    def _tell_of_unalignable(self, utterances: int) -> None:
        if utterances:
            logging.warning(
                "%d of the %d utterances have more labels than the network has outputs and are in "
                "no loss: lower --stride_size.",
                utterances,
                self._shards.index.records,
            )


def told(look: Look, steps_per_epoch: int) -> str:
    """A look as training logs it."""
    rates = ""
    if look.wer is not None and look.cer is not None:
        rates = f"  WER {look.wer:.2%}  CER {look.cer:.2%}"
    if look.beam_wer is not None and look.beam_cer is not None:
        rates += f"  by beam search, of a sample: WER {look.beam_wer:.2%}  CER {look.beam_cer:.2%}"
    return (
        f"epoch {look.step / steps_per_epoch:.2f}  step {look.step}  dev loss {look.loss:.2f}"
        f"{rates}{'  the best so far' if look.best else ''}"
    )
