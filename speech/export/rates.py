"""Measures the error rates of each form of an exported model on a test set."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings, greedy_decode
from speech.evaluation import results as report
from speech.export.loading import AcousticModel
from speech.features.front_end import CORPUS
from speech.features.normalisation import Statistics
from speech.input_pipeline import training_input
from speech.shards.records import ShardSet


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
    alphabet = shards.index.settings.alphabet
    decoder = BeamSearchDecoder(alphabet, BeamSettings(), None)
    results: dict[str, list[report.Result]] = {name: [] for name in models}
    greedy: dict[str, list[report.Result]] = {name: [] for name in models}
    seconds = dict.fromkeys(models, 0.0)
    for known, features in zip(training_input.transcripts(shards), _features(shards), strict=True):
        for name, model in models.items():
            started = time.monotonic()
            log_probs = model.of_features(features)
            seconds[name] += time.monotonic() - started
            results[name].append(report.compare(*known, decoder.decode(log_probs), None))
            best_path = greedy_decode(log_probs, alphabet)
            greedy[name].append(report.compare(*known, best_path, None))
        progress(1)
    first = next(iter(results.values()))
    return {
        name: _rates(results[name], greedy[name], first, seconds[name], shards.index.audio_seconds)
        for name in models
    }


def _features(shards: ShardSet) -> Iterator[npt.NDArray[np.float32]]:
    """Yields each utterance's features as they are stored, [frames, bins], in corpus order."""
    front_end = shards.index.settings.front_end
    unchanged = None
    if front_end.normalisation == CORPUS:  # exported models normalise these themselves
        unchanged = Statistics((0.0,) * front_end.bins, (1.0,) * front_end.bins)
    input_fn = training_input.evaluation_input_fn(
        shards, training_input.Batching(1, static=False), True, unchanged
    )
    for batch in input_fn({"batch_size": 1}).as_numpy_iterator():
        yield batch["features"][0]


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
