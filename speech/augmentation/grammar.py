"""Parses augmentations in the grammar of Mozilla DeepSpeech, so that its recipes can be used.

    time_mask[p=0.1,n=2,size=50~20]

is a kind and its parameters. `p` is the probability that an utterance is changed. Other values are

    v            a number
    v~r          a number drawn uniformly from v-r to v+r
    start:end    a number that changes linearly from training's first step to its last
    start:end~r  both

(docs/augmentation.md). FEATURE_KINDS change features while training reads them (features.py),
SIGNAL_KINDS change samples while shards are prepared (waveform.py).
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from utils import UserError


@dataclass(frozen=True)
class Range:
    """A number that changes from start to end, drawn uniformly up to radius on either side."""

    start: float
    end: float
    radius: float = 0.0

    def at(self, progress: Any) -> Any:
        """Returns the middle of the range; progress: 0 to 1, a number or tensor."""
        return self.start + progress * (self.end - self.start)

    @property
    def largest(self) -> float:
        """Returns the largest number that can be drawn."""
        return max(self.start, self.end) + self.radius

    @property
    def smallest(self) -> float:
        """Returns the smallest number that can be drawn."""
        return min(self.start, self.end) - self.radius


def constant(value: float, radius: float = 0.0) -> Range:
    """Returns a range whose middle doesn't change."""
    return Range(value, value, radius)


@dataclass(frozen=True)
class Number:
    """A parameter whose value is a Range."""

    default: Range
    least: float = 0.0  # minimum of start and end; numbers drawn below it count as it
    most: float = math.inf  # maximum, likewise
    whole: bool = False  # start, end and radius must be whole, and drawn numbers are rounded
    positive: bool = False  # every number that can be drawn must be more than 0


@dataclass(frozen=True)
class Text:
    """A parameter whose value is text."""

    default: str | None = None  # None: required
    choices: tuple[str, ...] = ()  # empty: any text


Parameters = Mapping[str, Number | Text]

DOMAIN = Text("", ("spectrogram", "features", "signal"))

FEATURE_KINDS: dict[str, Parameters] = {
    "frequency_mask": {
        "n": Number(constant(3), whole=True),
        "size": Number(constant(2), whole=True),  # bins
        "domain": DOMAIN,
    },
    "time_mask": {
        "n": Number(constant(3), whole=True),
        "size": Number(constant(10)),  # milliseconds
        "domain": DOMAIN,
    },
    "warp": {
        "nt": Number(constant(1), whole=True),  # inner grid lines along time
        "nf": Number(constant(1), whole=True),  # along frequency
        # Deviations of a line's shift; 1 is half the distance to the next line.
        "wt": Number(constant(0.1)),
        "wf": Number(constant(0.0)),
        "domain": DOMAIN,
    },
    "tempo": {"factor": Number(constant(1.1), positive=True), "domain": DOMAIN},
    "pitch": {"pitch": Number(constant(1.075, 0.125), positive=True), "domain": DOMAIN},
    "dropout": {"rate": Number(constant(0.05), most=1.0), "domain": DOMAIN},
    # DeepSpeech's default is 5, of features that aren't normalised.
    "add": {"stddev": Number(constant(0.0, 0.5)), "domain": DOMAIN},
    "multiply": {"stddev": Number(constant(0.0, 0.5)), "domain": DOMAIN},
}

# Names of several specifications. LB of arXiv 1904.08779, table 1: W=80, F=27, T=100 at 80 mel
# filters and 100 frames a second. W is uniform there: its deviation of 46 frames is 0.15 of half
# the distance in LibriSpeech's mean utterance of 12.3 s.
PRESETS: dict[str, tuple[str, ...]] = {
    "specaugment": (
        "warp[nt=1,nf=1,wt=0.15,wf=0]",
        "frequency_mask[n=1,size=13~13]",
        "time_mask[n=1,size=500~500]",
    )
}

CODECS = ("opus", "mp3", "gsm", "ulaw", "alaw")

