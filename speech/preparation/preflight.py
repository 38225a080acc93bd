"""The pre-flight of a corpus: reads everything, writes nothing, and finds what spoils a training.

An error is what preparation would skip, or what teaches nonsense for certain; a warning is to be
looked at. Every recording is read once, and only numbers and a hash of it are kept.
"""

import hashlib
import struct
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from speech.audio import levels
from speech.audio.levels import Sound
from speech.audio.reader import AudioError, read_audio
from speech.corpora.utterance import Utterance
from speech.preparation import write_shards
from speech.shards.index import ShardSettings
from speech.system import storage
from speech.system.command_line import progress_bar
from speech.system.workers import DeadWorkerError, map_in_processes
from speech.text.showing import described, enclosed, isolated, place
from utils import Alphabet, UserError

ERROR, WARNING = "error", "warning"

# What is found, errors and what is certain first.
MISSING = "missing audio"
UNREADABLE = write_shards.UNREADABLE
EMPTY = write_shards.EMPTY
NO_TRANSCRIPT = write_shards.NO_TRANSCRIPT
UNKNOWN_CHARACTERS = "unknown characters"
TOO_LONG = write_shards.TOO_LONG
LABEL_TOO_LONG = write_shards.LABEL_TOO_LONG
UNALIGNABLE = write_shards.UNALIGNABLE
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
KINDS = (
    *(MISSING, UNREADABLE, EMPTY, NO_TRANSCRIPT, UNKNOWN_CHARACTERS, TOO_LONG, LABEL_TOO_LONG),
    *(UNALIGNABLE, SILENCE, LEAKED_AUDIO, CONTRADICTION, WRONG_SIZE, SPEECH_RATE, NO_SPEECH),
    *(WRONG_SCALE, CLIPPING, OFFSET, SILENT_EDGE, TOO_SHORT, EXTREME_LENGTH, DUPLICATE),
    *(LEAKED_TRANSCRIPT, SHARED_SPEAKER),
)

# Thresholds. "Genuine": 1265 recordings of LibriSpeech and of Asterisk's English and Russian
# prompts, in which none of them finds anything; docs/checking.md has the numbers.

# A list's seconds are rounded, and mp3's encoders add some milliseconds.
STATED_SECONDS_OFF, STATED_SHARE_OFF = 0.1, 0.02
# dBFS of the loudest 0.1 s: 33 steps of 16 bits. Genuine: above -24.
SILENCE_LEVEL = -60.0
# dB between floor and loud parts: noise and hum have less than 2, genuine speech more than 8. In
# less than MEASURABLE_SECONDS percentiles say nothing.
SPEECH_RANGE, MEASURABLE_SECONDS = 5.0, 0.25
# Seconds before or behind speech. Genuine: below 1.
EDGE_SECONDS = 2.0
# Shares of full scale. Floating point goes a little beyond 1; samples at the scale of integers go
# to 128 and more.
LARGEST_PEAK = 16.0
# Of the samples: 8 of each second at 16 kHz. Genuine: below a fiftieth of it.
CLIPPED_SHARE = 0.0005
# Of full scale. Genuine: below 0.002.
LARGEST_OFFSET = 0.02
# No word is shorter.
SHORTEST_SECONDS = 0.1
# Labels a second of speech: nobody speaks faster, with every vowel of Arabic written; and one label
# of Chinese takes less than a second.
FASTEST_RATE, SLOWEST_RATE = 35.0, 1.0
# The logarithm of the rate deviates by RATE_DEVIATION from sentence to sentence, and by
# sqrt(RATE_OF_LABEL / labels) because letters are not alike: a "w" takes as long as a word. Where
# the corpus varies more than that, its own deviation counts. OUTLIER deviations are found: in
# genuine speech none, of transcripts swapped in LibriSpeech 98 % of those twice as long or short.
RATE_DEVIATION, RATE_OF_LABEL, OUTLIER = 0.1, 0.5, 4.0
# Utterances that a median needs, of a speaker or of the corpus.
ENOUGH = 20
# Longer than the upper quartile by this many ranges between the quartiles, of logarithms; the range
# is at least that of a corpus where half of the lengths lie within a factor of 1.5.
EXTREME_RANGES, SMALLEST_RANGE = 3.0, float(np.log(1.5))

# Of one transcript, that are told of: without the language's alphabet all of them are unknown.
NAMED_CHARACTERS = 3

