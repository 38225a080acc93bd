"""Makes a small corpus of sound with the rhythm of speech, with every kind of defect."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soundfile

from speech.corpora.utterance import Utterance
from speech.features.front_end import FrontEnd
from speech.preflight.findings import Kind, Severity
from speech.shards.index import ShardSettings
from utils import ENGLISH

RATE = 16000
LABELS_A_SECOND = 14
SETTINGS = ShardSettings(FrontEnd(), ENGLISH, 100, 1729, 150, True, 2)
SPEAKERS = {"train": "anna", "dev": "boris", "test": "clara"}


def voice(name: str, seconds: float) -> np.ndarray:
    """Returns 4 bursts of noise per second over a quiet floor, in [-1, 1], seeded by the name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    times = np.arange(round(seconds * RATE)) / RATE
    rhythm = np.sin(2 * np.pi * 2 * times) ** 4
    # Mostly below 1 kHz, as speech is: several samples in a row are clipped.
    noise = np.convolve(rng.normal(size=len(times)), np.ones(12) / np.sqrt(12), mode="same")
    return 0.1 * rhythm * noise + 1e-3 * rng.normal(size=len(times))


def words(name: str, labels: float) -> str:
    """Returns `labels` letters and spaces, seeded by the name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz"), round(labels)).tolist()
    letters[5:-1:6] = " " * len(letters[5:-1:6])
    return "".join(letters)


@dataclass
class Corpus:
    """Sets of utterances with audio in a folder, and the findings to expect."""

    folder: Path
    sets: dict[str, list[Utterance]] = field(
        default_factory=lambda: {"train": [], "dev": [], "test": []}
    )
    # (set, utterance's id, kind, severity)
    planted: set[tuple[str, str, str, str]] = field(default_factory=set)

    @property
    def settings_of(self) -> dict[str, ShardSettings]:
        return dict.fromkeys(self.sets, SETTINGS)

    def add(
        self,
        name: str,
        samples: np.ndarray | None = None,
        text: str | None = "",
        set_name: str = "train",
        suffix: str = ".wav",
        **changes: object,
    ) -> Utterance:
        """Adds an utterance, by default with 2 to 4 s of audio, and with a text of its length."""
        if samples is None:
            samples = voice(name, 2 + zlib.crc32(name.encode()) % 200 / 100)
        path = self.folder / f"{name}{suffix}"
        # Rounded here, since soundfile rounds differently for flac and wav.
        rounded = np.clip(np.rint(32768 * samples), -32768, 32767).astype(np.int16)
        soundfile.write(path, rounded, RATE)
        transcript = words(name, LABELS_A_SECOND * len(samples) / RATE) if text == "" else text
        utterance = Utterance(
            name,
            str(path),
            transcript,
            SPEAKERS[set_name],
            path.stat().st_size,
            place=f"{set_name}.csv:{len(self.sets[set_name]) + 2}",
        )
        utterance = replace(utterance, **changes)  # type: ignore[arg-type]
        self.sets[set_name].append(utterance)
        return utterance

    def plant(
        self, utterance: Utterance, *kinds: str, severity: str, set_name: str = "train"
    ) -> None:
        self.planted |= {(set_name, utterance.utterance_id, kind, severity) for kind in kinds}


def clean_corpus(folder: Path) -> Corpus:
    corpus = Corpus(folder)
    for set_name, utterances in (("train", 24), ("dev", 4), ("test", 4)):
        for number in range(utterances):
            corpus.add(f"{set_name}-{number:02d}", set_name=set_name)
    return corpus


def planted_corpus(folder: Path) -> Corpus:
    """Makes the clean corpus with every defect added."""
    corpus = clean_corpus(folder)
    for plant in (_plant_files, _plant_texts, _plant_sounds, _plant_between_sets):
        plant(corpus)
    return corpus


def _plant_files(corpus: Corpus) -> None:
    errors: dict[str, tuple[str, Callable[[Path], object]]] = {
        "gone": (Kind.MISSING, Path.unlink),
        "damaged": (Kind.UNREADABLE, lambda path: path.write_bytes(b"no sound at all")),
        "cut-wav": (Kind.WRONG_SIZE, lambda path: _cut(path, 100)),
    }
    for name, (kind, spoil) in errors.items():
        utterance = corpus.add(name)
        spoil(corpus.folder / f"{name}.wav")
        size = None if kind == Kind.MISSING else (corpus.folder / f"{name}.wav").stat().st_size
        corpus.sets["train"][-1] = replace(utterance, audio_bytes=size)
        corpus.plant(utterance, kind, severity=Severity.ERROR)
    flac = corpus.add("cut-flac", suffix=".flac")
    _cut(corpus.folder / "cut-flac.flac", 5000)
    corpus.plant(flac, Kind.UNREADABLE, severity=Severity.ERROR)
    corpus.plant(corpus.add("no-audio", audio_path=None), Kind.MISSING, severity=Severity.ERROR)
    corpus.plant(corpus.add("shrunk", stated_bytes=10**6), Kind.WRONG_SIZE, severity=Severity.ERROR)
    corpus.plant(
        corpus.add("grown", stated_bytes=47958), Kind.WRONG_SIZE, severity=Severity.WARNING
    )
    corpus.plant(
        corpus.add("shorter", stated_seconds=4.8), Kind.WRONG_SIZE, severity=Severity.ERROR
    )
    corpus.add("rounded", stated_seconds=2 + zlib.crc32(b"rounded") % 200 / 100 + 0.04)
    corpus.plant(corpus.add("empty", np.zeros(0), "hello"), Kind.EMPTY, severity=Severity.ERROR)


def _cut(path: Path, less: int) -> None:
    path.write_bytes(path.read_bytes()[:-less])


def _plant_texts(corpus: Corpus) -> None:
    corpus.plant(corpus.add("untold", text=None), Kind.NO_TRANSCRIPT, severity=Severity.ERROR)
    unknown = corpus.add(
        "unknown", voice("unknown", 2), "caf\u00e9 42 \u0634 na\u00efve caf\u00e9s"
    )
    corpus.plant(unknown, Kind.UNKNOWN_CHARACTERS, severity=Severity.ERROR)
    labels = corpus.add("labels", voice("labels", 11))
    corpus.plant(labels, Kind.LABEL_TOO_LONG, severity=Severity.ERROR)
    text = words("unalignable", 150)
    unalignable = corpus.add("unalignable", voice("unalignable", 2), text)
    corpus.plant(unalignable, Kind.UNALIGNABLE, severity=Severity.ERROR)
    corpus.plant(unalignable, Kind.SPEECH_RATE, severity=Severity.WARNING)
    for name, labels_of in (("hasty", 75), ("slow", 8)):
        utterance = corpus.add(name, voice(name, 3), words(name, labels_of))
        corpus.plant(utterance, Kind.SPEECH_RATE, severity=Severity.WARNING)


def _plant_sounds(corpus: Corpus) -> None:
    rng = np.random.default_rng(0)
    silences = {"zeros": np.zeros(2 * RATE), "hiss": 1e-4 * rng.normal(size=2 * RATE)}
    for name, samples in silences.items():
        corpus.plant(corpus.add(name, samples), Kind.SILENCE, severity=Severity.ERROR)
    tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    for name, samples in {"noise": 0.1 * rng.normal(size=2 * RATE), "tone": tone}.items():
        corpus.plant(corpus.add(name, samples), Kind.NO_SPEECH, severity=Severity.WARNING)
    long = voice("long", 40)
    utterance = corpus.add("long", long, words("long", 140))
    corpus.plant(utterance, Kind.TOO_LONG, severity=Severity.ERROR)
    corpus.plant(utterance, Kind.EXTREME_LENGTH, Kind.SPEECH_RATE, severity=Severity.WARNING)
    loud = np.clip(5 * voice("clipped", 3), -1, 1)
    corpus.plant(corpus.add("clipped", loud), Kind.CLIPPING, severity=Severity.WARNING)
    scaled, path = corpus.add("scaled"), corpus.folder / "scaled.wav"
    soundfile.write(path, 32768 * soundfile.read(path)[0], RATE, subtype="FLOAT")
    corpus.sets["train"][-1] = replace(scaled, audio_bytes=path.stat().st_size)
    corpus.plant(scaled, Kind.WRONG_SCALE, severity=Severity.WARNING)
    turned_down = 0.5 * np.clip(5 * voice("turned-down", 3), -1, 1)
    corpus.plant(corpus.add("turned-down", turned_down), Kind.CLIPPING, severity=Severity.WARNING)
    corpus.plant(
        corpus.add("offset", voice("offset", 3) + 0.1), Kind.OFFSET, severity=Severity.WARNING
    )
    quiet = 1e-3 * rng.normal(size=3 * RATE)
    for name, pieces in (("late", (0, 1)), ("early", (1, 0))):
        spoken = (quiet, voice(name, 3))
        samples = np.concatenate([spoken[piece] for piece in pieces])
        utterance = corpus.add(name, samples, words(name, 3 * LABELS_A_SECOND))
        corpus.plant(utterance, Kind.SILENT_EDGE, severity=Severity.WARNING)
    corpus.plant(
        corpus.add("snippet", voice("snippet", 0.08), "a"),
        Kind.TOO_SHORT,
        severity=Severity.WARNING,
    )


def _plant_between_sets(corpus: Corpus) -> None:
    twin = corpus.add("twin", voice("twice", 3), words("twice", 42))
    again = corpus.add("twin-again", voice("twice", 3), twin.transcript, suffix=".flac")
    corpus.plant(again, Kind.DUPLICATE, severity=Severity.WARNING)
    denied = corpus.add("twin-denied", voice("twice", 3), words("denied", 42))
    corpus.plant(denied, Kind.DUPLICATE, severity=Severity.WARNING)
    corpus.plant(denied, Kind.CONTRADICTION, severity=Severity.ERROR)
    first = corpus.sets["train"][0]
    samples, _ = soundfile.read(str(first.audio_path))
    leaked = corpus.add("leaked", samples, first.transcript, "test", ".flac")
    corpus.plant(leaked, Kind.LEAKED_AUDIO, severity=Severity.ERROR, set_name="test")
    second = corpus.sets["train"][1]
    assert second.transcript is not None
    text = second.transcript.upper().lower() + " "
    said = corpus.add("said", voice("said", len(text) / LABELS_A_SECOND), text, "dev")
    corpus.plant(said, Kind.LEAKED_TRANSCRIPT, severity=Severity.WARNING, set_name="dev")
    anna = corpus.add("anna-again", set_name="test", speaker="anna")
    corpus.plant(anna, Kind.SHARED_SPEAKER, severity=Severity.WARNING, set_name="test")
