"""What is in a corpus, and what a limit on its lengths would cost, before anything is prepared.

Lengths come from the audio files' headers, so that nothing has to be decoded. What preparation
skips whatever the limits are is counted by its reasons; only a file that is cut short or damaged
behind its header is not found out.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from speech.audio.reader import audio_length
from speech.corpora.utterance import Utterance
from speech.preparation import write_shards
from speech.shards.index import ShardSettings, histogram
from speech.system import storage
from speech.system.command_line import progress_bar
from utils import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Choices that the tables offer, as percentiles of the utterances' lengths.
FRAMES_PERCENTILES = (90, 95, 98, 99, 99.5, 100)
LABELS_PERCENTILES = (95, 99, 100)

# Share of the hours that a recommended limit may discard: the longest few would pad all others.
RECOMMENDED_SHARE = 0.01

# Bars of a histogram, at most, in text and in the picture; and characters of the longest one.
TEXT_BARS = 20
PICTURE_BARS = 50
BAR_CHARACTERS = 50

# Bytes of a record beside its features, labels and transcript: names, lengths, id, checksums.
RECORD_OVERHEAD = 175
FEATURE_BYTES = 4  # float32

ANOTHER_FOLDER = "Pictures go into the folder that DEEP_SPEECH_REPORT_DIR names: set it to another."

PRESENT, RECOMMENDED = "present setting", "recommended"


# --- Lengths --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """An utterance's lengths, or the reason why it is in no shard whatever the limits are."""

    seconds: float = 0.0
    frames: int = 0
    labels: int = 0
    reason: str = ""  # one of speech.preparation.write_shards's; empty: the utterance is usable


@dataclass(frozen=True, eq=False)
class Lengths:
    """The lengths of a corpus's usable utterances, and why the others are not."""

    seconds: np.ndarray  # float64 [utterances]
    frames: np.ndarray  # int64 [utterances]
    labels: np.ndarray  # int64 [utterances]
    speakers: tuple[str, ...]  # one an utterance
    unusable: dict[str, int]  # reason -> utterances, the most frequent first

    @property
    def usable(self) -> int:
        return len(self.frames)

    @property
    def utterances(self) -> int:
        """All of the corpus, usable or not."""
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
            "--stats reads the headers of local files, not of those in a bucket: give it a local "
            "copy with --files_path."
        )


def measure(utterances: Sequence[Utterance], settings: ShardSettings) -> Lengths:
    """The lengths of a corpus, from its files' headers; the settings' limits are left aside."""
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
    """Lengths of one utterance; the same checks as `prepare.prepare_utterance`, without audio."""
    try:
        label, samples = write_shards.label_and_audio(utterance, settings, audio_length)
    except write_shards.UnusableError as error:
        return Measured(reason=error.reason)
    frames = settings.front_end.frames(samples)
    unlimited = replace(settings, max_sequence_length=frames, max_label_length=len(label))
    reason, _ = write_shards.unusable(samples, frames, label, unlimited)
    if reason:
        return Measured(reason=reason)
    return Measured(samples / settings.front_end.sample_rate, frames, len(label))


# --- Limits ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """What a limit on frames or labels does to a set."""

    limit: int  # frames or labels
    notes: tuple[str, ...]  # why it is in the table
    discarded: int  # utterances
    discarded_hours: float
    padding: float  # share of the stored frames or labels that are padding
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
    """The smallest limits that each discard at most `share` of the hours.

    Frames are a multiple of the network's stride, so that no output is computed of half padding.

    Args:
        lengths: of at least one utterance.
    """
    return Recommendation(
        _smallest_limit(lengths.frames, lengths.seconds, settings.stride, share),
        _smallest_limit(lengths.labels, lengths.seconds, 1, share),
        share,
    )


def _smallest_limit(sizes: np.ndarray, seconds: np.ndarray, multiple: int, share: float) -> int:
    """Smallest multiple above which lie at most `share` of the seconds; sizes: [utterances]."""
    different, which = np.unique(sizes, return_inverse=True)
    of_size = np.bincount(which, weights=seconds)  # [different sizes]
    from_size_on = np.cumsum(of_size[::-1])[::-1]
    above = np.append(from_size_on[1:], 0.0)  # seconds of all longer utterances
    smallest = different[np.argmax(above <= share * from_size_on[0])]
    return _round_up(smallest, multiple)


