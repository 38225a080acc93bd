"""Tests that damaged files are read or refused, without a traceback, a signal or a hang."""

import subprocess
import sys

import pytest
from doors import ROOT, environment_of_door
from mutations import KINDS

SEED = 1

# Kinds that don't import TensorFlow, which takes seconds.
QUICK = ("scorer", "resealed scorer", "index", "description")


def use_mutations(first: int, end: int, *kinds: str) -> None:
    """Uses mutations of some kinds in another process."""
    arguments = [str(each) for each in (SEED, first, end, *kinds)]
    result = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "mutations.py"), *arguments],
        cwd=ROOT,
        env=environment_of_door({"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}),
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    lines = result.stdout.splitlines()
    last = lines[-1] if lines else "none"
    assert result.returncode == 0, (
        f"status {result.returncode} at {last}, of mutations.py {' '.join(arguments)}:\n"
        f"{result.stderr[-3000:]}"
    )
    ends = [line for line in lines if line.endswith(("'", '"'))]
    assert len(ends) == (end - first) * len(kinds)
    assert all("refused: " in line or line.endswith("'read'") for line in ends)


def test_some_damaged_files_are_read_or_refused() -> None:
    use_mutations(0, 12, *QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files_are_read_or_refused(kind: str) -> None:
    use_mutations(0, 200, kind)
