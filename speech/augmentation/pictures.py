"""Draws the effect of each augmentation, for `python -m speech.augmentation --show`."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import tensorflow as tf

import constants
from speech.audio.types import RecordedSamples
from speech.augmentation import features as augment
from speech.augmentation import waveform
from speech.augmentation.grammar import SIGNAL_KINDS, parse_signal
from speech.features.front_end import FrontEnd, extract
from speech.features.types import Features

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE = "augment.png"

# Each kind, strong enough to be visible. The noise is a synthetic hiss.
NOISE_FILE = "hiss.wav"
SHOWN_FEATURES = (
    "frequency_mask[n=2,size=8~4]",
    "time_mask[n=2,size=200~100]",
    "warp[nt=2,nf=2,wt=0.8,wf=0.5]",
    "tempo[factor=1.4]",
    "pitch[pitch=1.3]",
    "dropout[rate=0.2]",
    "add[stddev=0.7]",
    "multiply[stddev=0.7]",
    "specaugment",
)
SHOWN_SIGNAL = (
    "overlay[source={noise},snr=5]",
    "reverb[delay=40,decay=3]",
    "resample[rate=4000]",
    "codec[bitrate=6000]",
    "codec[codec=gsm]",
    "volume[dbfs=-45]",
    "speed[factor=0.8]",
)

COLUMNS = 3  # pairs of before and after
STRIDE = 2  # of the default network; without effect, as there is no label that tempo must keep
LONGEST_SECONDS = 4.0  # of a recording; more would be too narrow


@dataclass(frozen=True, eq=False)
class Panel:
    """Features and their augmentation."""

    title: str
    features: Features  # [frames, bins]


def augmented_panels(
    samples: RecordedSamples, front_end: FrontEnd, texts: Sequence[str]
) -> list[Panel]:
    """Applies each specification, of features or of recordings, to a sound.

    Probabilities count as 1, and ranges have the values of their start.

    Args:
        samples: int16 or float32 [samples] at int16 scale; at least one.
    """
    return [
        Panel(
            text,
            _of_signal(samples, front_end, text)
            if text.strip().partition("[")[0] in SIGNAL_KINDS
            else _of_features(samples, front_end, text),
        )
        for text in texts
    ]


def _of_signal(samples: RecordedSamples, front_end: FrontEnd, text: str) -> Features:
    rng = np.random.default_rng(constants.RANDOM_SEED)
    changed = waveform.change(
        samples.astype(np.float64), parse_signal(text), rng, 0.0, front_end.sample_rate
    )
    return extract(waveform.as_recorded(changed), front_end)


def _of_features(samples: RecordedSamples, front_end: FrontEnd, text: str) -> Features:
    features = extract(samples, front_end)
    certain = [replace(each, probability=1.0) for each in augment.parse_all([text], FrontEnd())]
    utterance = {"features": tf.constant(features), "label": tf.zeros([0], tf.int32)}
    conditions = augment.Conditions(front_end, most_frames=10 * len(features), stride=STRIDE)
    seed = tf.constant([constants.RANDOM_SEED, 0])
    changed = augment.apply_all(certain, utterance, seed, tf.constant(0.0), conditions)
    return np.asarray(changed["features"].numpy())


def sentence() -> RecordedSamples:
    """Returns a synthetic sentence of vowels, hisses and pauses; int16 [samples]."""
    rate = constants.SAMPLE_RATE
    rng = np.random.default_rng(constants.RANDOM_SEED)
    # Resonances of a, i, u, e, o in Hz; 0 is a hiss, None a pause.
    sounds: list[tuple[int, int, int] | int | None] = [
        *((730, 1090, 2440), 0, (270, 2290, 3010), (530, 1840, 2480), None),
        *((300, 870, 2240), 0, (570, 840, 2410), (270, 2290, 3010), None, (730, 1090, 2440)),
    ]
    pieces = []
    for number, sound in enumerate(sounds):
        length = int(rate * rng.uniform(0.14, 0.26))
        envelope = np.sin(np.pi * np.arange(length) / length) ** 0.5
        piece: np.ndarray = np.zeros(length)
        if sound == 0:
            piece = 400 * np.diff(rng.normal(size=length + 1))
        elif sound is not None and not isinstance(sound, int):
            pitch = 130 - 3 * number + 20 * np.sin(np.pi * np.arange(length) / length)
            phase = 2 * np.pi * np.cumsum(pitch) / rate
            for harmonic in range(1, 40):
                near = [np.exp(-(((harmonic * 125 - centre) / 180) ** 2)) for centre in sound]
                strength = 0.02 + near[0] + 0.5 * near[1] + 0.25 * near[2]
                piece += 2500 * strength * np.sin(harmonic * phase)
        pieces.append(piece * envelope)
    samples = np.concatenate(pieces)
    # No room is silent.
    return waveform.as_recorded(samples + rng.normal(size=len(samples)) * 8)


@contextmanager
def hiss(rate: int) -> "Iterator[str]":
    """Yields the path of a file of noise with more low than high frequencies."""
    with tempfile.TemporaryDirectory() as folder:
        white = np.fft.rfft(np.random.default_rng(2).normal(size=4 * rate))
        coloured = np.fft.irfft(white / np.sqrt(1 + np.arange(len(white)) / rate))
        path = os.path.join(folder, NOISE_FILE)
        soundfile.write(path, coloured / np.abs(coloured).max() * 0.5, rate)
        yield path


def figure(before: Panel, after: Sequence[Panel], front_end: FrontEnd) -> "Figure":
    """Draws pairs of panels: the features before, and after each augmentation."""
    # Not pyplot, which keeps figures and a backend for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(after))
    rows = -(-len(after) // columns)
    drawn = Figure(figsize=(7.5 * columns, 2.3 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(drawn)
    drawn.suptitle(
        f"Normalised log mel energies of {front_end.bins} filters before (left) and after (right)"
    )
    seconds = front_end.step_seconds * max(len(each.features) for each in (before, *after))
    grid = drawn.subplots(rows, 2 * columns, squeeze=False, sharex=True, sharey=True)
    cells = grid.reshape(rows * columns, 2)
    for number, (left, right) in enumerate(cells):
        if number >= len(after):
            left.set_axis_off()
            right.set_axis_off()
            continue
        _draw_panel(left, before, front_end)
        _draw_panel(right, after[number], front_end)
        left.set_ylabel("bin")
        left.set_xlim(0, seconds)
        for axes in (left, right) if number >= len(after) - columns else ():  # the last row
            axes.set_xlabel("seconds")
            axes.tick_params(labelbottom=True)
    return drawn


def _draw_panel(axes: "Axes", panel: Panel, front_end: FrontEnd) -> None:
    frames, bins = panel.features.shape
    axes.imshow(
        panel.features.T,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap="viridis",
        vmin=-2.0,
        vmax=2.5,
        extent=(0, frames * front_end.step_seconds, 0, bins),
    )
    axes.set_title(panel.title, fontsize=10, parse_math=False)