SIGNAL_KINDS: dict[str, Parameters] = {
    "overlay": {
        "source": Text(),
        "snr": Number(constant(3), least=-math.inf),  # dB
        "layers": Number(constant(1), whole=True),
    },
    "reverb": {
        "delay": Number(constant(20)),  # milliseconds
        "decay": Number(constant(10)),  # dB a reflection
    },
    "resample": {"rate": Number(constant(8000), whole=True, positive=True)},  # Hz
    "codec": {
        "codec": Text("opus", CODECS),
        "bitrate": Number(constant(6000), least=6000, most=256000, whole=True),  # bits a second
    },
    "volume": {"dbfs": Number(constant(3.0103), least=-math.inf, most=3.0103)},
    "speed": {"factor": Number(Range(0.9, 1.1), positive=True)},
}

# Kinds that a front end has no use for, and why.
_CEPSTRAL = ("mfcc", "deepspeech")
_COEFFICIENTS = "cepstral coefficients are not frequencies"
_SAMPLES = "a frame of waveform has samples, not frequencies"
_MEANINGLESS: dict[str, dict[str, str]] = {
    "fbank": {},
    "spectrogram": {},
    "mfcc": {"frequency_mask": _COEFFICIENTS, "pitch": _COEFFICIENTS},
    "deepspeech": {"frequency_mask": _COEFFICIENTS, "pitch": _COEFFICIENTS},
    "waveform": {
        "frequency_mask": _SAMPLES,
        "pitch": _SAMPLES,
        "warp": "frames of samples can't be interpolated",
        "tempo": "frames of samples can't be interpolated",
    },
}
# DeepSpeech's domains of the features of each front end.
_DOMAINS = {
    "fbank": ("spectrogram", "features"),
    "spectrogram": ("spectrogram", "features"),
    "mfcc": ("features",),
    "deepspeech": ("features",),
    "waveform": ("signal", "features"),
}


@dataclass(frozen=True)
class Specification:
    """One augmentation of --augment."""

    text: str  # as it was given
    kind: str
    probability: float = 1.0  # that an utterance is changed
    ranges: Mapping[str, Range] = field(default_factory=dict)  # of all numbers, by name
    texts: Mapping[str, str] = field(default_factory=dict)  # by name
    whole: frozenset[str] = frozenset()  # names of the numbers that are rounded
    given: frozenset[str] = frozenset()  # names of the parameters that were given


def parse_feature(text: str) -> Specification:
    """Parses an augmentation of features; raises UserError if it can't."""
    return _parse(
        text,
        FEATURE_KINDS,
        (*FEATURE_KINDS, *PRESETS),
        dict.fromkeys(
            SIGNAL_KINDS, "changes recordings: give it to prepare_libri.py, which keeps copies"
        ),
    )


def parse_features(texts: Sequence[str], front_end: str) -> tuple[Specification, ...]:
    """Parses augmentations of features; presets are replaced by their parts.

    Args:
        front_end: the kind of the features, of front_end.FEATURES.

    Raises:
        UserError: an augmentation can't be parsed or doesn't suit these features.
    """
    expanded = [each for text in texts for each in PRESETS.get(text.strip(), (text,))]
    specifications = tuple(map(parse_feature, expanded))
    for each in specifications:
        check_front_end(each, front_end)
    return specifications


def parse_signal(text: str) -> Specification:
    """Parses an augmentation of samples; raises UserError if it can't."""
    specification = _parse(
        text,
        SIGNAL_KINDS,
        tuple(SIGNAL_KINDS),
        dict.fromkeys((*FEATURE_KINDS, *PRESETS), "changes features: give it to training.py"),
    )
    codec = specification.texts.get("codec", "")
    if codec in ("gsm", "ulaw", "alaw") and "bitrate" in specification.given:
        raise UserError(f"--augment={text}: {codec} has one bitrate, omit bitrate=.")
    return specification


def check_front_end(specification: Specification, front_end: str) -> None:
    """Raises UserError if an augmentation doesn't suit the features of a front end.

    Args:
        front_end: its kind, of front_end.FEATURES.
    """
    kind, text = specification.kind, specification.text
    why = _MEANINGLESS[front_end].get(kind)
    if kind == "warp" and front_end in _CEPSTRAL and specification.ranges["wf"].largest:
        why = f"{_COEFFICIENTS}, wf must be 0"
    if why:
        raise UserError(f"--augment={text} can't be applied to {front_end} features: {why}.")
    domain = specification.texts["domain"]
    if domain and domain not in _DOMAINS[front_end]:
        raise UserError(
            f"--augment={text}: training reads {front_end} features, whose domain is "
            f"{' or '.join(_DOMAINS[front_end])}, not {domain}. Omit domain= to change the "
            "features."
        )


