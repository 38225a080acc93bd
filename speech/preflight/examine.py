"""The pre-flight of a corpus: reads every recording once, writes nothing, and reports flaws.

Keeps only numbers and a hash of each recording.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np

from speech.corpora.utterance import Utterance
from speech.preflight.findings import Finding, Findings, Flaw, Kind, SetNumbers, Severity
from speech.preflight.utterance import (
    SHORTEST_SECONDS,
    ExaminedUtterance,
    comparable_text,
    examine_utterance,
)
from speech.shards.index import ShardSettings
from speech.system.progress_bar import progress_bar
from speech.system.workers import DeadWorkerError, map_in_processes
from speech.text.characters import isolate, isolate_right_to_left
from utils import UserError

# Thresholds. "Genuine" has the meaning of preflight/utterance.py.

# Labels per second of speech. Nobody speaks faster, even if all vowels of Arabic are written; and
# one label of Chinese takes less than a second.
FASTEST_RATE, SLOWEST_RATE = 35.0, 1.0
# The logarithm of the rate deviates by RATE_DEVIATION between sentences, and by
# sqrt(RATE_OF_LABEL / labels) because letters differ: a "w" takes as long as a word. If the corpus
# varies more, its own deviation counts. Rates more than OUTLIER deviations away are reported: none
# in genuine speech, and 98 % of transcripts swapped in LibriSpeech that are twice as long or short.
RATE_DEVIATION, RATE_OF_LABEL, OUTLIER = 0.1, 0.5, 4.0
# Minimum number of utterances for a median, of a speaker or of the corpus.
ENOUGH = 20
# Lengths above the upper quartile by this many interquartile ranges, of logarithms. The range is at
# least that of a corpus where half of the lengths are within a factor of 1.5.
EXTREME_RANGES, SMALLEST_RANGE = 3.0, float(np.log(1.5))

_ORDER = {kind: position for position, kind in enumerate(Kind)}


def examine(
    sets: dict[str, list[Utterance]], settings_of: dict[str, ShardSettings], workers: int
) -> Findings:
    """Reads every recording once and reports what would harm training.

    Reads recordings in other processes, since a recording may kill the process that reads it.

    Args:
        sets: name -> utterances without augmented copies, the training set first: what two sets
            share is a finding of the later one.
        settings_of: name -> settings; the front end, the limits and the alphabet are used.
        workers: number of processes.

    Raises:
        UserError: a bucket can't be reached.
    """
    tasks = [(name, each) for name, utterances in sets.items() for each in utterances]
    with (
        closing(_examined_in_order(tasks, settings_of, workers)) as outcomes,
        progress_bar(len(tasks), "utt") as progress,
    ):
        examined = []
        for each in outcomes:
            examined.append(each)
            progress.update()
    corpus = [_Entry(*task, outcome) for task, outcome in zip(tasks, examined, strict=True)]
    found = [each.found(flaw) for each in corpus for flaw in each.examined.flaws]
    for rule in (_same_audio, _same_transcripts, _shared_speakers, _odd_rates, _extreme_lengths):
        found += rule(corpus)
    found.sort(key=lambda each: (_ORDER[each.kind], each.severity, -each.badness))
    return Findings(tuple(_numbers(name, corpus) for name in sets), tuple(found))


# --- Reading in parallel --------------------------------------------------------------------------

Task = tuple[str, Utterance]  # with the name of the set


def _examined_in_order(
    tasks: Sequence[Task], settings_of: dict[str, ShardSettings], workers: int
) -> Generator[ExaminedUtterance, None, None]:
    """Yields the results in order; a recording that kills the process is unreadable."""
    # The settings go to each process once: sending a large alphabet with every task would take
    # longer than reading the audio.
    attempt = partial(_examined_or_error, settings_of=settings_of)
    done = 0
    while done < len(tasks):
        try:
            with closing(map_in_processes(attempt, tasks[done:], workers)) as outcomes:
                for outcome in outcomes:
                    if isinstance(outcome, UserError):
                        raise outcome
                    done += 1
                    yield outcome
        except DeadWorkerError as death:
            _, utterance = tasks[done]
            if death.exit_code is None or death.exit_code >= 0:
                raise UserError(
                    f"A worker process ended (exit code {death.exit_code}, see above) at "
                    f"{utterance.utterance_id}, {utterance.audio_path}."
                ) from None
            done += 1
            detail = f"{utterance.audio_path}: signal {-death.exit_code} ended the reading process"
            flaw = Flaw(Kind.UNREADABLE, Severity.ERROR, detail)
            yield ExaminedUtterance((flaw,), labels=len(comparable_text(utterance)))


def _examined_or_error(
    task: Task, settings_of: dict[str, ShardSettings]
) -> ExaminedUtterance | UserError:
    """Returns a UserError instead of raising it: it must not end the process."""
    name, utterance = task
    try:
        return examine_utterance(utterance, settings_of[name])
    except UserError as error:
        return error


# --- Rules over the corpus ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """An utterance in its set."""

    set: str
    utterance: Utterance
    examined: ExaminedUtterance

    @property
    def rate(self) -> float:
        """Labels per second of speech, of at least SHORTEST_SECONDS; 0: unknown."""
        seconds = self.examined.speech_seconds
        return self.examined.labels / max(seconds, SHORTEST_SECONDS) if seconds else 0.0

    def found(self, flaw: Flaw) -> Finding:
        return Finding(**vars(flaw), set=self.set, utterance=self.utterance)


def _numbers(name: str, corpus: Iterable[_Entry]) -> SetNumbers:
    entries = [each for each in corpus if each.set == name]
    return SetNumbers(
        name,
        len(entries),
        len({each.utterance.speaker for each in entries} - {""}),
        np.array([each.examined.seconds for each in entries if each.examined.seconds]),
        np.array([each.rate for each in entries if each.rate]),
    )


def _describe(entry: _Entry) -> str:
    utterance = entry.utterance
    utterance_id = isolate_right_to_left(utterance.utterance_id)
    return f"{entry.set}: {utterance_id} ({isolate_right_to_left(utterance.where)})"


def _group(
    corpus: Iterable[_Entry], key: Callable[[_Entry], bytes | str]
) -> dict[bytes | str, list[_Entry]]:
    """Groups the entries by a key that isn't empty; returns groups of several entries."""
    groups: defaultdict[bytes | str, list[_Entry]] = defaultdict(list)
    for each in corpus:
        if key(each):
            groups[key(each)].append(each)
    return {found: entries for found, entries in groups.items() if len(entries) > 1}


