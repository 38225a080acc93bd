"""Flags of the beam search and its scorer, which several doors have."""

from typing import Any

from absl import flags

import constants
from speech.decoding import beam_search, scorer
from speech.decoding.beam_search import BeamSettings
from speech.decoding.scorer import Scorer
from speech.system import command_line
from utils import Alphabet, UserError

DEFAULTS = BeamSettings()


def define_decoder_flags() -> None:
    """Mozilla DeepSpeech's names and defaults, where it has them."""
    flags.DEFINE_string("scorer", None, "The language model that build_lm.py made; none without.")
    command_line.define_number(
        "lm_alpha", None, "Weight of the language model; default: the scorer's.", lower_bound=0
    )
    command_line.define_number("lm_beta", None, "Nats that each word gains; default: the scorer's.")
    flags.DEFINE_list(
        "hot_words", [], "Words to listen for, and nats that each gains: word:7.5,other:3"
    )
    define_search_flags()


def define_search_flags() -> None:
    """Those that don't weight anything, which the search for weights has as well."""
    command_line.define_integer(
        "beam_width",
        constants.BEAM_WIDTH,
        "Prefixes that the beam search keeps.",
        lower_bound=1,
        upper_bound=constants.LARGEST_BEAM_WIDTH,
    )
    command_line.define_number(
        "cutoff_prob",
        DEFAULTS.cutoff_prob,
        "In each frame, try only the most probable labels that sum up to it, above 0.",
        lower_bound=0,
        upper_bound=1,
    )
    command_line.define_integer(
        "cutoff_top_n",
        DEFAULTS.cutoff_top_n,
        "In each frame, try only so many labels, the most probable ones.",
        lower_bound=1,
    )
    command_line.define_number(
        "unknown_penalty",
        DEFAULTS.unknown_penalty,
        "Nats that a word loses that isn't in the scorer's vocabulary; long ones lose more.",
        lower_bound=0,
    )


def asked_settings(values: flags.FlagValues) -> BeamSettings:
    """What the flags ask for.

    Raises:
        UserError: the flags disagree, or hot words can't be read.
    """
    if not values.scorer and (values.lm_alpha is not None or values.lm_beta is not None):
        raise UserError("--lm_alpha and --lm_beta weight a language model: give --scorer too.")
    return BeamSettings(
        values.beam_width,
        values.cutoff_prob,
        values.cutoff_top_n,
        values.lm_alpha,
        values.lm_beta,
        values.unknown_penalty,
        tuple(map(beam_search.hot_word, values.hot_words)),
    )


def asked_scorer(path: str | None, alphabet: Alphabet, model_dir: str) -> Scorer | None:
    """The scorer of --scorer, if any.

    Raises:
        UserError: it can't be read, or is of another alphabet than the model.
    """
    if not path:
        return None
    found = scorer.read_scorer(path)
    scorer.check_alphabet(found, alphabet, model_dir)
    return found


def described(settings: BeamSettings, found: Scorer | None) -> dict[str, Any]:
    """The settings for a report: what was used, and nothing else."""
    described: dict[str, Any] = {"beam_width": settings.beam_width}
    if settings.cutoff_prob < 1:
        described["cutoff_prob"] = settings.cutoff_prob
    if settings.cutoff_top_n != DEFAULTS.cutoff_top_n:
        described["cutoff_top_n"] = settings.cutoff_top_n
    if found:
        weighted = weights(settings, found)
        described |= {"scorer": found.path, "alpha": weighted[0], "beta": weighted[1]}
        described["unknown_penalty"] = settings.unknown_penalty
    if settings.hot_words:
        described["hot_words"] = ",".join(f"{word}:{boost:g}" for word, boost in settings.hot_words)
    return described


def weights(settings: BeamSettings, found: Scorer) -> tuple[float, float]:
    """The alpha and beta that are used."""
    return (
        found.alpha if settings.alpha is None else settings.alpha,
        found.beta if settings.beta is None else settings.beta,
    )
