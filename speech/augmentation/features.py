"""Augments features while training reads them, in the grammar of augmentation/grammar.py.

Every utterance is changed differently in each epoch: seed, progress and utterance determine its
features. Features are normalised, so that 0 is the mean of a bin.

    python -m speech.augmentation --show   draws the effect of each kind, those of preparation too
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Sets the log level that TensorFlow reads when it is imported.
import constants  # noqa: F401  # isort: skip
import tensorflow as tf

from speech.augmentation.grammar import Specification, parse_features
from speech.features.front_end import FrontEnd
from utils import UserError

# Mel scale of python_speech_features, which computes the filters.
MEL_BREAK = 700.0  # Hz


@dataclass(frozen=True)
class Conditions:
    """Limits of the batches and the network, and the front end of the features."""

    front_end: FrontEnd
    most_frames: int  # maximum of an utterance
    stride: int  # frames per output of the network


@dataclass(frozen=True)
class _Draws:
    """Random numbers of one augmentation of one utterance."""

    specification: Specification
    seed: tf.Tensor  # int32 [2]
    progress: tf.Tensor  # float32 []

    def values(self, name: str, count: int) -> tf.Tensor:
        """Draws from the range of a parameter: float32 [count], rounded for whole numbers."""
        drawn = self.specification.ranges[name]
        names = sorted(self.specification.ranges)
        uniform = tf.random.stateless_uniform([count], self.other_seed(names.index(name)), -1, 1)
        values = drawn.at(self.progress) + drawn.radius * uniform
        return tf.round(values) if name in self.specification.whole else values

    def value(self, name: str) -> tf.Tensor:
        """Draws one value, float32 []."""
        return self.values(name, 1)[0]

    def other_seed(self, number: int) -> tf.Tensor:
        """Returns the seed, int32 [2], of draws that are independent of those of other numbers."""
        return tf.random.experimental.stateless_fold_in(self.seed, number)


@dataclass(frozen=True)
class _Utterance:
    """Limits of one utterance."""

    conditions: Conditions
    least_frames: tf.Tensor  # int32 [], minimum for which CTC can align its label


# (features [frames, bins], draws, utterance) -> features
_Change = Callable[[tf.Tensor, _Draws, _Utterance], tf.Tensor]

# Numbers of draws other than those of the parameters, which count from 0.
_CHANGED, _PLACES, _VALUES, _MORE_VALUES = 100, 101, 102, 103


def parse_all(specifications: Sequence[str], front_end: FrontEnd) -> tuple[Specification, ...]:
    """Parses the augmentations of --augment; presets are replaced by their parts.

    Raises:
        UserError: an augmentation can't be parsed or doesn't suit these features.
    """
    parsed = parse_features(specifications, front_end.features)
    for each in parsed:
        moves = each.kind == "pitch" or (each.kind == "warp" and each.ranges["wf"].largest)
        if front_end.deltas and moves:
            raise UserError(
                f"--augment={each.text} moves energy from one frequency to another, which is not "
                "possible for features with deltas: omit it, or prepare with --deltas=0."
            )
    return parsed


def apply_all(
    augmentations: Sequence[Specification],
    utterance: dict[str, tf.Tensor],
    seed: tf.Tensor,
    progress: tf.Tensor,
    conditions: Conditions,
) -> dict[str, tf.Tensor]:
    """Returns an utterance after all augmentations, in their order.

    Args:
        utterance: features float32 [frames, bins], feature_length int32 [], label int32 [labels]
            without padding, and other tensors, which stay.
        seed: int32 [2].
        progress: float32 [], of training: 0 at its first step, 1 at its last.

    Returns:
        the utterance with other features and feature_length. It has at most conditions.most_frames
        and enough frames for CTC to align its label, unless there were too few before.
    """
    features = utterance["features"]  # [frames, bins]
    known = _Utterance(conditions, _frames_to_align(utterance["label"], conditions.stride))
    for number, specification in enumerate(augmentations):
        own_seed = tf.random.experimental.stateless_fold_in(seed, number)
        draws = _Draws(specification, own_seed, progress)
        features = _apply(features, draws, known)
    features = tf.ensure_shape(features, [None, utterance["features"].shape[1]])
    return {**utterance, "features": features, "feature_length": tf.shape(features)[0]}


def _apply(features: tf.Tensor, draws: _Draws, utterance: _Utterance) -> tf.Tensor:
    change = _CHANGES[draws.specification.kind]
    probability = draws.specification.probability
    if probability == 1:
        return change(features, draws, utterance)
    return tf.cond(
        tf.random.stateless_uniform([], draws.other_seed(_CHANGED)) < probability,
        lambda: change(features, draws, utterance),
        lambda: features,
    )


def _frames_to_align(label: tf.Tensor, stride: int) -> tf.Tensor:
    """Returns the frames for CTC's minimum outputs: one per label, one between two equal ones."""
    repeats = tf.math.count_nonzero(tf.equal(label[1:], label[:-1]), dtype=tf.int32)
    outputs = tf.size(label) + repeats
    return tf.maximum((outputs - 1) * stride + 1, 1)