# How a wav says that its length isn't known, as one that was written into a pipe: these and above.
UNKNOWN_RIFF_BYTES = 0x7FFFF000
RIFF_SLACK = 8  # bytes: some writers count a chunk's padding and leave it out


@dataclass(frozen=True)
class Flaw:
    """What is wrong, whoever has it."""

    kind: str  # of KINDS
    severity: str  # ERROR or WARNING
    detail: str  # in words
    badness: float = 0.0  # the larger, the worse among those of its kind
    characters: str = ""  # of the transcript, that the alphabet lacks


@dataclass(frozen=True, kw_only=True)
class Finding(Flaw):
    """What is wrong with an utterance."""

    set: str
    utterance: Utterance


@dataclass(frozen=True, eq=False)
class SetNumbers:
    """A set as a whole."""

    name: str
    utterances: int
    speakers: int  # that are known
    seconds: np.ndarray  # float64 [utterances whose audio can be read and isn't empty]
    rates: np.ndarray  # labels a second of speech, float64 [those of them with a transcript]

    @property
    def hours(self) -> float:
        return float(self.seconds.sum()) / 3600


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that a pre-flight found."""

    sets: tuple[SetNumbers, ...]
    findings: tuple[Finding, ...]  # by kind as in KINDS, the worst first

    @property
    def utterances(self) -> int:
        return sum(each.utterances for each in self.sets)

    @property
    def errors(self) -> int:
        return sum(each.severity == ERROR for each in self.findings)

    @property
    def warnings(self) -> int:
        return len(self.findings) - self.errors

    @cached_property
    def _of_kinds(self) -> dict[str, list[Finding]]:
        found: defaultdict[str, list[Finding]] = defaultdict(list)
        for each in self.findings:
            found[each.kind].append(each)
        return dict(found)

    def of_kind(self, kind: str, set_name: str | None = None) -> list[Finding]:
        """The worst first; of all sets or of one."""
        found = self._of_kinds.get(kind, [])
        return [each for each in found if set_name in (None, each.set)]

    def unknown_characters(self, set_name: str | None = None) -> list[tuple[str, int]]:
        """(character, utterances that it is in), the most frequent first."""
        found = self.of_kind(UNKNOWN_CHARACTERS, set_name)
        return _most_frequent(character for each in found for character in each.characters)


def _most_frequent(characters: Iterable[str]) -> list[tuple[str, int]]:
    """(character, how often), the most frequent first, equally frequent ones by code point."""
    return sorted(Counter(characters).items(), key=lambda each: (-each[1], each[0]))


@dataclass(frozen=True)
class Examined:
    """What is kept of an utterance; small."""

    flaws: tuple[Flaw, ...] = ()
    seconds: float = 0.0  # of audio; 0: there is none
    speech_seconds: float = 0.0  # without the silence at the edges; 0: there is no speech
    labels: int = 0  # of the transcript; 0: it is empty
    digest: bytes = b""  # of the samples; empty where there are none, or nothing is to be heard


def examine(
    sets: dict[str, list[Utterance]], settings_of: dict[str, ShardSettings], workers: int
) -> Findings:
    """Reads every recording once and finds what would spoil a training.

    Recordings are read in other processes, since one may end the process that reads it.

    Args:
        sets: name -> utterances without augmented copies, the training set first: what is in two
            sets is found in the later one.
        settings_of: of each set; the limits and the alphabet are looked at.
        workers: processes that read.

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
    found.sort(key=lambda each: (KINDS.index(each.kind), each.severity, -each.badness))
    return Findings(tuple(_numbers(name, corpus) for name in sets), tuple(found))


# --- One utterance --------------------------------------------------------------------------------


def examine_utterance(utterance: Utterance, settings: ShardSettings) -> Examined:
    """Never raises for what the utterance is.

    Raises:
        UserError: a bucket can't be reached.
    """
    flaws = list(_flaws_of_text(utterance, settings.alphabet))
    text = _text(utterance)
    labels = len(text)
    rate = settings.front_end.sample_rate
    path, size = utterance.audio_path, _size(utterance)
    if path is None or size is None:
        detail = f"{path} is not there" if path else "a transcript without audio"
        return Examined((*flaws, Flaw(MISSING, ERROR, detail)), labels=labels)
    flaws += _flaws_of_bytes(utterance, size)
    try:
        samples = read_audio(path, rate, utterance.start_seconds, utterance.seconds)
    except AudioError as error:
        return Examined((*flaws, Flaw(UNREADABLE, ERROR, str(error))), labels=labels)
    flaws += _flaws_of_length(len(samples), utterance, settings)
    if not len(samples):
        return Examined(tuple(flaws), labels=labels)
    sound = levels.measure(samples, rate)
    flaws += _flaws_of_sound(sound, len(samples))
    unheard = {each.kind for each in flaws} & {SILENCE, NO_SPEECH}
    return Examined(
        tuple(flaws),
        sound.seconds,
        0.0 if unheard else sound.speech_seconds,
        labels,
        b"" if sound.loudest < SILENCE_LEVEL else _digest(samples),
    )


