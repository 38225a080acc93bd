"""The law of imports names every door, and refuses an import that breaks it."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from doors import DOORS, ROOT

LAW = ".importlinter"


def test_the_law_names_every_door() -> None:
    law = configparser.ConfigParser()
    law.read(ROOT / LAW)
    named = law["importlinter:contract:doors"]["forbidden_modules"].split()
    assert sorted(named) == sorted(["model", *DOORS])


@pytest.mark.parametrize(
    ("room", "broken"),
    [
        ("audio", "import training"),
        ("audio", "from speech.text import transcripts"),
        ("decoding", "import tensorflow"),
        ("training", "from speech.engines import tpu_estimator"),
    ],
)
def test_an_import_against_the_law_is_refused(tmp_path: Path, room: str, broken: str) -> None:
    for path in ROOT.glob("*.py"):
        shutil.copy(path, tmp_path)
    shutil.copy(ROOT / LAW, tmp_path)
    shutil.copytree(ROOT / "speech", tmp_path / "speech")
    (tmp_path / "speech" / room / "planted.py").write_text(f"{broken}\n")
    program = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    checked = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checked.returncode == 1 and f"speech.{room}.planted" in checked.stdout
