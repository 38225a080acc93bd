"""Measures lost requests, latency and memory of the server with 50 requests at once.

  python benchmarks/serving.py --model=model --files_path=data/LibriSpeech/dev-clean
  python benchmarks/serving.py --model=model --scorer=lm/kenlm.scorer --files_path=recordings

serve.py runs as a process twice, one after the other: with its defaults, and as its own peer with
--batch_size=1, which recognises one utterance at a time. Clients send one recording after another
for --seconds, each the next one of the same list; a request is lost if its response isn't 200.
Clients and server share this machine's cores. Memory is the server's resident memory in /metrics;
some of the first seconds is due to the first occurrence of each length.
"""

import asyncio
import contextlib
import logging as python_logging
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
from absl import flags, logging

import constants
from speech.audio.find import find_audio_files
from speech.flags import kinds
from speech.system import command_line
from utils import UserError, lines_of

FLAGS = flags.FLAGS

SERVER = Path(__file__).resolve().parent.parent / "serve.py"

START_SECONDS = 300.0
ANSWER_SECONDS = 300.0
MEMORY = "process_resident_memory_bytes"


def define_flags() -> None:
    flags.DEFINE_string("model", constants.MODEL_DIR, "Model, see serve.py --models.")
    flags.DEFINE_string("scorer", None, "Language model, see serve.py --scorers.")
    kinds.define_paths("files_path", [], "Recordings: files, folders or patterns, by commas.")
    kinds.define_integer("recordings", 50, "Maximum number of recordings.", lower_bound=1)
    kinds.define_integer("clients", 50, "Number of simultaneous requests.", lower_bound=1)
    kinds.define_number("seconds", 60, "Seconds during which requests are started.", lower_bound=1)
    kinds.define_integer("batch_size", 16, "Batch size of the server.", lower_bound=2)
    kinds.define_integer(
        "beam_width", constants.BEAM_WIDTH, "Beam width of the server.", lower_bound=1
    )
    command_line.define_logging_flag()


@dataclass
class Run:
    """Results of one server."""

    seconds: list[float] = field(default_factory=list)  # of each request with a response
    lost: int = 0
    audio_seconds: float = 0.0
    took: float = 0.0  # until the last response
    memory: list[float] = field(default_factory=list)  # MB: start, middle, end
    texts: dict[str, set[str]] = field(default_factory=dict)  # of each recording

    @property
    def throughput(self) -> float:
        """Returns requests per second."""
        return len(self.seconds) / self.took

    def row(self, name: str) -> str:
        p50, p95 = (self._percentile(each) for each in (50, 95))
        memory = " ".join(f"{each:7.0f}" for each in self.memory)
        return (
            f"{name:16} {len(self.seconds) + self.lost:9} {self.lost:5} {p50:8.2f} {p95:8.2f} "
            f"{self.throughput:11.2f} {self.audio_seconds / self.took:9.1f}   {memory}"
        )

    def _percentile(self, percent: int) -> float:
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


HEAD = (
    f"{'server':16} {'requests':>9} {'lost':>5} {'p50 s':>8} {'p95 s':>8} {'requests/s':>11} "
    f"{'audio s/s':>9}   {'memory MB: start, middle, end':>23}"
)


@contextlib.contextmanager
def serving(batch_size: int) -> Iterator[str]:
    """Yields a server's address."""
    command = [
        *(sys.executable, str(SERVER), "--port=0", f"--models={FLAGS.model}"),
        *(f"--batch_size={batch_size}", f"--beam_width={FLAGS.beam_width}"),
        *(f"--max_waiting={2 * FLAGS.clients}", f"--scorers={FLAGS.scorer or ''}"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log: list[str] = []
    up = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            log.append(line)
            del log[:-100]
            if "Serving at" in line:
                up.set()
        up.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        up.wait(START_SECONDS)
        addresses = [line.split()[-1] for line in log if "Serving at" in line]
        if not addresses:
            raise UserError(f"serve.py didn't start: {''.join(log).strip()}")
        yield addresses[0]
    finally:
        process.terminate()
        process.wait()


async def load(address: str, recordings: dict[str, bytes]) -> Run:
    """What comes of all clients."""
    run = Run()
    names = list(recordings)
    limits = httpx.Limits(max_connections=FLAGS.clients + 1)
    async with httpx.AsyncClient(base_url=address, timeout=ANSWER_SECONDS, limits=limits) as http:

        async def send(name: str) -> None:
            started = time.monotonic()
            try:
                answer = await http.post("/api/transcribe", files={"audio": recordings[name]})
            except httpx.HTTPError as error:
                logging.error("%s: %r", name, error)
                run.lost += 1
                return
            if answer.status_code != httpx.codes.OK:
                logging.error("%s: %d %s", name, answer.status_code, answer.text)
                run.lost += 1
                return
            run.seconds.append(time.monotonic() - started)
            run.audio_seconds += answer.json()["seconds"]
            run.texts.setdefault(name, set()).add(answer.json()["text"])

        async def client(number: int) -> None:
            while time.monotonic() < until:
                await send(names[number % len(names)])
                number += FLAGS.clients

        async def watch() -> None:
            for _ in range(2):
                run.memory.append(await memory(http))
                await asyncio.sleep(FLAGS.seconds / 2)

        await send(names[0])
        run.seconds.clear()
        run.audio_seconds = 0.0
        began = time.monotonic()
        until = began + FLAGS.seconds
        await asyncio.gather(watch(), *(client(number) for number in range(FLAGS.clients)))
        run.took = time.monotonic() - began
        run.memory.append(await memory(http))
    return run


async def memory(http: httpx.AsyncClient) -> float:
    """MB that the server has."""
    lines = lines_of((await http.get("/metrics")).text)
    (line,) = (each for each in lines if each.startswith(MEMORY))
    return float(line.split()[-1]) / 1e6


def main() -> None:
    python_logging.getLogger("httpx").setLevel(python_logging.WARNING)  # a line a request
    paths = find_audio_files(FLAGS.files_path)[: FLAGS.recordings]
    recordings = {path: Path(path).read_bytes() for path in paths}
    print(
        f"{FLAGS.clients} clients for {FLAGS.seconds:g} s, {len(paths)} recordings, "
        f"{os.cpu_count()} cores\n{HEAD}"
    )
    runs = []
    for batch_size in (FLAGS.batch_size, 1):
        with serving(batch_size) as address:
            run = asyncio.run(load(address, recordings))
        print(run.row(f"--batch_size={batch_size}"), flush=True)
        runs.append(run)
    batched, single = runs
    same_texts = all(
        len(batched.texts[name] | single.texts[name]) == 1
        for name in batched.texts.keys() & single.texts.keys()
    )
    print(
        f"Batches answer {batched.throughput / single.throughput:.2f} times as many requests; the "
        f"texts of both are {'the same' if same_texts else 'NOT the same'}."
    )


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
