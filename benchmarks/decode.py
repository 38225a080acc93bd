"""How fast is beam search, and how good, against other decoders on the same network's output?

  python benchmarks/decode.py --model_dir=model --test_data='data/test.tfrecords.*' \\
      --arpa=lm.arpa
  python benchmarks/decode.py --input_txt='data/LibriSpeech/train-clean-100/**/*.trans.txt'

The model recognises the shards once; every decoder then gets the same log-probabilities, and the
same 5-gram where it takes one. All decoders run in this process and take turns; a speed is the
median of the rounds. The peers:

  TensorFlow  tf.nn.ctc_beam_search_decoder, all utterances as one padded batch. Its op goes through
              a batch in one thread. It has no language model and no pruning.
  pyctcdecode with its defaults: a frame's labels below -5 nats are not tried, prefixes 10 nats
              behind the best fall out, and prefixes are pruned by their recent history.
  flashlight  flashlight-text, which has no defaults; these are torchaudio's: every label is tried,
              prefixes 50 nats behind the best fall out, and with the language model the lexicon's
              trie is smeared with its largest scores. But alignments are summed (log_add), as the
              others do. Without a language model it is the lexicon-free decoder; with one, that of
              a lexicon, which finds no word outside of it.

"this" has its defaults too, by which nothing is pruned but the beam. The weights mean the same to
all, and so that the others have a lexicon like flashlight's, --unknown_penalty all but forbids them
words outside the vocabulary. Each decoder runs in one thread but "this" on all cores; the column
"cores" is the processor's time over the clock's: how many a decoder kept busy; "log P" is what a
search without a language model looks for, the mean over the utterances.
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
# Behind constants, which sets TensorFlow's environment.
import numpy as np
import pyctcdecode
import tensorflow as tf
from absl import flags, logging
from flashlight.lib.text import decoder as flashlight
from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary
from kaldingram.train import NgramCounts

import model
from speech.decoding.beam_search import THREADS, BeamSearchDecoder, BeamSettings, LogProbs
from speech.decoding.ngrams import UNKNOWN
from speech.decoding.scorer import SPACE, Scorer, read_scorer, write_scorer
from speech.engines import checkpoints, tpu_estimator
from speech.evaluation import error_rates, recognition
from speech.networks.config import read_config
from speech.system import command_line, storage
from utils import Alphabet, UserError, lines_of

FLAGS = flags.FLAGS

ORDER = 5

TRANSCRIPTS = ".trans.txt"

# torchaudio's defaults; the second one leaves words outside the lexicon out.
FLASHLIGHT_THRESHOLD = 50.0
FLASHLIGHT_UNKNOWN = -math.inf

# A log-probability that no text survives; an infinite one becomes NaN in a difference.
NEVER = -1e4

THIS, ALL_CORES = "this, one core", f"this, {THREADS} cores"
TENSORFLOW, PYCTCDECODE, FLASHLIGHT = "TensorFlow", "pyctcdecode", "flashlight"

Decode = Callable[[], list[str]]


def define_flags() -> None:
    flags.DEFINE_string("model_dir", constants.MODEL_DIR, "The model that training.py made.")
    flags.DEFINE_string("checkpoint", None, "As of eval.py; default: the best.")
    flags.DEFINE_string("test_data", constants.TEST_DATA, "Test shards, a glob or gs:// glob.")
    flags.DEFINE_string("arpa", None, "A language model of words, an ARPA file.")
    flags.DEFINE_string(
        "input_txt",
        None,
        "Without --arpa: a glob of text to estimate one from, a sentence a line; of LibriSpeech's "
        "transcripts (*.trans.txt) without the ids.",
    )
    command_line.define_number("alpha", 0.9, "Weight of the language model.", lower_bound=0)
    command_line.define_number("beta", 1.2, "Nats that each word gains.")
    command_line.define_number(
        "unknown_penalty", 1000, "Nats that a word loses outside the vocabulary.", lower_bound=0
    )
    flags.DEFINE_list("beam_widths", ["100", "500"], "Prefixes that the beams keep.")
    command_line.define_integer("rounds", 3, "Of which the median counts.", lower_bound=1)
    command_line.define_logging_flag()


@dataclass(frozen=True)
class Speech:
    """What all decoders are given, and what was said."""

    alphabet: Alphabet
    log_probs: list[LogProbs]  # [frames, labels] each
    references: list[str]


@dataclass(frozen=True)
class Language:
    """The language model as each decoder takes it."""

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
    """The network's output for --test_data."""
    config = read_config(FLAGS.model_dir)
    shards = recognition.find_set(FLAGS.test_data, config, FLAGS.model_dir)
    checkpoint = checkpoints.find_checkpoint(FLAGS.model_dir, FLAGS.checkpoint)
    network = model.model_fn_builder(config, FLAGS.model_dir)
    size, here = constants.EVAL_BATCH_SIZE, tpu_estimator.TpuSettings(False, "", None, None, 1)
    recogniser = recognition.on_device(network, config, checkpoint, FLAGS.model_dir, size, here)
    everything = recogniser.outputs_of(shards)
    print(f"{checkpoint}, {len(everything)} utterances of {FLAGS.test_data}")
    return Speech(
        config.alphabet,
        [each.log_probs for each in everything],
        [each.reference for each in everything],
    )


