"""Runs a door: flags, logging, and messages instead of tracebacks."""

import errno
import io
import json
import logging as python_logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from speech.system.deepspeech_flags import INSTEAD
from utils import UserError

# Environment variable: JSON of a door's flags -> those of the program that has started the door.
FLAGS_OF_CALLER = "DEEP_SPEECH_FLAGS_OF_CALLER"


def define_logging_flag() -> None:
    flags.DEFINE_enum(
        "logging",
        "info",
        ["debug", "info", "warning", "error"],
        "Lowest level of messages on standard error. debug also shows values of tensors.",
        case_sensitive=False,
    )


def run(main: Callable[..., None], *parameters: str) -> None:
    """Runs a door: parses its flags, sets up logging, calls `main`, and exits.

    Args:
        parameters: names of the arguments beside the flags, which `main` is called with.

    The exit status is 0, 1 after a UserError, which is printed, 130 after Ctrl-C, and 141 if the
    reader of standard output is gone.
    """
    _open_closed_streams()
    _list_flags_of_rooms()
    app.run(lambda arguments: _status(main, parameters, arguments[1:]), flags_parser=_parse)


def _parse(arguments: list[str]) -> list[str]:
    """Parses the flags; names what to give instead of a flag of DeepSpeech."""
    try:
        return flags.FLAGS(arguments)
    except flags.UnrecognizedFlagError as error:
        if error.flagname not in INSTEAD:
            return app.parse_flags_with_usage(arguments)
        print(
            f"error: --{error.flagname} is a flag of DeepSpeech. Here it is "
            f"{INSTEAD[error.flagname]}: see docs/deepspeech.md.",
            file=sys.stderr,
        )
        sys.exit(1)
    except flags.Error:
        return app.parse_flags_with_usage(arguments)


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


def _list_flags_of_rooms() -> None:
    """Makes --help list the flags that modules of speech defined for the door.

    By itself it lists those alone that the main module defined. An alias has one line: default and
    bounds are the original's.
    """
    for name in flags.FLAGS:
        flag = flags.FLAGS[name]
        module = flags.FLAGS.find_module_defining_flag(name)
        if module and module.startswith("speech."):
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
        if (flag.help or "").startswith("Alias for --"):  # absl's words
            flag.default_as_str, flag.parser = None, flags.ArgumentParser()


def _status(main: Callable[..., None], parameters: Sequence[str], arguments: Sequence[str]) -> int:
    """Calls `main` with logging set up; returns the exit status."""
    _set_up_logging()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The name of a file needn't be UTF-8; standard error has such bytes as \\udcXX already.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if len(arguments) < len(parameters):
            raise UserError(f"{parameters[len(arguments)]} is missing, see --help.")
        if rest := arguments[len(parameters) :]:
            raise UserError(f"{rest[0]!r} is not a flag: flags start with --, see --help.")
        main(*arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_standard_output()  # its reader has ended, as head does
        return 128 + signal.SIGPIPE
    except UserError as error:
        print(f"error: {_as_caller_names_flags(str(error))}", file=sys.stderr)
        return 1
    except OSError as error:
        # An error of a file names it; a stream has no name.
        if error.errno not in (errno.ENOSPC, errno.EIO) or error.filename is not None:
            raise
        _discard_standard_output()
        print(f"error: standard output can't be written: {error.strerror}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _as_caller_names_flags(message: str) -> str:
    """Returns a message with the flags that the user of FLAGS_OF_CALLER's program can give."""
    names = json.loads(os.environ.get(FLAGS_OF_CALLER, "{}"))
    return re.sub(r"--[a-z0-9_]+", lambda flag: str(names.get(flag[0], flag[0])), message)


def _set_up_logging() -> None:
    logging.use_absl_handler()
    logging.get_absl_handler().setFormatter(
        python_logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S")
    )
    logging.set_verbosity(flags.FLAGS.logging)
    if logging.level_debug():
        # Not of libraries: matplotlib alone would write hundreds of lines.
        logging.get_absl_logger().setLevel(python_logging.DEBUG)
        python_logging.getLogger().setLevel(python_logging.INFO)


def _discard_standard_output() -> None:
    """Sends what can't be written to os.devnull; Python would report it when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
