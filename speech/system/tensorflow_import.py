"""The import of TensorFlow, and its and LiteRT's messages: no notes on standard error, logging.

TensorFlow 2.21 writes them in C++ while its libraries are loaded, before it reads
TF_CPP_MIN_LOG_LEVEL. The note itself suggests to turn oneDNN off, which changes numbers and speed.
LiteRT writes one when it prepares a model.
"""

import contextlib
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from utils import UserError

# Lines that aren't shown, as a regular expression of grep.
NOTES = (
    "^WARNING: All log messages before absl::InitializeLog|oneDNN custom operations are on"
    "|^INFO: Created TensorFlow Lite XNNPACK delegate"
)

MISSING = (
    "TensorFlow is not installed. On a CPU: pip install -e '.[cpu]', with an Nvidia GPU: pip "
    "install -e '.[gpu]'; a TPU VM has its own."
)


class _Finder:
    """Finds TensorFlow so that its import runs in `without_notes`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def executewithout_notes(module: ModuleType) -> None:
                with without_notes():
                    execute(module)

            spec.loader.exec_module = executewithout_notes  # type: ignore[method-assign]
        return spec


def require() -> None:
    """Raises UserError if TensorFlow isn't installed, without the seconds of its import."""
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(MISSING)


def hide_notes() -> None:
    """Hides the notes of the import of TensorFlow that follows, if any does."""
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _Finder())


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Passes what is written to standard error through grep.

    Another process, which also shows the last lines of an import that ends this one.
    """
    try:
        kept = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    try:
        command = ["grep", "--line-buffered", "--invert-match", "--extended-regexp", NOTES]
        grep = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=kept)
    except OSError:  # there is no grep
        os.close(kept)
        yield
        return
    assert grep.stdin is not None
    sys.stderr.flush()
    os.dup2(grep.stdin.fileno(), 2)
    grep.stdin.close()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        grep.wait()


def quieten(level: str) -> None:
    """Limits TensorFlow's own messages to errors, unless the level is debug."""
    logger = logging.getLogger("tensorflow")  # there before TensorFlow is imported
    logger.setLevel("DEBUG" if level == "debug" else "ERROR")
    logger.propagate = False  # absl's handler would write each a second time
