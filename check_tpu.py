"""Will the training step compile for, and fit on, a TPU? Asks the TPU's compiler; needs no TPU.

  python check_tpu.py --train_batch_size=32,64 --bfloat16
  python check_tpu.py --model_dir=model --train_data=data/train.tfrecords.* --topology=v3

Compiles the very step that training.py would run on one core, and prints what the compiler says of
its memory, and an estimate of its time; see docs/tpu.md for how far to trust it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from absl import flags, logging

import constants
import model
from speech.engines import tpu_estimator
from speech.features.front_end import FrontEnd
from speech.networks import registry
from speech.networks.config import (
    NETWORK_FLAGS,
    ModelConfig,
    TrainingConfig,
    check_same_front_end,
    define_network_flags,
    network_config,
    read_config,
)
from speech.networks.registry import Network
from speech.shards.shard_set import find_shards
from speech.system import command_line
from speech.tpu.compiler import Compiled, compile_program, find_python
from speech.tpu.estimate import OTHER, PARTS, TOPOLOGIES, Topology, estimate
from speech.tpu.step_program import training_step
from utils import ENGLISH, UserError, is_number, lines_of

FLAGS = flags.FLAGS

# Beyond it a core has no use for a larger batch.
LARGEST_BATCH = 1024


@dataclass(frozen=True)
class Data:
    """What a batch holds."""

    frames: int  # that an utterance is padded to
    labels: int  # that a transcript is padded to
    audio_seconds: float  # of an average utterance


def define_flags() -> None:
    flags.DEFINE_string(
        "model_dir", None, "A model directory; default: the network of the flags for its size."
    )
    flags.DEFINE_string(
        "train_data",
        None,
        "Shards whose lengths a batch has; default: the greatest of prepare_libri.py.",
    )
    command_line.define_choices("topology", list(TOPOLOGIES), TOPOLOGIES, "TPUs to compile for.")
    flags.DEFINE_list(
        "train_batch_size", [str(constants.TRAIN_BATCH_SIZE)], "Over all cores; one table each."
    )
    command_line.define_integer(
        "num_tpu_cores", constants.NUM_TPU_CORES, "Cores that share a batch.", lower_bound=1
    )
    flags.DEFINE_bool("find_batch", False, "Also look for the largest batch that fits a core.")
    flags.DEFINE_string(
        "compiler_python",
        None,
        "The python of an environment with jax and libtpu; default: one that is made for it.",
    )
    define_network_flags()
    command_line.define_logging_flag()


def asked() -> tuple[ModelConfig, Data]:
    """The configuration and the batch that the flags ask for."""
    shards = find_shards(FLAGS.train_data) if FLAGS.train_data else None
    if shards:
        settings = shards.index.settings
        front_end, alphabet = settings.front_end, settings.alphabet
        seconds = shards.index.audio_seconds / max(shards.index.records, 1)
        data = Data(settings.max_sequence_length, settings.max_label_length, seconds)
    else:
        front_end, alphabet = FrontEnd(), ENGLISH
        seconds = constants.MAX_SEQUENCE_LENGTH * constants.STEP_SECONDS
        data = Data(constants.MAX_SEQUENCE_LENGTH, constants.MAX_LABEL_LENGTH, seconds)
    if not FLAGS.model_dir:
        network = network_config(FLAGS, front_end, alphabet)
        training = TrainingConfig(dropout=FLAGS.dropout, bfloat16=FLAGS.bfloat16)
        return ModelConfig(front_end, alphabet, network, training), data
    for flag in NETWORK_FLAGS:
        if FLAGS[flag].present:
            raise UserError(
                f"--{flag} is the model's own in --model_dir={FLAGS.model_dir}: leave out one."
            )
    config = read_config(FLAGS.model_dir)
    if shards:
        check_same_front_end(config, front_end, alphabet, FLAGS.train_data, FLAGS.model_dir)
    # These may change from one call of training.py to the next.
    training = config.training
    if FLAGS["bfloat16"].present:
        training = replace(training, bfloat16=FLAGS.bfloat16)
    if FLAGS["dropout"].present:
        training = replace(training, dropout=FLAGS.dropout)
    return replace(config, training=training), data


def asked_batches() -> list[int]:
    """Utterances of a core, for each --train_batch_size."""
    batches = []
    for text in FLAGS.train_batch_size or [""]:
        size = int(text) if is_number(text) else 0
        if not size:
            raise UserError(f"--train_batch_size={text} must be whole numbers, as in 32,64.")
        tpu_estimator.check_divisible("train_batch_size", size, FLAGS.num_tpu_cores)
        batches.append(size // FLAGS.num_tpu_cores)
    return batches


def step_of(config: ModelConfig, data: Data, batch: int) -> bytes:
    """The program of one core with so many utterances."""
    training = replace(config.training, train_batch_size=batch)
    model_fn = model.model_fn_builder(replace(config, training=training), model_dir="")
    return training_step(model_fn, batch, data.frames, config.network.bins, data.labels)


def row(name: str, compiled: Compiled, network: Network, data: Data, batch: int) -> list[str]:
    """A line of the table for a program that compiles."""
    topology = TOPOLOGIES[name]
    estimated = estimate(compiled.text)
    parts = estimated.milliseconds(topology)
    seconds = sum(parts.values()) / 1000
    # Backward asks for two products where forward asks for one.
    flops = 3 * batch * network.forward_flops(network.config.output_frames(data.frames))
    if estimated.endless_loops:
        logging.warning("%s: a loop's turns can't be read off; its time counts once.", name)
    return [
        name,
        f"{compiled.seconds:.0f}",
        *(f"{size / 2**20:.0f}" for size in memory(compiled)),
        f"{(topology.memory_bytes - compiled.bytes) / 2**20:.0f}",
        *(f"{parts[part]:.1f}" for part in (*PARTS, OTHER)),
        f"{1000 * seconds:.1f}",
        f"{estimated.unpriced_bytes / 2**20:.0f}",
        f"{flops / seconds / topology.peak_flops:.0%}",
        f"{batch * data.audio_seconds / seconds:.0f}",
    ]


def memory(compiled: Compiled) -> tuple[int, int, int]:
    arguments = compiled.argument_bytes + compiled.output_bytes
    return arguments, compiled.temporary_bytes, compiled.code_bytes


HEADINGS = [
    *("TPU", "compiled s", "arguments", "temporary", "code", "free MiB"),
    *(*PARTS, OTHER, "step ms", "unpriced MiB", "of peak", "audio h/h"),
]


def table(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in [HEADINGS, *rows]
    )


def largest_batch(fits: Callable[[int], bool], batch: int) -> int:
    """The largest batch that fits, to one part in sixteen; 0 if none does.

    Args:
        fits: whether a batch does; costs a compilation.
        batch: to begin with.
    """
    low, high = 0, min(batch, LARGEST_BATCH)
    while fits(high):
        if high == LARGEST_BATCH:
            return high
        low, high = high, min(2 * high, LARGEST_BATCH)
    while high - low > max(low // 16, 1):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def reason(error: str) -> str:
    """The first line of what the compiler says."""
    return lines_of(error.strip())[0]


def main() -> None:
    tpu_estimator.quieten(FLAGS.logging)
    config, data = asked()
    topologies, batches = FLAGS.topology, asked_batches()
    python = find_python(FLAGS.compiler_python)
    network = registry.sketch(config.network)
    parameters = registry.parameters(network)
    failures = []
    for batch in batches:
        hlo = step_of(config, data, batch)
        rows = []
        for name in topologies:
            logging.info("Compiles %d utterances a core for %s.", batch, name)
            compiled = compile_program(hlo, TOPOLOGIES[name].name, python)
            if compiled.error:
                failures.append(f"{name}, {batch} utterances a core: {reason(compiled.error)}")
            else:
                rows.append(row(name, compiled, network, data, batch))
        print(
            f"\n{batch} utterances a core, {batch * FLAGS.num_tpu_cores} over "
            f"{FLAGS.num_tpu_cores} of {data.frames} frames and {data.labels} labels; "
            f"{parameters:,} parameters, {'bfloat16' if config.training.bfloat16 else 'float32'}"
        )
        if rows:
            print(table(rows))
        input_bytes = batch * data.frames * config.network.bins * 4
        print(f"A step's features are {input_bytes / 2**20:.1f} MiB a core.")
    if FLAGS.find_batch:
        for name in topologies:

            def fits(batch: int, topology: Topology = TOPOLOGIES[name]) -> bool:
                logging.info("Tries %d utterances a core on %s.", batch, topology.name)
                compiled = compile_program(step_of(config, data, batch), topology.name, python)
                if compiled.error and not compiled.out_of_memory:
                    raise UserError(
                        f"It doesn't compile for {topology.name}, {batch} utterances a core: "
                        f"{reason(compiled.error)}"
                    )
                return not compiled.error

            print(f"{name}: {largest_batch(fits, max(batches))} utterances fit a core.")
    if failures:
        raise UserError("It doesn't compile: " + "; ".join(failures))


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
