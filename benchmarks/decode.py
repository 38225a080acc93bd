"""Compares the speed and quality of beam search with other decoders on the same network output.

  python benchmarks/decode.py --model_dir=model --test_data='data/test.tfrecords.*' \
      --arpa=lm.arpa
  python benchmarks/decode.py --input_txt='data/LibriSpeech/train-clean-100/**/*.trans.txt'

The model processes the shards once; every decoder gets the same log-probabilities, and the same
5-gram if it can use one. All decoders run in this process and take turns; a speed is the median of
the rounds. The peers:

  TensorFlow  tf.nn.ctc_beam_search_decoder, all utterances as one padded batch. Its op decodes a
              batch in one thread. It has no language model and no pruning.
  pyctcdecode with its defaults: classes below -5 nats in an output are not tried, prefixes 10 nats
              below the best are dropped, and prefixes are pruned by their recent history.
  flashlight  flashlight-text, which has no defaults; these are torchaudio's: every class is tried,
              prefixes 50 nats below the best are dropped, and with the language model the lexicon's
              trie is smeared with its largest scores. But alignments are summed (log_add), as in
              the others. Without a language model it is the lexicon-free decoder; with one, that
              with a lexicon, which finds no word outside it.

"this" has its defaults too, which prune nothing but the beam. The weights have the same meaning for
all. To give the others a lexicon as flashlight has, --unknown_penalty practically forbids words
outside the vocabulary. Each decoder runs in one thread, except "this" on all cores; the column
"cores" is processor time per clock time, the number of cores that a decoder used; "log P" is what a
search without a language model maximises, the mean over the utterances.
"""

import glob
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# One thread each, for TensorFlow and for numpy; "all cores" of this project are its own threads.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1")
os.environ["TQDM_DISABLE"] = "1"  # read when kaldingram imports tqdm

import constants

# isort: split
# After constants, which sets TensorFlow's environment.
import numpy as np
import pyctcdecode
import tensorflow as tf
from absl import flags, logging
from flashlight.lib.text import decoder as flashlight
from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary
from kaldingram.train import NgramCounts
from tabulate import tabulate

import model
from speech.decoding.beam_search import THREADS, BeamSearchDecoder, BeamSettings
from speech.decoding.ngrams import UNKNOWN
from speech.decoding.scorer import SPACE, Scorer, read_scorer, write_scorer
from speech.decoding.types import LogProbs
from speech.engines import checkpoints, devices, errors
from speech.engines.engine import RunSettings
from speech.evaluation import error_rates, recognition
from speech.evaluation.recogniser import on_device
from speech.flags import kinds
from speech.language_model import text_files
from speech.networks.config import read_config
from speech.system import command_line, storage, tensorflow_import
from utils import Alphabet, UserError, lines_of

FLAGS = flags.FLAGS

ORDER = 5

# torchaudio's defaults; the second one excludes words outside the lexicon.
FLASHLIGHT_THRESHOLD = 50.0
FLASHLIGHT_UNKNOWN = -math.inf

# A log-probability that excludes a text; an infinite one becomes NaN in a difference.
NEVER = -1e4

THIS, ALL_CORES = "this, one core", f"this, {THREADS} cores"
TENSORFLOW, PYCTCDECODE, FLASHLIGHT = "TensorFlow", "pyctcdecode", "flashlight"

Decode = Callable[[], list[str]]


def define_flags() -> None:
    flags.DEFINE_string("model_dir", constants.MODEL_DIR, "Model directory of training.py.")
    flags.DEFINE_string("checkpoint", None, "Checkpoint, see eval.py. Default: the best.")
    flags.DEFINE_string("test_data", constants.TEST_DATA, "Test shards, a glob or gs:// glob.")
    flags.DEFINE_string("arpa", None, "Language model of words, an ARPA file.")
    flags.DEFINE_string(
        "input_txt",
        None,
        "Without --arpa: a file, folder or glob of text to estimate one from; of LibriSpeech's "
        "transcripts (*.trans.txt) without the ids.",
    )
    kinds.define_number("alpha", 0.9, "Weight of the language model.", lower_bound=0)
    kinds.define_number("beta", 1.2, "Bonus of each word in nats.")
    kinds.define_number(
        "unknown_penalty", 1000, "Nats that a word loses outside the vocabulary.", lower_bound=0
    )
    flags.DEFINE_list("beam_widths", ["100", "500"], "Numbers of prefixes that the beams keep.")
    kinds.define_integer(
        "rounds", 3, "Number of rounds; the table shows their medians.", lower_bound=1
    )
    command_line.define_logging_flag()


