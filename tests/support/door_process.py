"""Turns a new process into that of a script. Imports nothing of the project before it."""

import os
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path

OUTPUTS = ("stdout", "stderr")


def run_script(
    arguments: list[str], environment: Mapping[str, str], folder: Path, outputs: str
) -> None:
    """Runs `python arguments` with `environment` in `folder`.

    Args:
        outputs: folder of the files `OUTPUTS`, which standard output and error go to.
    """
    for descriptor, name in enumerate(OUTPUTS, start=1):
        os.dup2(os.open(Path(outputs, name), os.O_CREAT | os.O_WRONLY | os.O_APPEND), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = arguments
    sys.path.insert(0, os.path.dirname(arguments[0]))
    runpy.run_path(arguments[0], run_name="__main__")
