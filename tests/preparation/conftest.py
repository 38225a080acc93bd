"""Fixtures that several modules of preparation share."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_sets import TRANSCRIPTS, contents, prepare_set

from speech.corpora.formats.librispeech import find_utterances
from speech.corpora.utterance import Utterance

WriteSplit = Callable[[Path, dict[str, str]], None]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, write_split: WriteSplit) -> list[Utterance]:
    """Twelve utterances: four usable ones, and one with each reason for being unusable."""
    folder = tmp_path_factory.mktemp("speech")
    write_split(folder, {f"1-1-{i:04d}": TRANSCRIPTS.get(i, f"IT{'S' * i}") for i in range(12)})
    good = find_utterances([str(folder)])
    audio = [str(utterance.audio_path) for utterance in good]
    with open(audio[5], "r+b") as file:
        file.truncate(2000)
    no_samples = str(folder / "empty.wav")
    soundfile.write(no_samples, np.zeros(0), 16000)
    soundfile.write(audio[10], np.zeros(16000), 16000)
    changed = list(good)
    changed[3] = replace(good[3], audio_path=None, audio_bytes=None)
    changed[4] = replace(good[4], transcript=None)
    changed[8] = replace(good[8], audio_path=no_samples)
    changed[9] = replace(good[9], transcript="it's")
    return changed


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, corpus: list[Utterance]
) -> dict[str, bytes]:
    """The files of a set that was prepared without interruption."""
    folder = tmp_path_factory.mktemp("undisturbed")
    prepare_set(corpus, folder)
    return contents(folder)