@dataclass(frozen=True)
class Speech:
    """Input of all decoders, and the transcripts."""

    alphabet: Alphabet
    log_probs: list[LogProbs]  # [outputs, classes] each
    references: list[str]


@dataclass(frozen=True)
class Language:
    """The language model in the form that each decoder takes."""

    arpa: str
    scorer: Scorer
    words: list[str]


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str
    speed: float  # utterances per second
    wer: float
    log_prob: float  # natural log of the texts' probabilities, over all alignments: the mean
    cores: float  # kept busy


# --- Data -----------------------------------------------------------------------------------------


def recognised() -> Speech:
    """Returns the network's output for --test_data."""
    config = read_config(FLAGS.model_dir)
    shards = recognition.find_set(FLAGS.test_data, config, FLAGS.model_dir)
    checkpoint = checkpoints.find_checkpoint(FLAGS.model_dir, FLAGS.checkpoint)
    run, here = RunSettings(FLAGS.model_dir, constants.EVAL_BATCH_SIZE), devices.DeviceSettings()
    recogniser = on_device(here, config, checkpoint, run, model.model_fn_builder)
    everything = recogniser.outputs_of(shards)
    print(f"{checkpoint}, {len(everything)} utterances of {FLAGS.test_data}")
    return Speech(
        config.alphabet,
        [each.log_probs for each in everything],
        [each.reference for each in everything],
    )


def language_model(alphabet: Alphabet, folder: str) -> Language:
    """Returns the ARPA file of the flags, or one estimated in `folder`, and a scorer of it."""
    if bool(FLAGS.arpa) == bool(FLAGS.input_txt):
        raise UserError("Give either --arpa, a language model, or --input_txt, text for one.")
    arpa = FLAGS.arpa or estimated(FLAGS.input_txt, folder)
    words = [word for word in unigrams(arpa) if set(word) <= set(alphabet.characters)]
    scorer = os.path.join(folder, "scorer")
    write_scorer(scorer, arpa, words, alphabet, FLAGS.alpha, FLAGS.beta, characters=False)
    return Language(arpa, read_scorer(scorer), words)


def estimated(pattern: str, folder: str) -> str:
    """Estimates a language model from the text; returns the path of its ARPA file."""
    counts, sentences = NgramCounts(ORDER), 0
    paths = sorted(glob.glob(storage.resolve_pattern(pattern), recursive=True))
    for text in text_files.find_text(paths or [pattern], "--input_txt"):
        for block in text_files.read_blocks(text):
            for line in lines_of(block.lower()):
                counts.add_raw_counts_from_line(line)
                sentences += 1
    # As if it had occurred once, or else the model gives it no probability.
    counts.add_count((), UNKNOWN, UNKNOWN, 1)
    counts.cal_discounting_constants()
    counts.cal_f()
    counts.cal_bow()
    arpa = os.path.join(folder, "lm.arpa")
    with open(arpa, "w", encoding="utf-8") as file:
        counts.print_as_arpa(file)
    print(f"A {ORDER}-gram of {sentences} sentences")
    return arpa


def unigrams(arpa: str) -> list[str]:
    """Returns the words of an ARPA file, without its symbols for sentences and unknown words."""
    with open(arpa, encoding="utf-8") as lines:
        for line in lines:
            if line.strip() == "\\1-grams:":
                break
        words = []
        for line in lines:
            if not line.strip():
                break
            words.append(line.split()[1])
    return [word for word in words if not word.startswith("<")]


# --- Decoders -------------------------------------------------------------------------------------


