"""Measures the error rates of each form of an exported model on a test set."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings
from speech.evaluation import results as report
from speech.evaluation.evaluate import decode_set
from speech.evaluation.network_output import NetworkOutput
from speech.export.acoustic_model import AcousticModel
from speech.input_pipeline.parsing import stored_features, transcripts
from speech.shards.shard_set import ShardSet


@dataclass(frozen=True)
class Rates:
    """Error rates of one form, by beam search without a scorer, as in eval.py's last line."""

    wer: float
    cer: float
    greedy_wer: float
    greedy_cer: float
    utterances: int
    changed: int  # hypotheses that differ from those of the first form
    real_time_factor: float  # of the network alone, one utterance at a time


def measure(
    models: Mapping[str, AcousticModel], shards: ShardSet, progress: Callable[[int], object]
) -> dict[str, Rates]:
    """Returns the rates of every model, by name.

    Args:
        models: all of the test set's alphabet.
        progress: called with 1 after each utterance.

    Raises:
        UserError: a network's output isn't finite.
    """
    decoder = BeamSearchDecoder(shards.index.settings.alphabet, BeamSettings(), None)
    outputs: dict[str, list[NetworkOutput]] = {name: [] for name in models}
    seconds = dict.fromkeys(models, 0.0)
    for known, features in zip(transcripts(shards), stored_features(shards), strict=True):
        for name, model in models.items():
            started = time.monotonic()
            log_probs = model.of_features(features)
            seconds[name] += time.monotonic() - started
            outputs[name].append(NetworkOutput(*known, log_probs, None))
        progress(1)
    decoded = {name: decode_set(each, decoder) for name, each in outputs.items()}
    first, _ = next(iter(decoded.values()))
    return {
        name: _rates(*decoded[name], first, seconds[name], shards.index.audio_seconds)
        for name in models
    }


def _rates(
    results: Sequence[report.Result],
    greedy: Sequence[report.Result],
    first: Sequence[report.Result],
    seconds: float,
    audio_seconds: float,
) -> Rates:
    summary = report.summarise(results, greedy, seconds, audio_seconds, 0)
    pairs = zip(results, first, strict=True)
    return Rates(
        summary.wer,
        summary.cer,
        summary.greedy_wer,
        summary.greedy_cer,
        summary.utterances,
        sum(one.hypothesis != other.hypothesis for one, other in pairs),
        summary.real_time_factor,
    )
