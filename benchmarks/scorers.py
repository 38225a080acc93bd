"""Measures what loading a scorer costs, in time and memory, against DeepSpeech's own client.

  python benchmarks/scorers.py --scorer=deepspeech.scorer --alphabet=alphabet.txt \\
      --client=py39/bin/python --model=deepspeech.pbmm

Each row loads a scorer in a process of its own, in every round of one run:

  client      enableExternalScorer of the package deepspeech, in the Python that --client names
  as it is    the scorer of DeepSpeech
  converted   the same scorer after build_lm.py --input_scorer

The memory is the peak of the resident memory during the loading less the memory before; here it
includes the compiled code. The client only maps the file, and reads its pages when it decodes.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from absl import flags
from tabulate import tabulate

from speech.decoding.scorer import read_scorer, save_scorer
from speech.flags import kinds
from speech.system import command_line
from speech.text.alphabets import read_alphabet
from utils import UserError

FLAGS = flags.FLAGS

# A process prints its CPU seconds, and bytes at the peak above those before.
MEASURE = """
import re, sys, time
def resident(name):
    return int(re.search(name + r":\\s+([0-9]+)", open("/proc/self/status").read())[1]) * 1024
def measure(load):
    open("/proc/self/clear_refs", "w").write("5")  # the peak is now the present memory
    before, started = resident("VmRSS"), time.process_time()
    kept = load()
    print(time.process_time() - started, resident("VmHWM") - before)
"""
CLIENT = """
import deepspeech
model = deepspeech.Model(sys.argv[2])
measure(lambda: model.enableExternalScorer(sys.argv[1]))
"""
THIS = """
from speech.decoding.scorer import read_scorer
from speech.text.alphabets import read_alphabet
alphabet = read_alphabet(sys.argv[2])
measure(lambda: read_scorer(sys.argv[1], alphabet))
"""


def define_flags() -> None:
    flags.DEFINE_string("scorer", None, "Scorer of DeepSpeech.")
    flags.DEFINE_string("alphabet", None, "Alphabet of the scorer.")
    flags.DEFINE_string("client", None, "Python that has the package deepspeech.")
    flags.DEFINE_string("model", None, "Model of DeepSpeech that the client opens first.")
    kinds.define_integer("rounds", 5, "Number of rounds; the table shows medians.", lower_bound=1)
    command_line.define_logging_flag()
    flags.mark_flags_as_required(["scorer", "client", "model"])


def measured(python: str, code: str, *arguments: str) -> list[float]:
    """Returns the seconds and bytes that loading takes in a process."""
    # -I: the client is the installed one, and not this repository's module of the same name.
    options = ["-I"] if code == CLIENT else []
    ended = subprocess.run(
        [python, *options, "-c", MEASURE + code, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        raise UserError(f"{python} failed: {ended.stderr.strip()[-500:]}")
    return [float(number) for number in ended.stdout.split()[-2:]]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = read_scorer(FLAGS.scorer, read_alphabet(FLAGS.alphabet))
        converted = os.path.join(folder, "converted.scorer")
        save_scorer(replace(found, path=converted))
        loads = {
            "client": (FLAGS.client, CLIENT, FLAGS.scorer, FLAGS.model),
            "as it is": (sys.executable, THIS, FLAGS.scorer, FLAGS.alphabet or ""),
            "converted": (sys.executable, THIS, converted, FLAGS.alphabet or ""),
        }
        taken: dict[str, list[list[float]]] = {name: [] for name in loads}
        for _ in range(FLAGS.rounds):
            for name, arguments in loads.items():
                taken[name].append(measured(*arguments))
        rows = []
        for name, rounds in taken.items():
            seconds, memory = (statistics.median(column) for column in zip(*rounds, strict=True))
            rows.append([name, os.path.getsize(loads[name][2]) / 1e6, seconds, memory / 1e6])
    print(f"{len(found.ngrams) - 2:,} n-grams, {found.words:,} words")
    table = [[*row, row[2] / rows[0][2], row[3] / rows[0][3]] for row in rows]
    header = ["", "file, MB", "CPU seconds", "memory, MB", "time ratio", "memory ratio"]
    print(tabulate(table, header, "github", floatfmt=("", ".1f", ".3f", ".1f", ".2f", ".2f")))


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
