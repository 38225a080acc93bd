"""Runs a training job in SageMaker's folder: prepares channels without shards, trains, exports.

Each step runs a door in a separate process. SIGTERM, with which SageMaker stops a job or reclaims a
spot instance, is forwarded to the process: training.py saves at once, and the same job resumes from
its checkpoints.
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

# Files next to checkpoints that aren't part of the model: locks, and SageMaker's upload marks.
NOT_COPIED = shutil.ignore_patterns(".lock", "*.sagemaker-upload*")

LINES_KEPT = 20  # last lines of a door's standard error, for its failure

ERROR, BAD_FLAGS = "error: ", "FATAL Flags parsing error:"


class StoppedError(Exception):
    """SIGTERM arrived."""


class Doors:
    """Runs doors one after the other and forwards SIGTERM to the running one."""

    def __init__(self, report: Path) -> None:
        self._environment = {**os.environ, "DEEP_SPEECH_REPORT_DIR": str(report)}
        self._stopped = False
        self._running: subprocess.Popen[str] | None = None

    @contextlib.contextmanager
    def forward_sigterm(self) -> Iterator[None]:
        """Forwards SIGTERM while the block runs."""
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
        """Runs a door to its end, with its usual output.

        Raises:
            UserError: it failed; with its own message.
            StoppedError: SIGTERM arrived before or meanwhile; training.py has saved its work.
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
            if self._stopped:  # SIGTERM arrived between the check and the start
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
    """Returns the reason of a door's failure from its last lines on standard error."""
    for number, line in reversed(list(enumerate(lines))):
        if line.startswith(ERROR):
            return "\n".join(lines[number:]).removeprefix(ERROR)
        if line.startswith(BAD_FLAGS):
            return f"a hyperparameter is not a valid flag:{line.removeprefix(BAD_FLAGS)}"
    return "\n".join([f"ended with status {status}:", *lines])


def run(where: Folder) -> int:
    """Runs the job and returns its exit status; writes the reason of a failure to its file."""
    doors = Doors(where.report)
    try:
        where.failure.unlink(missing_ok=True)  # left by an earlier run in the same folder
        with doors.forward_sigterm():
            train(sagemaker.read_job(where), where, doors)
    except StoppedError:
        print("Stopped; the same job resumes from here.", file=sys.stderr)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return write_failure(where, str(error))
    except Exception:
        traceback.print_exc()
        return write_failure(where, traceback.format_exc())
    return 0


def write_failure(where: Folder, reason: str) -> int:
    """Writes the reason of a failure; returns the exit status."""
    where.failure.parent.mkdir(parents=True, exist_ok=True)
    where.failure.write_text(reason, encoding="utf-8")
    return 1


def train(job: Job, where: Folder, doors: Doors) -> None:
    """Writes the model directory and its export to the folder's `model`.

    Raises:
        UserError: a door failed.
        StoppedError: SIGTERM arrived; the model directory has the latest checkpoint.
    """
    kept = where.checkpoints.is_dir()
    model = where.model / "model"
    model_dir = where.checkpoints if kept else model
    with tempfile.TemporaryDirectory() as scratch:
        shards = {**job.shards, **prepare_channels(job, scratch, doors)}
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


def prepare_channels(job: Job, scratch: str, doors: Doors) -> dict[str, str]:
    """Prepares the channels without shards; returns channel -> pattern of shards in `scratch`."""
    if not job.raw:
        return {}
    # Invalid flags fail before hours of preparation.
    doors.run("training.py", *job.training, "--only_check_args")
    doors.run(
        "prepare_csv.py",
        *job.preparing,
        *(f"--{channel}_files={','.join(paths)}" for channel, paths in job.raw.items()),
        f"--tfrecords_dir={scratch}",
    )
    return {channel: os.path.join(scratch, f"{channel}.tfrecords.*") for channel in job.raw}
