"""Measures the real-time factor of recognition on one core, against pocketsphinx.

  python benchmarks/realtime.py --files_path=data/LibriSpeech/dev-clean
  python benchmarks/realtime.py --files_path=data/LibriSpeech/dev-clean --scorer=lm/kenlm.scorer \
      --model=model,export/model-float16.tflite

Every recogniser is a process with one thread on the same core; they take turns on the same
recordings, an utterance at a time, and wait for each other. A real-time factor is seconds of
computation per second of audio; medians of the rounds. Audio files are read, and models loaded and
warmed up, before the clock starts.

  network      samples -> log-probabilities, with the front end
  beam search  log-probabilities -> text
  all          both; "blocks of 20 ms" is fed as from a microphone (transcription/live.py), where
               both alternate; only for a network that carries its state (docs/streaming.md)
  pocketsphinx its own English model (en-us) and trigrams, with its defaults

A model directory also has rows for its TensorFlow Lite forms. Without --model the default network
and the streaming one have their default sizes and random weights: these don't change a network's
speed, but the beam search is slower the less certain the network is. The word error rate is of
lower-case texts, if there are transcripts and the weights are trained.
"""

import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# One thread each, which the processes inherit.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1")
os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1")

import constants

# isort: split
# After constants, which sets TensorFlow's environment. TensorFlow itself is imported where it is
# used: neither this process nor pocketsphinx's needs it.
import numpy as np
import numpy.typing as npt
from absl import flags, logging
from tabulate import tabulate

from speech.audio import find, reader
from speech.corpora.formats import registry
from speech.evaluation import error_rates
from speech.features.front_end import NONE, UTTERANCE, FrontEnd
from speech.flags import kinds
from speech.networks.config import (
    ModelConfig,
    NetworkConfig,
    TrainingConfig,
    config_path,
    save_config,
)
from speech.system import command_line
from utils import ENGLISH, UserError

FLAGS = flags.FLAGS

# Networks that are measured without --model, the default one and the streaming one, with the
# normalisation of their features: a stream can't wait for the utterance's end.
FRESH = {constants.NETWORK: UTTERANCE, "deep_speech_lstm": NONE}

BLOCK_SECONDS = 0.02

# How a recogniser gets a recording.
WHOLE, BLOCKS, POCKETSPHINX = "whole", "blocks of 20 ms", "pocketsphinx"

# First message of a process.
READY, NOT_EXACT = "ready", "not exact"

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Recogniser:
    """A recogniser to measure."""

    name: str
    kind: str  # WHOLE, BLOCKS or POCKETSPHINX
    path: str = ""  # of the model
    learnt: bool = True  # its weights are trained


@dataclass(frozen=True)
class Settings:
    """Settings of all processes."""

    core: int
    beam_width: int
    scorer: str | None


@dataclass(frozen=True)
class Recording:
    samples: Samples  # [samples] at constants.SAMPLE_RATE
    transcript: str | None


@dataclass(frozen=True)
class Hearing:
    """The result for one recording."""

    text: str
    seconds: float
    of_network: float | None  # seconds; None: not known separately


Hear = Callable[[Samples], Hearing]


def define_flags() -> None:
    flags.DEFINE_string(
        "files_path", None, "A corpus of any format, or a folder of audio.", required=True
    )
    kinds.define_paths("model", [], "Model directories, SavedModels or .tflite files.")
    flags.DEFINE_string("scorer", None, "Language model of build_lm.py. Default: none.")
    kinds.define_integer(
        "beam_width", constants.BEAM_WIDTH, "Beam width, see eval.py.", lower_bound=1
    )
    kinds.define_integer("utterances", 20, "Recordings taken, over the corpus.", lower_bound=1)
    kinds.define_integer(
        "rounds", 3, "Number of rounds; the table shows their medians.", lower_bound=1
    )
    kinds.define_integer("core", 0, "Processor core to use.", lower_bound=0)
    command_line.define_logging_flag()


# --- Recordings -----------------------------------------------------------------------------------


