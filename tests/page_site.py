"""A server of tiny models and a test set, as a program of its own, for tests of the web page."""

import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from doors import ROOT, environment_of_door
from tiny_models import noise, write_model
from tiny_scorer import write_tiny_scorer
from tiny_shards import random_utterances, write_shards

from speech.config import save_config
from utils import ENGLISH, Alphabet

# What the tiny network, whose values are random, makes of noise is "ujujzj" and the like: with
# these letters it has words.
_NAMES = {"j": " ", " ": "j"}
ALPHABET = Alphabet(tuple(_NAMES.get(each, each) for each in ENGLISH.characters))
_ARABIC_LETTERS = "ابتثجحخدذرزسشصضطظعغفقكلمنهوي"
ARABIC = Alphabet(
    tuple(
        " " if own == " " else other
        for own, other in zip(ALPHABET.characters, _ARABIC_LETTERS, strict=True)
    )
)

UPLOAD_MB = 1.0
SECONDS = 30
UTTERANCES = 14


class Site:
    """serve.py with two models, a scorer of the first and a test set with recordings."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self._port = port
        self.address = ""
        self._lines: list[str] = []

    def write(self) -> None:
        """Models, scorer and shards, and recordings to give to the page."""
        for name, alphabet in (("tiny", ALPHABET), ("tiny-ar", ARABIC)):
            config = write_model(self.folder / name, "conv_gru")
            save_config(str(self.folder / name), replace(config, alphabet=alphabet))
        write_tiny_scorer(self.folder / "tiny.scorer", {"u": -1.0, "z": -1.5}, alphabet=ALPHABET)
        utterances = random_utterances([64] * UTTERANCES, bins=8, letters="uz ")
        write_shards(self.folder, utterances, bins=8, alphabet=ALPHABET)
        for each in utterances:
            self._sound(f"audio/{each.utterance_id}.wav", 10000)
        self._sound("spoken.wav", 32000)
        self._sound("long.wav", 16000 * 25)
        self._sound("longer.wav", 8000 * (SECONDS + 5), rate=8000)
        self._sound("large.wav", 16000 * 60)
        (self.folder / "notes.txt").write_text("No sound, but words. " * 40)

    def _sound(self, name: str, samples: int, rate: int = 16000) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, noise(samples), rate)

    def sound(self, name: str = "spoken.wav") -> np.ndarray:
        return soundfile.read(self.folder / name, dtype="int16")[0]

    def start(self) -> None:
        """Returns when it answers."""
        flags = {
            "models": f"{self.folder / 'tiny'},{self.folder / 'tiny-ar'}",
            "scorers": self.folder / "tiny.scorer",
            "test_data": self.folder / "tiny.tfrecords.*",
            "audio": self.folder / "audio",
            "port": self._port,
            "max_upload_mb": UPLOAD_MB,
            "max_seconds": SECONDS,
        }
        self._process = subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "serve.py"),
                *(f"--{name}={value}" for name, value in flags.items()),
            ],
            env=environment_of_door({}),
            stderr=subprocess.PIPE,
            text=True,
        )
        ready = threading.Event()
        # It goes on being read, or the pipe would fill up.
        threading.Thread(target=self._read, args=[ready], daemon=True).start()
        assert ready.wait(60) and self.address, "".join(self._lines)

    def _read(self, ready: threading.Event) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.append(line)
            if found := re.search(r"http://[\d.]+:\d+", line):
                self.address = self.address or found[0]
            if self.address and "startup complete" in line:
                ready.set()
        ready.set()  # it has ended

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])
