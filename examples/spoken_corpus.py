"""Speaks a small corpus of English home commands, in LibriSpeech's layout.

    python examples/spoken_corpus.py --corpus_dir=demo/corpus

writes demo/corpus/train, demo/corpus/dev and demo/corpus/test, each with
speaker/chapter/SPEAKER-CHAPTER-NNNN.flac (16 kHz, mono, 16 bit) and SPEAKER-CHAPTER.trans.txt. One
voice of the eSpeak NG synthesizer is one speaker, with one chapter in each split. The splits share
the speakers, but no sentence. The same flags write the same bytes, without a network.

The library and its voices come with the wheel espeakng-loader: pip install -e ".[demo]".
"""

import itertools
import random
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import soundfile
from absl import flags
from corpus_folder import create, is_complete
from synthesizer import Synthesizer, to_corpus_rate

import constants
from speech.flags import kinds
from speech.system import command_line
from utils import UserError

# Speaker -> voice of eSpeak NG: a language of its folder lang/gmw, then a variant of voices/!v.
# British English is "en" there: the library knows "en-gb" as a language, not as a voice's name.
VOICES = {
    101: "en-us+m1",
    102: "en-us+f1",
    103: "en-us+m2",
    104: "en-us+f2",
    105: "en-us+m3",
    106: "en-us+f3",
    107: "en-us+m4",
    108: "en-us+f4",
    109: "en-us+m5",
    110: "en-us+f5",
    111: "en-us+m7",
    112: "en-us+m8",
    113: "en",
    114: "en+f2",
    115: "en-gb-scotland",
    116: "en-gb-scotland+f3",
    117: "en-gb-x-rp",
    118: "en-gb-x-rp+f4",
}

# Split -> last digit of its chapters, so that no two chapters of the corpus have the same number.
SPLITS = {"train": 1, "dev": 2, "test": 3}

RATES = (130, 180)  # words per minute: slowest, fastest
PITCHES = (35, 65)  # eSpeak's scale, 0 to 99: lowest, highest

PLACES = (
    "in the kitchen",
    "in the bedroom",
    "in the children's room",
    "in the garage",
    "in the hallway",
    "in the office",
    "in the bathroom",
    "in the attic",
)
TIMES_TO_ACT = (
    "now",
    "please",
    "at seven o'clock",
    "in ten minutes",
    "tomorrow morning",
    "before dinner",
    "after midnight",
    "when it's dark",
)
TIMES_TO_REPORT = (
    "at noon",
    "at six o'clock",
    "last night",
    "this morning",
    "yesterday evening",
    "on monday",
    "before sunrise",
    "after lunch",
)

# A sentence takes one phrase from each part of a pattern, in this order.
PATTERNS = (
    (
        ("turn on", "turn off", "switch on", "switch off")
        + ("don't turn on", "don't turn off", "check", "find"),
        ("the lamp", "the light", "the radio", "the heater", "the fan")
        + ("the television", "the camera", "the speaker", "the alarm", "the vacuum cleaner"),
        PLACES,
        TIMES_TO_ACT,
    ),
    (
        ("open", "close", "lock", "unlock", "don't open", "don't close"),
        ("the door", "the window", "the curtains", "the blinds", "the cupboard"),
        PLACES,
        TIMES_TO_ACT,
    ),
    (
        ("tell me", "show me", "what was", "i'd like to know"),
        ("the temperature", "the humidity", "the brightness", "the noise level"),
        PLACES,
        TIMES_TO_REPORT,
    ),
)


@dataclass(frozen=True)
class Settings:
    """The settings that determine a corpus."""

    train_utterances: int
    dev_utterances: int
    test_utterances: int
    random_seed: int


@dataclass(frozen=True)
class PlannedUtterance:
    """A sentence and the voice that speaks it."""

    speaker: int
    chapter: int
    number: int  # in its chapter, from 0
    sentence: str  # lower case: letters, spaces and apostrophes
    rate: int  # words per minute
    pitch: int  # eSpeak's scale, 0 to 99

    @property
    def utterance_id(self) -> str:
        """Returns SPEAKER-CHAPTER-NNNN, the id in the transcript file and the audio file's name."""
        return f"{self.speaker}-{self.chapter}-{self.number:04d}"


# --- The plan -------------------------------------------------------------------------------------


def all_sentences() -> list[str]:
    """Returns every sentence of the grammar once, always in the same order."""
    return [" ".join(parts) for pattern in PATTERNS for parts in itertools.product(*pattern)]


def plan_split(split: str, sentences: Sequence[str], rng: random.Random) -> list[PlannedUtterance]:
    """Assigns the sentences of a split to the speakers in turn; sorts by speaker, then number."""
    speakers = list(VOICES)
    utterances = []
    for position, sentence in enumerate(sentences):
        number, turn = divmod(position, len(speakers))
        speaker = speakers[turn]
        chapter = 10 * speaker + SPLITS[split]
        rate, pitch = rng.randint(*RATES), rng.randint(*PITCHES)
        utterances.append(PlannedUtterance(speaker, chapter, number, sentence, rate, pitch))
    return sorted(utterances, key=lambda utterance: (utterance.speaker, utterance.number))