def recordings() -> list[Recording]:
    """Returns some recordings of --files_path, evenly spread."""
    found = named()
    chosen = np.linspace(0, len(found) - 1, min(FLAGS.utterances, len(found))).astype(int)
    return [Recording(read(path), text) for path, text in (found[each] for each in chosen)]


def named() -> list[tuple[str, str | None]]:
    """Returns audio file and transcript of each utterance."""
    try:
        utterances = registry.read([FLAGS.files_path], None, registry.Reading())
    except UserError:
        if not os.path.isdir(FLAGS.files_path):
            raise
        # A folder of audio alone.
        return [(path, None) for path in find.find_audio_files([FLAGS.files_path])]
    return [(each.audio_path, each.transcript) for each in utterances if each.audio_path]


def read(path: str) -> Samples:
    samples = reader.read_audio(path, constants.SAMPLE_RATE)
    return np.clip(np.rint(samples), -(2**15), 2**15 - 1).astype(np.int16)


# --- Models ---------------------------------------------------------------------------------------


def recognisers(folder: str) -> list[Recogniser]:
    """Returns the recognisers to measure; `folder` is for their files."""
    found = []
    for path in FLAGS.model:
        if os.path.exists(config_path(path)):
            found += forms(path, folder, os.path.basename(os.path.normpath(path)), learnt=True)
        else:
            found.append(Recogniser(path, WHOLE, path))
    if not FLAGS.model:
        for name, normalisation in FRESH.items():
            model_dir = os.path.join(folder, name)
            run_apart(write_fresh, name, FrontEnd(normalisation=normalisation), model_dir)
            found += forms(model_dir, folder, f"{name}, fresh values", learnt=False)
    return [*found, Recogniser(POCKETSPHINX, POCKETSPHINX)]


def forms(model_dir: str, folder: str, name: str, learnt: bool) -> list[Recogniser]:
    """Returns the forms of a model directory: whole, in blocks, and as TensorFlow Lite files."""
    logging.info("Converts %s", model_dir)
    lite = run_apart(write_lite, model_dir, os.path.join(folder, f"{len(os.listdir(folder))}"))
    return [
        Recogniser(f"{name}, float32", WHOLE, model_dir, learnt),
        Recogniser(f"{name}, float32, {BLOCKS}", BLOCKS, model_dir, learnt),
        *(Recogniser(f"{name}, {form}", WHOLE, path, learnt) for form, path in lite.items()),
    ]


def run_apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a new process, which may import TensorFlow."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def write_fresh(name: str, front_end: FrontEnd, model_dir: str) -> None:
    """Writes a model directory of a network at its default sizes with initial weights."""
    import tensorflow as tf

    from speech.networks import registry

    sizes = constants.NETWORK_SIZES[name]
    config = ModelConfig(
        front_end,
        ENGLISH,
        NetworkConfig.of(front_end.bins, ENGLISH.size, name, **sizes),
        TrainingConfig(),
    )
    values: dict[str, Any] = {"global_step": np.int64(0)}
    for variable in registry.build(config.network).variables:
        values[variable.name.partition(":")[0]] = variable.numpy()
    os.makedirs(model_dir)
    tf.raw_ops.SaveV2(
        prefix=os.path.join(model_dir, "model.ckpt-0"),
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=list(values.values()),
    )
    Path(model_dir, "checkpoint").write_text('model_checkpoint_path: "model.ckpt-0"\n')
    save_config(model_dir, config)


def write_lite(model_dir: str, beginning: str) -> dict[str, str]:
    """Writes TensorFlow Lite files; returns their paths, which begin with `beginning`, by form."""
    from speech.engines import checkpoints
    from speech.export import tflite
    from speech.export.acoustic_graph import restore
    from speech.export.description import Description
    from speech.networks.config import read_config

    checkpoint = checkpoints.find_checkpoint(model_dir, None)
    config = read_config(model_dir)
    graph = restore(config, checkpoint)
    description = Description(config, checkpoints.steps_of(checkpoint))
    written = {}
    for precision in (tflite.FLOAT32, tflite.INT8):
        path = f"{beginning}-{precision}.tflite"
        Path(path).write_bytes(tflite.convert(graph, description, precision))
        written[f"TensorFlow Lite {precision}"] = path
    return written


