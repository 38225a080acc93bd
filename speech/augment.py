"""Augmentation of features while they are read: parts of a spectrogram are hidden at random.

SpecAugment (arXiv 1904.08779) in Mozilla DeepSpeech's grammar, so that its recipes carry over:

    frequency_mask[p=1,n=2,size=10]   hides n bands of `size` bins
    time_mask[p=1,n=2,size=100]       hides n stretches of `size` milliseconds

`p` is the probability that an utterance is touched. A value `v~r` is drawn evenly from v-r to v+r.
"""

import re
from dataclasses import dataclass

import tensorflow as tf

from utils import UserError

KINDS = ("frequency_mask", "time_mask")


@dataclass(frozen=True)
class Range:
    """A number drawn evenly from [value - radius, value + radius]."""

    value: float
    radius: float = 0.0

    def draw(self, seed: tf.Tensor) -> tf.Tensor:
        """float32 scalar; seed: int32 [2]."""
        low, high = self.value - self.radius, self.value + self.radius
        return low + (high - low) * tf.random.stateless_uniform([], seed)


@dataclass(frozen=True)
class Mask:
    """Hides parts of the features along one axis."""

    kind: str  # of KINDS
    probability: float = 1.0  # that an utterance is touched
    count: Range = Range(1)  # of the hidden parts
    size: Range = Range(1)  # of each: bins, or milliseconds

    def apply(self, features: tf.Tensor, seed: tf.Tensor, step_seconds: float) -> tf.Tensor:
        """Features [frames, bins] with the parts set to 0, the mean of normalised features.

        Args:
            seed: int32 [2]; the same seed hides the same parts.
            step_seconds: between two frames.
        """
        axis = 1 if self.kind == "frequency_mask" else 0
        unit = 1.0 if self.kind == "frequency_mask" else 1000.0 * step_seconds
        extent = tf.shape(features)[axis]
        positions = tf.range(extent)
        touched, count = tf.random.stateless_uniform([], seed), self.count.draw(seed + [0, 1])
        parts = int(self.count.value + self.count.radius)
        hidden = tf.zeros_like(positions, tf.bool)  # [extent]
        for part in range(parts):
            size = tf.cast(tf.round(self.size.draw(seed + [1, part]) / unit), tf.int32)
            size = tf.clip_by_value(size, 0, extent)
            place = tf.random.stateless_uniform([], seed + [2, part])
            start = tf.cast(place * tf.cast(extent - size + 1, tf.float32), tf.int32)
            inside = tf.logical_and(positions >= start, positions < start + size)
            wanted = tf.logical_and(
                touched < self.probability, part < tf.cast(tf.round(count), tf.int32)
            )
            hidden = tf.logical_or(hidden, tf.logical_and(inside, wanted))
        return tf.where(tf.expand_dims(hidden, 1 - axis), 0.0, features)


def parse(specification: str) -> Mask:
    """The augmentation that a text such as `time_mask[p=0.5,n=2,size=50~20]` asks for.

    Raises:
        UserError: names what can't be understood.
    """
    match = re.fullmatch(r"(\w+)(?:\[(.*)\])?", specification.strip())
    if not match or match[1] not in KINDS:
        raise UserError(
            f"--augment={specification} is not known: write {' or '.join(KINDS)}, as in "
            "time_mask[p=0.5,n=2,size=50~20]."
        )
    values = {"p": Range(1.0), "n": Range(1.0), "size": Range(1.0)}
    for entry in filter(None, (match[2] or "").split(",")):
        key, _, value = entry.partition("=")
        number = re.fullmatch(r"(\d+\.?\d*)(?:~(\d+\.?\d*))?", value.strip())
        if key.strip() not in values or not number:
            raise UserError(
                f"--augment={specification}: {entry!r} is none of p=, n= and size= with a number "
                "or a range such as 50~20."
            )
        values[key.strip()] = Range(float(number[1]), float(number[2] or 0))
    if values["p"].value > 1 or values["p"].radius:
        raise UserError(f"--augment={specification}: p is one probability, at most 1.")
    return Mask(match[1], values["p"].value, values["n"], values["size"])


def apply_all(
    masks: list[Mask], features: tf.Tensor, seed: tf.Tensor, step_seconds: float
) -> tf.Tensor:
    """Features [frames, bins] after every mask in turn; seed: int32 [2]."""
    for number, mask in enumerate(masks):
        features = mask.apply(features, seed + [1000 * (number + 1), 0], step_seconds)
    return features
