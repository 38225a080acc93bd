"""Tests the tutorials of examples/commands: runs every command, at a small size."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("espeakng_loader")

ROOT = Path(__file__).resolve().parents[2]
SPEAKING = "--train_utterances=24 --dev_utterances=4 --test_utterances=4"
TRAINING = "--train_steps=4 --eval_steps=2 --conv_channels=4 --recurrent_unit_size=8"


@pytest.mark.parametrize(
    "language", ["en", *(pytest.param(other, marks=pytest.mark.slow) for other in ("es", "ar"))]
)
def test_a_tutorial_leads_from_text_to_a_word_error_rate_and_an_exported_model(
    language: str, tmp_path: Path
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DEEP_SPEECH_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    outcome = subprocess.run(
        ["sh", f"examples/commands/{language}.sh", str(tmp_path / "new folder")],
        cwd=ROOT,
        env={**environment, "SPEAKING": SPEAKING, "TRAINING": TRAINING},
        check=False,
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert any(
        line.startswith("WER ") and " (4 utterances, " in line
        for line in outcome.stdout.splitlines()
    )
    assert re.search(r"Inference took .*s audio file\.\n$", outcome.stderr)
    for made in (
        "report/check.html",
        "report/report.html",
        "lm/kenlm.scorer",
        "export/model.tflite",
    ):
        assert (tmp_path / "new folder" / made).is_file()
