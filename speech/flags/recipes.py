"""Recipes: defaults of several flags at once, those of another system."""

from typing import Any

from absl import flags

from speech.features import front_end
from speech.flags import kinds
from speech.networks.config import SIZES

# Recipe -> the defaults that it gives to flags.
RECIPES: dict[str, dict[str, Any]] = {
    # Mozilla DeepSpeech 0.9's training/deepspeech_training/util/flags.py.
    "deepspeech": {
        "features": front_end.DEEPSPEECH,
        "pad": False,
        "network": "deep_speech_lstm",
        "layer_norm_epsilon": 1e-12,
        "learning_rate": 1e-3,
        "learning_rate_schedule": "constant",
        "clip_gradients": 0.0,
        "dropout": 0.05,
    },
}


def define_recipe_flag() -> None:
    kinds.define_choice(
        "recipe",
        None,
        RECIPES,
        "Defaults of another system for the other flags: deepspeech takes Mozilla DeepSpeech's "
        "features, network and optimisation.",
    )


def apply_recipe(values: flags.FlagValues) -> None:
    """Gives the recipe's defaults to those of the door's flags that are not given.

    Sizes are those of the recipe's network and not applied to another one.
    """
    recipe = RECIPES.get(values.recipe, {})
    other_network = "network" in values and values["network"].present
    for flag, default in recipe.items():
        if flag not in values or values[flag].present or (other_network and flag in SIZES):
            continue
        values.set_default(flag, default)
