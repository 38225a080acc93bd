"""Runs serve.py as a process, at a free port."""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from doors import ROOT, environment_of_door

START_SECONDS = 120.0
STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    url: str
    process: "subprocess.Popen[str]"
    temporary: Path  # folder of its temporary files
    log: list[str]

    @property
    def uploads(self) -> list[Path]:
        """Returns the present files of requests."""
        return list(self.temporary.rglob("upload-*"))


@contextlib.contextmanager
def running(temporary: Path, *flags: str) -> Iterator[Server]:
    """Starts a server; stops it after the block, if it still runs.

    Args:
        temporary: new folder for its temporary files.
    """
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "serve.py"), "--port=0", *flags],
        cwd=ROOT,
        env=environment_of_door({"TMPDIR": str(temporary)}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    log: list[str] = []
    up = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            log.append(line)
            if "Serving at" in line:
                up.set()
        up.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert up.wait(START_SECONDS) and process.poll() is None, "".join(log)
        (address,) = (line.split()[-1] for line in log if "Serving at" in line)
        yield Server(address, process, temporary, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        reader.join(STOP_SECONDS)
