"""Measures the speed of preparation, against the original recipe and the lower bound.

  python benchmarks/prepare.py --files_path=data/LibriSpeech/dev-clean

All rows are measured in turn, in every round of one run, on the same recordings, on one core except
the last ones. The figures of the last rows include the start of the worker processes.

  original  librosa.load, python_speech_features.fbank, padding frame by frame with np.concatenate,
            and tf.train.Example: the recipe of the project this one began from
            (github.com/mangushev/deep_speech, prepare_libri.py)
  floor     decoding, the Fourier transform (in float32) and writing alone: no program that writes
            such shards can be faster
"""

import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

# One core means one thread, also in numpy's matrix products.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import scipy.fft
import soundfile
from absl import flags, logging

import constants
from speech.corpora.formats.librispeech import find_utterances
from speech.corpora.utterance import Utterance
from speech.features.front_end import CHUNK_FRAMES, FrontEnd
from speech.flags import kinds
from speech.preparation.utterance import prepare_utterance
from speech.preparation.write_shards import prepare
from speech.shards.index import ShardSettings
from speech.system import command_line
from utils import ENGLISH

FLAGS = flags.FLAGS
command_line.define_logging_flag()
kinds.define_paths("files_path", None, "Folders in LibriSpeech's layout.", required=True)
kinds.define_integer("utterances", 150, "Recordings, spread over the corpus.", lower_bound=1)
kinds.define_integer("copies", 8, "Times that all but the original go through them.", lower_bound=1)
flags.DEFINE_string(
    "scratch",
    None,
    "Where shards are written. /dev/shm leaves the disk out. Default: the system's.",
)
kinds.define_integer("rounds", 5, "Rounds; the table shows their medians.", lower_bound=1)

SETTINGS = ShardSettings(
    front_end=FrontEnd(),
    alphabet=ENGLISH,
    partition_size=constants.PARTITION_SIZE,
    max_sequence_length=constants.MAX_SEQUENCE_LENGTH,
    max_label_length=constants.MAX_LABEL_LENGTH,
    padded=True,
    stride=1,
)


def original(utterances: list[Utterance], folder: str) -> None:
    """Runs the original recipe, one utterance after the other."""
    # Imported here, because worker processes import this file.
    import tensorflow as tf

    with tf.io.TFRecordWriter(os.path.join(folder, "original")) as writer:
        for utterance in utterances:
            writer.write(original_record(utterance))


def original_record(utterance: Utterance) -> bytes:
    import librosa
    import python_speech_features
    import tensorflow as tf

    def int64_feature(numbers: Iterable[int]) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=numbers))

    samples, rate = librosa.load(str(utterance.audio_path), sr=constants.SAMPLE_RATE)
    energies, _ = python_speech_features.fbank(
        samples,
        rate,
        winlen=constants.WINDOW_SECONDS,
        winstep=constants.STEP_SECONDS,
        nfilt=constants.MEL_FILTERS,
        nfft=constants.FFT_SIZE,
        lowfreq=constants.LOWEST_FREQUENCY,
        highfreq=constants.HIGHEST_FREQUENCY,
        winfunc=np.hamming,
    )
    features = np.log(energies)
    features = (features - features.mean(axis=0)) / features.std(axis=0)  # [frames, bins]
    padded = features
    while len(padded) < SETTINGS.max_sequence_length:
        padded = np.concatenate((padded, np.zeros((1, constants.MEL_FILTERS))), axis=0)
    frequency_major = np.float32(padded.T).flatten()  # [bins x frames]
    label = ENGLISH.encode(str(utterance.transcript), utterance.utterance_id)
    padded_label = np.concatenate((label, np.zeros(SETTINGS.max_label_length - len(label), int)))
    values = {
        "features": tf.train.Feature(float_list=tf.train.FloatList(value=frequency_major)),
        "feature_length": int64_feature([len(features)]),
        "label": int64_feature(padded_label),
        "label_length": int64_feature([len(label)]),
    }
    serialised: bytes = tf.train.Example(
        features=tf.train.Features(feature=values)
    ).SerializeToString()
    return serialised


def floor(utterances: list[Utterance], folder: str) -> None:
    """Decodes, transforms and writes, and nothing else."""
    front_end = SETTINGS.front_end
    record = bytes(4 * front_end.bins * SETTINGS.max_sequence_length)
    frames = np.zeros((CHUNK_FRAMES, front_end.fft_size), np.float32)
    with open(os.path.join(folder, "floor"), "wb") as file:
        for utterance in utterances:
            samples, _ = soundfile.read(utterance.audio_path, dtype="int16")
            for _ in range(0, front_end.frames(len(samples)), CHUNK_FRAMES):
                scipy.fft.rfft(frames)
            file.write(record)
        file.flush()
        os.fsync(file.fileno())  # as for a shard, before it gets its name


def shards(workers: int) -> Callable[[list[Utterance], str], None]:
    """Runs this project's engine, as prepare_libri.py does."""

    def write(utterances: list[Utterance], folder: str) -> None:
        index = prepare(utterances, os.path.join(folder, "t"), SETTINGS, 0, workers, strict=True)
        assert index.records == len(utterances)

    return write


def rate(
    recipe: Callable[[list[Utterance], str], None], utterances: list[Utterance], cores: set[int]
) -> float:
    """Returns utterances per second."""
    os.sched_setaffinity(0, cores)
    quiet = contextlib.redirect_stderr(io.StringIO())  # no progress bars in the table
    with tempfile.TemporaryDirectory(dir=FLAGS.scratch) as folder, quiet:
        start = time.perf_counter()
        recipe(utterances, folder)
        return len(utterances) / (time.perf_counter() - start)


def chosen_utterances() -> list[Utterance]:
    found = find_utterances(FLAGS.files_path)
    whole = [each for each in found if not prepare_utterance(each, SETTINGS).reason]
    return whole[:: max(1, len(whole) // FLAGS.utterances)][: FLAGS.utterances]


def main() -> None:
    logging.set_verbosity(logging.ERROR)
    once = chosen_utterances()
    often = [
        replace(each, utterance_id=f"{each.utterance_id}-{copy}")
        for copy in range(FLAGS.copies)
        for each in once
    ]
    seconds = sum(soundfile.info(each.audio_path).duration for each in once)
    cores = os.sched_getaffinity(0)
    one = {min(cores)}
    rows = {
        "original recipe, one core": (original, once, one),
        "floor, one core": (floor, often, one),
        "shards, one core": (shards(1), often, one),
        "shards, 2 workers": (shards(2), often, cores),
    }
    rates: dict[str, list[float]] = {name: [] for name in rows}
    rate(original, once[:1], cores)  # imports what it needs
    for _ in range(FLAGS.rounds):
        for name, (recipe, spoken, allowed) in rows.items():
            rates[name].append(rate(recipe, spoken, allowed))
    median = {name: statistics.median(each) for name, each in rates.items()}
    originally, lowest, alone, _ = median.values()
    print(
        f"{len(once)} recordings of {seconds / len(once):.1f} s on average, {FLAGS.rounds} rounds, "
        f"{len(cores)} cores\n"
        f"{'':<28}{'utterances/s':>13}{'original':>10}{'floor':>8}{'one core':>10}"
    )
    for name, value in median.items():
        ratios = f"{value / originally:>9.2f}x{value / lowest:>7.2f}x{value / alone:>9.2f}x"
        print(f"{name:<28}{value:>13.1f}{ratios}")


if __name__ == "__main__":
    command_line.run(main)
