"""Runs doors as processes, or only their main in this process."""

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import pytest
from absl import flags
from door_process import OUTPUTS, run_script

from utils import UserError

ROOT = Path(__file__).parents[2]
DOORS = sorted(path.stem for path in ROOT.glob("*.py") if "command_line.run(" in path.read_text())

# Doors are forked from a process that has imported the slow packages: TensorFlow's import takes
# four seconds, and the tests run more than a hundred doors.
_SERVER = get_context("forkserver")
_SERVER.set_forkserver_preload(["tensorflow", "librosa", "jiwer", "matplotlib.pyplot"])

# A network that is built and trained in a few seconds.
TINY_NETWORK = ("--conv_channels=2,2", "--recurrent_unit_size=8")


def environment_of_door(more: Mapping[str, str]) -> dict[str, str]:
    """Returns this process's environment with `more`, without the user's DEEP_SPEECH_ variables."""
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
        environment: additional variables, such as `Emulator.environment`.
        folder: its working folder.
    """
    arguments = [str(ROOT / door), *flags]
    given = environment_of_door(environment or {})
    with tempfile.TemporaryDirectory() as outputs:
        process = _SERVER.Process(target=run_script, args=(arguments, given, folder, outputs))
        process.start()
        process.join(seconds)
        overdue = process.exitcode is None
        if overdue:
            process.kill()
            process.join()
        written = [Path(outputs, name).read_text() for name in OUTPUTS]
    if overdue:
        raise subprocess.TimeoutExpired(arguments, seconds, *written)
    return subprocess.CompletedProcess(arguments, process.exitcode or 0, *written)


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
    """Asserts status 1 and a message that contains all of `parts`."""
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr, result.stderr
    (message,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    for part in parts:
        assert part in message


def parse_door_flags(door: ModuleType, *given: str) -> flags.FlagValues:
    """Parses a door's flags; see `parse_flags`."""
    return parse_flags(door.define_flags, *given)


def parse_flags(define: Callable[[], object], *given: str) -> flags.FlagValues:
    """Parses flags into a new FlagValues, since all doors of a process share absl's.

    Args:
        define: defines the flags.
        given: the arguments.

    Raises:
        flags.Error: a flag is unknown or has an invalid value.
    """
    values = flags.FlagValues()
    with pytest.MonkeyPatch.context() as patch:
        kinds = ("integer", "float", "string", "bool", "enum", "list", "multi_string", "alias")
        for name in ("DEFINE", *(f"DEFINE_{kind}" for kind in kinds)):
            patch.setattr(flags, name, functools.partial(getattr(flags, name), flag_values=values))
        define()
    values(["door.py", *given])
    return values


def run_here(door: ModuleType, *given: str) -> None:
    """Runs a door's main with these flags in this process, which saves TensorFlow's import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door, "FLAGS", parse_door_flags(door, *given))
        patch.setattr(
            "speech.system.tensorflow_import.quieten", lambda level: None
        )  # it would affect all tests
        door.main()


def assert_refused(door: ModuleType, *given: str, parts: list[str]) -> None:
    """Asserts that a door refuses these flags with a message that contains all of `parts`."""
    with pytest.raises((UserError, flags.Error)) as error:
        run_here(door, *given)
    for part in parts:
        assert part in str(error.value)
