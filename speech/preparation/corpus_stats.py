"""Measures the lengths of a corpus and what limits on them would discard, before preparation.

Reads the lengths from the headers of the audio files, without decoding. Counts the utterances that
preparation would skip whatever the limits are, by reason; it can't detect files that are damaged
after the header.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from speech.corpora.utterance import Utterance
from speech.preparation.utterance import (
    UnusableError,
    check_lengths,
    count_samples,
    encode_transcript,
)
from speech.shards.index import ShardSettings, histogram
from speech.system import storage
from speech.system.progress_bar import progress_bar
from speech.text.characters import in_utf8
from utils import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Limits in the tables, as percentiles of the lengths of the utterances.
FRAMES_PERCENTILES = (90, 95, 98, 99, 99.5, 100)
LABELS_PERCENTILES = (95, 99, 100)

# Share of the hours that a recommended limit may discard; without a limit, a few long utterances
# would pad all others.
RECOMMENDED_SHARE = 0.01

# Maximum number of bars of a histogram in text and in the figure; length of the longest text bar.
TEXT_BARS = 20
FIGURE_BARS = 50
BAR_CHARACTERS = 50

# Bytes of a record besides features, labels and transcript: names, lengths, id, checksums.
RECORD_OVERHEAD = 175
FEATURE_BYTES = 4  # float32

ANOTHER_FOLDER = "Set DEEP_SPEECH_REPORT_DIR, the folder of figures, to another."

PRESENT, RECOMMENDED = "present setting", "recommended"


# --- Lengths --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """The lengths of an utterance, or the reason why it is unusable whatever the limits are."""

    seconds: float = 0.0
    frames: int = 0
    labels: int = 0
    reason: str = ""  # one of speech.preparation.utterance; empty: the utterance is usable


@dataclass(frozen=True, eq=False)
class Lengths:
    """The lengths of the usable utterances of a corpus, and the reasons of the others."""

    seconds: npt.NDArray[np.float64]  # float64 [utterances]
    frames: npt.NDArray[np.int64]  # int64 [utterances]
    labels: npt.NDArray[np.int64]  # int64 [utterances]
    speakers: tuple[str, ...]  # one per utterance
    unusable: dict[str, int]  # reason -> number of utterances, the most frequent first

    @property
    def usable(self) -> int:
        return len(self.frames)

    @property
    def utterances(self) -> int:
        """Number of all utterances, usable or not."""
        return self.usable + sum(self.unusable.values())

    @property
    def hours(self) -> float:
        return float(self.seconds.sum()) / 3600

    @property
    def hours_by_speaker(self) -> dict[str, float]:
        """Speaker -> hours, the one with the fewest first."""
        seconds: defaultdict[str, float] = defaultdict(float)
        for speaker, length in zip(self.speakers, self.seconds, strict=True):
            seconds[speaker] += float(length)
        return {name: seconds[name] / 3600 for name in sorted(seconds, key=lambda n: seconds[n])}


def check_local(paths: Iterable[str]) -> None:
    """Raises UserError if one of the corpus's paths is in a bucket."""
    if any(map(storage.in_bucket, paths)):
        raise UserError(
            "--stats reads only local files: give it a local copy of the corpus with --files_path."
        )


def measure(utterances: Sequence[Utterance], settings: ShardSettings) -> Lengths:
    """Measures the lengths of a corpus from the headers of its files, ignoring the limits."""
    measured = []
    with progress_bar(len(utterances), "utt") as progress:
        for each in utterances:
            measured.append((each.speaker, measure_utterance(each, settings)))
            progress.update()
    usable = [(speaker, lengths) for speaker, lengths in measured if not lengths.reason]
    reasons = Counter(lengths.reason for _, lengths in measured if lengths.reason)
    return Lengths(
        seconds=np.array([lengths.seconds for _, lengths in usable], np.float64),
        frames=np.array([lengths.frames for _, lengths in usable], np.int64),
        labels=np.array([lengths.labels for _, lengths in usable], np.int64),
        speakers=tuple(speaker for speaker, _ in usable),
        unusable=dict(reasons.most_common()),
    )


