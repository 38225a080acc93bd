"""The findings of a pre-flight: kinds, severities, and the numbers of each set."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt

from speech.corpora.utterance import Utterance
from speech.preparation import utterance as preparation


class Severity(StrEnum):
    """How severe a finding is."""

    ERROR = "error"  # preparation skips the utterance, or it certainly harms training
    WARNING = "warning"  # to be checked by a person

    def __str__(self) -> str:
        return self.value


class Kind(StrEnum):
    """What is wrong with an utterance, ordered from certain errors to hints."""

    MISSING = "missing audio"
    UNREADABLE = preparation.UNREADABLE
    EMPTY = preparation.EMPTY
    NO_TRANSCRIPT = preparation.NO_TRANSCRIPT
    UNKNOWN_CHARACTERS = "unknown characters"
    TOO_LONG = preparation.TOO_LONG
    LABEL_TOO_LONG = preparation.LABEL_TOO_LONG
    UNALIGNABLE = preparation.UNALIGNABLE
    SILENCE = "silence"
    LEAKED_AUDIO = "same audio in two sets"
    CONTRADICTION = "same audio, other transcript"
    WRONG_SIZE = "wrong size"
    SPEECH_RATE = "speech rate"
    NO_SPEECH = "next to no speech"
    WRONG_SCALE = "wrong scale"
    CLIPPING = "clipping"
    OFFSET = "offset"
    SILENT_EDGE = "silence at an edge"
    TOO_SHORT = "too short"
    EXTREME_LENGTH = "extreme length"
    DUPLICATE = "duplicate audio"
    LEAKED_TRANSCRIPT = "same transcript in two sets"
    SHARED_SPEAKER = "speaker in two sets"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Flaw:
    """A flaw, without the utterance that has it."""

    kind: Kind
    severity: Severity
    detail: str  # description
    badness: float = 0.0  # orders the flaws of a kind; the larger, the worse
    characters: str = ""  # characters of the transcript that are missing from the alphabet


@dataclass(frozen=True, kw_only=True)
class Finding(Flaw):
    """A flaw of an utterance."""

    set: str
    utterance: Utterance


@dataclass(frozen=True, eq=False)
class SetNumbers:
    """The numbers of a set."""

    name: str
    utterances: int
    speakers: int  # number of known speakers
    seconds: npt.NDArray[np.float64]  # float64 [readable utterances with samples]
    rates: npt.NDArray[np.float64]  # labels per second of speech, float64 [those with a transcript]

    @property
    def hours(self) -> float:
        return float(self.seconds.sum()) / 3600


@dataclass(frozen=True, eq=False)
class Findings:
    """The result of a pre-flight."""

    sets: tuple[SetNumbers, ...]
    findings: tuple[Finding, ...]  # ordered by Kind, the worst first

    @property
    def utterances(self) -> int:
        return sum(each.utterances for each in self.sets)

    @property
    def errors(self) -> int:
        return sum(each.severity == Severity.ERROR for each in self.findings)

    @property
    def warnings(self) -> int:
        return len(self.findings) - self.errors

    @cached_property
    def _by_kind(self) -> dict[Kind, list[Finding]]:
        found: defaultdict[Kind, list[Finding]] = defaultdict(list)
        for each in self.findings:
            found[each.kind].append(each)
        return dict(found)

    def of_kind(self, kind: Kind, set_name: str | None = None) -> list[Finding]:
        """Returns the findings of a kind in one set or, by default, all sets, the worst first."""
        found = self._by_kind.get(kind, [])
        return [each for each in found if set_name in (None, each.set)]

    def unknown_characters(self, set_name: str | None = None) -> list[tuple[str, int]]:
        """Returns (character, number of utterances), the most frequent first."""
        found = self.of_kind(Kind.UNKNOWN_CHARACTERS, set_name)
        return most_frequent(character for each in found for character in each.characters)


def most_frequent(characters: Iterable[str]) -> list[tuple[str, int]]:
    """Returns (character, count), sorted by count, then by code point."""
    return sorted(Counter(characters).items(), key=lambda each: (-each[1], each[0]))
