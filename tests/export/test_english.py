"""The English model for programs that are given no model."""

import csv
import shutil
from pathlib import Path

import jiwer
import numpy as np
import pytest
from tiny_models import write_model

import constants
from deepspeech import Model
from speech.audio import reader
from speech.export import english
from utils import UserError


def test_model_that_training_wrote_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    assert english.default_model() == english.english_model()
    (tmp_path / "model").rmdir()
    write_model(tmp_path / "model")
    assert english.default_model() == ("model", None)


def test_place_that_the_environment_names_is_never_replaced_by_the_english_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "MODEL_DIR", str(tmp_path / "elsewhere"))
    assert english.default_model() == (str(tmp_path / "elsewhere"), None)


def test_installed_files_are_found_and_missing_ones_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "share"
    monkeypatch.setattr(english, "FOLDERS", (str(tmp_path / "models"), str(installed)))
    with pytest.raises(UserError, match=r"There is no model: .*--model"):
        english.english_model()
    installed.mkdir()
    for name in (english.MODEL_FILE, english.SCORER_FILE):
        shutil.copy(Path(constants.__file__).parent / "models" / name, installed)
    model, scorer = english.english_model()
    assert Path(model).parent == Path(scorer).parent == installed


def test_sentences_of_readers_it_never_heard_are_recognised(librispeech_5h: str) -> None:
    model = Model()
    with open(Path(librispeech_5h) / "test.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[::100]
    recordings = [
        reader.read_audio(str(Path(librispeech_5h) / row["wav_filename"]), model.sampleRate())
        for row in rows
    ]
    found = [model.stt(np.round(each).astype(np.int16)) for each in recordings]
    assert jiwer.wer([row["transcript"] for row in rows], found) < 0.5