def measure_utterance(utterance: Utterance, settings: ShardSettings) -> Measured:
    """Measures one utterance with the checks of `prepare_utterance`, without decoding."""
    rate = settings.front_end.sample_rate
    try:
        labels = encode_transcript(utterance, settings)
        samples = count_samples(utterance, rate)
    except UnusableError as error:
        return Measured(reason=error.reason)
    frames = settings.front_end.frames(samples)
    unlimited = replace(settings, max_sequence_length=frames, max_label_length=len(labels))
    reason, _ = check_lengths(samples, frames, labels, unlimited)
    if reason:
        return Measured(reason=reason)
    return Measured(samples / rate, frames, len(labels))


# --- Limits ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """The effect of a limit on frames or labels on a set."""

    limit: int  # frames or labels
    notes: tuple[str, ...]  # why the table has this limit
    discarded: int  # number of utterances
    discarded_hours: float
    padding: float  # share of padding in the stored frames or labels
    padded_bytes: int  # of all records
    unpadded_bytes: int  # of all records with --nopad


@dataclass(frozen=True)
class Recommendation:
    """The smallest limits that each discard at most a share of the hours."""

    max_sequence_length: int
    max_label_length: int
    share: float

    @property
    def flags(self) -> str:
        return (
            f"--max_sequence_length={self.max_sequence_length} "
            f"--max_label_length={self.max_label_length}"
        )


def recommend(lengths: Lengths, settings: ShardSettings, share: float) -> Recommendation:
    """Returns the smallest limits that each discard at most `share` of the hours.

    Frames are a multiple of the network's stride, so that no output covers frames and padding.

    Args:
        lengths: of at least one utterance.
    """
    return Recommendation(
        _smallest_limit(lengths.frames, lengths.seconds, settings.stride, share),
        _smallest_limit(lengths.labels, lengths.seconds, 1, share),
        share,
    )


def _smallest_limit(
    sizes: npt.NDArray[np.int64], seconds: npt.NDArray[np.float64], multiple: int, share: float
) -> int:
    """Returns the smallest multiple that at most `share` of the seconds exceed.

    Args:
        sizes: [utterances]; seconds: [utterances].
    """
    different, which = np.unique(sizes, return_inverse=True)
    of_size = np.bincount(which, weights=seconds)  # [different sizes]
    from_size_on = np.cumsum(of_size[::-1])[::-1]
    above = np.append(from_size_on[1:], 0.0)  # seconds of all longer utterances
    allowed = share * from_size_on[0] + 1e-6  # the sums are rounded
    smallest = different[np.argmax(above <= allowed)]
    return _round_up(smallest, multiple)


