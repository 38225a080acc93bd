"""Compares the speed of the input with that of training: batches per second.

  python benchmarks/read.py --files_path=data/LibriSpeech/dev-clean
  python benchmarks/read.py --data='gs://my-bucket/data/train.tfrecords.*'

With --files_path the speech is prepared padded and unpadded into a temporary folder, and the padded
shards are read from there and, as gs://, from an emulator of Cloud Storage on this machine
(tests/support). With --data existing shards are read. The list of shards is repeated until it is
long enough. The whole table is measured in this run; a number is the median of the rounds, and the
rounds of all readers take turns. The only assumption is --tpu_step_ms.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import constants

# isort: split
# After constants, which sets TensorFlow's environment.
import tensorflow as tf
from absl import flags, logging
from tabulate import tabulate

from speech.flags import kinds
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.training_input import TrainingInput, training_input_fn
from speech.layers.basic import Dropout
from speech.layers.ctc_loss import ctc_loss
from speech.networks import registry
from speech.networks.config import NetworkConfig
from speech.shards.shard_set import ShardSet, find_shards
from speech.system import command_line
from utils import UserError

ROOT = Path(__file__).resolve().parent.parent

FLAGS = flags.FLAGS

# Shards of a set prepared here: more than are read in parallel.
PARTITION_SIZE = 20

# Size of the shuffle buffer, so small that readers must keep reading.
BUFFER = 128

# The reader that the others are compared with.
PEER = "plain loop, serial"

# Batches that a reader may prepare before its clock starts.
SLACK = 16

# Seconds for which training steps of one network are timed.
STEPS_SECONDS = 15

NETWORKS: dict[str, dict[str, Any]] = {
    "tiny": {"conv_channels": (8, 16), "stride_size": 3, "recurrent_unit_size": 128},
    "default": {},
}

Batch = tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]


def define_flags() -> None:
    flags.DEFINE_string("files_path", None, "Folder of speech in LibriSpeech's layout.")
    flags.DEFINE_string("data", None, "Shards to read instead, a glob or gs:// glob.")
    kinds.define_integer("batch_size", constants.TRAIN_BATCH_SIZE, "Utterances.", lower_bound=1)
    kinds.define_integer("batches", 30, "Batches per round.", lower_bound=1)
    kinds.define_integer(
        "rounds", 3, "Number of rounds; the table shows their medians.", lower_bound=1
    )
    kinds.define_number(
        "tpu_step_ms",
        29.5,
        "Training step of the default network at a batch of 32 on one v5e core, as the compiler "
        "estimates it; other batches in proportion.",
        lower_bound=0.1,
    )
    command_line.define_logging_flag()


@dataclass(frozen=True)
class Reader:
    """One line of the table."""

    data: str  # where the shards are and how they are stored
    name: str
    batches: Callable[[], Iterator[Batch]]


@dataclass(frozen=True)
class Speed:
    """Speed of a reader."""

    batches: float  # per second
    utterances: float  # per second


# --- Data -----------------------------------------------------------------------------------------


def prepare(folder: str, name: str, *more: str) -> ShardSet:
    """Prepares the shards of --files_path below a folder."""
    tfrecords_file = f"{folder}/{name}/speech.tfrecords"
    command = [sys.executable, "prepare_libri.py", f"--files_path={FLAGS.files_path}"]
    command += [f"--tfrecords_file={tfrecords_file}", f"--partition_size={PARTITION_SIZE}", *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"--files_path={FLAGS.files_path} can't be prepared: {done.stderr.strip()}")
    return find_shards(f"{tfrecords_file}.*")


def in_emulator(shards: ShardSet, stack: ExitStack) -> ShardSet:
    """Copies the shards to gs:// of an emulator that ends with the stack."""
    from emulator import Emulator

    emulator = stack.enter_context(Emulator())
    os.environ.update(emulator.environment)
    for path in Path(shards.files[0]).parent.iterdir():
        emulator.put(f"data/{path.name}", path.read_bytes())
    return find_shards(f"gs://{emulator.bucket}/data/{os.path.basename(shards.pattern)}")


