"""Text -> language model: vocabulary, KenLM's binary, and the scorer that decoding takes.

  python build_lm.py --input_txt=books.txt.gz,data/LibriSpeech/train-clean-100 \\
      --exclude_txt=data/LibriSpeech/test-clean --output_dir=lm
  python build_lm.py --input_arpa=3-gram.pruned.1e-7.arpa.gz --output_dir=lm

Flags and defaults are those of DeepSpeech's generate_lm.py and generate_scorer_package. KenLM's
programs are compiled by `make kenlm`; docs/language_model.md tells more.
"""

import os
import signal
import sys
from typing import Any

from absl import flags, logging

import constants
import utils
from speech.decoding import scorer
from speech.flags import transcripts as transcript_flags
from speech.language_model import builder, kenlm_programs, text_files
from speech.language_model.kenlm_programs import Estimation, Packing
from speech.system import command_line, storage

FLAGS = flags.FLAGS

# Flags that say how a model is estimated: one that is there already has no use for them.
FLAGS_OF_ESTIMATION = (
    "input_txt",
    "exclude_txt",
    "arpa_order",
    "max_arpa_memory",
    "arpa_prune",
    "discount_fallback",
    "language",
    "unicode_form",
    "strip_diacritics",
    "spell_numbers",
)


def define_flags() -> None:
    command_line.define_paths(
        "input_txt",
        [],
        "Files of text, plain or gzipped, one sentence a line; also LibriSpeech's *.trans.txt, or "
        "folders of them, and the tables of other corpora (.csv, .tsv, .json).",
    )
    command_line.define_paths(
        "exclude_txt",
        [],
        "The same of transcripts that the model mustn't know, such as the test set's: a line that "
        "shares six words in a row with one, or is a whole shorter one, is left out.",
    )
    flags.DEFINE_string(
        "input_arpa",
        None,
        "Take this n-gram model, an ARPA file, plain or gzipped, instead of text.",
    )
    flags.DEFINE_string("output_dir", constants.LM_DIR, "Local folder of all that is made.")
    command_line.define_integer(
        "top_k", constants.LM_TOP_K, "Most frequent words that the model knows."
    )
    flags.DEFINE_bool(
        "characters",
        False,
        "Make a model of characters instead of words, for a language without spaces.",
    )
    flags.DEFINE_string(
        "alphabet",
        None,
        "File with one character a line, or utf-8, as the shards' one. Default: --language's, or "
        "a-z, space and apostrophe.",
    )
    transcript_flags.define_transcript_flags()
    define_kenlm_flags()
    flags.DEFINE_string(
        "package",
        None,
        f"The scorer's file; empty: none. Default: {constants.SCORER_FILE} in --output_dir.",
    )
    command_line.define_number(
        "default_alpha", constants.LM_ALPHA, "The scorer's weight of the model."
    )
    command_line.define_number(
        "default_beta", constants.LM_BETA, "The scorer's reward of each word."
    )
    command_line.define_logging_flag()


def define_kenlm_flags() -> None:
    """How KenLM estimates and packs the model."""
    flags.DEFINE_string(
        "kenlm_bins",
        None,
        "Folder with KenLM's lmplz and build_binary. Default: where make kenlm puts them, else "
        "the PATH.",
    )
    command_line.define_integer(
        "arpa_order",
        constants.ARPA_ORDER,
        "Words of the longest n-grams.",
        lower_bound=2,
        upper_bound=constants.HIGHEST_ARPA_ORDER,
    )
    flags.DEFINE_string(
        "max_arpa_memory", constants.MAX_ARPA_MEMORY, "Most memory of lmplz, as in 85% or 8G."
    )
    flags.DEFINE_string(
        "arpa_prune",
        constants.ARPA_PRUNE,
        "Of each order, n-grams that occur no more often than this are left out; the last number "
        "is also of higher orders.",
    )
    flags.DEFINE_bool(
        "discount_fallback",
        False,
        "Take fixed discounts where the text is too small or too regular to find them.",
    )
    command_line.define_choice(
        "binary_type", constants.BINARY_TYPE, kenlm_programs.BINARY_TYPES, "Form of lm.binary."
    )
    command_line.define_integer(
        "binary_a_bits",
        constants.BINARY_A_BITS,
        "Most bits of the array that compresses a trie's pointers.",
        lower_bound=0,
        upper_bound=255,
    )
    command_line.define_integer(
        "binary_q_bits",
        constants.BINARY_Q_BITS,
        "Bits of a trie's probabilities.",
        lower_bound=1,
        upper_bound=25,
    )


