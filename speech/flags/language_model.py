"""Flags of build_lm.py: text, estimation and packing of a language model, and its files."""

import os

from absl import flags

import constants
from speech.decoding import scorer
from speech.flags import kinds
from speech.flags.rules import check_rules
from speech.flags.transcripts import alphabet_from_flags, rules_from_flags
from speech.language_model import builder, kenlm_programs
from speech.language_model.kenlm_programs import Estimation, Packing
from speech.system import storage
from speech.text.lexicon import read_lexicon
from utils import DEEPSPEECH_ENGLISH, ENGLISH, UTF_8, Alphabet

# Flags of the estimation, which don't apply to an existing model.
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


def define_text_flags() -> None:
    """Defines the flags of the text, the vocabulary and the folder of the model."""
    kinds.define_paths(
        "input_txt",
        [],
        "Text files, plain or gzipped, with one sentence per line; also LibriSpeech's *.trans.txt, "
        "folders of them, and tables of other corpora (.csv, .tsv, .json).",
    )
    kinds.define_paths(
        "exclude_txt",
        [],
        "Files of the same kinds with transcripts to exclude, such as the test set's: a line that "
        "shares six consecutive words with one, or equals a shorter one, is left out.",
    )
    flags.DEFINE_string(
        "input_arpa",
        None,
        "Existing n-gram model to use instead of text: an ARPA file, plain or gzipped.",
    )
    flags.DEFINE_string(
        "input_scorer",
        None,
        "Existing scorer to convert instead; --alphabet is that of the model, if it is a scorer of "
        "DeepSpeech or Coqui STT, neither English nor of bytes.",
    )
    flags.DEFINE_string(
        "lm",
        None,
        "Existing binary of KenLM, of the type trie, to make a scorer of instead, with --vocab.",
    )
    flags.DEFINE_string("vocab", None, "Words of --lm, separated by spaces or lines.")
    flags.DEFINE_string("output_dir", constants.LM_DIR, "Local folder of the model.")
    kinds.define_integer(
        "top_k", constants.LM_TOP_K, "Size of the vocabulary: the most frequent words."
    )
    flags.DEFINE_bool(
        "characters",
        False,
        "Model of characters instead of words, for a language without spaces.",
    )
    flags.DEFINE_string(
        "alphabet",
        None,
        "File with one character per line, or utf-8; the same as for the shards. Default: that of "
        "--language, else a-z, space and apostrophe.",
    )


def define_lexicon_flag() -> None:
    flags.DEFINE_string(
        "lexicon",
        None,
        "File of pronunciations: a word and its phones on each line, as in CMUdict. Makes a scorer "
        "for models of training.py --lexicon.",
    )


def define_kenlm_flags() -> None:
    """Defines the flags of KenLM's estimation and packing."""
    flags.DEFINE_string(
        "kenlm_bins",
        None,
        "Folder with KenLM's lmplz and build_binary. Default: that of make kenlm, else the PATH.",
    )
    kinds.define_integer(
        "arpa_order",
        constants.ARPA_ORDER,
        "Order of the model: words of the longest n-grams.",
        lower_bound=2,
        upper_bound=constants.HIGHEST_ARPA_ORDER,
    )
    flags.DEFINE_string(
        "max_arpa_memory", constants.MAX_ARPA_MEMORY, "Maximum memory of lmplz, as in 85% or 8G."
    )
    flags.DEFINE_string(
        "arpa_prune",
        constants.ARPA_PRUNE,
        "Pruning threshold of each order: n-grams that occur no more often are left out. The last "
        "one also applies to higher orders.",
    )
    flags.DEFINE_bool(
        "discount_fallback",
        False,
        "Fixed discounts for text that is too small or too regular to estimate them.",
    )
    kinds.define_choice(
        "binary_type",
        constants.BINARY_TYPE,
        kenlm_programs.BINARY_TYPES,
        "Data structure of lm.binary.",
    )
    kinds.define_integer(
        "binary_a_bits",
        constants.BINARY_A_BITS,
        "Maximum bits of the array that compresses a trie's pointers.",
        lower_bound=0,
        upper_bound=255,
    )
    kinds.define_integer(
        "binary_q_bits",
        constants.BINARY_Q_BITS,
        "Bits of a trie's probabilities.",
        lower_bound=1,
        upper_bound=25,
    )


def define_scorer_flags() -> None:
    """Defines the flags of the scorer file."""
    flags.DEFINE_string(
        "package",
        None,
        f"Path of the scorer file; empty: none. Default: {constants.SCORER_FILE} in --output_dir, "
        "or none with --deepspeech_scorer and an existing --input_scorer or --lm.",
    )
    flags.DEFINE_string(
        "deepspeech_scorer",
        None,
        "Path of a scorer that the clients of DeepSpeech and Coqui STT read; default: none.",
    )
    kinds.define_number(
        "default_alpha", constants.LM_ALPHA, "Default weight of the language model in the scorer."
    )
    kinds.define_number(
        "default_beta", constants.LM_BETA, "Default reward of each word in the scorer."
    )