def repeated(shards: ShardSet) -> ShardSet:
    """Repeats the shards for one round."""
    needed = BUFFER + (FLAGS.batches + SLACK) * FLAGS.batch_size
    times = -(-needed // shards.index.records)
    index = replace(shards.index, shards=shards.index.shards * times)
    return ShardSet(shards.pattern, shards.files * times, index)


def sources(stack: ExitStack) -> dict[str, ShardSet]:
    """Returns the shards to read, by name."""
    if FLAGS.data:
        return {
            "in the bucket" if FLAGS.data.startswith("gs://") else "local": find_shards(FLAGS.data)
        }
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    padded = prepare(folder, "padded")
    return {
        "local, padded": padded,
        "local, --nopad": prepare(folder, "unpadded", "--nopad"),
        "emulator, padded": in_emulator(padded, stack),
    }


# --- Readers --------------------------------------------------------------------------------------


def training(shards: ShardSet, static: bool, buffer: int | None) -> Iterator[Batch]:
    batching = Batching(FLAGS.batch_size, static)
    input_fn = training_input_fn(TrainingInput(shards, batching, 1, shuffle_buffer_size=buffer))
    return iter(input_fn({"batch_size": FLAGS.batch_size}))


def plain(shards: ShardSet, serial: bool) -> Iterator[Batch]:
    """Reads with TensorFlow's own classes in sequence, without shuffling: the peer.

    Args:
        serial: disables tf.data's rewriting, which maps in parallel and prefetches even if the
            pipeline doesn't ask for it.
    """
    settings = shards.index.settings
    bins, frames = settings.front_end.bins, settings.max_sequence_length
    ints = tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
    specification = {
        "features": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
        "feature_length": tf.io.FixedLenFeature([], tf.int64),
        "label": ints,
        "label_length": tf.io.FixedLenFeature([], tf.int64),
    }

    def parse(record: tf.Tensor) -> Batch:
        example = tf.io.parse_single_example(record, specification)
        features = tf.transpose(tf.reshape(example["features"], [bins, -1]))  # [frames, bins]
        return (
            {"features": features, "feature_length": example["feature_length"]},
            {"label": example["label"], "label_length": example["label_length"]},
        )

    shapes = (
        {"features": [frames, bins], "feature_length": []},
        {"label": [settings.max_label_length], "label_length": []},
    )
    records = tf.data.TFRecordDataset(list(shards.files))
    batches = records.map(parse).padded_batch(FLAGS.batch_size, shapes, drop_remainder=True)
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = not serial
    options.experimental_optimization.inject_prefetch = not serial
    return iter(batches.with_options(options))


def readers(name: str, shards: ShardSet) -> list[Reader]:
    many = repeated(shards)
    return [
        Reader(name, PEER, lambda: plain(many, serial=True)),
        Reader(name, "plain loop", lambda: plain(many, serial=False)),
        Reader(name, "static, for a TPU", lambda: training(many, True, BUFFER)),
        Reader(name, "bucketed, for a CPU", lambda: training(many, False, BUFFER)),
    ]


def measure(reader: Reader) -> Speed:
    """Measures the speed after the first batch, which fills the buffers."""
    batches = reader.batches()
    next(batches)
    utterances = 0
    started = time.perf_counter()
    for _ in range(FLAGS.batches):
        features, _ = next(batches)
        utterances += features["feature_length"].shape[0]
    seconds = time.perf_counter() - started
    return Speed(FLAGS.batches / seconds, utterances / seconds)


def measure_all(all_readers: list[Reader]) -> list[Speed]:
    """Returns the median speed of each reader; the rounds take turns."""
    rounds: list[list[Speed]] = []
    for number in range(FLAGS.rounds):
        logging.info("Reading, round %d of %d", number + 1, FLAGS.rounds)
        rounds.append([measure(reader) for reader in all_readers])
    return [
        Speed(
            statistics.median(speed.batches for speed in speeds),
            statistics.median(speed.utterances for speed in speeds),
        )
        for speeds in zip(*rounds, strict=True)
    ]


# --- Training steps -------------------------------------------------------------------------------


def steps_per_second(name: str, shards: ShardSet) -> float:
    """Measures a network's forward pass, loss and gradient on this machine."""
    settings = shards.index.settings
    config = NetworkConfig.of(settings.front_end.bins, settings.alphabet.size, **NETWORKS[name])
    network = registry.build(config)

    @tf.function(reduce_retracing=True)
    def step(features: dict[str, tf.Tensor], labels: dict[str, tf.Tensor]) -> Any:
        with tf.GradientTape() as tape:
            dropout = Dropout(constants.DROPOUT, features["feature_length"][:2])
            logits, lengths = network(features["features"], features["feature_length"], dropout)
            label, label_length = labels["label"], labels["label_length"]
            loss = tf.reduce_mean(ctc_loss(logits, lengths, label, label_length))
        return tape.gradient(loss, network.trainable_variables)

    batches = training(repeated(shards), False, BUFFER)
    step(*next(batches))  # traces
    seconds: list[float] = []
    while len(seconds) < FLAGS.rounds and sum(seconds) < STEPS_SECONDS:
        batch = next(batches)
        started = time.perf_counter()
        step(*batch)
        seconds.append(time.perf_counter() - started)
    return 1 / statistics.median(seconds)


def table(all_readers: list[Reader], speeds: list[Speed], appetites: dict[str, float]) -> str:
    """Returns the lines of the table; the last columns are the trainings that a reader can feed."""
    heads = ["data", "reader", "batches/s", "utterances/s", "x serial"]
    heads += [f"x {name}" for name in appetites]
    lines = [heads]
    peer_speed = 0.0
    for reader, speed in zip(all_readers, speeds, strict=True):
        if reader.name == PEER:
            peer_speed = speed.batches
        line = [reader.data, reader.name, f"{speed.batches:.1f}", f"{speed.utterances:.0f}"]
        line.append(f"{speed.batches / peer_speed:.2f}")
        line += [f"{speed.batches / appetite:.2f}" for appetite in appetites.values()]
        lines.append(line)
    return tabulate(
        lines,
        tablefmt="plain",
        colglobalalign="right",
        colalign=("left", "left"),
        disable_numparse=True,
    )


def main() -> None:
    if bool(FLAGS.files_path) == bool(FLAGS.data):
        raise UserError("Give either --files_path, a folder of speech, or --data, shards.")
    with ExitStack() as stack:
        sets = sources(stack)
        all_readers = [reader for name, shards in sets.items() for reader in readers(name, shards)]
        speeds = measure_all(all_readers)
        first = next(iter(sets.values()))
        appetites = {}
        for name in NETWORKS:
            logging.info("Training steps of the %s network", name)
            appetites[f"CPU {name}"] = steps_per_second(name, first)
    appetites["TPU"] = 1000 / FLAGS.tpu_step_ms * 32 / FLAGS.batch_size
    print(f"Batches of {FLAGS.batch_size}; appetite in steps/s:")
    for name, appetite in appetites.items():
        assumed = f"  (assumed: --tpu_step_ms={FLAGS.tpu_step_ms:g})" if name == "TPU" else ""
        print(f"  {name:12} {appetite:8.2f}{assumed}")
    print(table(all_readers, speeds, appetites))


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
