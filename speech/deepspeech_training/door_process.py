"""Runs a door as a process that ends with this one."""

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

import utils
from speech.system.command_line import FLAGS_OF_CALLER
from utils import UserError

# Seconds between two looks at what a door has written.
INTERVAL = 1.0

# Flags that messages of doors name -> those of deepspeech-train.
_FLAGS = {
    "--alphabet": "--alphabet_config_path",
    "--sample_rate": "--audio_sample_rate",
    "--winlen": "--feature_win_len",
    "--winstep": "--feature_win_step",
    "--tfrecords_file": "--feature_cache",
    "--model_dir": "--checkpoint_dir",
    "--init_checkpoint": "--load_checkpoint_dir",
    "--drop_layers": "--drop_source_layers",
    "--train_data": "--train_files",
    "--dev_data": "--dev_files",
    "--eval_batch_size": "--dev_batch_size or --test_batch_size",
    "--scorer": "--scorer_path",
}

# The option of Linux's prctl that sends a signal when the parent has ended.
_PR_SET_PDEATHSIG = 1


def run_door(
    door: str,
    arguments: Sequence[str],
    output: TextIO | None = None,
    watch: Callable[[], None] | None = None,
) -> None:
    """Runs a door to its end.

    Args:
        door: its name, such as training.
        output: where its standard output goes; None: standard error.
        watch: called every INTERVAL seconds, and at the end.

    Raises:
        UserError: it fails; it has printed why.
    """
    # By its path: the working folder may have a module of the same name.
    script = os.path.join(os.path.dirname(os.path.abspath(utils.__file__)), f"{door}.py")
    sys.stdout.flush()
    process = subprocess.Popen(
        [sys.executable, script, *arguments],
        stdout=output or sys.stderr,
        env={**os.environ, FLAGS_OF_CALLER: json.dumps(_FLAGS)},
        process_group=0,  # Ctrl-C reaches this process alone, which passes it on, once
        preexec_fn=_end_with_parent,
    )
    try:
        status = _wait(process, watch)
    except BaseException as error:
        stops = isinstance(error, KeyboardInterrupt)
        process.send_signal(signal.SIGINT if stops else signal.SIGTERM)
        process.wait()
        raise
    if status:
        raise UserError(f"{door}.py ended with status {status}: see its message above.")


def _wait(process: "subprocess.Popen[bytes]", watch: Callable[[], None] | None) -> int:
    while True:
        try:
            status = process.wait(INTERVAL if watch else None)
        except subprocess.TimeoutExpired:
            status = None
        if watch:
            watch()
        if status is not None:
            return status


def _end_with_parent() -> None:
    """Makes Linux stop this process when its parent is killed: a training saves and ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