def this(speech: Speech, width: int, language: Language | None) -> dict[str, Decode]:
    scorer = language.scorer if language else None
    settings = BeamSettings(width, unknown_penalty=FLAGS.unknown_penalty)
    decoder = BeamSearchDecoder(speech.alphabet, settings, scorer)
    return {
        THIS: lambda: [decoder.decode(each) for each in speech.log_probs],
        ALL_CORES: lambda: decoder.decode_batch(speech.log_probs),
    }


def tensorflow(speech: Speech, width: int) -> Decode:
    lengths = np.array([len(each) for each in speech.log_probs], np.int32)
    batch = np.zeros([lengths.max(), len(lengths), speech.alphabet.size], np.float32)
    for at, log_probs in enumerate(speech.log_probs):
        batch[: len(log_probs), at] = log_probs

    def decode() -> list[str]:
        decoded, _ = tf.nn.ctc_beam_search_decoder(batch, lengths, beam_width=width, top_paths=1)
        labels = tf.sparse.to_dense(decoded[0], default_value=speech.alphabet.blank)
        return [speech.alphabet.decode(row) for row in labels.numpy().tolist()]

    return decode


def pyctcdecode_decoder(speech: Speech, width: int, language: Language | None) -> Decode:
    # It multiplies KenLM's logarithms, which are to base 10, by alpha and ln 10 and then adds beta:
    # both are ours. The penalty comes before that, to base 10 as well.
    offset = -FLAGS.unknown_penalty / max(FLAGS.alpha * math.log(10), 1e-3)
    # Typed as Any, since its annotations require another numpy.
    decoder: Any = pyctcdecode.build_ctcdecoder(
        [*speech.alphabet.characters, ""],
        language.arpa if language else None,
        language.words if language else None,
        alpha=FLAGS.alpha,
        beta=FLAGS.beta,
        unk_score_offset=offset,
    )
    return lambda: [decoder.decode(each, beam_width=width) for each in speech.log_probs]


def flashlight_decoder(speech: Speech, width: int, language: Language | None) -> Decode:
    space, blank = speech.alphabet.characters.index(SPACE), speech.alphabet.blank
    pruning = width, speech.alphabet.size, FLASHLIGHT_THRESHOLD
    ctc = flashlight.CriterionType.CTC
    if language is None:
        free = flashlight.LexiconFreeDecoderOptions(*pruning, 0.0, 0.0, True, ctc)
        decoder = flashlight.LexiconFreeDecoder(free, flashlight.ZeroLM(), space, blank, [])
        return lambda: [flashlight_text(decoder, each, speech) for each in speech.log_probs]
    # Its KenLM gives logarithms to base 10 as they are, so that the weight has to be ln 10 times
    # ours; a word's score is in nats.
    weight = FLAGS.alpha * math.log(10)
    options = flashlight.LexiconDecoderOptions(
        *pruning, weight, FLAGS.beta, FLASHLIGHT_UNKNOWN, 0.0, True, ctc
    )
    numbers = Dictionary([*language.words, UNKNOWN])
    kenlm = KenLM(language.arpa, numbers)
    trie = lexicon(speech.alphabet, language, kenlm, numbers)
    unknown = numbers.get_index(UNKNOWN)
    decoder = flashlight.LexiconDecoder(options, trie, kenlm, space, blank, unknown, [], False)
    # Every word of the lexicon ends in a space, as it requires; the last one too.
    end = np.full([1, speech.alphabet.size], NEVER, np.float32)
    end[0, space] = 0.0
    ended = [np.concatenate([each, end]) for each in speech.log_probs]
    return lambda: [flashlight_text(decoder, each, speech) for each in ended]


def lexicon(alphabet: Alphabet, language: Language, kenlm: Any, numbers: Any) -> Any:
    """Returns the trie of the words; each node has the largest score of the words below it."""
    trie = flashlight.Trie(alphabet.size, alphabet.characters.index(SPACE))
    start = kenlm.start(False)
    for word in language.words:
        number = numbers.get_index(word)
        _, score = kenlm.score(start, number)
        trie.insert(alphabet.encode(word + SPACE), number, score)
    trie.smear(flashlight.SmearingMode.MAX)
    return trie


