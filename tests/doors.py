"""Runs the doors as people do: as programs of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

# A network that is built and trained in a few seconds.
TINY_NETWORK = ("--conv_channels=2,2", "--recurrent_unit_size=8")


def run_door(door: str, *flags: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs `python door flags` in the repository; fails if it takes longer than `seconds`."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("DEEP_SPEECH_")
    }
    return subprocess.run(
        [sys.executable, door, *flags],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def assert_error(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """It ended with status 1 and a message that has every one of `parts`."""
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr, result.stderr
    (message,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    for part in parts:
        assert part in message