def check_language_model_flags(values: flags.FlagValues) -> None:
    """Raises UserError if the flags don't define one model."""
    given = [f"--{flag}" for flag in FLAGS_OF_ESTIMATION if values[flag].present]
    existing = [
        f"--{flag}={values[flag].value}"
        for flag in ("input_arpa", "input_scorer", "lm")
        if values[flag].value is not None
    ]
    check_rules(
        [
            (
                not existing and not values.input_txt,
                "There is no text: name files with --input_txt, or an existing model with "
                "--input_arpa, --input_scorer or --lm.",
            ),
            (
                len(existing) > 1,
                f"{' and '.join(existing)} are two models: leave out one of them.",
            ),
            (
                existing and given,
                f"{given[0] if given else ''} applies to the estimation of a model, but "
                f"{existing[0] if existing else ''} is estimated already: leave out one of them.",
            ),
            (
                (values.lm is None) != (values.vocab is None),
                "--lm and --vocab belong together: give KenLM's binary and its words.",
            ),
            (
                values.deepspeech_scorer and values.binary_type != "trie",
                f"DeepSpeech's scorers are tries: leave out --binary_type={values.binary_type}.",
            ),
            (
                values.lexicon and (values.characters or values.deepspeech_scorer),
                "--lexicon makes a scorer of words, and DeepSpeech has none of pronunciations: "
                "leave out --lexicon, or --characters and --deepspeech_scorer.",
            ),
            (
                values.lexicon and (values.lm or values.input_scorer),
                f"--lexicon={values.lexicon} applies to a model of text or of ARPA's form: give "
                "--input_txt or --input_arpa.",
            ),
            (
                values.top_k < 1,
                f"--top_k={values.top_k} leaves no word: give the size of the vocabulary, as in "
                f"{constants.LM_TOP_K}.",
            ),
        ]
    )
    scorer.check_weights(values.default_alpha, values.default_beta)
    check_rules(
        (
            storage.in_bucket(values[flag].value or ""),
            f"--{flag}={values[flag].value} is in a bucket, where KenLM can't write: name a local "
            "path.",
        )
        for flag in ("output_dir", "package", "deepspeech_scorer")
    )


def estimation_from_flags(values: flags.FlagValues) -> Estimation:
    """Returns how the model is estimated.

    Raises:
        UserError: a value is invalid.
    """
    kenlm_programs.memory_bytes(values.max_arpa_memory)  # fail now, not after hours of counting
    return Estimation(
        order=values.arpa_order,
        prune=builder.parse_prune(values.arpa_prune, values.arpa_order),
        discount_fallback=values.discount_fallback,
        memory=values.max_arpa_memory,
    )


def weights_from_flags(values: flags.FlagValues) -> tuple[float | None, float | None]:
    """Returns the alpha and beta that replace those of a scorer; None: its own."""
    alpha, beta = (
        values[flag].value if values[flag].present else None
        for flag in ("default_alpha", "default_beta")
    )
    return alpha, beta


def scorer_alphabets_from_flags(values: flags.FlagValues) -> list[Alphabet]:
    """Returns the alphabets that --input_scorer may have if it is DeepSpeech's: one, if given.

    Raises:
        UserError: the given one can't be read.
    """
    if values.alphabet:
        return [alphabet_from_flags(values)]
    return [DEEPSPEECH_ENGLISH, ENGLISH, UTF_8]


def packing_from_flags(values: flags.FlagValues) -> Packing:
    """Returns how the model is packed."""
    return Packing(values.binary_type, values.binary_a_bits, values.binary_q_bits)


def target_from_flags(values: flags.FlagValues) -> builder.Target:
    """Returns the alphabet, the vocabulary and the files of the model.

    Raises:
        UserError: the alphabet can't be read, or the rules of the text contradict each other.
    """
    package = values.package
    if package is None:
        existing = values.input_scorer is not None or values.lm is not None
        package = os.path.join(values.output_dir, constants.SCORER_FILE)
        package = "" if existing and values.deepspeech_scorer else package
    return builder.Target(
        output_dir=values.output_dir,
        package=package,
        deepspeech_scorer=values.deepspeech_scorer or "",
        alphabet=alphabet_from_flags(values),
        characters=values.characters,
        rules=rules_from_flags(values),
        top_k=values.top_k,
        alpha=values.default_alpha,
        beta=values.default_beta,
        lexicon=read_lexicon(values.lexicon) if values.lexicon else None,
    )