def _text(utterance: Utterance) -> str:
    """The transcript as it is compared, one character a label; empty if there is none."""
    return unicodedata.normalize("NFC", utterance.transcript or "")


def _flaws_of_text(utterance: Utterance, alphabet: Alphabet) -> Iterator[Flaw]:
    if utterance.transcript is None:
        yield Flaw(NO_TRANSCRIPT, ERROR, "audio without transcript")
        return
    text = _text(utterance)
    lacking = set(alphabet.missing(text))
    unknown = _most_frequent(each for each in text if each in lacking)
    if unknown:
        told = [
            described(character) + (f" {count} times" if count > 1 else "")
            for character, count in unknown[:NAMED_CHARACTERS]
        ]
        if more := len(unknown) - len(told):
            told.append(f"and {more} more")
        badness = float(sum(count for _, count in unknown))
        characters = "".join(character for character, _ in unknown)
        yield Flaw(UNKNOWN_CHARACTERS, ERROR, ", ".join(told), badness, characters)


def _size(utterance: Utterance) -> int | None:
    """Bytes of the audio's file; None if it isn't there."""
    if utterance.audio_path is None:
        return None
    if utterance.audio_bytes is not None:
        return utterance.audio_bytes
    return storage.size(utterance.audio_path)


def _flaws_of_bytes(utterance: Utterance, size: int) -> Iterator[Flaw]:
    """A list that tells another size, or a wav that does so itself: libsndfile reads what's left
    of one that was cut short, without a word."""
    stated, promised = utterance.stated_bytes, _riff_bytes(utterance.audio_path or "")
    if stated is not None and stated != size:
        yield _other_than_stated(f"{stated} bytes", f"{size}", stated, size)
    elif promised is not None and promised > size + RIFF_SLACK:
        detail = f"cut short: the wav's header promises {promised} bytes, the file has {size}"
        yield Flaw(WRONG_SIZE, ERROR, detail, promised / max(size, 1))


def _riff_bytes(path: str) -> int | None:
    """Bytes that a local wav's header promises; None if it doesn't."""
    if storage.in_bucket(path):
        return None  # another request for each file
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError:
        return None
    if len(head) < 12 or (head[:4], head[8:]) != (b"RIFF", b"WAVE"):
        return None
    promised = int(struct.unpack("<I", head[4:8])[0])
    return promised + 8 if 0 < promised < UNKNOWN_RIFF_BYTES else None


def _other_than_stated(stated: str, there: str, expected: float, actual: float) -> Flaw:
    """Less than stated: the end of what is said is lost. More: the list is of something else."""
    less = actual < expected
    factor = max(expected, actual) / max(min(expected, actual), 1e-3)
    detail = f"{stated} are stated, the file has {there}{': cut short?' if less else ''}"
    return Flaw(WRONG_SIZE, ERROR if less else WARNING, detail, factor)


def _flaws_of_length(samples: int, utterance: Utterance, settings: ShardSettings) -> Iterator[Flaw]:
    front_end, stated = settings.front_end, utterance.stated_seconds
    seconds = samples / front_end.sample_rate
    if stated is not None and abs(seconds - stated) > max(
        STATED_SECONDS_OFF, STATED_SHARE_OFF * stated
    ):
        yield _other_than_stated(f"{stated:.2f} s", f"{seconds:.2f} s", stated, seconds)
    if samples > 0 and seconds < SHORTEST_SECONDS:
        yield Flaw(TOO_SHORT, WARNING, f"{seconds:.3f} s of audio", -seconds)
    frames = front_end.frames(samples)
    text, alphabet = _text(utterance), settings.alphabet
    # Preparation's rules compare labels with each other only, so that for characters that the
    # alphabet lacks any will do.
    label = list(map(ord, text)) if alphabet.missing(text) else alphabet.encode(text)
    unlimited = replace(settings, max_sequence_length=max(frames, settings.max_sequence_length))
    reasons = {}
    for rules in (
        settings,
        unlimited,
        replace(unlimited, max_label_length=max(len(label), settings.max_label_length)),
    ):
        reason, detail = write_shards.unusable(samples, frames, label, rules)
        if reason:
            reasons[reason] = detail
    badness = {
        TOO_LONG: frames,
        LABEL_TOO_LONG: len(label),
        UNALIGNABLE: len(label) / max(frames, 1),
    }
    for reason, detail in reasons.items():
        yield Flaw(reason, ERROR, detail, float(badness.get(reason, 0)))


