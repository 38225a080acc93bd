"""The picture of what each augmentation does."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from doors import ROOT, assert_error, run_module

from speech.augmentation import pictures
from speech.augmentation.__main__ import show
from speech.augmentation.grammar import FEATURE_KINDS, SIGNAL_KINDS
from speech.features.front_end import FrontEnd, extract
from utils import UserError

FRONT_END = FrontEnd()
TONE = (8000 * np.sin(np.arange(8000) * 0.4)).astype(np.int16)


def values(folder: Path, **changed: Any) -> SimpleNamespace:
    return SimpleNamespace(
        **{
            "show": True,
            "augment": [],
            "audio": None,
            "output": str(folder / "new/augment.png"),
            **changed,
        }
    )


def test_every_kind_is_shown() -> None:
    texts = (*pictures.SHOWN_FEATURES, *pictures.SHOWN_SIGNAL)
    kinds = {text.partition("[")[0] for text in texts}
    assert kinds == {*FEATURE_KINDS, *SIGNAL_KINDS, "specaugment"}


def test_panels_show_what_each_augmentation_does_whatever_its_probability() -> None:
    before = extract(TONE, FRONT_END)
    texts = ["time_mask[p=0,n=1,size=200]", "speed[p=0,factor=0.5]", "tempo[p=0,factor=0.5]"]
    mask, speed, tempo = pictures.augmented_panels(TONE, FRONT_END, texts)
    assert [mask.title, speed.title, tempo.title] == texts
    assert (mask.features == 0).all(axis=1).sum() == 20
    assert abs(len(speed.features) - 2 * len(before)) <= 2
    assert len(tempo.features) == 2 * len(before)


def test_the_figure_has_each_before_beside_its_after() -> None:
    before = pictures.Panel("before", extract(TONE, FRONT_END))
    texts = ["dropout", "tempo[factor=0.5]", "pitch", "add"]
    after = pictures.augmented_panels(TONE, FRONT_END, texts)
    figure = pictures.figure(before, after, FRONT_END)
    figure.canvas.draw()
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == [
        title for text in texts for title in ("before", text)
    ]
    for axes in shown:
        assert axes.get_xlim() == (0, pytest.approx(0.01 * len(after[1].features)))
    labelled = [axes for axes in shown if axes.get_xlabel()]
    assert labelled == shown[2:], "the last ones of each column"


def test_a_recording_is_drawn_into_a_folder_made_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "tone.wav", TONE, 16000)
    asked = values(tmp_path, audio=str(tmp_path / "tone.wav"), augment=["add", "reverb"])
    show(asked)
    assert capsys.readouterr().out.strip() == asked.output
    assert Path(asked.output).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"show": False}, "--show"),
        ({"augment": ["echo"]}, "--augment=echo is not known"),
        ({"augment": ["codec[codec=mp5]"]}, "codec=mp5 is none of"),
        ({"audio": "missing.wav"}, "missing.wav can't be read as audio"),
        ({"output": "gs://bucket/a.png"}, "written to a local folder"),
        ({"output": "/proc/self/x/a.png"}, "/proc/self/x can't be made"),
        ({"output": "tests"}, "tests can't be written: Is a directory. Choose another --output"),
    ],
)
def test_what_can_not_be_drawn_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], named: str
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as error:
        show(values(tmp_path, **{"augment": ["add"], **changed}))
    assert named in str(error.value)


@pytest.mark.slow
def test_the_module_is_a_door(tmp_path: Path) -> None:
    picture = str(tmp_path / "all.png")
    outcome = run_module("speech.augmentation", "--show", f"--output={picture}")
    assert (outcome.returncode, outcome.stdout) == (0, picture + "\n"), outcome.stderr
    assert os.path.getsize(picture) > 100_000
    assert_error(run_module("speech.augmentation"), "--show")
