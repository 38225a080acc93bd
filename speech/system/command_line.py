"""What every door does alike: logging, and messages instead of tracebacks."""

import errno
import glob
import io
import logging as python_logging
import math
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from absl import app, flags, logging
from tqdm import tqdm

import constants
from utils import UserError

# The flags that are defined here are the doors'.
flags.disclaim_key_flags()


# Upper bound of random seeds: TensorFlow adds the step to them in int32, and NumPy takes no
# negative ones.
LARGEST_SEED = 2**31 - 1


def define_choice(name: str, default: str | None, choices: Iterable[str], meaning: str) -> None:
    """Defines a flag whose value is one of `choices`, in small or capital letters."""
    flags.DEFINE_enum(name, default, list(choices), meaning, case_sensitive=False)


class _ChoicesParser(flags.ListParser):
    """Reads some of several values, in small or capital letters, with commas between them."""

    def __init__(self, choices: Iterable[str]) -> None:
        super().__init__()
        self.choices = tuple(choices)

    def parse(self, argument: str | list[str]) -> list[str]:
        values = [each.lower() for each in super().parse(argument)]
        if not values or not set(values) <= set(self.choices):
            raise ValueError(f"value should be some of <{'|'.join(self.choices)}>, by commas")
        return values


def define_choices(name: str, default: list[str], choices: Iterable[str], meaning: str) -> None:
    """Defines a flag whose value is some of `choices`, which are in small letters."""
    parser = _ChoicesParser(choices)
    flags.DEFINE(parser, name, default, meaning, serializer=flags.CsvListSerializer(","))


def define_random_seed(meaning: str) -> None:
    """Defines --random_seed, with the bounds that hold for every random generator here."""
    define_integer(
        "random_seed",
        constants.RANDOM_SEED,
        meaning,
        lower_bound=0,
        upper_bound=LARGEST_SEED,
    )


def define_integer(
    name: str,
    default: int | None,
    meaning: str,
    lower_bound: int = -constants.LARGEST_INTEGER,
    upper_bound: int = constants.LARGEST_INTEGER,
) -> None:
    """Defines a flag whose value is a whole number, from one bound to the other."""
    flags.DEFINE_integer(name, default, meaning, lower_bound=lower_bound, upper_bound=upper_bound)


class _NumberParser(flags.FloatParser):
    """Reads a finite number; to a FloatParser nan lies within any bounds."""

    def convert(self, argument: float | str) -> float:
        number = super().convert(argument)
        if not math.isfinite(number):
            raise ValueError(f"{argument} is not a finite number")
        return float(number)


def define_number(
    name: str,
    default: float | None,
    meaning: str,
    lower_bound: float = -constants.LARGEST_NUMBER,
    upper_bound: float = constants.LARGEST_NUMBER,
) -> None:
    """Defines a flag whose value is a finite number, from one bound to the other."""
    parser = _NumberParser(lower_bound, upper_bound)
    flags.DEFINE(parser, name, default, meaning, serializer=flags.ArgumentSerializer())


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


def define_batch_size(name: str, default: int) -> None:
    """Defines a flag of utterances that a network computes at once."""
    define_integer(
        name,
        default,
        "Utterances at once, over all cores.",
        lower_bound=1,
        upper_bound=constants.LARGEST_BATCH_SIZE,
    )


def define_logging_flag() -> None:
    define_choice(
        "logging",
        "info",
        ["debug", "info", "warning", "error"],
        "Least severe messages on standard error. debug also shows values of tensors.",
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


def _discard_standard_output() -> None:
    """Sends what can't be written to os.devnull; Python would report it when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_closed_streams() -> None:
    """Opens standard streams that were closed, as for a daemon, on os.devnull.

    Otherwise the next file to be opened would get the number of such a stream, and what C libraries
    and child processes print would end up in that file. Python has None for a closed stream.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is not None:
            continue
        opened = os.open(os.devnull, os.O_RDWR)
        if opened == number:
            os.set_inheritable(opened, True)
        else:
            os.dup2(opened, number)
            os.close(opened)
        setattr(sys, name, open(number, mode))  # noqa: SIM115 - stays open to the end
    logging.get_absl_handler().python_handler.stream = sys.stderr


def run(main: Callable[[], None]) -> None:
    """Runs a door: parses flags, sets up logging, turns a UserError into a message and status 1."""

    def wrapped(arguments: list[str]) -> int:
        logging.use_absl_handler()
        logging.get_absl_handler().setFormatter(
            python_logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S")
        )
        logging.set_verbosity(flags.FLAGS.logging)
        if logging.level_debug():
            # Not of libraries: matplotlib alone would write hundreds of lines.
            logging.get_absl_logger().setLevel(python_logging.DEBUG)
            python_logging.getLogger().setLevel(python_logging.INFO)
        if isinstance(sys.stdout, io.TextIOWrapper):
            # The name of a file needn't be UTF-8; standard error has such bytes as \\udcXX already.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            if len(arguments) > 1:
                raise UserError(f"{arguments[1]!r} is not a flag: flags start with --, see --help.")
            main()
            sys.stdout.flush()
        except BrokenPipeError:
            _discard_standard_output()  # whoever read it has left, as head does
            return 128 + signal.SIGPIPE
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except OSError as error:
            # Files are told of by their names; a stream has none.
            if error.errno not in (errno.ENOSPC, errno.EIO) or error.filename is not None:
                raise
            _discard_standard_output()
            print(f"error: standard output can't be written: {error.strerror}.", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 130
        return 0

    _open_closed_streams()
    app.run(wrapped)
