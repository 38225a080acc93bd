"""Prepares a set on many machines: Apache Beam distributes the missing shards to its workers.

The pipeline has three transforms: the positions where missing shards begin, a reshuffle that
distributes them over the workers, and `write_shards.write_shard` as on one machine. Data to and
from the workers is in the folder of the run next to the shards (`run_folder`), not in the pipeline:
the transcripts of a thousand hours exceed the size of a job, and not every runner returns results.
A worker reads its utterances there and writes a receipt. The receipts are merged into the index of
the set at the end of the run, or at the start of the next run if this one is killed.
"""

import json
import logging as python_logging
import os
import re
import signal
import sys
import threading
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from io import StringIO
from typing import TYPE_CHECKING

from absl import logging

import constants
from speech.corpora.utterance import Utterance
from speech.preparation.resume import lock_unfinished, merge_receipts, receipts
from speech.preparation.utterance import prepare_utterance
from speech.preparation.write_shards import write_shard
from speech.shards.index import Index, ShardSettings
from speech.shards.paths import index_path, run_folder, shard_path
from speech.system import storage
from speech.system.progress_bar import progress_bar
from utils import UserError, lines_of

if TYPE_CHECKING:
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions

# Names of Beam's runner on this machine, and of Google's.
DIRECT_RUNNERS = ("directrunner", "direct")
DATAFLOW_RUNNERS = ("dataflowrunner", "dataflow")

# Interval between two counts of the finished shards.
PROGRESS_SECONDS = 5.0


@dataclass(frozen=True)
class Runner:
    """One of Beam's runners and its options."""

    name: str  # e.g. DataflowRunner
    options: list[str]  # as name=value or name
    workers: int | None = None  # number of processes of the direct runner; None: one

    @property
    def direct(self) -> bool:
        """Whether the runner uses this machine."""
        return self._class_name in DIRECT_RUNNERS

    @property
    def knows_its_options(self) -> bool:
        """Whether Beam knows all options of the runner; remote job servers may have others."""
        return self._class_name in DIRECT_RUNNERS + DATAFLOW_RUNNERS

    @property
    def _class_name(self) -> str:
        """The class name in lower case, without its modules."""
        return self.name.rpartition(".")[2].lower()

    def all_options(self) -> list[str]:
        """Returns the options including the number of processes.

        Raises:
            UserError: a number of processes is given for another than the direct runner.
        """
        if not self.direct and self.workers:
            raise UserError(
                f"--workers={self.workers} applies to this machine, not to --runner={self.name}: "
                "give its own option, such as --runner_options=max_num_workers=20 for Dataflow."
            )
        if self.workers in (None, 1):
            return self.options
        return [
            f"direct_num_workers={self.workers}",
            "direct_running_mode=multi_processing",
            "default_sdk_harness_log_level=ERROR",
            *self.options,
        ]


@dataclass(frozen=True)
class Job:
    """The settings that every worker needs."""

    tfrecords_file: str
    index: Index  # of the set, without its shards
    strict: bool


def prepare(
    utterances: list[Utterance],
    tfrecords_file: str,
    settings: ShardSettings,
    starting_position: int,
    runner: Runner,
    strict: bool,
) -> Index:
    """Writes the missing shards and the index, the same bytes as `write_shards.prepare`.

    Args:
        utterances: the corpus, in order; the workers need access to the audio by its paths.
        tfrecords_file: path that the shards' names begin with; the workers need access to its
            folder.
        starting_position: corpus position to start at; earlier shards are left as they are.
        strict: an unusable utterance is an error instead of being skipped.

    Raises:
        UserError: as `write_shards.prepare`; or Beam isn't installed, doesn't know the runner or
            an option's value, or has ended without all shards.
    """
    pipeline = _pipeline(runner)
    with lock_unfinished(utterances, tfrecords_file, settings, starting_position) as unfinished:
        missing = unfinished.missing
        if not missing:
            return unfinished.index
        job = Job(tfrecords_file, replace(unfinished.index, shards=(), skipped=()), strict)
        # A job may outlive this process: the index lets another command detect other settings.
        storage.write_text(index_path(tfrecords_file), unfinished.index.to_json())
        _distribute(utterances, missing, job)
        _build(pipeline, missing, job)
        with _progress_bar(job, len(missing)):
            ended = _run(pipeline, runner)
        failure = _read_failure(job)
        unfinished.lock.check()
        index = merge_receipts(unfinished.index, tfrecords_file) or unfinished.index
        if not index.shards:
            storage.remove(index_path(tfrecords_file))
    if failure:
        raise UserError(failure)
    written = {shard.start for shard in index.shards}
    lost = [start for start in missing if start not in written]
    if lost:
        if not ended.accepted:
            raise UserError(f"--runner={runner.name} has not accepted the job: {ended.problem}.")
        raise UserError(
            f"--runner={runner.name} ended without {len(lost)} of {len(missing)} shards: "
            f"{ended.problem or 'it names no reason'}. The workers need this project, and "
            f"{os.path.dirname(tfrecords_file) or '.'} at the same path as on this machine "
            "(docs/shards.md). Run the same command again: it continues."
        )
    return index