# --- In the processes -----------------------------------------------------------------------------


def work(
    recogniser: Recogniser,
    heard: Sequence[Samples],
    settings: Settings,
    pipe: "Connection[Any, Any]",
) -> None:
    """Writes READY, NOT_EXACT or an error, and then recognises all recordings on each request."""
    os.sched_setaffinity(0, {settings.core})
    try:
        if recogniser.kind == POCKETSPHINX:
            hear: Hear | None = by_pocketsphinx()
        else:
            hear = by_model(recogniser, settings)
    except UserError as error:
        pipe.send(str(error))
        return
    if hear is None:
        pipe.send(NOT_EXACT)
        return
    hear(heard[0])  # warms up
    pipe.send(READY)
    while pipe.recv():
        pipe.send([hear(each) for each in heard])


def by_model(recogniser: Recogniser, settings: Settings) -> Hear | None:
    from speech.decoding import scorer
    from speech.decoding.beam_search import BeamSettings
    from speech.export import loading
    from speech.transcription.transcriber import Transcriber

    model = loading.load(recogniser.path)
    language = scorer.read_scorer(settings.scorer) if settings.scorer else None
    if language:
        config = model.description.config
        phones = config.phonetic_alphabet
        scorer.check_alphabet(language, config.alphabet, recogniser.path, phones)
    transcriber = Transcriber(model, BeamSettings(settings.beam_width), language)
    if transcriber.sample_rate != constants.SAMPLE_RATE:
        raise UserError(
            f"{recogniser.path} hears {transcriber.sample_rate} Hz, and pocketsphinx "
            f"{constants.SAMPLE_RATE}: name another model."
        )
    return in_blocks(transcriber) if recogniser.kind == BLOCKS else at_once(transcriber)


def at_once(transcriber: Any) -> Hear:
    def hear(samples: Samples) -> Hearing:
        started = time.perf_counter()
        log_probs = transcriber.log_probs(samples)
        between = time.perf_counter()
        text = transcriber.decoder.decode(log_probs)
        return Hearing(text, time.perf_counter() - started, between - started)

    return hear


def in_blocks(transcriber: Any) -> Hear | None:
    """Returns None for a network that can't carry its state from block to block."""
    from speech.transcription.live import LiveTranscriber
    from speech.transcription.subtitles import join_words
    from speech.transcription.transcriber import TranscribedSegment

    if not LiveTranscriber(transcriber).exact:
        return None
    block = round(BLOCK_SECONDS * constants.SAMPLE_RATE)

    def hear(samples: Samples) -> Hearing:
        started = time.perf_counter()
        live = LiveTranscriber(transcriber)
        told: list[Any] = []
        for start in range(0, len(samples), block):
            told += live.feed(samples[start : start + block])
        told += live.finish()
        seconds = time.perf_counter() - started
        words = [each.transcript.words for each in told if isinstance(each, TranscribedSegment)]
        text = " ".join(join_words(each, transcriber.separator) for each in words)
        return Hearing(text, seconds, None)

    return hear


