"""A new model that starts with the variables of a trained one: fine-tuning, other alphabets.

The network's variables are loaded, the moving averages among them; the optimizer and the steps
start from the beginning. The last layers can be dropped, as Mozilla DeepSpeech's
--drop_source_layers did: a model for another alphabet starts with all layers but the last.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from speech.engines import checkpoints
from speech.engines.engine import InitialValues
from speech.networks import registry
from speech.networks.config import (
    CONFIG_FILE,
    ModelConfig,
    NetworkConfig,
    as_flag,
    config_path,
    differing_fields,
    read_config,
)
from speech.system import mistaken_paths, storage
from utils import UTF_8, Alphabet, UserError

Shape = tuple[int, ...]

LOADED, DROPPED, FRESH = "loaded", "dropped", "fresh"

# The layers whose classes are the alphabet's and the lexicon's.
CHARACTERS, PHONES = "output", "phones"


@dataclass(frozen=True)
class Source:
    """The trained model whose variables are loaded."""

    checkpoint: str
    config: ModelConfig


@dataclass(frozen=True)
class Layout:
    """The variables of a network, moving averages among them, and its layers."""

    layers: tuple[str, ...]  # first to last, each the prefix of its variables' names
    shapes: dict[str, Shape]  # in the layers' order

    def layer_of(self, variable: str) -> int | None:
        """Returns the number of a variable's layer; None if it belongs to none."""
        prefix = variable.partition("/")[0]
        return self.layers.index(prefix) if prefix in self.layers else None


@dataclass(frozen=True)
class Row:
    """A variable, and whether it is loaded."""

    variable: str
    shape: Shape  # in the new model; of a variable that it doesn't have, in the source
    fate: str  # LOADED; DROPPED: the source's values aren't loaded; FRESH: the source has none
    source_shape: Shape | None = None  # where it differs

    @property
    def parameters(self) -> int:
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Transfer:
    """The variables that a new model takes from a source."""

    source: Source
    rows: tuple[Row, ...]

    @property
    def loaded(self) -> list[str]:
        """Names of the variables that start with the source's values."""
        return [row.variable for row in self.rows if row.fate == LOADED]

    def parameters(self, fate: str) -> int:
        return sum(row.parameters for row in self.rows if row.fate == fate)

    def initial_values(self) -> InitialValues:
        """Returns the variables that an engine loads."""
        return InitialValues(self.source.checkpoint, tuple(self.loaded))

    def table(self) -> str:
        """Formats a line for each variable, and the number of parameters of each fate."""
        cells = [("variable", "shape", "parameters", "")]
        for row in self.rows:
            shape = _text(row.shape)
            if row.source_shape is not None:
                shape = f"{_text(row.source_shape)} -> {shape}"
            cells.append((row.variable, shape, f"{row.parameters:,}", row.fate))
        names, shapes, numbers = (max(len(line[each]) for line in cells) for each in range(3))
        lines = [
            f"{name:{names}}  {shape:{shapes}}  {number:>{numbers}}  {fate}".rstrip()
            for name, shape, number, fate in cells
        ]
        sums = (f"{self.parameters(fate):,} {fate}" for fate in (LOADED, DROPPED, FRESH))
        return "\n".join([*lines, f"parameters: {', '.join(sums)}"])


def find_source(path: str) -> Source:
    """Finds the model that --init_checkpoint names.

    Args:
        path: a model directory (its best checkpoint, or the latest if there is no best one),
            a folder of checkpoints in one, or one of its checkpoints.

    Raises:
        UserError: there is no checkpoint, or no config that belongs to it.
    """
    path = path.rstrip("/")
    folders = (storage.join(path, checkpoints.BEST), path)
    latest = (checkpoints.latest_checkpoint(folder) for folder in folders)
    checkpoint = next((each for each in latest if each), path)
    if not tf.io.gfile.exists(f"{checkpoint}.index"):
        raise UserError(
            mistaken_paths.explain_model(path)
            or f"--init_checkpoint={path} holds no checkpoint and is none: give a folder in "
            "which training.py has trained a model, or one of its checkpoints without the ending, "
            "as in model/model.ckpt-1000."
        )
    folder = checkpoint.rpartition("/")[0] or "."
    for candidate in (folder, folder.rpartition("/")[0] or "."):
        if storage.exists(config_path(candidate)):
            return Source(checkpoint, read_config(candidate))
    raise UserError(
        mistaken_paths.explain_model(path)
        or f"--init_checkpoint={path}: neither {folder} nor the folder it is in has a "
        f"{CONFIG_FILE}, which describes the model of {checkpoint}. Copy the one that training.py "
        "wrote."
    )


def layout_of(config: NetworkConfig) -> Layout:
    """Lists the variables of a network; nothing is computed."""
    with tf.Graph().as_default():
        network = registry.build(config)
        layers = tuple(network.layers)
        unordered = {each.op.name: tuple(each.shape.as_list()) for each in network.variables}
    layer_of = Layout(layers, unordered).layer_of
    names = sorted(unordered, key=lambda name: (layer_of(name) or 0, name))
    return Layout(layers, {name: unordered[name] for name in names})


