"""Preparation on many machines: Apache Beam hands the shards that are missing to its workers.

Three transforms: the positions where missing shards begin, a reshuffle that spreads them over the
workers, and the writing of a shard, which is `prepare.write_shard` as on one machine. What goes to
a worker and comes back lies in the run's folder beside the shards (`records.run_folder`), not in
the pipeline: a thousand hours' transcripts would be more than a job may hold, and not every runner
hands results back. A worker reads its utterances there and leaves a receipt, which the set's index
takes in at the end of this run, or at the start of the next if this one is killed.
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
from speech.preparation import write_shards as engine
from speech.shards.index import Index, ShardSettings
from speech.shards.paths import index_path, run_folder, shard_path
from speech.system import storage
from speech.system.command_line import progress_bar
from utils import UserError, lines_of

if TYPE_CHECKING:
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions

# Names of Beam's runner on this machine, and of Google's.
DIRECT_RUNNERS = ("directrunner", "direct")
DATAFLOW_RUNNERS = ("dataflowrunner", "dataflow")

# Between two looks at how many shards are finished.
PROGRESS_SECONDS = 5.0


@dataclass(frozen=True)
class Runner:
    """One of Beam's runners, and what it is told."""

    name: str  # e.g. DataflowRunner
    options: list[str]  # its own, as name=value or name
    workers: int | None = None  # processes of the direct runner; None: one

    @property
    def direct(self) -> bool:
        """Whether it is this machine."""
        return self._class_name in DIRECT_RUNNERS

    @property
    def knows_its_options(self) -> bool:
        """Whether Beam knows all options it takes; job servers elsewhere have more of their own."""
        return self._class_name in DIRECT_RUNNERS + DATAFLOW_RUNNERS

    @property
    def _class_name(self) -> str:
        """In lower case, without the modules of a fully qualified name."""
        return self.name.rpartition(".")[2].lower()

    def all_options(self) -> list[str]:
        """The options with the number of processes.

        Raises:
            UserError: another runner is given a number of processes.
        """
        if not self.direct and self.workers:
            raise UserError(
                f"--workers={self.workers} is of this machine: --runner={self.name} takes options "
                "of its own, such as --runner_options=max_num_workers=20 of Dataflow."
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
    """What every worker has to know."""

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
    """Writes the shards that are still missing, and the index: the bytes that `prepare` writes.

    Args:
        utterances: the corpus, in order; the workers must find the audio by its paths.
        tfrecords_file: path that the shards' names begin with; the workers must see its folder.
        starting_position: corpus position to begin at; what lies before it is left alone.
        strict: an unusable utterance is an error instead of being skipped.

    Raises:
        UserError: as `write_shards.prepare`; or Beam isn't installed, doesn't know the runner or
            an option's value, or has ended without all shards.
    """
    pipeline = _pipeline(runner)
    with engine.unfinished(utterances, tfrecords_file, settings, starting_position) as there:
        if not there.missing:
            return there.index
        job = Job(tfrecords_file, replace(there.index, shards=(), skipped=()), strict)
        # A job may outlive this process: another command's settings are held to those of the index.
        storage.write_text(index_path(tfrecords_file), there.index.to_json())
        _hand_out(utterances, there.missing, job)
        _build(pipeline, there.missing, job)
        with _progress_bar(job, len(there.missing)):
            ended = _run(pipeline, runner)
        failure = _failure_of(job)
        there.lock.check()
        index = engine.take_receipts(there.index, tfrecords_file) or there.index
        if not index.shards:
            storage.remove(index_path(tfrecords_file))
    if failure:
        raise UserError(failure)
    written = {shard.start for shard in index.shards}
    lost = [start for start in there.missing if start not in written]
    if lost:
        if not ended.begun:
            raise UserError(f"--runner={runner.name} has not taken the job: {ended.problem}.")
        raise UserError(
            f"--runner={runner.name} ended without {len(lost)} of {len(there.missing)} shards: "
            f"{ended.problem or 'it names no reason'}. The workers need this project, and "
            f"{os.path.dirname(tfrecords_file) or '.'} where this machine has it (docs/shards.md). "
            "Run the same command again: it continues."
        )
    return index


def write_partition(start: int, job: Job) -> None:
    """Writes the shard that begins at the corpus position `start`; runs on a worker.

    What a person has to mend goes into the run's folder and keeps other shards from being begun:
    raised, it would make the runner try again. Runners may have a shard written twice at once, and
    again when it is long finished: every attempt writes under names of its own, and what fails
    counts only while the shard is wanted.

    Raises:
        UserError: the run's folder can't be reached from here.
    """
    receipt = _run_path(job, f"{start:08d}{constants.INDEX_SUFFIX}")
    failure = _run_path(job, "failure")
    if storage.exists(failure) or storage.exists(receipt):
        return
    ranged = json.loads(storage.read_text(_work_path(job, start)))
    utterances = [Utterance(**each) for each in ranged]
    settings = job.index.settings
    prepared = ((each, engine.prepare_utterance(each, settings)) for each in utterances)
    path = shard_path(job.tfrecords_file, start)
    try:
        shard, skipped = engine.write_shard(path, start, prepared, job.strict, _own_path(job))
        receipt_text = job.index.with_shard(shard, skipped).to_json()
        storage.write_text(receipt, receipt_text, _own_path(job))
    except UserError as error:
        if storage.exists(_work_path(job, start)) and not storage.exists(receipt):
            storage.write_text(failure, str(error), _own_path(job))


def _run_path(job: Job, name: str) -> str:
    return storage.join(run_folder(job.tfrecords_file), name)


def _own_path(job: Job) -> str:
    """A name that no other attempt writes under; what is left there goes with the run's folder."""
    return _run_path(job, f"{uuid.uuid4().hex}.partial")


def _work_path(job: Job, start: int) -> str:
    return _run_path(job, f"{start:08d}.utterances.json")


def _hand_out(utterances: list[Utterance], starts: tuple[int, ...], job: Job) -> None:
    """Writes the utterances of each missing shard where its worker finds them."""

    def write(start: int) -> None:
        shard = shard_path(job.tfrecords_file, start)
        if not storage.in_bucket(shard):
            storage.remove(storage.partial_path(shard))  # of a killed run without Beam
        ranged = utterances[start : start + job.index.settings.partition_size]
        storage.write_text(_work_path(job, start), json.dumps([asdict(each) for each in ranged]))

    with ThreadPoolExecutor(storage.PARALLEL_REQUESTS) as writers:
        list(writers.map(write, starts))


@contextmanager
def _progress_bar(job: Job, shards: int) -> Iterator[None]:
    """Shows how many shards are finished, wherever they are written."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(PROGRESS_SECONDS):
            with suppress(UserError):  # a bucket out of reach; the next look tells
                progress.update(len(engine.receipts(job.tfrecords_file)) - progress.n)

    with progress_bar(shards, "shard") as progress:
        progress.set_description(os.path.basename(job.tfrecords_file))
        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        try:
            yield
        finally:
            ended.set()
            looking.join()
            progress.update(len(engine.receipts(job.tfrecords_file)) - progress.n)


def _failure_of(job: Job) -> str:
    """What a worker has found that a person has to mend; empty if nothing."""
    path = _run_path(job, "failure")
    return storage.read_text(path) if storage.exists(path) else ""


# --- Beam -----------------------------------------------------------------------------------------


def _pipeline(runner: Runner) -> "apache_beam.Pipeline":
    """An empty pipeline of that runner."""
    with _quiet_import():
        try:
            import apache_beam
            from apache_beam.runners.direct.direct_runner import DirectRunner
        except ImportError:
            raise UserError(
                f"--runner={runner.name} needs Apache Beam: pip install '.[beam]', or leave out "
                "--runner to prepare on this machine."
            ) from None
    options = _parsed(runner)
    try:
        if not runner.direct:
            return apache_beam.Pipeline(runner.name, options)
        python_logging.getLogger(apache_beam.__name__).setLevel(python_logging.WARNING)
        direct = DirectRunner()
        # Else it first fetches another program of Beam's (Prism) and runs that, in its own way.
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


def _parsed(runner: Runner) -> "PipelineOptions":
    """The runner's options as Beam takes them, which drops those that it doesn't know."""
    from apache_beam.options.pipeline_options import PipelineOptions

    options = runner.all_options()
    said = StringIO()
    try:
        # Wrong values make it print all of its options and leave the program.
        with redirect_stderr(said):
            parsed = PipelineOptions([f"--{option.lstrip('-')}" for option in options])
            given = parsed.get_all_options(retain_unknown_options=True)
    except SystemExit:
        reason = lines_of(said.getvalue().strip())[-1].partition("error: ")[2]
        raise UserError(f"--runner_options={','.join(options)}: {reason}.") from None
    known = PipelineOptions([]).get_all_options()
    unknown = sorted(given.keys() - known.keys())
    if unknown and runner.knows_its_options:
        alike = [like for name in unknown for like in get_close_matches(name, known, 1)]
        meant = f" Is {', '.join(alike)} meant?" if alike else ""
        raise UserError(f"--runner={runner.name} has no option {', '.join(unknown)}.{meant}")
    if unknown:
        logging.warning(
            "Beam itself doesn't know the --runner_options %s: they count only if the job server "
            "of %s does.",
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
    begun: bool  # whether the runner has taken the job
    problem: str  # what went wrong; empty if nothing


def _run(pipeline: "apache_beam.Pipeline", runner: Runner) -> _Ended:
    """Runs a pipeline to its end."""
    begun = runner.direct  # whose `run` is the whole job
    # The direct runner's processes have to find this project, as it is found here.
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")
    with _interruptible() as interrupted:
        try:
            result = pipeline.run()
            begun = True
            try:
                result.wait_until_finish()
            except KeyboardInterrupt:
                result.cancel()
                raise
        except Exception as error:  # every runner has its own
            if interrupted.is_set():
                raise KeyboardInterrupt from None
            return _Ended(begun, _reason(error))
    return _Ended(begun, "")


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Tells whether Ctrl-C was pressed, and has the logs say nothing of what it breaks.

    The direct runner takes the KeyboardInterrupt for a failure of the transform it hits.
    """
    interrupted = threading.Event()

    def interrupt(*unused: object) -> None:
        interrupted.set()
        python_logging.disable(python_logging.CRITICAL)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # no other thread may have a signal's handler, or gets a signal
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _reason(error: Exception) -> str:
    """A UserError that was raised in a worker, or else the last line of what a runner says.

    Beam adds the transform's name to the message, and runners on other machines hand on the whole
    traceback as text.
    """
    lines = [line.strip() for line in lines_of(str(error)) if line.strip()]
    told = [line for line in lines if f"{UserError.__name__}: " in line] or lines
    if not told:
        return type(error).__name__
    message = told[-1].rpartition(f"{UserError.__name__}: ")[2]
    return re.sub(r" \[while running .*$", "", message).rstrip(".")


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Keeps to itself which of Beam's parts lack libraries, and which Pythons will be dropped."""
    python_logging.disable(python_logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        python_logging.disable(python_logging.NOTSET)