def write_partition(start: int, job: Job) -> None:
    """Writes the shard that begins at the corpus position `start`; runs on a worker.

    Writes a UserError to the folder of the run, which stops all other shards: an exception would
    make the runner try again. Runners may write a shard twice at once, and again after it is
    finished. Therefore every attempt uses its own temporary names, and its failure counts only
    while the shard is missing.

    Raises:
        UserError: the folder of the run can't be reached.
    """
    receipt = _run_path(job, f"{start:08d}{constants.INDEX_SUFFIX}")
    failure = _run_path(job, "failure")
    if storage.exists(failure) or storage.exists(receipt):
        return
    ranged = json.loads(storage.read_text(_work_path(job, start)))
    utterances = [Utterance(**each) for each in ranged]
    settings = job.index.settings
    prepared = ((each, prepare_utterance(each, settings)) for each in utterances)
    path = shard_path(job.tfrecords_file, start)
    try:
        shard, skipped = write_shard(path, start, prepared, job.strict, _own_path(job))
        receipt_text = job.index.with_shard(shard, skipped).to_json()
        storage.write_text(receipt, receipt_text, _own_path(job))
    except UserError as error:
        if storage.exists(_work_path(job, start)) and not storage.exists(receipt):
            storage.write_text(failure, str(error), _own_path(job))


def _run_path(job: Job, name: str) -> str:
    return storage.join(run_folder(job.tfrecords_file), name)


def _own_path(job: Job) -> str:
    """Returns a temporary name that no other attempt uses, in the folder of the run."""
    return _run_path(job, f"{uuid.uuid4().hex}.partial")


def _work_path(job: Job, start: int) -> str:
    return _run_path(job, f"{start:08d}.utterances.json")


def _distribute(utterances: list[Utterance], starts: tuple[int, ...], job: Job) -> None:
    """Writes the utterances of each missing shard to a file for its worker."""

    def write(start: int) -> None:
        shard = shard_path(job.tfrecords_file, start)
        if not storage.in_bucket(shard):
            storage.remove(storage.partial_path(shard))  # left by a killed run without Beam
        ranged = utterances[start : start + job.index.settings.partition_size]
        storage.write_text(_work_path(job, start), json.dumps([asdict(each) for each in ranged]))

    with ThreadPoolExecutor(storage.PARALLEL_REQUESTS) as writers:
        list(writers.map(write, starts))


@contextmanager
def _progress_bar(job: Job, shards: int) -> Iterator[None]:
    """Shows the number of finished shards while the block runs."""
    ended = threading.Event()

    def poll() -> None:
        while not ended.wait(PROGRESS_SECONDS):
            with suppress(UserError):  # a bucket out of reach: try again later
                progress.update(len(receipts(job.tfrecords_file)) - progress.n)

    with progress_bar(shards, "shard") as progress:
        progress.set_description(os.path.basename(job.tfrecords_file))
        polling = threading.Thread(target=poll, daemon=True)
        polling.start()
        try:
            yield
        finally:
            ended.set()
            polling.join()
            progress.update(len(receipts(job.tfrecords_file)) - progress.n)


def _read_failure(job: Job) -> str:
    """Reads the UserError of a worker; empty if there is none."""
    path = _run_path(job, "failure")
    return storage.read_text(path) if storage.exists(path) else ""


# --- Beam -----------------------------------------------------------------------------------------


