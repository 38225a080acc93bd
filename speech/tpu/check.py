"""Checks whether a training step compiles for TPUs and fits them, and estimates its time."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

from absl import logging

from speech.networks import registry
from speech.networks.config import ModelConfig
from speech.tpu.compiler import Compiled, compile_program, find_python
from speech.tpu.estimate import TOPOLOGIES
from speech.tpu.hlo import Hlo
from speech.tpu.lowering import lowers_sums
from speech.tpu.step_program import StepProgram, core_batch
from speech.tpu.table import MEBIBYTE, BatchShape, row, table
from utils import UserError, lines_of

# A core gains nothing from a larger batch than this.
LARGEST_BATCH = 1024


@dataclass(frozen=True)
class CheckSettings:
    """What to compile, and for which TPUs."""

    config: ModelConfig
    shape: BatchShape
    topologies: tuple[str, ...]  # keys of TOPOLOGIES
    batches: tuple[int, ...]  # utterances of a core; a table for each
    cores: int  # that share a batch
    find_batch: bool  # whether to search for the largest batch that fits
    compiler_python: str | None  # of an environment with jax and libtpu; None: make one


@dataclass(frozen=True)
class _Steps:
    """The training step, compiled for any number of utterances a core."""

    settings: CheckSettings
    python: str  # see find_python

    def compile(self, batch: int, topologies: tuple[str, ...]) -> dict[str, Compiled]:
        """Compiles the step of a batch; returns topology -> what the compiler says."""
        settings = self.settings
        lowered_for = cache(partial(step_program, settings.config, settings.shape, batch))
        compiled = {}
        for name in topologies:
            logging.info("Compiles %d utterances a core for %s.", batch, name)
            topology = TOPOLOGIES[name]
            cores = topology.cores if lowers_sums() else 1
            hlo = lowered_for(cores)
            compiled[name] = compile_program(hlo, topology.name, cores, self.python)
        return compiled

    def fits(self, topology: str, batch: int) -> bool:
        """Returns whether a batch fits a core's memory.

        Raises:
            UserError: the step doesn't compile for another reason.
        """
        compiled = self.compile(batch, (topology,))[topology]
        if compiled.error and not compiled.out_of_memory:
            raise UserError(
                f"The step doesn't compile for {topology}, {batch} utterances a core: "
                f"{reason(compiled.error)}"
            )
        return not compiled.error


def check(settings: CheckSettings) -> None:
    """Prints a table for each batch and, if asked for, the largest batch of each TPU.

    Raises:
        UserError: there is no compiler, or the step doesn't compile for all TPUs. The message comes
            after the tables of those for which it does.
    """
    steps = _Steps(settings, find_python(settings.compiler_python))
    network = registry.sketch(settings.config.network)
    if not lowers_sums() and any(TOPOLOGIES[name].cores > 1 for name in settings.topologies):
        logging.warning(
            "This TensorFlow doesn't lower sums over the cores of v5e and later TPUs: the step is "
            "that of one core. For that of all cores use Python 3.12 or newer."
        )
    failures = []
    for batch in settings.batches:
        rows = []
        for name, compiled in steps.compile(batch, settings.topologies).items():
            if compiled.error:
                failures.append(f"{name}, {batch} utterances a core: {reason(compiled.error)}")
            else:
                rows.append(row(name, compiled, network, settings.shape, batch))
        print(f"\n{_title(settings, network, batch)}")
        if rows:
            print(table(rows))
        input_bytes = batch * settings.shape.frames * network.config.bins * 4
        print(f"A step's features are {input_bytes / MEBIBYTE:.1f} MiB a core.")
    if settings.find_batch:
        for name in settings.topologies:
            largest = largest_batch(partial(steps.fits, name), max(settings.batches))
            print(f"{name}: {largest} utterances fit a core.")
    if failures:
        raise UserError("The step doesn't compile: " + "; ".join(failures))


def _title(settings: CheckSettings, network: registry.Network, batch: int) -> str:
    shape, training = settings.shape, settings.config.training
    return (
        f"{batch} utterances a core, {batch * settings.cores} over {settings.cores} of "
        f"{shape.frames} frames and {shape.labels} labels; {registry.parameters(network):,} "
        f"parameters, {'bfloat16' if training.bfloat16 else 'float32'}"
    )


def step_program(config: ModelConfig, shape: BatchShape, batch: int, cores: int) -> Hlo:
    """Returns the training step of a core.

    Args:
        config: what is trained, and how.
        shape: contents of the batch.
        batch: utterances of the core.
        cores: that take the step together, each with a batch like this.
    """
    step = StepProgram(config, cores, on_tpu=True)
    return step.lower(*core_batch(batch, shape.frames, config.network, shape.labels)).hlo


def largest_batch(fits: Callable[[int], bool], start: int) -> int:
    """Returns the largest batch that fits, to one part in sixteen; 0 if none does.

    Args:
        fits: returns whether a batch fits; each call costs a compilation.
        start: batch to try first.
    """
    low, high = 0, min(start, LARGEST_BATCH)
    while fits(high):
        if high == LARGEST_BATCH:
            return high
        low, high = high, min(2 * high, LARGEST_BATCH)
    while high - low > max(low // 16, 1):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def reason(error: str) -> str:
    """Returns the first line of a message of the compiler."""
    return lines_of(error.strip())[0]