# --- Masks and noise ------------------------------------------------------------------------------


def _frequency_mask(features: tf.Tensor, draws: _Draws, utterance: _Utterance) -> tf.Tensor:
    hidden = _hidden(tf.shape(features)[1], draws, 1.0)  # [bins]
    return tf.where(hidden[tf.newaxis, :], 0.0, features)


def _time_mask(features: tf.Tensor, draws: _Draws, utterance: _Utterance) -> tf.Tensor:
    milliseconds = 1000.0 * utterance.conditions.front_end.step_seconds
    hidden = _hidden(tf.shape(features)[0], draws, milliseconds)  # [frames]
    return tf.where(hidden[:, tf.newaxis], 0.0, features)


def _hidden(extent: tf.Tensor, draws: _Draws, unit: float) -> tf.Tensor:
    """Marks n random parts of an axis: bool [extent]; unit: the size of one place."""
    parts = round(draws.specification.ranges["n"].largest)
    sizes = tf.cast(tf.round(draws.values("size", parts) / unit), tf.int32)
    sizes = tf.clip_by_value(sizes, 0, extent)  # [parts]
    places = tf.random.stateless_uniform([parts], draws.other_seed(_PLACES))
    starts = tf.cast(places * tf.cast(extent - sizes + 1, tf.float32), tf.int32)
    wanted = tf.range(parts, dtype=tf.float32) < draws.value("n")
    positions = tf.range(extent)[:, tf.newaxis]
    inside = tf.logical_and(positions >= starts, positions < starts + sizes)  # [extent, parts]
    return tf.reduce_any(tf.logical_and(inside, wanted), axis=1)


def _dropout(features: tf.Tensor, draws: _Draws, utterance: _Utterance) -> tf.Tensor:
    uniform = tf.random.stateless_uniform(tf.shape(features), draws.other_seed(_VALUES))
    return tf.where(uniform < draws.value("rate"), 0.0, features)


def _add(features: tf.Tensor, draws: _Draws, utterance: _Utterance) -> tf.Tensor:
    normal = tf.random.stateless_normal(tf.shape(features), draws.other_seed(_VALUES))
    return features + draws.value("stddev") * normal


def _multiply(features: tf.Tensor, draws: _Draws, utterance: _Utterance) -> tf.Tensor:
    normal = tf.random.stateless_normal(tf.shape(features), draws.other_seed(_VALUES))
    return features * (1.0 + draws.value("stddev") * normal)


# --- Changes of time and frequency ----------------------------------------------------------------


def _tempo(features: tf.Tensor, draws: _Draws, utterance: _Utterance) -> tf.Tensor:
    frames = tf.shape(features)[0]
    wanted = tf.cast(tf.round(tf.cast(frames, tf.float32) / draws.value("factor")), tf.int32)
    # An utterance that couldn't be aligned before may keep its length.
    least = tf.minimum(utterance.least_frames, frames)
    wanted = tf.clip_by_value(wanted, least, utterance.conditions.most_frames)
    scale = tf.cast(frames, tf.float32) / tf.cast(wanted, tf.float32)
    # The middle of a frame becomes the middle of a frame.
    middles = tf.range(tf.cast(wanted, tf.float32)) + 0.5
    return _between_rows(features, middles * scale - 0.5)


def _pitch(features: tf.Tensor, draws: _Draws, utterance: _Utterance) -> tf.Tensor:
    sources = _bins_of_pitch(utterance.conditions, tf.shape(features)[1], draws.value("pitch"))
    return tf.transpose(_between_rows(tf.transpose(features), sources))


