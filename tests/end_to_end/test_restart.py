"""Tests that preparation which is killed many times ends with the bytes of an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from doors import ROOT, assert_error, run_door
from small_sets import contents

UTTERANCES = 400
PARTITION_SIZE = 5
KILLS = 14  # of one set


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes utterances of 2 to 6 s, some of which are unusable."""
    folder = tmp_path_factory.mktemp("corpus") / "dev-clean"
    chapter = folder / "1" / "1"
    chapter.mkdir(parents=True)
    rng = np.random.default_rng(1)
    lines = []
    for number in range(UTTERANCES):
        utterance_id = f"1-1-{number:04d}"
        noise = rng.normal(size=rng.integers(32_000, 96_000)) * 0.1
        soundfile.write(chapter / f"{utterance_id}.flac", noise, 16000)
        lines.append(f"{utterance_id} {'GR8' if number % 50 == 7 else 'GREAT'}\n")
    (chapter / "1-1.trans.txt").write_text("".join(lines))
    return folder


def flags(split: Path, folder: Path, workers: int) -> list[str]:
    return [
        f"--files_path={split}",
        f"--tfrecords_file={folder}/t",
        f"--partition_size={PARTITION_SIZE}",
        "--normalisation=corpus",  # adds sums to the index
        f"--workers={workers}",
    ]


@pytest.fixture(scope="module")
def undisturbed(split: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    outcome = run_door("prepare_libri.py", *flags(split, folder, workers=1))
    assert outcome.returncode == 0, outcome.stderr
    return contents(folder)


def finished_shards(folder: Path) -> int:
    return len(list(folder.glob("t.0*")))


def kill_later(arguments: list[str], folder: Path, rng: random.Random) -> str:
    """Runs preparation and kills it at a random moment: before, during or between shards.

    In half of the cases the workers are killed too, as by a power cut.

    Returns:
        the state of the folder, for the log.
    """
    more_shards, seconds, everything = rng.randrange(4), rng.uniform(0, 0.06), rng.random() < 0.5
    target = finished_shards(folder) + more_shards
    run = subprocess.Popen(
        [sys.executable, "prepare_libri.py", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    lock, mine = folder / ".t.lock", f"process {run.pid}"
    while not (lock.exists() and lock.read_text() == mine and finished_shards(folder) >= target):
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.001)
    time.sleep(seconds)
    if everything:
        os.killpg(run.pid, signal.SIGKILL)
    else:
        run.kill()
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    partial = [path.name for path in folder.glob(".t.*.partial")]
    return (
        f"{arguments[-1]}, {finished_shards(folder)} finished shards, {partial or 'none'} partial"
    )


def test_a_preparation_killed_many_times_ends_with_the_undisturbed_set(
    split: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    rng = random.Random(4)
    folder = tmp_path / "set"
    folder.mkdir()
    for kill in range(KILLS):
        state = kill_later(flags(split, folder, workers=1 + kill % 2), folder, rng)
        print(f"kill {kill + 1}: {state}")
        # Only complete shards have their final names.
        for path in folder.glob("t.0*"):
            assert path.read_bytes() == undisturbed[path.name]
    assert 10 < finished_shards(folder) < UTTERANCES / PARTITION_SIZE
    outcome = run_door("prepare_libri.py", *flags(split, folder, workers=2))
    assert outcome.returncode == 0, outcome.stderr
    assert contents(folder) == undisturbed


def test_a_second_run_on_the_same_set_is_refused_and_the_first_continues(
    split: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    first = subprocess.Popen(
        [sys.executable, "prepare_libri.py", *flags(split, tmp_path, workers=1)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not finished_shards(tmp_path):
        assert first.poll() is None
        time.sleep(0.001)
    first.send_signal(signal.SIGSTOP)  # so that it can't end before the second one checks the lock
    second = run_door("prepare_libri.py", *flags(split, tmp_path, workers=2))
    first.send_signal(signal.SIGCONT)
    assert_error(second, f"Another run (process {first.pid})", "--tfrecords_file")
    _, stderr = first.communicate(timeout=60)
    assert first.returncode == 0, stderr
    assert contents(tmp_path) == undisturbed
