"""Tests of `command_line.run` with small doors, and of the help of every door."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from doors import DOORS, ROOT, run_door

from speech.system.command_line import FLAGS_OF_CALLER
from speech.system.deepspeech_flags import INSTEAD

DOOR = """
import signal
from absl import logging
from speech.system import command_line
from utils import UserError

# Tests in the background have the signal ignored, and children inherit that. It is set here and
# not while forking, when gRPC's threads, which Beam's tests leave, write to the output.
signal.signal(signal.SIGINT, signal.default_int_handler)

def main():
    {body}

command_line.define_logging_flag()
command_line.run(main)
"""


def run(body: str, *given: str, reader: str = "cat") -> subprocess.CompletedProcess[str]:
    """Runs a door with this body; its output goes through the program `reader`."""
    door = subprocess.Popen(
        [sys.executable, "-c", DOOR.format(body=body), *given],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    read = subprocess.run(reader.split(), stdin=door.stdout, capture_output=True, check=True)
    assert door.stdout is not None
    door.stdout.close()
    _, stderr = door.communicate(timeout=60)
    return subprocess.CompletedProcess(
        reader, door.returncode, read.stdout.decode(), stderr.decode()
    )


def test_a_door_that_succeeds_exits_with_status_0() -> None:
    outcome = run("print('done')")
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "done\n", "")


def test_a_user_error_is_one_line_and_status_1() -> None:
    outcome = run("raise UserError('a.flac is missing: copy it.')")
    assert (outcome.returncode, outcome.stderr) == (1, "error: a.flac is missing: copy it.\n")


def test_a_user_error_names_the_flags_of_the_program_that_has_started_the_door(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(FLAGS_OF_CALLER, '{"--alphabet": "--letters"}')
    outcome = run("raise UserError('--alphabet=x and --alphabet_of_mine are empty.')")
    assert outcome.stderr == "error: --letters=x and --alphabet_of_mine are empty.\n"


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        ("--epochs=3", "Here it is --max_epochs, which counts the epochs of all runs"),
        ("--noepochs", "Unknown command line flag 'noepochs'"),
        ("--n_hidden", "Here it is --dense_unit_size and --recurrent_unit_size"),
        ("--epochz", "Unknown command line flag 'epochz'"),
    ],
)
def test_flags_of_deepspeech_are_translated(given: str, instead: str) -> None:
    outcome = run("print('done')", given)
    assert outcome.returncode == 1 and instead in outcome.stderr + outcome.stdout
    assert "done" not in outcome.stdout


def test_what_replaces_a_flag_of_deepspeech_exists() -> None:
    documented = set(re.findall(r"`--(?:\[no\])?(\w+)", (ROOT / "docs/flags.md").read_text()))
    named = {flag for text in INSTEAD.values() for flag in re.findall(r"--(\w+)", text)}
    assert named and named <= documented


def test_full_standard_output_is_reported() -> None:
    outcome = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" > /dev/full', sys.executable, DOOR.format(body="print('x')")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    message = "error: standard output can't be written: No space left on device.\n"
    assert (outcome.returncode, outcome.stderr) == (1, message)


def test_an_argument_that_is_not_a_flag_is_refused() -> None:
    outcome = run("print('done')", "data")
    assert outcome.returncode == 1 and outcome.stdout == ""
    assert "'data' is not a flag" in outcome.stderr and "--help" in outcome.stderr


def test_ctrl_c_prints_no_traceback() -> None:
    outcome = run("signal.raise_signal(signal.SIGINT)")
    assert (outcome.returncode, outcome.stderr) == (130, "stopped\n")


def test_a_reader_that_ends_early_is_not_reported() -> None:
    outcome = run("[print(number) for number in range(100000)]", reader="head -n 1")
    assert (outcome.returncode, outcome.stdout) == (128 + signal.SIGPIPE, "0\n")
    assert outcome.stderr == ""


@pytest.mark.parametrize(
    ("level", "logged"), [("info", ["I one", "W two"]), ("warning", ["W two"])]
)
def test_the_logging_flag_sets_the_lowest_level(level: str, logged: list[str]) -> None:
    outcome = run("logging.info('one'); logging.warning('two')", f"--logging={level}")
    lines = [line.split(" ", 1)[1] for line in outcome.stderr.splitlines()]
    assert lines == logged


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_door_without_standard_streams_does_not_print_into_its_files(
    tmp_path: Path, closed: str
) -> None:
    path = tmp_path / "output.txt"
    body = (
        f"with open({str(path)!r}, 'w') as file: "
        "print('printed'); logging.warning('logged'); import os; "
        "os.system('echo child; echo child >&2'); file.write('content')"
    )
    outcome = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, DOOR.format(body=body)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (outcome.returncode, path.read_text()) == (0, "content"), outcome.stderr
    assert "Traceback" not in outcome.stderr


def documented_flags(door: str) -> set[str]:
    """Returns the flags of a door that docs/flags.md lists."""
    page = (ROOT / "docs" / "flags.md").read_text("utf-8")
    section = page.split(f"## {door}.py\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `--(?:\[no\])?(\w+)`", section, re.MULTILINE))


@pytest.mark.parametrize("door", DOORS)
def test_help_of_a_door_lists_every_flag_of_the_door_and_no_library_s(door: str) -> None:
    text = run_door(f"{door}.py", "--help").stdout
    listed = set(re.findall(r"^  (?:-\w,)?--(?:\[no\])?(\w+):", text, re.MULTILINE))
    assert listed == documented_flags(door)


def test_an_alias_has_one_line_of_help() -> None:
    lines = run_door("training.py", "--help").stdout.splitlines()
    at = lines.index("  --drop_source_layers: Alias for --drop_layers.")
    assert lines[at + 1].startswith("  --")
