"""The takes that people recorded in the web page, as a corpus."""

import contextlib
from pathlib import Path

import numpy as np
import pytest

from speech.audio import flac
from speech.corpora.formats import registry
from speech.recordings.store import Check, Correction, Prompt, RecordingStore
from utils import UserError


def test_usable_takes_are_utterances_whose_speakers_are_numbers(tmp_path: Path) -> None:
    sound = flac.encode(np.arange(1600, dtype=np.int16), 16000)
    prompt = Prompt("7", "turn on the light")
    with contextlib.closing(RecordingStore(str(tmp_path))) as store:
        store.set_prompts([prompt])
        for name in ("Anna", "Ben"):
            speaker = store.find_speaker(store.add_speaker(name, "I agree."))
            assert speaker is not None
            store.add_take(speaker, f"take-{name}", sound, 0.1, Check(), prompt)
            corrected = Correction("good night", "god night", "model", "")
            store.add_take(speaker, f"bad-{name}", sound, 0.1, Check("Nothing.", False), corrected)
    found = registry.read([str(tmp_path)], None, registry.Reading())
    assert [(each.utterance_id, each.speaker, each.transcript) for each in found] == [
        ("speaker1-7-take-Anna", "speaker1", "turn on the light"),
        ("speaker2-7-take-Ben", "speaker2", "turn on the light"),
    ]
    assert all(Path(str(each.audio_path)).read_bytes() == sound for each in found)


def test_folder_without_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no recordings\.sqlite"):
        registry.read([str(tmp_path)], "recordings", registry.Reading())
    RecordingStore(str(tmp_path)).close()
    with pytest.raises(UserError, match="contains no utterances"):
        registry.read([str(tmp_path)], None, registry.Reading())
