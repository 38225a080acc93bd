"""Flags of the beam search and its scorer."""

from dataclasses import replace

from absl import flags

import constants
from speech.decoding.beam_search import DEFAULTS, BeamSettings, parse_hot_word
from speech.decoding.scorer import STRICT_PENALTY, UNKNOWN_PENALTY
from speech.flags import kinds
from utils import UserError


def define_decoder_flags() -> None:
    """Defines the flags of the scorer and of the search; names and defaults are DeepSpeech's."""
    flags.DEFINE_string("scorer", None, "Scorer of build_lm.py or of DeepSpeech; default: none.")
    kinds.define_alias("scorer_path", "scorer")
    kinds.define_number(
        "lm_alpha", None, "Weight of the language model; default: the scorer's.", lower_bound=0
    )
    kinds.define_number("lm_beta", None, "Bonus of each word, in nats; default: the scorer's.")
    flags.DEFINE_list(
        "hot_words", [], "Words to favour, each with its bonus in nats, e.g. word:7.5,other:3."
    )
    define_search_flags()


def define_search_flags() -> None:
    """Defines the flags of the search alone, without weights and hot words."""
    kinds.define_integer(
        "beam_width",
        constants.BEAM_WIDTH,
        "Number of prefixes that the beam search keeps.",
        lower_bound=1,
        upper_bound=constants.LARGEST_BEAM_WIDTH,
    )
    kinds.define_number(
        "cutoff_prob",
        DEFAULTS.cutoff_prob,
        "Sum of probabilities after which the search tries no further classes at an output, above "
        "0; 1 tries all.",
        lower_bound=0,
        upper_bound=1,
    )
    kinds.define_integer(
        "cutoff_top_n",
        DEFAULTS.cutoff_top_n,
        "Maximum number of classes that the search tries at an output, the most probable first.",
        lower_bound=1,
    )
    kinds.define_number(
        "unknown_penalty",
        None,
        "Penalty of a word outside the scorer's vocabulary, in nats; long words lose more. "
        f"Default: {UNKNOWN_PENALTY:g}; with a scorer of DeepSpeech {STRICT_PENALTY:g}, so that "
        "there is none, and always so with one of pronunciations.",
        lower_bound=0,
    )


def search_settings_from_flags(values: flags.FlagValues) -> BeamSettings:
    """Reads the settings of the search alone; weights are the scorer's.

    Raises:
        UserError: a value is out of its range.
    """
    return BeamSettings(
        values.beam_width,
        values.cutoff_prob,
        values.cutoff_top_n,
        unknown_penalty=values.unknown_penalty,
    )


def beam_settings_from_flags(values: flags.FlagValues) -> BeamSettings:
    """Reads the settings of the search, with weights and hot words.

    Raises:
        UserError: a value is out of its range, weights are given without a scorer, or hot words
            can't be read.
    """
    if not values.scorer and (values.lm_alpha is not None or values.lm_beta is not None):
        raise UserError("--lm_alpha and --lm_beta weight a language model: give --scorer too.")
    return replace(
        search_settings_from_flags(values),
        alpha=values.lm_alpha,
        beta=values.lm_beta,
        hot_words=tuple(map(parse_hot_word, values.hot_words)),
    )