def _comparable(entry: _Entry) -> str:
    """Returns the transcript without differences of case and spaces."""
    return " ".join(comparable_text(entry.utterance).casefold().split())


def _same_audio(corpus: Sequence[_Entry]) -> Iterator[Finding]:
    """Reports recordings that repeat an earlier one."""
    for entries in _group(corpus, lambda each: each.examined.digest).values():
        yield from _contradictions(entries)
        first = entries[0]
        for each in entries[1:]:
            seconds = each.examined.seconds
            if each.set != first.set:
                detail = f"also in {_describe(first)}: it is trained on and tested"
                yield each.found(Flaw(Kind.LEAKED_AUDIO, Severity.ERROR, detail, seconds))
            else:
                detail = f"also in {_describe(first)}"
                yield each.found(Flaw(Kind.DUPLICATE, Severity.WARNING, detail, seconds))


def _contradictions(entries: Sequence[_Entry]) -> Iterator[Finding]:
    """Reports transcripts of the same audio that differ from the most frequent one.

    Among equally frequent transcripts the first one counts.
    """
    texts: defaultdict[str, list[_Entry]] = defaultdict(list)
    for each in entries:
        if _comparable(each):
            texts[_comparable(each)].append(each)
    if len(texts) < 2:
        return
    first, *others = max(texts.values(), key=len)
    who = (
        f"{_describe(first)} has"
        if not others
        else f"{_describe(first)} and {len(others)} more have"
    )
    text = isolate(comparable_text(first.utterance))
    detail = f"{who} the same audio and the transcript {text}"
    for each in entries:
        if _comparable(each) not in ("", _comparable(first)):
            yield each.found(
                Flaw(Kind.CONTRADICTION, Severity.ERROR, detail, each.examined.seconds)
            )