def _flaws_of_sound(sound: Sound, samples: int) -> Iterator[Flaw]:
    if sound.loudest < SILENCE_LEVEL:
        level = (
            "digital silence"
            if sound.loudest <= levels.LOWEST_LEVEL
            else (f"the loudest 0.1 s have {sound.loudest:.0f} dBFS")
        )
        yield Flaw(SILENCE, ERROR, f"{level}, in {sound.seconds:.1f} s", -sound.loudest)
    elif sound.seconds >= MEASURABLE_SECONDS and sound.range < SPEECH_RANGE:
        detail = (
            f"loud parts are {sound.range:.1f} dB above the floor of {sound.floor:.0f} dBFS: "
            "noise, a tone, or a word in a long silence"
        )
        yield Flaw(NO_SPEECH, WARNING, detail, -sound.range)
    else:
        for seconds, where in ((sound.silent_start, "before"), (sound.silent_end, "behind")):
            if seconds > EDGE_SECONDS:
                detail = f"{seconds:.1f} s {where} what is said, of {sound.seconds:.1f} s"
                yield Flaw(SILENT_EDGE, WARNING, detail, seconds)
    share = sound.clipped / samples
    if sound.peak > LARGEST_PEAK:
        detail = f"the largest sample is {sound.peak:.0f} times full scale"
        yield Flaw(WRONG_SCALE, WARNING, detail, sound.peak)
        return
    if share > CLIPPED_SHARE:
        detail = f"{sound.clipped} samples, {share:.2%}, are cut off at the top"
        yield Flaw(CLIPPING, WARNING, detail, share)
    if abs(sound.offset) > LARGEST_OFFSET:
        detail = f"the samples' mean is {sound.offset:+.1%} of full scale, not 0"
        yield Flaw(OFFSET, WARNING, detail, abs(sound.offset))


def _digest(samples: np.ndarray) -> bytes:
    """The same for the same recording in another lossless format."""
    rounded = np.clip(np.rint(samples), -32768, 32767).astype("<i2")
    return hashlib.blake2b(rounded.tobytes(), digest_size=16).digest()


# --- All of them ----------------------------------------------------------------------------------

Task = tuple[str, Utterance]  # the set's name


def _examined_in_order(
    tasks: Sequence[Task], settings_of: dict[str, ShardSettings], workers: int
) -> Generator[Examined, None, None]:
    """In the tasks' order; what kills the process that reads it is unreadable."""
    # The settings go to each process once: a large alphabet with every task would take longer than
    # the audio.
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
            yield Examined((Flaw(UNREADABLE, ERROR, detail),), labels=len(_text(utterance)))


def _examined_or_error(task: Task, settings_of: dict[str, ShardSettings]) -> Examined | UserError:
    """An error that isn't the utterance's, such as a bucket out of reach, ends no process."""
    name, utterance = task
    try:
        return examine_utterance(utterance, settings_of[name])
    except UserError as error:
        return error


@dataclass(frozen=True)
class _Entry:
    """An utterance in its set."""

    set: str
    utterance: Utterance
    examined: Examined

    @property
    def rate(self) -> float:
        """Labels a second of speech; 0: unknown. A few frames are no measure of a second."""
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


def _named(entry: _Entry) -> str:
    utterance = entry.utterance
    return f"{entry.set}: {isolated(utterance.utterance_id)} ({isolated(place(utterance))})"


def _grouped(
    corpus: Iterable[_Entry], key: Callable[[_Entry], bytes | str]
) -> dict[bytes | str, list[_Entry]]:
    """Those with the same key that isn't empty, if they are several."""
    groups: defaultdict[bytes | str, list[_Entry]] = defaultdict(list)
    for each in corpus:
        if key(each):
            groups[key(each)].append(each)
    return {found: entries for found, entries in groups.items() if len(entries) > 1}