def _round_up(size: int, multiple: int) -> int:
    return int(-(-size // multiple) * multiple)


def frames_choices(
    lengths: Lengths, settings: ShardSettings, recommended: Recommendation
) -> list[Choice]:
    """Returns choices of --max_sequence_length in rising order, with the same label limit."""
    limits = _limits(
        lengths.frames,
        FRAMES_PERCENTILES,
        settings.stride,
        settings.max_sequence_length,
        recommended.max_sequence_length,
    )
    return _choices(
        limits,
        lengths.frames,
        lengths,
        lambda limit: replace(settings, max_sequence_length=limit),
    )


def labels_choices(
    lengths: Lengths, settings: ShardSettings, recommended: Recommendation
) -> list[Choice]:
    """Returns choices of --max_label_length in rising order, with the same frame limit."""
    limits = _limits(
        lengths.labels,
        LABELS_PERCENTILES,
        1,
        settings.max_label_length,
        recommended.max_label_length,
    )
    return _choices(
        limits,
        lengths.labels,
        lengths,
        lambda limit: replace(settings, max_label_length=limit),
    )


def _limits(
    sizes: npt.NDArray[np.int64],
    percentiles: Iterable[float],
    multiple: int,
    present: int,
    recommended: int,
) -> dict[int, tuple[str, ...]]:
    """Returns limit -> notes that say why it is a choice, in rising order."""
    sharing: defaultdict[int, list[float]] = defaultdict(list)  # limit -> its percentiles
    for percentile in percentiles:
        # A length of the corpus: a larger limit would only add padding.
        size = int(np.percentile(sizes, percentile, method="higher"))
        sharing[_round_up(size, multiple)].append(percentile)
    notes: defaultdict[int, tuple[str, ...]] = defaultdict(tuple)
    for limit, those in sharing.items():
        first = f"{those[0]:g}% to " if len(those) > 1 else ""
        notes[limit] = (f"{first}{those[-1]:g}%",)
    notes[present] += (PRESENT,)
    notes[recommended] += (RECOMMENDED,)
    return dict(sorted(notes.items()))


def _choices(
    limits: dict[int, tuple[str, ...]],
    sizes: npt.NDArray[np.int64],
    lengths: Lengths,
    settings_of: Callable[[int], ShardSettings],
) -> list[Choice]:
    """Returns the effect of each limit.

    Args:
        limits: limit -> notes.
        sizes: frames or labels, [utterances]: the limited lengths.
        settings_of: returns the settings with a limit.
    """
    return [
        _choice(limit, notes, sizes, lengths, settings_of(limit)) for limit, notes in limits.items()
    ]


def _choice(
    limit: int,
    notes: tuple[str, ...],
    sizes: npt.NDArray[np.int64],
    lengths: Lengths,
    settings: ShardSettings,
) -> Choice:
    """Returns the effect of a limit on `sizes`, [utterances]; `settings` have that limit."""
    kept = sizes <= limit
    records = int(kept.sum())
    frames, labels = int(lengths.frames[kept].sum()), int(lengths.labels[kept].sum())

    def bytes_of(frames_stored: int, labels_stored: int) -> int:
        features = FEATURE_BYTES * settings.front_end.bins * frames_stored
        return features + labels_stored + labels + RECORD_OVERHEAD * records

    return Choice(
        limit=limit,
        notes=notes,
        discarded=len(sizes) - records,
        discarded_hours=float(lengths.seconds[~kept].sum()) / 3600,
        padding=1 - int(sizes[kept].sum()) / max(records * limit, 1),
        padded_bytes=bytes_of(
            records * settings.max_sequence_length, records * settings.max_label_length
        ),
        unpadded_bytes=bytes_of(frames, labels),
    )


# --- Text report ----------------------------------------------------------------------------------


def overview(name: str, lengths: Lengths) -> str:
    """Returns counts and lengths of the set `name`; only the reasons if nothing is usable."""
    rows = [("utterances", f"{lengths.usable} of {lengths.utterances} usable")]
    rows += [(f"  {reason}", f"{count}") for reason, count in lengths.unusable.items()]
    if not lengths.usable:
        return "\n".join([name, *_align(rows)])
    rate = np.median(lengths.labels / lengths.seconds)
    rows += [
        ("hours", f"{lengths.hours:.2f}"),
        ("speakers", _speakers(lengths.hours_by_speaker)),
        ("labels a second", f"{rate:.1f} (median)"),
    ]
    columns: list[tuple[str, npt.NDArray[Any], int]] = [
        ("seconds", lengths.seconds, 1),
        ("frames", lengths.frames, 0),
        ("labels", lengths.labels, 0),
    ]
    table = [
        f"{what:<10}{values.mean():10.1f}{np.median(values):10.{digits}f}{values.max():10.{digits}f}"
        for what, values, digits in columns
    ]
    head = f"{'':<10}{'mean':>10}{'median':>10}{'longest':>10}"
    return "\n".join([name, *_align(rows), *(f"  {line}" for line in [head, *table])])


def _speakers(hours: dict[str, float]) -> str:
    """Returns the number of speakers, and those with the fewest and the most hours."""
    names = list(hours)
    if len(names) == 1:
        return f"1 ({names[0]})"
    ends = (f"{hours[name]:.2f} h ({name})" for name in (names[0], names[-1]))
    return f"{len(names)}, of {' to '.join(ends)}"


def _align(rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"  {name:<{width}}  {value}" for name, value in rows]


def report(
    name: str, lengths: Lengths, settings: ShardSettings, recommended: Recommendation
) -> str:
    """Returns the full report of the set `name`; it ends with the recommended flags.

    Args:
        lengths: of at least one utterance.
    """
    return "\n\n".join(
        [
            overview(name, lengths),
            text_histogram("frames", lengths.frames),
            text_histogram("labels", lengths.labels),
            _frames_table(lengths, frames_choices(lengths, settings, recommended)),
            _labels_table(lengths, labels_choices(lengths, settings, recommended)),
            _recommendation(lengths, recommended),
        ]
    )


def text_histogram(what: str, sizes: npt.NDArray[np.int64]) -> str:
    """Returns a histogram, one row per bar: lower edge, utterances; sizes: [utterances >= 1]."""
    bar = bar_width(sizes, TEXT_BARS)
    counts = {int(edge): found for edge, found in histogram(sizes.tolist(), bar).items()}
    scale = BAR_CHARACTERS / max(counts.values())
    rows = [f"{what:>8}  utterances"]
    for edge in range(min(counts), max(counts) + 1, bar):
        found = counts.get(edge, 0)
        # A single utterance is visible, too.
        length = max(round(found * scale), min(found, 1))
        rows.append(f"{edge:>8}  {found:>10}  {'#' * length}".rstrip())
    return "\n".join(rows)


def bar_width(sizes: npt.NDArray[np.int64], most_bars: int) -> int:
    """Returns the smallest of 1, 2, 5, 10, 20, 50, ... so that `most_bars` cover all sizes."""
    smallest, largest = int(sizes.min()), int(sizes.max())
    widths: Iterator[int] = (digit * 10**power for power in count() for digit in (1, 2, 5))
    return next(width for width in widths if largest // width - smallest // width < most_bars)


def _frames_table(lengths: Lengths, choices: list[Choice]) -> str:
    rows = [
        f"{_discards('--max_sequence_length')}{'padding':>10}{'set in GB':>12}{'--nopad':>10}",
        *(
            f"{_discarded(choice, lengths)}{choice.padding:>10.1%}"
            f"{choice.padded_bytes / 1e9:>12.3f}{choice.unpadded_bytes / 1e9:>10.3f}"
            f"  {', '.join(choice.notes)}"
            for choice in choices
        ),
    ]
    return "\n".join(rows)


def _labels_table(lengths: Lengths, choices: list[Choice]) -> str:
    rows = [
        f"{_discards('--max_label_length')}{'padding':>10}",
        *(
            f"{_discarded(choice, lengths)}{choice.padding:>10.1%}  {', '.join(choice.notes)}"
            for choice in choices
        ),
    ]
    return "\n".join(rows)


def _discards(flag: str) -> str:
    """Returns the header of the columns of `_discarded`."""
    return f"{flag:<21}{'discards':>10}{'hours':>9}{'share':>8}"


def _discarded(choice: Choice, lengths: Lengths) -> str:
    share = choice.discarded_hours / lengths.hours
    return f"{choice.limit:>21}{choice.discarded:>10}{choice.discarded_hours:>9.2f}{share:>8.2%}"


def _recommendation(lengths: Lengths, recommended: Recommendation) -> str:
    too_long = (lengths.frames > recommended.max_sequence_length) | (
        lengths.labels > recommended.max_label_length
    )
    if recommended.share:
        rule = f"the smallest that each discard at most {recommended.share:.0%} of the hours"
    else:
        rule = "the smallest that discard nothing: a word error rate is that of the whole set"
    share = float(lengths.seconds[too_long].sum() / lengths.seconds.sum())
    return (
        f"Recommended, {rule} (together {int(too_long.sum())} utterances, {share:.2%}):\n"
        f"{recommended.flags}"
    )


# --- Figure ---------------------------------------------------------------------------------------


def figure_path(report_dir: str, tfrecords_file: str) -> str:
    return os.path.join(report_dir, f"{os.path.basename(tfrecords_file)}.lengths.png")


def draw(
    path: str, name: str, lengths: Lengths, settings: ShardSettings, recommended: Recommendation
) -> None:
    """Writes the figure as a PNG.

    Raises:
        UserError: it can't be written, or the path is in a bucket.
    """
    if storage.in_bucket(path):
        raise UserError(f"{path} is in a bucket: set DEEP_SPEECH_REPORT_DIR to a local folder.")
    try:
        storage.make_folder(os.path.dirname(path))
        figure(name, lengths, settings, recommended).savefig(path)
    except UserError as error:
        raise UserError(f"{error} {ANOTHER_FOLDER}") from None
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror}. {ANOTHER_FOLDER}") from None


def figure(
    name: str, lengths: Lengths, settings: ShardSettings, recommended: Recommendation
) -> "Figure":
    """Draws histograms of frames and labels, with the present and recommended limits as lines.

    Args:
        lengths: of at least one utterance.
    """
    # Without pyplot, which would keep figures and a backend for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(13, 5), layout="constrained")
    FigureCanvasAgg(drawn)
    name = in_utf8(name)
    title = f"{name}: {lengths.usable} utterances, {lengths.hours:.2f} hours"
    drawn.suptitle(title, parse_math=False)
    frames_axes, labels_axes = drawn.subplots(1, 2)
    limits = settings.max_sequence_length, recommended.max_sequence_length
    _draw_panel(frames_axes, lengths.frames, lengths.seconds, *limits)
    limits = settings.max_label_length, recommended.max_label_length
    _draw_panel(labels_axes, lengths.labels, lengths.seconds, *limits)
    frames_axes.set_xlabel("frames (--max_sequence_length)")
    frames_axes.set_ylabel("utterances")
    labels_axes.set_xlabel("labels (--max_label_length)")
    step = settings.front_end.step_seconds
    frames_axes.secondary_xaxis(
        "top", functions=(lambda frames: frames * step, lambda seconds: seconds / step)
    ).set_xlabel("seconds")
    return drawn


def _draw_panel(
    axes: "Axes",
    sizes: npt.NDArray[np.int64],
    seconds: npt.NDArray[np.float64],
    present: int,
    recommended: int,
) -> None:
    """Draws a histogram with two limits; sizes, seconds: [utterances]."""
    bar = bar_width(sizes, FIGURE_BARS)
    edges = np.arange(sizes.min() // bar, sizes.max() // bar + 2) * bar
    axes.hist(sizes, edges.tolist(), color="tab:blue", alpha=0.7)
    axes.locator_params(axis="y", integer=True)  # numbers of utterances
    right = 1.05 * max(edges[-1], recommended)
    # A limit far above all lengths would squeeze the histogram into a corner.
    beyond = present > 1.5 * right
    axes.set_xlim(0, right if beyond else max(right, 1.05 * present))

    def label(what: str, limit: int) -> str:
        share = seconds[sizes > limit].sum() / seconds.sum()
        return f"{what}: {limit}, discards {share:.2%} of the hours"

    axes.axvline(recommended, color="tab:green", linewidth=3, label=label(RECOMMENDED, recommended))
    name = label(PRESENT, present)
    if beyond:
        axes.plot([], [], color="tab:red", linestyle="--", label=f"{name} (off the right edge)")
    else:
        axes.axvline(present, color="tab:red", linestyle="--", label=name)
    # Below the axes, so that it covers no bar.
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)