def _bins_of_pitch(conditions: Conditions, bins: tf.Tensor, pitch: tf.Tensor) -> tf.Tensor:
    """Returns the place of each bin's energy before frequencies are multiplied: float32 [bins]."""
    own = tf.range(tf.cast(bins, tf.float32))
    if conditions.front_end.features == "spectrogram":
        return own / pitch
    lowest = _mel(tf.constant(conditions.front_end.lowest_frequency))
    highest = _mel(tf.constant(conditions.front_end.highest_frequency))
    distance = (highest - lowest) / tf.cast(bins + 1, tf.float32)
    frequencies = MEL_BREAK * (tf.exp(lowest + (own + 1.0) * distance) - 1.0)  # of the filters
    return (_mel(frequencies / pitch) - lowest) / distance - 1.0


def _mel(frequency: tf.Tensor) -> tf.Tensor:
    return tf.math.log1p(frequency / MEL_BREAK)


def _warp(features: tf.Tensor, draws: _Draws, utterance: _Utterance) -> tf.Tensor:
    shape = tf.shape(features)
    nt, nf = (tf.cast(tf.maximum(draws.value(name), 0), tf.int32) for name in ("nt", "nf"))
    in_time = _shifts(nt, nf, shape, draws.value("wt"), draws.other_seed(_VALUES))
    swapped = tf.reverse(shape, [0])
    in_frequency = _shifts(nf, nt, swapped, draws.value("wf"), draws.other_seed(_MORE_VALUES))
    times = tf.range(tf.cast(shape[0], tf.float32)) - tf.transpose(in_time)  # [bins, frames]
    bins = tf.range(tf.cast(shape[1], tf.float32)) - tf.transpose(in_frequency)  # [frames, bins]
    warped = _between_columns(tf.transpose(features), times)  # [bins, frames]
    return _between_columns(tf.transpose(warped), bins)


def _shifts(
    lines: tf.Tensor, across: tf.Tensor, shape: tf.Tensor, warp: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    """Returns how far every place moves along the first axis: float32 `shape`, in places.

    The intersections of `lines` and lines `across` them move by at most half the distance to the
    next line, so that none overtakes another. The edges of the first axis stay; everything beyond
    the last line across moves with that line, so that with one line across a whole line moves.
    """
    half = tf.cast(shape[0] - 1, tf.float32) / tf.cast(2 * (lines + 1), tf.float32)
    drawn = tf.random.stateless_normal(tf.stack([lines, tf.maximum(across, 1)]), seed) * warp
    points = tf.pad(tf.clip_by_value(drawn, -1.0, 1.0) * half, [[1, 1], [0, 0]])
    return _spread(tf.pad(points, [[0, 0], [1, 1]], "SYMMETRIC"), shape)


def _spread(grid: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Interpolates a grid, whose outermost lines are the edges, at every place of `shape`."""
    for _ in range(2):
        lines, extent = tf.shape(grid)[0], shape[0]
        places = tf.linspace(0.0, tf.cast(lines - 1, tf.float32), extent)
        grid = tf.transpose(_between_rows(grid, places))
        shape = tf.reverse(shape, [0])
    return grid


def _between_rows(values: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Interpolates rows at places, the outermost ones beyond the edges; values: [rows, columns].

    Args:
        places: float32 [number].

    Returns:
        float32 [number, columns].
    """
    below, above, share = _neighbours(places, tf.shape(values)[0])
    share = share[:, tf.newaxis]
    return tf.gather(values, below) * (1.0 - share) + tf.gather(values, above) * share


def _between_columns(values: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Interpolates the columns of each row at the row's places; both: [rows, number]."""
    below, above, share = _neighbours(places, tf.shape(values)[1])
    lower = tf.gather(values, below, batch_dims=1)
    return lower * (1.0 - share) + tf.gather(values, above, batch_dims=1) * share


def _neighbours(places: tf.Tensor, extent: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the whole places below and above, int32, and the share of the one above, float32."""
    places = tf.clip_by_value(places, 0.0, tf.cast(extent - 1, tf.float32))
    below = tf.cast(places, tf.int32)
    return below, tf.minimum(below + 1, extent - 1), places - tf.cast(below, tf.float32)


_CHANGES: dict[str, _Change] = {
    "frequency_mask": _frequency_mask,
    "time_mask": _time_mask,
    "warp": _warp,
    "tempo": _tempo,
    "pitch": _pitch,
    "dropout": _dropout,
    "add": _add,
    "multiply": _multiply,
}