def plan(source: Source, config: ModelConfig, drop_layers: int) -> Transfer:
    """Plans which variables the model of `config` takes from a source.

    Args:
        drop_layers: number of the new network's last layers that aren't loaded.

    Raises:
        UserError: another front end or kind of network; another alphabet whose layer isn't dropped;
            shapes that differ outside of the dropped layers.
    """
    _check_alike(source, config)
    source_layout, layout = layout_of(source.config.network), layout_of(config.network)
    if not 0 <= drop_layers < len(layout.layers):
        raise UserError(
            f"--drop_layers={drop_layers}: the network's layers are {', '.join(layout.layers)}. "
            f"Drop {len(layout.layers) - 1} at most, or leave out --init_checkpoint."
        )
    kept = layout.layers[: len(layout.layers) - drop_layers]
    _check_classes(source, config, kept, len(layout.layers))
    rows, wrong = [], []
    for name, shape in layout.shapes.items():
        before = source_layout.shapes.get(name)
        layer = layout.layer_of(name)
        differing = before if before != shape else None
        if before is None:
            rows.append(Row(name, shape, FRESH))
        elif layer is not None and layer >= len(kept):
            rows.append(Row(name, shape, DROPPED, differing))
        elif differing is None:
            rows.append(Row(name, shape, LOADED))
        else:
            wrong.append(Row(name, shape, LOADED, differing))
    if wrong:
        raise UserError(_wrong_shapes(source, config, layout, wrong))
    for name, shape in source_layout.shapes.items():
        if name not in layout.shapes:
            rows.append(Row(name, shape, DROPPED))
    return Transfer(source, tuple(rows))


def _check_alike(source: Source, config: ModelConfig) -> None:
    differences = differing_fields(source.config.front_end, config.front_end, "in the shards")
    if differences:
        raise UserError(
            f"The shards don't match the model of --init_checkpoint, {source.checkpoint}: "
            f"{'; '.join(differences)}. Prepare them with that model's settings."
        )
    before, now = source.config.network.name, config.network.name
    if before != now:
        raise UserError(
            f"{source.checkpoint} is a network {before}, --network={now} is another one, and "
            f"nothing can be loaded. Give --network={before}, or another --init_checkpoint."
        )
    for size in ("layer_norm", "layer_norm_epsilon"):
        there, here = getattr(source.config.network, size), getattr(config.network, size)
        if there != here and source.config.network.layer_norm:
            raise UserError(
                f"{source.checkpoint} has --{size}={as_flag(there)}, and {as_flag(here)} was given "
                "or is the default: give the model's."
            )


def _check_classes(source: Source, config: ModelConfig, kept: Sequence[str], layers: int) -> None:
    """Raises a UserError if a layer is kept whose classes are other characters or phones."""
    if CHARACTERS in kept:
        _check_alphabet(source, config.alphabet, layers - kept.index(CHARACTERS))
    if PHONES in kept:
        _check_phones(source, config, layers - kept.index(PHONES))


def _check_alphabet(source: Source, alphabet: Alphabet, drop_layers: int) -> None:
    """Raises a UserError if the alphabet isn't the source's; drop_layers: the remedy."""
    before, now = source.config.alphabet, alphabet
    if before == now:
        return
    if UTF_8 in (before, now):
        differences = [f"{before} in the model", f"{now} in the shards"]
    else:
        gone = "".join(each for each in before.characters if each not in now.characters)
        new = "".join(each for each in now.characters if each not in before.characters)
        differences = [
            *([f"{gone!r} only in the model"] if gone else []),
            *([f"{new!r} only in the shards"] if new else []),
        ] or ["the same characters in another order"]
    raise UserError(
        f"The alphabet of the shards isn't that of the model of --init_checkpoint, "
        f"{source.checkpoint}: {', '.join(differences)}. Give --drop_layers={drop_layers}, which "
        "trains the layer of the characters from the beginning."
    )


def _check_phones(source: Source, config: ModelConfig, drop_layers: int) -> None:
    """Raises a UserError if the phones aren't the source's; drop_layers: the remedy."""
    before, now = source.config.network.phones, config.network.phones
    if before and before != now:
        raise UserError(
            f"The phones of --lexicon aren't those of the model of --init_checkpoint, "
            f"{source.checkpoint}: {' '.join(before[1:-1])} there, {' '.join(now[1:-1])} here. "
            f"Give --drop_layers={drop_layers}, which trains the layer of the phones from the "
            "beginning."
        )


def _wrong_shapes(source: Source, config: ModelConfig, layout: Layout, wrong: list[Row]) -> str:
    named = ", ".join(
        f"{row.variable} is {_text(row.source_shape)} there and {_text(row.shape)} here"
        for row in wrong
    )
    sizes = differing_fields(source.config.network, config.network, "given")
    layers = [layout.layer_of(row.variable) for row in wrong]
    remedy = "Give the network that model's sizes"
    # A variable outside of all layers, or in the first one, can't be dropped.
    dropped = [len(layout.layers) - layer for layer in layers if layer]
    if len(dropped) == len(layers):
        remedy += f", or drop at least the layers that differ: --drop_layers={max(dropped)}"
    return (
        f"The network's shapes aren't those of the model of --init_checkpoint, "
        f"{source.checkpoint}: {named} ({'; '.join(sizes)}). {remedy}."
    )


def _text(shape: Shape | None) -> str:
    return " x ".join(map(str, shape)) if shape else "scalar"
