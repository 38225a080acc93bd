"""Word error rates over the decoder's settings, from the network's output alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings
from speech.decoding.scorer import Scorer
from speech.evaluation import error_rates
from speech.evaluation.error_rates import Errors
from speech.evaluation.recognition import Recognition
from speech.evaluation.report_page import BeamPoint, WeightPoint
from utils import Alphabet

BEAM_WIDTHS = (1, 4, 16, 64, 256)
ALPHAS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
BETAS = (0.0, 1.0, 2.0, 3.0, 4.0)


def beam_points(
    recognitions: Sequence[Recognition],
    alphabet: Alphabet,
    settings: BeamSettings,
    scorer: Scorer | None,
    done: Callable[[], object],
) -> list[BeamPoint]:
    """The rate at BEAM_WIDTHS and at the settings' own width; done: called after each."""
    points = []
    for width in sorted({*BEAM_WIDTHS, settings.beam_width}):
        decoder = BeamSearchDecoder(alphabet, replace(settings, beam_width=width), scorer)
        points.append(BeamPoint(width, _rate(recognitions, decoder)))
        done()
    return points


def weight_points(
    recognitions: Sequence[Recognition],
    alphabet: Alphabet,
    settings: BeamSettings,
    scorer: Scorer,
    done: Callable[[], object],
) -> list[WeightPoint]:
    """The rate over ALPHAS and BETAS; done: called after each."""
    points = []
    for alpha in ALPHAS:
        for beta in BETAS:
            weighted = replace(settings, alpha=alpha, beta=beta)
            decoder = BeamSearchDecoder(alphabet, weighted, scorer)
            points.append(WeightPoint(alpha, beta, _rate(recognitions, decoder)))
            done()
    return points


def _rate(recognitions: Sequence[Recognition], decoder: BeamSearchDecoder) -> float:
    texts = decoder.decode_batch(each.log_probs for each in recognitions)
    errors = [
        error_rates.word_errors(each.reference, text)
        for each, text in zip(recognitions, texts, strict=True)
    ]
    return sum(errors, Errors()).rate