def _parse(
    text: str,
    kinds: Mapping[str, Parameters],
    names: tuple[str, ...],
    elsewhere: Mapping[str, str],
) -> Specification:
    match = re.fullmatch(r"(\w+)(?:\[(.*)\])?", text.strip())
    kind = match[1] if match else ""
    if kind in elsewhere:
        raise UserError(f"--augment={text}: {kind} {elsewhere[kind]} (docs/augmentation.md).")
    if kind in PRESETS:
        raise UserError(f"--augment={text}: {kind} takes no parameters.")
    if not match or kind not in kinds:
        raise UserError(
            f"--augment={text} is not known: write one of {', '.join(names)}, as in "
            f"{'time_mask[p=0.5,n=2,size=50~20]' if 'time_mask' in kinds else 'volume[p=0.5]'}."
        )
    parameters = kinds[kind]
    numbers = {name: each for name, each in parameters.items() if isinstance(each, Number)}
    words = {name: each for name, each in parameters.items() if isinstance(each, Text)}
    given = _given(text, match[2] or "", ("p", *parameters))
    for name, word in words.items():
        value = given.get(name, word.default)
        if not value and word.default is None:
            raise UserError(f"--augment={text}: {name}= is missing.")
        if name in given and word.choices and value not in word.choices:
            raise UserError(
                f"--augment={text}: {name}={value} is none of {', '.join(word.choices)}."
            )
    return Specification(
        text,
        kind,
        _probability(text, given.get("p", "1")),
        {
            name: _checked(text, name, given[name], number) if name in given else number.default
            for name, number in numbers.items()
        },
        {name: given.get(name, word.default or "") for name, word in words.items()},
        frozenset(name for name, number in numbers.items() if number.whole),
        frozenset(given),
    )


def _given(text: str, inside: str, names: tuple[str, ...]) -> dict[str, str]:
    """Parses the values in the brackets, by their names."""
    given: dict[str, str] = {}
    for entry in filter(None, inside.split(",")):
        name, equals, value = (part.strip() for part in entry.partition("="))
        if name not in names or not equals or not value:
            raise UserError(
                f"--augment={text}: {entry!r} is none of {', '.join(f'{each}=' for each in names)} "
                "with a value."
            )
        if name in given:
            raise UserError(f"--augment={text}: {name}= is given twice.")
        given[name] = value
    return given


_NUMBER = r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))"
_RANGE = re.compile(rf"{_NUMBER}(?::{_NUMBER})?(?:~{_NUMBER})?")


def _range(text: str, name: str, value: str) -> Range:
    match = _RANGE.fullmatch(value)
    if not match:
        raise UserError(
            f"--augment={text}: {f'{name}={value}'!r} is neither a number nor a range such as "
            "50~20, 1:3 or 1:3~0.5."
        )
    start = float(match[1])
    return Range(start, float(match[2] or start), float(match[3] or 0))


def _probability(text: str, value: str) -> float:
    read = _range(text, "p", value)
    if read != constant(read.start) or not 0 <= read.start <= 1:
        raise UserError(f"--augment={text}: {f'p={value}'!r}: p is one probability, at most 1.")
    return read.start


def _checked(text: str, name: str, value: str, number: Number) -> Range:
    read = _range(text, name, value)
    given = f"--augment={text}: {f'{name}={value}'!r}"
    if number.whole and any(each % 1 for each in (read.start, read.end, read.radius)):
        raise UserError(f"{given} must be whole numbers.")
    if read.radius < 0 or min(read.start, read.end) < number.least:
        raise UserError(f"{given} must be at least {max(number.least, 0):g}.")
    if max(read.start, read.end) > number.most:
        raise UserError(f"{given} must be at most {number.most:g}.")
    if number.positive and read.smallest <= 0:
        raise UserError(f"{given} must be more than 0 for every number that can be drawn.")
    return read
