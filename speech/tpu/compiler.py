"""The TPU's compiler on a machine without a TPU: libtpu, in another process.

That is this environment's, with the extra `tpu`. TensorFlow 2.15 and the jax that calls libtpu need
different versions of numpy; beside it, libtpu_worker.py runs in a separate environment.
"""

import contextlib
import fcntl
import json
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from absl import logging

from speech.tpu.hlo import Hlo
from utils import UserError, lines_of

# Of the separate environment.
REQUIREMENTS = ("jax==0.10.2", "libtpu==0.0.52")

# Its folder, which is made on first use; about 1 GB.
ENVIRONMENT = Path(__file__).resolve().parents[2] / ".tpu-check"

WORKER = Path(__file__).with_name("libtpu_worker.py")


@dataclass(frozen=True)
class Compiled:
    """The compiler's report on the program of a core."""

    seconds: float  # of compilation
    cores: int = 1  # that run the program together
    error: str | None = None  # the compiler's reason, if the program doesn't compile or fit
    argument_bytes: int = 0  # variables, the optimizer's slots, the batch
    output_bytes: int = 0  # of outputs that don't reuse an argument's memory
    temporary_bytes: int = 0
    code_bytes: int = 0
    text: str = ""  # the compiled program, with the compiler's estimates

    @property
    def bytes(self) -> int:
        """Memory that the program takes while it runs."""
        return self.argument_bytes + self.output_bytes + self.temporary_bytes + self.code_bytes

    @property
    def out_of_memory(self) -> bool:
        """Whether the program doesn't compile because it needs too much memory."""
        return self.error is not None and "RESOURCE_EXHAUSTED" in self.error


def find_python(named: str | None) -> str:
    """Returns the Python of an environment with the compiler, which is made if necessary.

    Args:
        named: --compiler_python; None: this one if it has the compiler, or that of ENVIRONMENT.

    Raises:
        UserError: it has no jax and libtpu, or the environment can't be made.
    """
    if named:
        missing = _missing(named)
        if missing:
            raise UserError(
                f"--compiler_python={named} can't import jax and libtpu: {missing}. Install "
                f"{' '.join(REQUIREMENTS)} there, or leave out the flag: then an environment is "
                "made."
            )
        return named
    if not _missing(sys.executable):
        return sys.executable
    python, installed = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "installed"
    with _one_at_a_time():
        # The environment's python is a link to another one, which may have been removed.
        made = python.exists() and installed.exists()
        if not made or installed.read_text().split() != list(REQUIREMENTS):
            _make_environment()
            installed.write_text("\n".join(REQUIREMENTS))
    return str(python)


def _missing(python: str) -> str | None:
    """Returns why a Python can't run libtpu_worker.py; None: it can."""
    # The newest of the modules of jax that program.py imports.
    check = [python, "-I", "-c", "import libtpu; from jax.extend.mlir import hlo_to_stablehlo"]
    try:
        subprocess.run(check, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return _reason(error)
    return None


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Waits while another process makes the environment."""
    try:
        file = open(ENVIRONMENT.with_name(f"{ENVIRONMENT.name}.lock"), "w")  # noqa: SIM115
    except OSError:  # read-only: an environment that is there can still be used
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        yield


def _make_environment() -> None:
    logging.info("Installing %s into %s, once.", " and ".join(REQUIREMENTS), ENVIRONMENT)
    python = str(ENVIRONMENT / "bin" / "python")
    try:
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)],
            # Isolated, or pip would take packages on $PYTHONPATH for installed. Without a check for
            # a newer pip, the last line of the output is the error.
            [python, "-I", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            + list(REQUIREMENTS),
        ):
            subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        raise UserError(
            f"The TPU compiler's environment {ENVIRONMENT} can't be made: {_reason(error)}. Check "
            "that the package index can be reached and 1 GB is free, or name a Python that has "
            f"{' and '.join(REQUIREMENTS)} with --compiler_python."
        ) from None


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    return str(error.strerror) if isinstance(error, OSError) else _last_line(error)


def _last_line(ended: subprocess.CalledProcessError | subprocess.CompletedProcess[str]) -> str:
    """Returns why a process ended, in a line without a full stop."""
    if ended.returncode < 0:  # its output has other reasons
        return f"it was ended by {signal.Signals(-ended.returncode).name}"
    lines = lines_of((ended.stderr or ended.stdout or "").strip())
    return lines[-1].rstrip(".") if lines else f"exit status {ended.returncode}"


def compile_program(hlo: Hlo, topology: str, cores: int, python: str) -> Compiled:
    """Compiles a program for cores of a topology, each of which runs it on its part of a batch.

    Args:
        topology: libtpu's name, e.g. v5e:2x2.
        cores: their number, over which the program sums.
        python: from `find_python`.

    Raises:
        UserError: the compiler crashed.
    """
    with tempfile.TemporaryDirectory() as folder:
        program, text_path = Path(folder, "program.pickle"), Path(folder, "compiled.txt")
        program.write_bytes(pickle.dumps(hlo))
        started = time.monotonic()
        worker = subprocess.run(
            [python, "-I", str(WORKER), str(program), topology, str(cores), str(text_path)],
            capture_output=True,
            text=True,
        )
        seconds = time.monotonic() - started
        lines = lines_of(worker.stdout.strip())
        if worker.returncode or not lines:
            raise UserError(
                f"The TPU compiler crashed on {topology}: {_last_line(worker)}. Check that the "
                "machine has memory left, and try a smaller --train_batch_size."
            )
        report = json.loads(lines[-1])
        text = text_path.read_text(encoding="utf-8") if text_path.exists() else ""
    return Compiled(seconds, cores, text=text, **report)