def plan_corpus(settings: Settings) -> dict[str, list[PlannedUtterance]]:
    """Plans the utterances of each split; no sentence occurs twice.

    Raises:
        UserError: there are more utterances than sentences.
    """
    counts = {
        "train": settings.train_utterances,
        "dev": settings.dev_utterances,
        "test": settings.test_utterances,
    }
    sentences = all_sentences()
    wanted = sum(counts.values())
    if wanted > len(sentences):
        raise UserError(
            f"--train_utterances, --dev_utterances and --test_utterances add up to {wanted}, but "
            f"there are only {len(sentences)} different sentences: choose fewer utterances."
        )
    rng = random.Random(settings.random_seed)
    rng.shuffle(sentences)
    remaining = iter(sentences)
    return {
        split: plan_split(split, list(itertools.islice(remaining, count)), rng)
        for split, count in counts.items()
    }


# --- The files ------------------------------------------------------------------------------------


def write_transcripts(split_dir: Path, utterances: Sequence[PlannedUtterance]) -> None:
    """Writes SPEAKER-CHAPTER.trans.txt of every chapter; `utterances` are sorted by speaker."""
    for (speaker, chapter), spoken in itertools.groupby(
        utterances, key=lambda utterance: (utterance.speaker, utterance.chapter)
    ):
        lines = [f"{utterance.utterance_id} {utterance.sentence.upper()}\n" for utterance in spoken]
        path = split_dir / str(speaker) / str(chapter) / f"{speaker}-{chapter}.trans.txt"
        path.write_text("".join(lines), encoding="utf-8")


def write_split(
    split_dir: Path, utterances: Sequence[PlannedUtterance], synthesizer: Synthesizer
) -> float:
    """Speaks and writes the utterances of one split, with progress on stderr.

    Returns:
        the minutes of audio.
    """
    total_samples = 0
    for done, utterance in enumerate(utterances, start=1):
        samples = to_corpus_rate(
            synthesizer.speak(
                utterance.sentence, VOICES[utterance.speaker], utterance.rate, utterance.pitch
            )
        )
        chapter_dir = split_dir / str(utterance.speaker) / str(utterance.chapter)
        chapter_dir.mkdir(parents=True, exist_ok=True)
        soundfile.write(
            chapter_dir / f"{utterance.utterance_id}.flac",
            samples,
            constants.SAMPLE_RATE,
            subtype="PCM_16",
        )
        total_samples += len(samples)
        if done % 100 == 0 or done == len(utterances):
            print(f"\r{split_dir.name}: {done} of {len(utterances)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    write_transcripts(split_dir, utterances)
    return total_samples / constants.SAMPLE_RATE / 60


def write_corpus(corpus_dir: Path, settings: Settings) -> None:
    """Speaks and writes the corpus, unless it exists.

    Raises:
        UserError: `corpus_dir` has other content, the grammar has too few sentences, or eSpeak NG
            is missing.
    """
    if is_complete(corpus_dir, asdict(settings)):
        print(f"{corpus_dir} exists already.")
        return
    plan = plan_corpus(settings)
    synthesizer = Synthesizer()
    summary = []
    with create(corpus_dir, asdict(settings)) as unfinished_dir:
        for split, utterances in plan.items():
            minutes = write_split(unfinished_dir / split, utterances, synthesizer)
            summary.append(f"{split} {len(utterances)} utterances, {minutes:.1f} minutes")
    print(f"{corpus_dir} is written: {'; '.join(summary)}.")


# --- The command ----------------------------------------------------------------------------------


def define_flags() -> None:
    """Defines the flags; not at import, when they could conflict with another module's."""
    flags.DEFINE_string("corpus_dir", "demo/corpus", "Folder of the corpus.")
    kinds.define_integer("train_utterances", 2000, "Number of training utterances.", lower_bound=1)
    kinds.define_integer(
        "dev_utterances", 100, "Number of utterances of the split dev.", lower_bound=1
    )
    kinds.define_integer(
        "test_utterances", 200, "Number of utterances of the split test.", lower_bound=1
    )
    kinds.define_random_seed("Seed of sentences, rates and pitches.")
    command_line.define_logging_flag()


def main() -> None:
    """Writes the corpus that the flags describe."""
    # Python would raise KeyboardInterrupt in the library's callback, where ctypes discards it and
    # the samples of that call. Ending at once is safe: the corpus has a temporary name.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    values = flags.FLAGS
    settings = Settings(
        values.train_utterances, values.dev_utterances, values.test_utterances, values.random_seed
    )
    write_corpus(Path(values.corpus_dir), settings)


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