def _pipeline(runner: Runner) -> "apache_beam.Pipeline":
    """Returns an empty pipeline for a runner."""
    with _quiet_import():
        try:
            import apache_beam
            from apache_beam.runners.direct.direct_runner import DirectRunner
        except ImportError:
            raise UserError(
                f"--runner={runner.name} needs Apache Beam: pip install '.[beam]', or leave out "
                "--runner to prepare on this machine."
            ) from None
    options = _parse_options(runner)
    try:
        if not runner.direct:
            return apache_beam.Pipeline(runner.name, options)
        python_logging.getLogger(apache_beam.__name__).setLevel(python_logging.WARNING)
        direct = DirectRunner()
        # Prevents it from downloading and running Prism, another runner of Beam.
        direct.is_interactive()
        return apache_beam.Pipeline(direct, options)
    except ImportError as error:
        raise UserError(
            f"--runner={runner.name} can't be loaded: {error}. For Dataflow: pip install "
            f"'apache-beam[gcp]=={apache_beam.__version__}' in an environment without TensorFlow."
        ) from None
    except (ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        given = f" --runner_options={','.join(runner.options)}" if runner.options else ""
        raise UserError(f"--runner={runner.name}{given}: {reason}.") from None


def _parse_options(runner: Runner) -> "PipelineOptions":
    """Parses the runner's options with Beam, which ignores unknown ones.

    Raises:
        UserError: a value is invalid, or the runner has no such option.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    options = runner.all_options()
    printed = StringIO()
    try:
        # For an invalid value Beam prints all of its options and exits.
        with redirect_stderr(printed):
            parsed = PipelineOptions([f"--{option.lstrip('-')}" for option in options])
            given = parsed.get_all_options(retain_unknown_options=True)
    except SystemExit:
        reason = lines_of(printed.getvalue().strip())[-1].partition("error: ")[2]
        raise UserError(f"--runner_options={','.join(options)}: {reason}.") from None
    known = PipelineOptions([]).get_all_options()
    unknown = sorted(given.keys() - known.keys())
    if unknown and runner.knows_its_options:
        alike = [like for name in unknown for like in get_close_matches(name, known, 1)]
        hint = f" Did you mean {', '.join(alike)}?" if alike else ""
        raise UserError(f"--runner={runner.name} has no option {', '.join(unknown)}.{hint}")
    if unknown:
        logging.warning(
            "Beam doesn't know the --runner_options %s: they take effect only if the job server of "
            "%s knows them.",
            ", ".join(unknown),
            runner.name,
        )
    return parsed


def _build(pipeline: "apache_beam.Pipeline", starts: tuple[int, ...], job: Job) -> None:
    import apache_beam

    (
        pipeline
        | "missing shards" >> apache_beam.Create(starts)
        | "spread" >> apache_beam.Reshuffle()
        | "write shard" >> apache_beam.Map(write_partition, job)
    )


@dataclass(frozen=True)
class _Ended:
    accepted: bool  # whether the runner has accepted the job
    problem: str  # reason of a failure; empty: success


def _run(pipeline: "apache_beam.Pipeline", runner: Runner) -> _Ended:
    """Runs a pipeline to its end."""
    accepted = runner.direct  # its method `run` is the whole job
    # The processes of the direct runner import this project from the same path.
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")
    with _interruptible() as interrupted:
        try:
            result = pipeline.run()
            accepted = True
            try:
                result.wait_until_finish()
            except KeyboardInterrupt:
                result.cancel()
                raise
        except Exception as error:  # every runner has its own exceptions
            if interrupted.is_set():
                raise KeyboardInterrupt from None
            return _Ended(accepted, _reason(error))
    return _Ended(accepted, "")


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Sets an event on Ctrl-C, and silences the logs of the failures that it causes.

    The direct runner mistakes a KeyboardInterrupt for a failure of a transform.
    """
    interrupted = threading.Event()

    def interrupt(*unused: object) -> None:
        interrupted.set()
        python_logging.disable(python_logging.CRITICAL)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # only the main thread gets signals and may set handlers
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _reason(error: Exception) -> str:
    """Returns the message of a worker's UserError, else the last line of a runner's message.

    Beam adds the name of the transform to the message; remote runners return the whole traceback
    as text.
    """
    lines = [line.strip() for line in lines_of(str(error)) if line.strip()]
    messages = [line for line in lines if f"{UserError.__name__}: " in line] or lines
    if not messages:
        return type(error).__name__
    message = messages[-1].rpartition(f"{UserError.__name__}: ")[2]
    return re.sub(r" \[while running .*$", "", message).rstrip(".")


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Silences warnings about missing optional libraries and old versions of Python."""
    python_logging.disable(python_logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        python_logging.disable(python_logging.NOTSET)
