"""Runs the doors as people do: as programs of their own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent

# A network that is built and trained in a few seconds.
TINY_NETWORK = ("--conv_channels=2,2", "--recurrent_unit_size=8")


def environment_of_door(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without the user's own locations, and with `more`."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("DEEP_SPEECH_")}
    return {**own, **more}


def run_door(
    door: str,
    *flags: str,
    seconds: float = 180,
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    """Runs `python door flags`; fails if it takes longer than `seconds`.

    Args:
        environment: variables to set, such as `Emulator.environment`.
        folder: that it is started in.
    """
    return _run([str(ROOT / door), *flags], seconds, environment or {}, folder)


def run_module(module: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m module flags` in the project's folder."""
    return _run(["-m", module, *flags], 180, {}, ROOT)


def _run(
    arguments: list[str], seconds: float, environment: Mapping[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment_of_door(environment),
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
