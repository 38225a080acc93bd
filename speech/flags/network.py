"""Flags of the network and of what a training step computes, which training and its check share."""

from typing import Any

from absl import flags

import constants
from speech.flags import kinds
from speech.networks.config import SIZES, NetworkChoice, as_flag
from utils import UserError

# The flags that make a network what it is.
NETWORK_FLAGS = ("network", *SIZES)


def define_network_flags() -> None:
    """Defines the flags of the network, and those of a step's dropout and precision."""
    kinds.define_choice(
        "network",
        constants.NETWORK,
        constants.NETWORK_SIZES,
        "Acoustic model, which has some of the sizes below.",
    )
    for define, size, meaning in (
        (flags.DEFINE_list, "conv_channels", "Output channels, one number per convolution."),
        (
            kinds.define_integer,
            "context_size",
            "Frames in the window of a convolution or the first layer.",
        ),
        (kinds.define_integer, "stride_size", "Frames between two outputs."),
        (kinds.define_integer, "dense_unit_size", "Units of a dense layer."),
        (kinds.define_integer, "recurrent_layers", "Number of recurrent layers."),
        (
            kinds.define_integer,
            "recurrent_unit_size",
            "Units of each direction of a recurrent layer.",
        ),
        (flags.DEFINE_bool, "layer_norm", "Layer normalisation of the dense layers' outputs."),
        (
            kinds.define_number,
            "layer_norm_epsilon",
            "Number that layer normalisation adds to the variance.",
        ),
        (kinds.define_integer, "blocks", "Number of Conformer blocks."),
        (kinds.define_integer, "attention_heads", "Heads of each block's self-attention."),
    ):
        define(size, None, f"{meaning} Default: {_defaults(size)}.")
    kinds.define_number(
        "dropout",
        constants.DROPOUT,
        "Dropout rate of the non-recurrent layers' outputs.",
        lower_bound=0,
        upper_bound=0.95,
    )
    kinds.define_alias("dropout_rate", "dropout")
    flags.DEFINE_bool(
        "bfloat16", False, "Matrix products in bfloat16; variables and loss stay float32."
    )


def _defaults(size: str) -> str:
    """Formats a size's default for each network that has it."""
    return "; ".join(
        f"{name} {as_flag(sizes[size])}"
        for name, sizes in constants.NETWORK_SIZES.items()
        if size in sizes
    )


def network_from_flags(values: Any) -> NetworkChoice:
    """Reads the network's flags; values: absl's FLAGS.

    Raises:
        UserError: --conv_channels has something else than whole numbers.
    """
    sizes = {size: getattr(values, size) for size in SIZES}
    if sizes["conv_channels"] is not None:
        try:
            sizes["conv_channels"] = tuple(int(each) for each in values.conv_channels)
        except ValueError:
            raise UserError(
                f"--conv_channels={','.join(values.conv_channels)} must be whole numbers, as in "
                "32,32,96."
            ) from None
    return NetworkChoice(values.network, sizes)
