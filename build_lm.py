"""Builds a language model from text: vocabulary, KenLM's binary, and the scorer for decoding.

  python build_lm.py --input_txt=books.txt.gz,data/LibriSpeech/train-clean-100 \\
      --exclude_txt=data/LibriSpeech/test-clean --output_dir=lm
  python build_lm.py --input_arpa=3-gram.pruned.1e-7.arpa.gz --output_dir=lm
  python build_lm.py --input_txt=books.txt.gz --lexicon=cmudict.dict --output_dir=lm
  python build_lm.py --input_scorer=kenlm.scorer --alphabet=alphabet.txt --output_dir=lm
  python build_lm.py --lm=lm.binary --vocab=vocab-500000.txt --alphabet=alphabet.txt
  python build_lm.py --input_scorer=lm/kenlm.scorer --deepspeech_scorer=deepspeech.scorer

Flags and defaults are those of DeepSpeech's generate_lm.py and generate_scorer_package. `make
kenlm` compiles KenLM's programs; see docs/language_model.md.
"""

import os
import signal
import sys
from typing import Any

from absl import flags, logging

import constants
from speech.flags import language_model as language_model_flags
from speech.flags.transcripts import define_transcript_flags
from speech.language_model import builder, kenlm_programs
from speech.language_model.text_files import find_text
from speech.system import command_line

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of this door."""
    language_model_flags.define_text_flags()
    define_transcript_flags()
    language_model_flags.define_lexicon_flag()
    language_model_flags.define_kenlm_flags()
    language_model_flags.define_scorer_flags()
    command_line.define_logging_flag()


def exit_on_sigterm(*_: Any) -> None:
    """Exits through the handlers that stop lmplz and remove incomplete files."""
    sys.exit(128 + signal.SIGTERM)


def main() -> None:
    """Estimates a model from text, or packs an existing one."""
    language_model_flags.check_language_model_flags(FLAGS)
    signal.signal(signal.SIGTERM, exit_on_sigterm)
    programs = kenlm_programs.find(FLAGS.kenlm_bins, constants.KENLM_BINS)
    packing = language_model_flags.packing_from_flags(FLAGS)
    if FLAGS.input_scorer is not None:
        target = language_model_flags.target_from_flags(FLAGS)
        weights = language_model_flags.weights_from_flags(FLAGS)
        alphabets = language_model_flags.scorer_alphabets_from_flags(FLAGS)
        found = builder.read_scorer(FLAGS.input_scorer, alphabets, *weights)
        print("\n".join(builder.convert(found, packing, programs, target)))
        return
    if FLAGS.lm is not None:
        target = language_model_flags.target_from_flags(FLAGS)
        print("\n".join(builder.package_binary(FLAGS.lm, FLAGS.vocab, target)))
        return
    if FLAGS.input_arpa is not None:
        target = language_model_flags.target_from_flags(FLAGS)
        built = builder.package(FLAGS.input_arpa, packing, programs, target)
    else:
        text = find_text(FLAGS.input_txt, "--input_txt", FLAGS.language)
        excluded = find_text(FLAGS.exclude_txt, "--exclude_txt", FLAGS.language)
        estimation = language_model_flags.estimation_from_flags(FLAGS)
        target = language_model_flags.target_from_flags(FLAGS)
        built = builder.build(text, excluded, estimation, packing, programs, target)
    if programs is None:
        logging.warning(
            "There is no lm.binary without KenLM's build_binary: the model is %s.",
            os.path.join(FLAGS.output_dir, builder.ARPA_FILE),
        )
    print("\n".join(built.lines()))


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
