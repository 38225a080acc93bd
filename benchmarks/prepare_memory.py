"""Measures the memory of preparation, which must not grow with the corpus.

  python benchmarks/prepare_memory.py --files_path=data/LibriSpeech/dev-clean

Repeats the recordings through symbolic links, prepares them with prepare_libri.py in a process, and
measures the memory of all its processes together: private memory, and each process's share of
common memory (PSS).
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil
from absl import flags

from speech.corpora.formats.librispeech import find_utterances
from speech.flags import kinds
from speech.system import command_line

FLAGS = flags.FLAGS
command_line.define_logging_flag()
kinds.define_paths("files_path", None, "Folders in LibriSpeech's layout.", required=True)
flags.DEFINE_list("utterances", ["2000", "20000"], "Numbers of utterances of the corpora.")
kinds.define_integer(
    "workers", os.cpu_count(), "Worker processes of prepare_libri.py.", lower_bound=1
)
flags.DEFINE_string("scratch", None, "Folder for the shards. Default: the system's.")


def repeat_through_links(folders: list[str], count: int, split: Path) -> None:
    """Creates a split of `count` utterances: links to those of the folders, repeated."""
    found = [each for each in find_utterances(folders) if each.audio_path and each.transcript]
    for position in range(count):
        source = found[position % len(found)]
        speaker, chapter = str(position % 50), str(position // len(found))
        folder = split / speaker / chapter
        folder.mkdir(parents=True, exist_ok=True)
        utterance_id = f"{speaker}-{chapter}-{position:06d}"
        os.symlink(os.path.abspath(str(source.audio_path)), folder / f"{utterance_id}.flac")
        with open(folder / f"{speaker}-{chapter}.trans.txt", "a", encoding="utf-8") as file:
            file.write(f"{utterance_id} {source.transcript}\n")


def memory_of(process: psutil.Process) -> int:
    """Returns the bytes of a process and its children."""
    total = 0
    for each in [process, *process.children(recursive=True)]:
        try:
            total += each.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue  # it ended meanwhile
    return total


def prepare_and_watch(split: Path, tfrecords_file: Path) -> tuple[float, float]:
    """Prepares a split; returns the seconds and the maximum bytes."""
    start, most = time.perf_counter(), 0
    arguments = [f"--files_path={split}", f"--tfrecords_file={tfrecords_file}"]
    with subprocess.Popen(
        [sys.executable, "prepare_libri.py", *arguments, f"--workers={FLAGS.workers}"],
        cwd=sys.path[0],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        while run.poll() is None:
            most = max(most, memory_of(psutil.Process(run.pid)))
            time.sleep(0.2)
    if run.returncode:
        raise SystemExit(f"prepare_libri.py ended with status {run.returncode}")
    return time.perf_counter() - start, most


def main() -> None:
    print(
        f"{FLAGS.workers} workers\n{'utterances':>10}{'seconds':>9}{'MB at most':>12}{'ratio':>7}"
    )
    first = 0.0
    for count in map(int, FLAGS.utterances):
        with tempfile.TemporaryDirectory(dir=FLAGS.scratch) as scratch:
            split = Path(scratch) / "split"
            repeat_through_links(FLAGS.files_path, count, split)
            seconds, most = prepare_and_watch(split, Path(scratch) / "t.tfrecords")
        first = first or most
        print(f"{count:>10}{seconds:>9.1f}{most / 1e6:>12.1f}{most / first:>6.2f}x")


if __name__ == "__main__":
    command_line.run(main)