def _same_transcripts(corpus: Sequence[_Entry]) -> Iterator[Finding]:
    """Reports transcripts in two sets, except for recordings that are in both sets, too."""
    for entries in _group(corpus, _comparable).values():
        first = entries[0].set
        digests = {each.examined.digest for each in entries if each.set == first} - {b""}
        others = [each for each in entries if each.set != first]
        leaked = [each for each in others if each.examined.digest not in digests]
        if leaked:
            labels = float(leaked[0].examined.labels)
            detail = _count_sets(entries)
            yield leaked[0].found(Flaw(Kind.LEAKED_TRANSCRIPT, Severity.WARNING, detail, labels))


def _count_sets(entries: Sequence[_Entry]) -> str:
    counts = Counter(each.set for each in entries)
    return ", ".join(f"{count} in {name}" for name, count in counts.items())


def _shared_speakers(corpus: Sequence[_Entry]) -> Iterator[Finding]:
    """Reports speakers in two sets."""
    for entries in _group(corpus, lambda each: each.utterance.speaker).values():
        if len({each.set for each in entries}) > 1:
            other = next(each for each in entries if each.set != entries[0].set)
            detail = f"speaker {other.utterance.speaker}: {_count_sets(entries)}"
            yield other.found(
                Flaw(Kind.SHARED_SPEAKER, Severity.WARNING, detail, float(len(entries)))
            )


def _odd_rates(corpus: Sequence[_Entry]) -> Iterator[Finding]:
    """Reports speech rates that are impossible or unusual for the corpus or the speaker."""
    entries = [each for each in corpus if each.rate]
    logarithms = np.log([each.rate for each in entries])  # [entries]
    labels = np.array([each.examined.labels for each in entries], np.float64)
    scale = np.sqrt(RATE_DEVIATION**2 + RATE_OF_LABEL / np.maximum(labels, 1))
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for position, each in enumerate(entries):
        groups[each.utterance.speaker].append(position)
    deviations, medians = np.zeros(len(entries)), np.zeros(len(entries))
    whole = np.arange(len(entries))
    of_speakers = [np.array(those) for name, those in groups.items() if name]
    for those in (whole, *of_speakers):
        if len(those) >= ENOUGH:
            median = np.median(logarithms[those])
            scaled = (logarithms[those] - median) / scale[those]
            deviations[those] = scaled / max(1.0, 1.4826 * float(np.median(np.abs(scaled))))
            medians[those] = median
    for each, deviation, median in zip(entries, deviations, medians, strict=True):
        usual = f", the median is {np.exp(median):.1f}" if abs(deviation) > OUTLIER else ""
        if usual:
            too_long = bool(deviation > 0)
        elif not SLOWEST_RATE <= each.rate <= FASTEST_RATE:
            too_long = each.rate > FASTEST_RATE
        else:
            continue
        why = f"the transcript is too {'long' if too_long else 'short'} for the audio"
        detail = f"{each.rate:.1f} labels per second of speech{usual}: {why}"
        bound = np.log(FASTEST_RATE if too_long else SLOWEST_RATE)
        badness = max(abs(deviation), OUTLIER + abs(float(np.log(each.rate) - bound)))
        yield each.found(Flaw(Kind.SPEECH_RATE, Severity.WARNING, detail, float(badness)))


def _extreme_lengths(corpus: Sequence[_Entry]) -> Iterator[Finding]:
    """Reports lengths far above those of most utterances."""
    entries = [each for each in corpus if each.examined.seconds]
    if len(entries) < ENOUGH:
        return
    logarithms = np.log([each.examined.seconds for each in entries])
    lower, middle, upper = np.percentile(logarithms, [25, 50, 75])
    limit = upper + EXTREME_RANGES * max(upper - lower, SMALLEST_RANGE)
    for each, logarithm in zip(entries, logarithms, strict=True):
        if logarithm > limit:
            detail = f"{each.examined.seconds:.1f} s, the median is {np.exp(middle):.1f} s"
            yield each.found(
                Flaw(Kind.EXTREME_LENGTH, Severity.WARNING, detail, each.examined.seconds)
            )