def _comparable(entry: _Entry) -> str:
    """The transcript whatever its case and spaces are."""
    return " ".join(_text(entry.utterance).casefold().split())


def _same_audio(corpus: Sequence[_Entry]) -> Iterator[Finding]:
    """Each recording but the first is a copy of the first."""
    for entries in _grouped(corpus, lambda each: each.examined.digest).values():
        yield from _contradictions(entries)
        first = entries[0]
        for each in entries[1:]:
            seconds = each.examined.seconds
            if each.set != first.set:
                detail = f"also in {_named(first)}: what is learned is tested"
                yield each.found(Flaw(LEAKED_AUDIO, ERROR, detail, seconds))
            else:
                detail = f"also in {_named(first)}"
                yield each.found(Flaw(DUPLICATE, WARNING, detail, seconds))


def _contradictions(entries: Sequence[_Entry]) -> Iterator[Finding]:
    """Of those with the same audio: who says something else than most of them do. Of texts that
    equally many say the first one counts."""
    texts: defaultdict[str, list[_Entry]] = defaultdict(list)
    for each in entries:
        if _comparable(each):
            texts[_comparable(each)].append(each)
    if len(texts) < 2:
        return
    first, *others = max(texts.values(), key=len)  # of equally many the first ones
    who = f"{_named(first)} has" if not others else f"{_named(first)} and {len(others)} more have"
    says = "says" if not others else "say"
    detail = f"{who} the same audio and {says} {enclosed(_text(first.utterance))}"
    for each in entries:
        if _comparable(each) not in ("", _comparable(first)):
            yield each.found(Flaw(CONTRADICTION, ERROR, detail, each.examined.seconds))


def _same_transcripts(corpus: Sequence[_Entry]) -> Iterator[Finding]:
    """One a transcript. The same recording in both sets is told of already."""
    for entries in _grouped(corpus, _comparable).values():
        first = entries[0].set
        heard = {each.examined.digest for each in entries if each.set == first} - {b""}
        others = [each for each in entries if each.set != first]
        fresh = [each for each in others if each.examined.digest not in heard]
        if fresh:
            counts = Counter(each.set for each in entries)
            told = ", ".join(f"{count} in {name}" for name, count in counts.items())
            labels = float(fresh[0].examined.labels)
            yield fresh[0].found(Flaw(LEAKED_TRANSCRIPT, WARNING, told, labels))


def _shared_speakers(corpus: Sequence[_Entry]) -> Iterator[Finding]:
    for entries in _grouped(corpus, lambda each: each.utterance.speaker).values():
        counts = Counter(each.set for each in entries)
        if len(counts) > 1:
            told = ", ".join(f"{count} in {name}" for name, count in counts.items())
            other = next(each for each in entries if each.set != entries[0].set)
            detail = f"speaker {other.utterance.speaker}: {told}"
            yield other.found(Flaw(SHARED_SPEAKER, WARNING, detail, float(len(entries))))


def _odd_rates(corpus: Sequence[_Entry]) -> Iterator[Finding]:
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
        usual = f", usual are {np.exp(median):.1f}" if abs(deviation) > OUTLIER else ""
        if usual:
            too_long = deviation > 0
        elif not SLOWEST_RATE <= each.rate <= FASTEST_RATE:
            too_long = each.rate > FASTEST_RATE
        else:
            continue
        why = f"the transcript is too {'long' if too_long else 'short'} for the audio"
        detail = f"{each.rate:.1f} labels a second of speech{usual}: {why}"
        bound = np.log(FASTEST_RATE if too_long else SLOWEST_RATE)
        badness = max(abs(deviation), OUTLIER + abs(float(np.log(each.rate) - bound)))
        yield each.found(Flaw(SPEECH_RATE, WARNING, detail, float(badness)))


def _extreme_lengths(corpus: Sequence[_Entry]) -> Iterator[Finding]:
    entries = [each for each in corpus if each.examined.seconds]
    if len(entries) < ENOUGH:
        return
    logarithms = np.log([each.examined.seconds for each in entries])
    lower, middle, upper = np.percentile(logarithms, [25, 50, 75])
    limit = upper + EXTREME_RANGES * max(upper - lower, SMALLEST_RANGE)
    for each, logarithm in zip(entries, logarithms, strict=True):
        if logarithm > limit:
            detail = f"{each.examined.seconds:.1f} s, half of all are below {np.exp(middle):.1f} s"
            yield each.found(Flaw(EXTREME_LENGTH, WARNING, detail, each.examined.seconds))
