"""What every door does alike, shown by small doors of the tests' own."""

import importlib
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from absl import flags
from doors import ROOT, parsed

import build_lm
import check_tpu
import eval as eval_door
import export
import prepare_csv
import prepare_libri
import serve
import transcribe
from speech.system.command_line import LARGEST_SEED

DOORS = [path.stem for path in ROOT.glob("*.py") if "command_line.run(" in path.read_text()]

DOOR = """
import signal
from absl import logging
from speech.system import command_line
from utils import UserError

# Whoever runs the tests in the background has the signal ignored; children inherit it. Set here
# and not while forking, where gRPC's threads, which Beam's tests leave, write to the output.
signal.signal(signal.SIGINT, signal.default_int_handler)

def main():
    {body}

command_line.define_logging_flag()
command_line.run(main)
"""


def run(body: str, *given: str, reader: str = "cat") -> subprocess.CompletedProcess[str]:
    """A door with this body; its output goes through the program `reader`."""
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


def test_a_door_that_does_its_work_ends_with_status_0() -> None:
    outcome = run("print('done')")
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "done\n", "")


def test_what_a_person_can_mend_is_one_line_and_status_1() -> None:
    outcome = run("raise UserError('a.flac is missing: copy it.')")
    assert (outcome.returncode, outcome.stderr) == (1, "error: a.flac is missing: copy it.\n")


def test_standard_output_that_is_full_is_told_of() -> None:
    outcome = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" > /dev/full', sys.executable, DOOR.format(body="print('x')")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    told = "error: standard output can't be written: No space left on device.\n"
    assert (outcome.returncode, outcome.stderr) == (1, told)


def test_a_word_that_is_no_flag_is_refused() -> None:
    outcome = run("print('done')", "data")
    assert outcome.returncode == 1 and outcome.stdout == ""
    assert "'data' is not a flag" in outcome.stderr and "--help" in outcome.stderr


def test_ctrl_c_ends_without_a_traceback() -> None:
    outcome = run("signal.raise_signal(signal.SIGINT)")
    assert (outcome.returncode, outcome.stderr) == (130, "stopped\n")


def test_a_reader_that_leaves_early_is_no_error_to_tell_of() -> None:
    outcome = run("[print(number) for number in range(100000)]", reader="head -n 1")
    assert (outcome.returncode, outcome.stdout) == (128 + signal.SIGPIPE, "0\n")
    assert outcome.stderr == ""


@pytest.mark.parametrize(("level", "said"), [("info", ["I one", "W two"]), ("warning", ["W two"])])
def test_the_logging_flag_sets_how_much_is_said(level: str, said: list[str]) -> None:
    outcome = run("logging.info('one'); logging.warning('two')", f"--logging={level}")
    lines = [line.split(" ", 1)[1] for line in outcome.stderr.splitlines()]
    assert lines == said


@pytest.mark.parametrize("name", DOORS)
def test_every_choice_of_every_door_is_taken_in_capitals_and_small_letters(name: str) -> None:
    door = importlib.import_module(name)
    defined = [parsed(door)[flag] for flag in parsed(door)]
    choices = {
        each.name: each.parser.enum_values for each in defined if isinstance(each, flags.EnumFlag)
    }
    assert "logging" in choices
    for flag, values in choices.items():
        for value in values:
            for given in (value.upper(), value.lower(), value.title()):
                assert parsed(door, f"--{flag}={given}")[flag].value == value


@pytest.mark.parametrize("name", DOORS)
def test_numbers_that_can_only_be_a_slip_are_refused_by_every_flag_of_every_door(name: str) -> None:
    door = importlib.import_module(name)
    defined = [parsed(door)[flag] for flag in parsed(door)]
    kinds = (flags.IntegerParser, flags.FloatParser)
    for flag in (each.name for each in defined if isinstance(each.parser, kinds)):
        for number in (10**12, 2**63, 10**400, -(10**12)):
            with pytest.raises(flags.IllegalFlagValueError, match=f"--{flag}={number}"):
                parsed(door, f"--{flag}={number}")


@pytest.mark.parametrize(
    ("door", "flag", "given", "values"),
    [
        (transcribe, "formats", "SRT,Txt", ["srt", "txt"]),
        (check_tpu, "topology", "V2,v5E", ["v2", "v5e"]),
        (export, "formats", "TFLite_Int8", ["tflite_int8"]),
    ],
)
def test_several_choices_are_taken_in_either_case_and_others_refused(
    door: ModuleType, flag: str, given: str, values: list[str]
) -> None:
    assert parsed(door, f"--{flag}={given}")[flag].value == values
    for other in ("", f"{values[0]},x", ","):
        with pytest.raises(
            flags.IllegalFlagValueError, match=rf"--{flag}={other}: .*\|{values[0]}|{values[0]}\|"
        ):
            parsed(door, f"--{flag}={other}")


@pytest.mark.parametrize("name", DOORS)
def test_no_flag_of_any_door_takes_what_is_no_finite_number(name: str) -> None:
    door = importlib.import_module(name)
    defined = [parsed(door)[flag] for flag in parsed(door)]
    numbers = [each.name for each in defined if isinstance(each.parser, flags.FloatParser)]
    for flag in numbers:
        for number in ("nan", "inf", "-inf", "1e999"):
            with pytest.raises(flags.IllegalFlagValueError, match=f"--{flag}={number}"):
                parsed(door, f"--{flag}={number}")


@pytest.mark.parametrize("name", ["training", "prepare_libri", "prepare_csv", "tune_lm"])
def test_a_random_seed_has_the_same_bounds_in_every_door(name: str) -> None:
    door = importlib.import_module(name)
    assert parsed(door, f"--random_seed={LARGEST_SEED}").random_seed == LARGEST_SEED
    for seed in (-1, LARGEST_SEED + 1, 1795886922020500156):  # the last one: date +%s%N
        with pytest.raises(flags.IllegalFlagValueError, match=f"--random_seed={seed}.*range"):
            parsed(door, f"--random_seed={seed}")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_daemon_without_standard_streams_writes_nothing_into_its_files(
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


@pytest.mark.parametrize(
    ("door", "flag"),
    [
        *((prepare_csv, f"{name}_files") for name in ("train", "dev", "test")),
        (prepare_csv, "files_path"),
        (prepare_libri, "files_path"),
        (build_lm, "input_txt"),
        (build_lm, "exclude_txt"),
        (eval_door, "test_data"),
        (eval_door, "audio"),
        *((serve, name) for name in ("models", "scorers", "test_data", "audio")),
    ],
)
def test_a_path_that_is_there_may_have_commas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: ModuleType, flag: str
) -> None:
    monkeypatch.chdir(tmp_path)

    def read(value: str) -> list[str]:
        found: list[str] = getattr(parsed(door, f"--{flag}={value}"), flag)
        return found

    (tmp_path / "a,b").mkdir()
    assert read("a,b") == ["a,b"]
    assert read("a,b/*.tfrecords") == ["a", "b/*.tfrecords"]
    (tmp_path / "a,b" / "x.tfrecords").touch()
    assert read("a,b/*.tfrecords") == ["a,b/*.tfrecords"]
    assert read("a, b,c") == ["a", "b", "c"] and read('"a,b",c') == ["a,b", "c"]
    assert read("") == []
