"""Makes the files of a web page's server in tests: tiny models, a test set and recordings."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from tiny_models import noise, write_model
from tiny_scorer import write_tiny_scorer
from tiny_shards import TinyUtterance, random_utterances, write_shards

from speech.decoding.beam_search import BeamSettings
from speech.networks.config import save_config
from speech.serving.schemas import requests
from speech.serving.services.catalogue import open_catalogue
from speech.serving.services.test_sets import RecognisedUtterance, TestSet
from speech.serving.services.transcription import TranscriptionWorkers
from utils import ENGLISH, Alphabet

# The tiny network, whose values are random, recognises noise as "ujujzj" or similar: spaces instead
# of j make words of it.
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
# Name of the server for which browsers don't allow the microphone.
INSECURE_HOST = "speech.test"

UTTERANCES = 14
RIGHT = (1, 2, 4, 10, 11, 12, 13)  # utterances of the set that are recognised without errors
SILENT = 3  # the one without a recording


@dataclass(frozen=True)
class Site:
    """A server and the folder of its files."""

    folder: Path
    address: str

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


def write_site(folder: Path) -> None:
    """Writes models, a scorer of the first, a test set, and files to upload."""
    for name, alphabet in (("tiny", ALPHABET), ("tiny-ar", ARABIC)):
        config = write_model(folder / name, "conv_gru")
        save_config(str(folder / name), replace(config, alphabet=alphabet))
    write_tiny_scorer(folder / "tiny.scorer", {"u": -1.0, "z": -1.5}, alphabet=ALPHABET)
    utterances = random_utterances([64] * UTTERANCES, bins=8, letters="uz ")
    hypotheses = _hypotheses(folder, utterances)
    for number in RIGHT:
        utterances[number] = replace(utterances[number], transcript=hypotheses[number])
    write_shards(folder, utterances, bins=8, alphabet=ALPHABET, longest=(64, 64))
    (folder / "audio").mkdir()
    for number, each in enumerate(utterances):
        if number != SILENT:
            soundfile.write(folder / "audio" / f"{each.utterance_id}.wav", noise(10000), 16000)
    soundfile.write(folder / "spoken.wav", noise(32000), 16000)
    soundfile.write(folder / "several.wav", noise(16000 * 25), 16000)
    soundfile.write(folder / "too-long.wav", noise(8000 * (SECONDS + 5)), 8000)
    soundfile.write(folder / "too-large.wav", noise(16000 * 60), 16000)
    soundfile.write(folder / "sentence.wav", _sentence(), 16000)
    soundfile.write(folder / "silence.wav", np.zeros(48000, np.int16), 16000)
    soundfile.write(folder / "empty.wav", np.zeros(0, np.int16), 16000)
    (folder / "notes.txt").write_text("No sound, but words. " * 40)


def _sentence() -> npt.NDArray[np.int16]:
    """Returns a second of syllables between silences, which browsers take for speech."""
    time = np.arange(16000) / 16000
    pitch = np.repeat(np.tile([150, 190, 170, 220], 2), 2000)
    syllables = 1500 * np.sin(np.pi * time * 8) ** 2
    voice = syllables * (np.sin(2 * np.pi * pitch * time) + np.sin(2 * np.pi * 900 * time) / 2)
    room = noise(16000 * 30) / 10_000  # the microphone plays the file again after its end
    room[8000:24000] += voice
    return room.astype(np.int16)


def _hypotheses(folder: Path, utterances: Sequence[TinyUtterance]) -> list[str]:
    """Returns the server's hypotheses of some utterances, with its default settings."""
    shards = write_shards(folder / "unrecognised", utterances, bins=8, alphabet=ALPHABET)
    models, scorers = [str(folder / "tiny")], [str(folder / "tiny.scorer")]
    catalogue = open_catalogue(models, scorers, BeamSettings(), UTTERANCES)
    with ThreadPoolExecutor(1) as threads:
        listener = TranscriptionWorkers(threads, 1, SECONDS, UTTERANCES)

        async def page() -> list[RecognisedUtterance]:
            share = listener.share(still_wanted)
            choice = catalogue.choose(requests.read({}))
            return await TestSet(shards, None).page(choice, 0, UTTERANCES, listener, share)

        found = asyncio.run(page())
    catalogue.close()
    return [each.result.hypothesis for each in found]


async def still_wanted() -> None:
    """Does nothing: there is no client that could disconnect."""


def flags(folder: Path) -> list[str]:
    """Returns the flags of serve.py."""
    return [
        f"--models={folder / 'tiny'},{folder / 'tiny-ar'}",
        f"--scorers={folder / 'tiny.scorer'}",
        f"--test_data={folder / 'tiny.tfrecords.*'}",
        f"--audio={folder / 'audio'}",
        f"--max_upload_mb={UPLOAD_MB}",
        f"--max_seconds={SECONDS}",
        f"--allowed_hosts={INSECURE_HOST}",
    ]
