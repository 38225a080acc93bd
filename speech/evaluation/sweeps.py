"""Word error rates over the decoder's settings, from the network's output."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings
from speech.decoding.scorer import Scorer
from speech.evaluation.error_rates import Errors, word_errors
from speech.evaluation.network_output import NetworkOutput
from utils import Alphabet

BEAM_WIDTHS = (1, 4, 16, 64, 256)
ALPHAS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
BETAS = (0.0, 1.0, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class BeamPoint:
    """The WER with a beam width."""

    beam_width: int
    wer: float


@dataclass(frozen=True)
class WeightPoint:
    """The WER with a scorer's weights."""

    alpha: float
    beta: float
    wer: float


def beam_points(
    outputs: Sequence[NetworkOutput],
    alphabet: Alphabet,
    settings: BeamSettings,
    scorer: Scorer | None,
    done: Callable[[], object],
) -> list[BeamPoint]:
    """Computes the WER at BEAM_WIDTHS and at the settings' own width; calls `done` after each."""
    points = []
    for width in sorted({*BEAM_WIDTHS, settings.beam_width}):
        decoder = BeamSearchDecoder(alphabet, replace(settings, beam_width=width), scorer)
        points.append(BeamPoint(width, _rate(outputs, decoder)))
        done()
    return points


def weight_points(
    outputs: Sequence[NetworkOutput],
    alphabet: Alphabet,
    settings: BeamSettings,
    scorer: Scorer,
    done: Callable[[], object],
) -> list[WeightPoint]:
    """Computes the WER over the grid of ALPHAS and BETAS; calls `done` after each."""
    points = []
    for alpha in ALPHAS:
        for beta in BETAS:
            weighted = replace(settings, alpha=alpha, beta=beta)
            decoder = BeamSearchDecoder(alphabet, weighted, scorer)
            points.append(WeightPoint(alpha, beta, _rate(outputs, decoder)))
            done()
    return points


def _rate(outputs: Sequence[NetworkOutput], decoder: BeamSearchDecoder) -> float:
    texts = decoder.decode_batch(each.log_probs for each in outputs)
    errors = [word_errors(each.reference, text) for each, text in zip(outputs, texts, strict=True)]
    return sum(errors, Errors()).rate