def check_flags() -> None:
    """Raises UserError if the flags don't name one model to make."""
    if FLAGS.input_arpa is None:
        if not FLAGS.input_txt:
            raise utils.UserError(
                "There is no text: name files with --input_txt, or a model that is to be packed "
                "with --input_arpa."
            )
    elif given := [flag for flag in FLAGS_OF_ESTIMATION if FLAGS[flag].present]:
        raise utils.UserError(
            f"--{given[0]} says how a model is estimated, and --input_arpa={FLAGS.input_arpa} "
            "already is: leave out one of them."
        )
    if FLAGS.top_k < 1:
        raise utils.UserError(
            f"--top_k={FLAGS.top_k} leaves no word: give how many of the most frequent words the "
            f"model is to know, as in {constants.LM_TOP_K}."
        )
    scorer.check_weights(FLAGS.default_alpha, FLAGS.default_beta)
    for flag in ("output_dir", "package"):
        if storage.in_bucket(FLAGS[flag].value or ""):
            raise utils.UserError(
                f"--{flag}={FLAGS[flag].value} is in a bucket, where KenLM can't write: name a "
                "local one."
            )


def estimation() -> Estimation:
    kenlm_programs.memory_bytes(FLAGS.max_arpa_memory)  # told of now, not after hours of counting
    return Estimation(
        order=FLAGS.arpa_order,
        prune=builder.parse_prune(FLAGS.arpa_prune, FLAGS.arpa_order),
        discount_fallback=FLAGS.discount_fallback,
        memory=FLAGS.max_arpa_memory,
    )


def target() -> builder.Target:
    package = FLAGS.package
    if package is None:
        package = os.path.join(FLAGS.output_dir, constants.SCORER_FILE)
    return builder.Target(
        output_dir=FLAGS.output_dir,
        package=package,
        alphabet=transcript_flags.asked_alphabet(FLAGS),
        characters=FLAGS.characters,
        rules=transcript_flags.asked_rules(FLAGS),
        top_k=FLAGS.top_k,
        alpha=FLAGS.default_alpha,
        beta=FLAGS.default_beta,
    )


def end_orderly(*_: Any) -> None:
    """Ends lmplz with this process, and removes what isn't whole."""
    sys.exit(128 + signal.SIGTERM)


def main() -> None:
    check_flags()
    signal.signal(signal.SIGTERM, end_orderly)
    programs = kenlm_programs.find(FLAGS.kenlm_bins, constants.KENLM_BINS)
    packing = Packing(FLAGS.binary_type, FLAGS.binary_a_bits, FLAGS.binary_q_bits)
    if FLAGS.input_arpa is not None:
        built = builder.package(FLAGS.input_arpa, packing, programs, target())
    else:
        text = text_files.find_text(FLAGS.input_txt, "--input_txt", FLAGS.language)
        excluded = text_files.find_text(FLAGS.exclude_txt, "--exclude_txt", FLAGS.language)
        built = builder.build(text, excluded, estimation(), packing, programs, target())
    if programs is None:
        logging.warning(
            "There is no lm.binary without KenLM's build_binary: the model is %s.",
            os.path.join(FLAGS.output_dir, builder.ARPA_FILE),
        )
    print("\n".join(built.lines()))


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
