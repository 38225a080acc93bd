"""What every door does alike: logging, and messages instead of tracebacks."""

import errno
import glob
import io
import logging as python_logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from absl import app, flags, logging
from tqdm import tqdm

from utils import UserError

# The flags that are defined here are the doors'.
flags.disclaim_key_flags()


class _PathsParser(flags.ListParser):
    """Reads paths or patterns with commas between them, or a single one that has commas itself."""

    def parse(self, argument: str | list[str]) -> list[str]:
        if isinstance(argument, str) and "," in argument and _is_there(argument):
            return [argument]
        return super().parse(argument)


def _is_there(pattern: str) -> bool:
    return os.path.exists(pattern) or bool(glob.glob(pattern))


def define_paths(name: str, default: str | list[str] | None, meaning: str, **more: Any) -> None:
    """Defines a flag of paths, separated by commas; one that has a comma itself goes in quotes.

    A value that is there as a whole is one path.
    """
    flags.DEFINE(
        _PathsParser(), name, default, meaning, serializer=flags.CsvListSerializer(","), **more
    )


def define_logging_flag() -> None:
    flags.DEFINE_enum(
        "logging",
        "info",
        ["debug", "info", "warning", "error"],
        "How much is said on standard error.",
    )


def progress_bar(total: int, unit: str) -> "tqdm[NoReturn]":
    """A bar on standard error; bytes ("B") come in kB, MB, GB."""
    return tqdm(
        total=total,
        unit=unit,
        unit_scale=unit == "B",
        # A log file wants a line now and then, not a redrawn bar.
        mininterval=0.5 if sys.stderr.isatty() else 30,
    )


def _leave_standard_output() -> None:
    """What can't be written goes nowhere; Python would complain at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(main: Callable[[], None]) -> None:
    """Runs a door: parses flags, sets up logging, turns a UserError into a message and status 1."""

    def wrapped(arguments: list[str]) -> int:
        logging.use_absl_handler()
        logging.get_absl_handler().setFormatter(
            python_logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S")
        )
        logging.set_verbosity(flags.FLAGS.logging)
        if isinstance(sys.stdout, io.TextIOWrapper):
            # The name of a file needn't be UTF-8; standard error has such bytes as \\udcXX already.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            if len(arguments) > 1:
                raise UserError(f"{arguments[1]!r} is not a flag: flags start with --, see --help.")
            main()
            sys.stdout.flush()
        except BrokenPipeError:
            _leave_standard_output()  # whoever read it has left, as head does
            return 128 + signal.SIGPIPE
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except OSError as error:
            # Files are told of by their names; a stream has none.
            if error.errno not in (errno.ENOSPC, errno.EIO) or error.filename is not None:
                raise
            _leave_standard_output()
            print(f"error: standard output can't be written: {error.strerror}.", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 130
        return 0

    app.run(wrapped)