def by_pocketsphinx() -> Hear:
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=constants.SAMPLE_RATE, loglevel="FATAL")

    def hear(samples: Samples) -> Hearing:
        started = time.perf_counter()
        decoder.start_utt()
        decoder.process_raw(samples.tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        seconds = time.perf_counter() - started
        # A word's other pronunciations have numbers: "read(2)".
        text = re.sub(r"\([0-9]+\)", "", hypothesis.hypstr) if hypothesis else ""
        return Hearing(text, seconds, None)

    return hear


# --- Measurement ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Running:
    """A recogniser in its process."""

    recogniser: Recogniser
    pipe: "Connection[Any, Any]"

    def answer(self) -> Any:
        try:
            return self.pipe.recv()
        except EOFError:
            raise UserError(
                f"The process of {self.recogniser.name} ended unexpectedly: see above."
            ) from None


@contextmanager
def started(
    recogniser: Recogniser, heard: Sequence[Samples], settings: Settings
) -> Iterator[Running | None]:
    """Starts a recogniser; None if it can't be fed in this way.

    Raises:
        UserError: it can't be started.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(recogniser, heard, settings, theirs))
    process.start()
    theirs.close()  # so that its end is noticed
    try:
        running = Running(recogniser, ours)
        said = running.answer()
        if said not in (READY, NOT_EXACT):
            raise UserError(said)
        logging.info("%s: %s", recogniser.name, said)
        yield running if said == READY else None
    finally:
        process.kill()
        process.join()
        ours.close()


Rounds = list[list[Hearing]]  # [rounds] of [recordings]


def measure(
    found: Sequence[Recogniser], heard: Sequence[Samples], settings: Settings
) -> dict[Recogniser, Rounds]:
    """Returns the results of each recogniser in every round; they take turns."""
    rounds: dict[Recogniser, Rounds] = {}
    with ExitStack() as stack:
        entered = [stack.enter_context(started(each, heard, settings)) for each in found]
        running = [each for each in entered if each]
        for number in range(FLAGS.rounds):
            logging.info("Round %d of %d", number + 1, FLAGS.rounds)
            for each in running:
                each.pipe.send(True)
                rounds.setdefault(each.recogniser, []).append(each.answer())
    return rounds


def rate(heard: Rounds, audio_seconds: float) -> tuple[float, float | None]:
    """Returns medians of the real-time factors: of all, and of the network if it is known."""
    everything = [sum(each.seconds for each in hearings) for hearings in heard]
    network = [sum(each.of_network or 0 for each in hearings) for hearings in heard]
    apart = heard[0][0].of_network is not None
    return (
        statistics.median(everything) / audio_seconds,
        statistics.median(network) / audio_seconds if apart else None,
    )


def word_error_rate(spoken: Sequence[Recording], hearings: Sequence[Hearing]) -> str:
    if any(each.transcript is None for each in spoken):
        return ""
    references = [str(each.transcript).lower() for each in spoken]
    errors = map(error_rates.word_errors, references, (each.text.lower() for each in hearings))
    return f"{sum(errors, error_rates.Errors()).rate:.2%}"


def table(rounds: dict[Recogniser, Rounds], spoken: Sequence[Recording]) -> str:
    """Returns the lines of the table, the peer last."""
    audio_seconds = sum(len(each.samples) for each in spoken) / constants.SAMPLE_RATE
    peer = next(heard for each, heard in rounds.items() if each.kind == POCKETSPHINX)
    of_peer, _ = rate(peer, audio_seconds)
    lines = [["real-time factor of", "network", "beam search", "all", "speed", "WER"]]
    for recogniser, heard in rounds.items():
        everything, network = rate(heard, audio_seconds)
        parts = ["", ""] if network is None else [network, everything - network]
        lines.append(
            [
                recogniser.name,
                *(each if isinstance(each, str) else f"{each:.4f}" for each in parts),
                f"{everything:.4f}",
                f"{of_peer / everything:.2f}x",
                word_error_rate(spoken, heard[0]) if recogniser.learnt else "",
            ]
        )
    return tabulate(
        lines, tablefmt="plain", colglobalalign="right", colalign=("left",), disable_numparse=True
    )


def main() -> None:
    if FLAGS.core not in (cores := os.sched_getaffinity(0)):
        raise UserError(
            f"--core={FLAGS.core} is not available to this process: choose among {cores}."
        )
    spoken = recordings()
    heard = [each.samples for each in spoken]
    settings = Settings(FLAGS.core, FLAGS.beam_width, FLAGS.scorer)
    with tempfile.TemporaryDirectory() as folder:
        rounds = measure(recognisers(folder), heard, settings)
    seconds = sum(map(len, heard)) / constants.SAMPLE_RATE
    language = f"scorer {FLAGS.scorer}" if FLAGS.scorer else "no language model"
    print(
        f"{len(heard)} recordings, {seconds:.0f} s, one core, {FLAGS.rounds} rounds; "
        f"beam {FLAGS.beam_width}, {language}\n{table(rounds, spoken)}"
    )


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
