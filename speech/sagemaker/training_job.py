"""A training job in SageMaker's folder: prepares what is no shards yet, trains, exports.

Each is the door that people run, as a process of its own. SIGTERM, by which SageMaker ends a job
and takes a spot instance away, is handed on to it: training.py then saves at once, and the same
job started again with the same checkpoints goes on from there.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from speech.sagemaker import job as sagemaker
from speech.sagemaker.job import DEV, TEST, TRAIN, Folder, Job
from utils import UserError

# Where the doors are.
PROGRAM = Path(__file__).resolve().parents[2]

# What of a folder with checkpoints is no model: locks, and SageMaker's marks of what it uploads.
NOT_COPIED = shutil.ignore_patterns(".lock", "*.sagemaker-upload*")

LINES_KEPT = 20  # of what a door says, in case it fails

ERROR, BAD_FLAGS = "error: ", "FATAL Flags parsing error:"


class StoppedError(Exception):
    """SIGTERM came."""


class Doors:
    """Runs doors one after the other, and hands SIGTERM on to the one that runs."""

    def __init__(self, report: Path) -> None:
        self._environment = {**os.environ, "DEEP_SPEECH_REPORT_DIR": str(report)}
        self._stopped = False
        self._running: subprocess.Popen[str] | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """SIGTERM is handed on while the block runs."""
        before = signal.signal(signal.SIGTERM, self._stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped = True
        if self._running:
            self._running.send_signal(number)

    def run(self, door: str, *flags: str) -> None:
        """Runs a door to its end, which says what it has to say as ever.

        Raises:
            UserError: it failed; with its own message.
            StoppedError: SIGTERM came, before or meanwhile; a door that can has saved its work.
        """
        if self._stopped:
            raise StoppedError
        with subprocess.Popen(
            [sys.executable, str(PROGRAM / door), *flags],
            env=self._environment,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
        ) as self._running:
            if self._stopped:  # between the question above and the start
                self._running.terminate()
            last: deque[str] = deque(maxlen=LINES_KEPT)
            for line in self._running.stderr or ():
                sys.stderr.write(line)
                last.append(line.rstrip("\n"))
        status, self._running = self._running.returncode, None
        if self._stopped:
            raise StoppedError
        if status:
            raise UserError(f"{door}: {message_of(list(last), status)}")


def message_of(lines: Sequence[str], status: int) -> str:
    """Why a door failed, of the last lines that it wrote on standard error."""
    for number, line in reversed(list(enumerate(lines))):
        if line.startswith(ERROR):
            return "\n".join(lines[number:]).removeprefix(ERROR)
        if line.startswith(BAD_FLAGS):
            return f"a hyperparameter can't be its flag:{line.removeprefix(BAD_FLAGS)}"
    return "\n".join([f"ended with status {status}:", *lines])


def run(where: Folder) -> int:
    """Runs the job; returns the exit status, and of a failure leaves the reason in its file."""
    doors = Doors(where.report)
    try:
        where.failure.unlink(missing_ok=True)  # of an earlier run, where a folder is used again
        with doors.listening():
            train(sagemaker.read_job(where), where, doors)
    except StoppedError:
        print("Stopped; the same job goes on from here.", file=sys.stderr)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return failed(where, str(error))
    except Exception:
        traceback.print_exc()
        return failed(where, traceback.format_exc())
    return 0


def failed(where: Folder, reason: str) -> int:
    where.failure.parent.mkdir(parents=True, exist_ok=True)
    where.failure.write_text(reason, encoding="utf-8")
    return 1


def train(job: Job, where: Folder, doors: Doors) -> None:
    """Leaves the model directory and its export in the folder's `model`.

    Raises:
        UserError: a door failed.
        StoppedError: SIGTERM came; the model directory is there as far as it is trained.
    """
    kept = where.checkpoints.is_dir()
    model = where.model / "model"
    model_dir = where.checkpoints if kept else model
    with tempfile.TemporaryDirectory() as scratch:
        shards = {**job.shards, **prepared(job, scratch, doors)}
        try:
            doors.run(
                "training.py",
                *job.training,
                f"--train_data={shards[TRAIN]}",
                f"--dev_data={shards.get(DEV, '')}",
                f"--model_dir={model_dir}",
            )
        finally:
            if kept:
                shutil.copytree(model_dir, model, ignore=NOT_COPIED, dirs_exist_ok=True)
        tested = [f"--test_data={shards[TEST]}"] if TEST in shards else []
        doors.run(
            "export.py",
            f"--model_dir={model}",
            f"--export_dir={where.model / 'export'}",
            f"--train_data={shards[TRAIN]}",
            *tested,
        )


def prepared(job: Job, scratch: str, doors: Doors) -> dict[str, str]:
    """Channel -> pattern of the shards, of those that were none; they lie in `scratch`."""
    if not job.raw:
        return {}
    # What is wrong with flags is told before hours of preparation.
    doors.run("training.py", *job.training, "--only_check_args")
    doors.run(
        "prepare_csv.py",
        *job.preparing,
        *(f"--{channel}_files={','.join(paths)}" for channel, paths in job.raw.items()),
        f"--tfrecords_dir={scratch}",
    )
    return {channel: os.path.join(scratch, f"{channel}.tfrecords.*") for channel in job.raw}