def language_model(alphabet: Alphabet, folder: str) -> Language:
    """The ARPA file that the flags ask for, or one made in `folder`, and a scorer of it."""
    if bool(FLAGS.arpa) == bool(FLAGS.input_txt):
        raise UserError("Give either --arpa, a language model, or --input_txt, text for one.")
    arpa = FLAGS.arpa or estimated(FLAGS.input_txt, folder)
    words = [word for word in unigrams(arpa) if set(word) <= set(alphabet.characters)]
    scorer = os.path.join(folder, "scorer")
    write_scorer(scorer, arpa, words, alphabet, FLAGS.alpha, FLAGS.beta, characters=False)
    return Language(arpa, read_scorer(scorer), words)


def estimated(pattern: str, folder: str) -> str:
    """Path of an ARPA file of the text."""
    counts, sentences = NgramCounts(ORDER), 0
    for path in sorted(glob.glob(storage.meant(pattern), recursive=True)):
        for line in lines_of(Path(path).read_text(encoding="utf-8").lower()):
            words = line.split()[path.endswith(TRANSCRIPTS) :]
            counts.add_raw_counts_from_line(" ".join(words))
            sentences += 1
    if not sentences:
        raise UserError(f"--input_txt={pattern} finds no text.")
    # As if it had been seen once, or the model would give it no probability at all.
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
    """The words of an ARPA file, without its signs for sentences and unknown words."""
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
    # Typed as what it is not, since its annotations want another numpy.
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
    # Every word of the lexicon ends in a space, as it wants them to; the last one as well.
    end = np.full([1, speech.alphabet.size], NEVER, np.float32)
    end[0, space] = 0.0
    ended = [np.concatenate([each, end]) for each in speech.log_probs]
    return lambda: [flashlight_text(decoder, each, speech) for each in ended]


def lexicon(alphabet: Alphabet, language: Language, kenlm: Any, numbers: Any) -> Any:
    """The words' letters and a space, each node with the largest score of the words below it."""
    trie = flashlight.Trie(alphabet.size, alphabet.characters.index(SPACE))
    start = kenlm.start(False)
    for word in language.words:
        number = numbers.get_index(word)
        _, score = kenlm.score(start, number)
        trie.insert(alphabet.encode(word + SPACE), number, score)
    trie.smear(flashlight.SmearingMode.MAX)
    return trie


def flashlight_text(decoder: Any, log_probs: LogProbs, speech: Speech) -> str:
    """The text of its labels, which come frame by frame."""
    best = decoder.decode(log_probs.ctypes.data, *log_probs.shape)[0]
    # Before the first frame and behind the last it has a space of its own.
    path = best.tokens[1:-1]
    changes = [b for a, b in zip([-1, *path], path, strict=False) if a != b]
    return speech.alphabet.decode(changes).strip()


def decoders(speech: Speech, width: int, language: Language | None) -> dict[str, Decode]:
    """Name -> what decodes all utterances."""
    found = this(speech, width, language)
    if language is None:
        found[TENSORFLOW] = tensorflow(speech, width)
    found[PYCTCDECODE] = pyctcdecode_decoder(speech, width, language)
    found[FLASHLIGHT] = flashlight_decoder(speech, width, language)
    return found


# --- Measurement ----------------------------------------------------------------------------------


def measure(speech: Speech, found: dict[str, Decode]) -> list[Row]:
    """Medians of the rounds, in which the decoders take turns."""
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
    """What a search without a language model is to find the largest of."""
    losses = []
    for log_probs, text in zip(speech.log_probs, texts, strict=True):
        labels = tf.RaggedTensor.from_tensor(tf.constant([speech.alphabet.encode(text)], tf.int32))
        frames, time_major = [len(log_probs)], log_probs[:, None]  # [frames, 1, labels]
        loss = tf.nn.ctc_loss(labels.to_sparse(), time_major, None, frames, blank_index=-1)
        losses.append(float(loss[0]))
    return -statistics.mean(losses)


def table(rows: list[Row]) -> str:
    """The lines of a table; each row's speed over that of each peer."""
    speed = {row.name: row.speed for row in rows}
    compared = [name for name in (TENSORFLOW, PYCTCDECODE, FLASHLIGHT, THIS) if name in speed]
    heads = ["", "utterances/s", *(f"x {name}" for name in compared), "WER", "log P", "cores"]
    lines = [heads]
    for row in rows:
        ratios = [f"{row.speed / speed[name]:.2f}" for name in compared]
        quality = [f"{row.wer:.2%}", f"{row.log_prob:.2f}", f"{row.cores:.2f}"]
        lines.append([row.name, f"{row.speed:.2f}", *ratios, *quality])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def main() -> None:
    tpu_estimator.quieten(FLAGS.logging)
    widths = [int(width) for width in FLAGS.beam_widths]
    with tpu_estimator.explained_errors(FLAGS.model_dir):
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
