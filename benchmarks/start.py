"""Measures a start: CPU and memory from a process's beginning to the first text, against clients.

  python benchmarks/start.py --lite=output_graph.tflite --graph=output_graph.pbmm \
      --scorer=kenlm.scorer --audio=audio.wav --client_python=python3.9

Each program loads the model and the scorer, transcribes one short recording, and ends. They take
turns; medians of the rounds. CPU is that of all threads, user and system; memory is the largest
resident set. The clients are Mozilla's deepspeech 0.9.3, with the .pbmm file, and Coqui's stt
1.4.0, with the .tflite file: `pip install deepspeech==0.9.3 stt==1.4.0 'numpy<2'` on Python 3.9.
Without --client_python ours are measured alone. A round before the measured ones compiles the
search.
"""

import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from absl import flags
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from speech.flags import kinds
from speech.system import command_line
from utils import UserError

FLAGS = flags.FLAGS

ROOT = Path(__file__).resolve().parent.parent

# The same program for ours and for the clients: module, model, scorer and audio are its arguments.
PROGRAM = """
import importlib, sys, wave
import numpy
model = importlib.import_module(sys.argv[1]).Model(sys.argv[2])
model.enableExternalScorer(sys.argv[3])
with wave.open(sys.argv[4]) as file:
    samples = numpy.frombuffer(file.readframes(file.getnframes()), numpy.int16)
print(model.stt(samples))
"""


def define_flags() -> None:
    flags.DEFINE_string("lite", None, "The .tflite file of a model of DeepSpeech.", required=True)
    flags.DEFINE_string("graph", None, "The .pbmm file of the same model, for deepspeech.")
    flags.DEFINE_string("scorer", None, "Scorer of DeepSpeech.", required=True)
    flags.DEFINE_string("audio", None, "A wav file at the model's rate.", required=True)
    flags.DEFINE_string("client_python", None, "Python with the packages deepspeech and stt.")
    kinds.define_integer("rounds", 5, "Number of starts of each program.", lower_bound=1)


def main() -> None:
    programs = _programs()
    for command in programs.values():
        _measure(command)
    measured: dict[str, list[tuple[float, float, str]]] = {name: [] for name in programs}
    for _ in range(FLAGS.rounds):
        for name, command in programs.items():
            measured[name].append(_measure(command))
    seconds = {name: statistics.median(each[0] for each in measured[name]) for name in programs}
    memory = {name: statistics.median(each[1] for each in measured[name]) for name in programs}
    base = list(programs)[-1]  # the ratios' denominator
    rows = [
        [
            name,
            f"{seconds[name]:.2f}",
            f"{seconds[name] / seconds[base]:.1f}x",
            f"{memory[name]:.0f}",
            f"{memory[name] / memory[base]:.1f}x",
            measured[name][-1][2],
        ]
        for name in programs
    ]
    print(tabulate(rows, ["", "CPU s", f"of {base}", "MB", f"of {base}", "text"]))


def _programs() -> dict[str, list[str]]:
    """Returns the commands to measure by their names."""
    lite, scorer, audio = (
        os.path.abspath(each) for each in (FLAGS.lite, FLAGS.scorer, FLAGS.audio)
    )
    rest = [scorer, audio]
    transcribe = [str(ROOT / "transcribe.py"), f"--model={lite}"]
    programs = {
        "transcribe.py": [*(sys.executable, *transcribe, f"--scorer={scorer}", f"--audio={audio}")],
        "import deepspeech, ours": [sys.executable, "-c", PROGRAM, "deepspeech", lite, *rest],
    }
    if FLAGS.client_python:
        python = shutil.which(FLAGS.client_python) or FLAGS.client_python
        if FLAGS.graph:
            programs["deepspeech 0.9.3"] = [
                *(python, "-c", PROGRAM, "deepspeech", os.path.abspath(FLAGS.graph), *rest)
            ]
        programs["stt 1.4.0"] = [python, "-c", PROGRAM, "stt", lite, *rest]
    return programs


def _measure(command: list[str]) -> tuple[float, float, str]:
    """Runs a program; returns its seconds of CPU, its largest memory in MB, and its text.

    Raises:
        UserError: it fails.
    """
    environment = dict(os.environ)
    if command[0] == sys.executable:
        environment["PYTHONPATH"] = str(ROOT)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd="/",  # python -c imports from here: not our module for the clients
    )
    assert process.stdout is not None
    text = process.stdout.read().decode().strip()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise UserError(f"{command[0]} failed with the arguments {command[3:]}: run it to see why.")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text


if __name__ == "__main__":
    define_flags()
    command_line.define_logging_flag()
    command_line.run(main)