def flashlight_text(decoder: Any, log_probs: LogProbs, speech: Speech) -> str:
    """Returns the text of the classes of all outputs."""
    best = decoder.decode(log_probs.ctypes.data, *log_probs.shape)[0]
    # It adds a space before the first output and after the last one.
    path = best.tokens[1:-1]
    changes = [b for a, b in zip([-1, *path], path, strict=False) if a != b]
    return speech.alphabet.decode(changes).strip()


def decoders(speech: Speech, width: int, language: Language | None) -> dict[str, Decode]:
    """Returns the decoders by name; each decodes all utterances."""
    found = this(speech, width, language)
    if language is None:
        found[TENSORFLOW] = tensorflow(speech, width)
    found[PYCTCDECODE] = pyctcdecode_decoder(speech, width, language)
    found[FLASHLIGHT] = flashlight_decoder(speech, width, language)
    return found


# --- Measurement ----------------------------------------------------------------------------------


def measure(speech: Speech, found: dict[str, Decode]) -> list[Row]:
    """Returns the medians of the rounds, in which the decoders take turns."""
    found[THIS]()  # compiles, or loads what was compiled
    seconds: dict[str, list[float]] = {name: [] for name in found}
    busy: dict[str, list[float]] = {name: [] for name in found}
    texts: dict[str, list[str]] = {}
    for number in range(FLAGS.rounds):
        logging.info("Round %d of %d", number + 1, FLAGS.rounds)
        for name, decode in found.items():
            started, worked = time.perf_counter(), time.process_time()
            texts[name] = decode()
            seconds[name].append(time.perf_counter() - started)
            busy[name].append((time.process_time() - worked) / seconds[name][-1])
    return [
        Row(
            name,
            len(speech.references) / statistics.median(seconds[name]),
            word_error_rate(speech.references, texts[name]),
            mean_log_prob(speech, texts[name]),
            statistics.median(busy[name]),
        )
        for name in found
    ]


def word_error_rate(references: Sequence[str], texts: Sequence[str]) -> float:
    errors = map(error_rates.word_errors, references, texts)
    return sum(errors, error_rates.Errors()).rate


def mean_log_prob(speech: Speech, texts: Sequence[str]) -> float:
    """Returns the value that a search without a language model maximises."""
    losses = []
    for log_probs, text in zip(speech.log_probs, texts, strict=True):
        labels = tf.RaggedTensor.from_tensor(tf.constant([speech.alphabet.encode(text)], tf.int32))
        frames, time_major = [len(log_probs)], log_probs[:, None]  # [outputs, 1, classes]
        loss = tf.nn.ctc_loss(labels.to_sparse(), time_major, None, frames, blank_index=-1)
        losses.append(float(loss[0]))
    return -statistics.mean(losses)


def table(rows: list[Row]) -> str:
    """Returns the lines of a table; each row's speed is relative to that of each peer."""
    speed = {row.name: row.speed for row in rows}
    compared = [name for name in (TENSORFLOW, PYCTCDECODE, FLASHLIGHT, THIS) if name in speed]
    heads = ["", "utterances/s", *(f"x {name}" for name in compared), "WER", "log P", "cores"]
    lines = [heads]
    for row in rows:
        ratios = [f"{row.speed / speed[name]:.2f}" for name in compared]
        quality = [f"{row.wer:.2%}", f"{row.log_prob:.2f}", f"{row.cores:.2f}"]
        lines.append([row.name, f"{row.speed:.2f}", *ratios, *quality])
    return tabulate(
        lines, tablefmt="plain", colglobalalign="right", colalign=("left",), disable_numparse=True
    )


def main() -> None:
    tensorflow_import.quieten(FLAGS.logging)
    widths = [int(width) for width in FLAGS.beam_widths]
    with errors.explain_errors(FLAGS.model_dir):
        speech = recognised()
    with tempfile.TemporaryDirectory() as folder:
        language = language_model(speech.alphabet, folder)
        for width in widths:
            for known in (None, language):
                kind = f"{ORDER}-gram, alpha {FLAGS.alpha}, beta {FLAGS.beta}" if known else "no LM"
                rows = measure(speech, decoders(speech, width, known))
                print(f"\nBeam {width}, {kind}, {FLAGS.rounds} rounds\n{table(rows)}", flush=True)


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