def _round_up(size: int, multiple: int) -> int:
    return int(-(-size // multiple) * multiple)


def frames_choices(
    lengths: Lengths, settings: ShardSettings, recommended: Recommendation
) -> list[Choice]:
    """Choices of --max_sequence_length, rising; --max_label_length is left aside."""
    limits = _limits(
        lengths.frames,
        FRAMES_PERCENTILES,
        settings.stride,
        settings.max_sequence_length,
        recommended.max_sequence_length,
    )
    return [
        _choice(limit, notes, lengths.frames, (limit, settings.max_label_length), lengths, settings)
        for limit, notes in limits.items()
    ]


def labels_choices(
    lengths: Lengths, settings: ShardSettings, recommended: Recommendation
) -> list[Choice]:
    """Choices of --max_label_length, rising; --max_sequence_length is left aside."""
    limits = _limits(
        lengths.labels,
        LABELS_PERCENTILES,
        1,
        settings.max_label_length,
        recommended.max_label_length,
    )
    return [
        _choice(
            limit, notes, lengths.labels, (settings.max_sequence_length, limit), lengths, settings
        )
        for limit, notes in limits.items()
    ]


def _limits(
    sizes: np.ndarray, percentiles: Iterable[float], multiple: int, present: int, recommended: int
) -> dict[int, tuple[str, ...]]:
    """Limit -> why it is one to choose from; rising."""
    sharing: defaultdict[int, list[float]] = defaultdict(list)  # limit -> its percentiles
    for percentile in percentiles:
        # A length that occurs: between two of them a limit would only pad more.
        size = np.percentile(sizes, percentile, method="higher")
        sharing[_round_up(size, multiple)].append(percentile)
    notes: defaultdict[int, tuple[str, ...]] = defaultdict(tuple)
    for limit, those in sharing.items():
        first = f"{those[0]:g}% to " if len(those) > 1 else ""
        notes[limit] = (f"{first}{those[-1]:g}%",)
    notes[present] += (PRESENT,)
    notes[recommended] += (RECOMMENDED,)
    return dict(sorted(notes.items()))


def _choice(
    limit: int,
    notes: tuple[str, ...],
    sizes: np.ndarray,  # [utterances]; what is limited
    padded_to: tuple[int, int],  # frames and labels
    lengths: Lengths,
    settings: ShardSettings,
) -> Choice:
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
        padded_bytes=bytes_of(records * padded_to[0], records * padded_to[1]),
        unpadded_bytes=bytes_of(frames, labels),
    )


# --- In words -------------------------------------------------------------------------------------


def overview(name: str, lengths: Lengths) -> str:
    """Counts and lengths of the set `name`; of no usable utterance only what is wrong."""
    rows = [("utterances", f"{lengths.usable} of {lengths.utterances} usable")]
    rows += [(f"  {reason}", f"{count}") for reason, count in lengths.unusable.items()]
    if not lengths.usable:
        return "\n".join([name, *_aligned(rows)])
    rate = np.median(lengths.labels / lengths.seconds)
    rows += [
        ("hours", f"{lengths.hours:.2f}"),
        ("speakers", _speakers(lengths.hours_by_speaker)),
        ("labels a second", f"{rate:.1f} (median)"),
    ]
    of_length = [("seconds", lengths.seconds, 1)]
    of_length += [("frames", lengths.frames, 0), ("labels", lengths.labels, 0)]
    table = [
        f"{what:<10}{values.mean():10.1f}{np.median(values):10.{digits}f}{values.max():10.{digits}f}"
        for what, values, digits in of_length
    ]
    head = f"{'':<10}{'mean':>10}{'median':>10}{'longest':>10}"
    return "\n".join([name, *_aligned(rows), *(f"  {line}" for line in [head, *table])])


def _speakers(hours: dict[str, float]) -> str:
    """How many there are; the first has the fewest hours and the last the most."""
    names = list(hours)
    if len(names) == 1:
        return f"1 ({names[0]})"
    ends = (f"{hours[name]:.2f} h ({name})" for name in (names[0], names[-1]))
    return f"{len(names)}, of {' to '.join(ends)}"


def _aligned(rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"  {name:<{width}}  {value}" for name, value in rows]


def report(
    name: str, lengths: Lengths, settings: ShardSettings, recommended: Recommendation
) -> str:
    """Everything about the set `name` that has a usable utterance; ends in the flags to paste."""
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


def text_histogram(what: str, sizes: np.ndarray) -> str:
    """One row a bar: its lower edge, its utterances; sizes: [utterances], at least one."""
    bar = bar_width(sizes, TEXT_BARS)
    counts = {int(edge): found for edge, found in histogram(sizes.tolist(), bar).items()}
    scale = BAR_CHARACTERS / max(counts.values())
    rows = [f"{what:>8}  utterances"]
    for edge in range(min(counts), max(counts) + 1, bar):
        found = counts.get(edge, 0)
        # Any utterance at all is to be seen.
        length = max(round(found * scale), min(found, 1))
        rows.append(f"{edge:>8}  {found:>10}  {'#' * length}".rstrip())
    return "\n".join(rows)


def bar_width(sizes: np.ndarray, most_bars: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50, ... of which `most_bars` hold all sizes."""
    smallest, largest = int(sizes.min()), int(sizes.max())
    widths = (digit * 10**power for power in count() for digit in (1, 2, 5))
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
    """The head of the columns that `_discarded` fills."""
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


# --- As a picture ---------------------------------------------------------------------------------


def picture_path(report_dir: str, tfrecords_file: str) -> str:
    return os.path.join(report_dir, f"{os.path.basename(tfrecords_file)}.lengths.png")


def draw(
    path: str, name: str, lengths: Lengths, settings: ShardSettings, recommended: Recommendation
) -> None:
    """Writes the figure as a PNG.

    Raises:
        UserError: it can't be written, or is to go into a bucket.
    """
    if storage.in_bucket(path):
        raise UserError(
            f"{path}: pictures are written to a local folder. Set DEEP_SPEECH_REPORT_DIR to one."
        )
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
    """Histograms of frames and labels, with the present and the recommended limits as lines.

    Args:
        lengths: of at least one utterance.
    """
    # Without pyplot, which keeps figures and a backend for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(13, 5), layout="constrained")
    FigureCanvasAgg(drawn)
    name = name.encode(errors="backslashreplace").decode()  # a file's name needn't be UTF-8
    title = f"{name}: {lengths.usable} utterances, {lengths.hours:.2f} hours"
    drawn.suptitle(title, parse_math=False)
    of_frames, of_labels = drawn.subplots(1, 2)
    limits = settings.max_sequence_length, recommended.max_sequence_length
    _draw_panel(of_frames, lengths.frames, lengths.seconds, *limits)
    limits = settings.max_label_length, recommended.max_label_length
    _draw_panel(of_labels, lengths.labels, lengths.seconds, *limits)
    of_frames.set_xlabel("frames (--max_sequence_length)")
    of_frames.set_ylabel("utterances")
    of_labels.set_xlabel("labels (--max_label_length)")
    step = settings.front_end.step_seconds
    of_frames.secondary_xaxis(
        "top", functions=(lambda frames: frames * step, lambda seconds: seconds / step)
    ).set_xlabel("seconds")
    return drawn


def _draw_panel(
    axes: "Axes", sizes: np.ndarray, seconds: np.ndarray, present: int, recommended: int
) -> None:
    """A histogram with two limits; sizes, seconds: [utterances]."""
    bar = bar_width(sizes, PICTURE_BARS)
    edges = np.arange(sizes.min() // bar, sizes.max() // bar + 2) * bar
    axes.hist(sizes, edges.tolist(), color="tab:blue", alpha=0.7)
    axes.locator_params(axis="y", integer=True)  # utterances come whole
    right = 1.05 * max(edges[-1], recommended)
    # A limit far beyond all lengths would squeeze these into a corner.
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
    # Below the axes, where it covers no bar.
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)
