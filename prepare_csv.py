"""Prepares any corpus: Mozilla DeepSpeech's CSV, Common Voice, manifests, folders.

  python prepare_csv.py --train_files=ru/train.csv --dev_files=ru/dev.csv --test_files=ru/test.csv \
      --language=ru
  python prepare_csv.py --files_path=commands --split=70/20/10 --language=es
  python prepare_csv.py --files_path=more.jsonl --tfrecords_file=data/more.tfrecords

docs/corpora.md describes the formats, docs/alphabets.md the alphabets and the rules of languages.
With the same flags, --check reports what would harm training, --make_alphabet lists the characters
of the transcripts, and --write_csv exports. The same command resumes an interrupted run.
"""

from absl import flags

from speech.flags import corpus as corpus_flags
from speech.flags import preparation as preparation_flags
from speech.flags import recipes
from speech.flags import transcripts as transcript_flags
from speech.preflight.check import check_sets
from speech.preparation import tasks
from speech.preparation.sets import read_sets
from speech.system import command_line

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of this door."""
    corpus_flags.define_corpus_flags()
    transcript_flags.define_transcript_flags()
    corpus_flags.define_corpus_task_flags()
    preparation_flags.define_shard_flags()
    preparation_flags.define_front_end_flags()
    preparation_flags.define_task_flags()
    recipes.define_recipe_flag()
    command_line.define_logging_flag()


def main() -> None:
    """Prepares, checks, measures, exports, verifies or uploads, as the flags request."""
    recipes.apply_recipe(FLAGS)
    corpus_flags.check_corpus_flags(FLAGS)
    if FLAGS.verify or FLAGS.upload_to is not None:
        prepared = corpus_flags.prepared_sets_from_flags(FLAGS)
        tasks.verify_and_upload(prepared, FLAGS.verify, FLAGS.upload_to)
        return
    corpus = corpus_flags.corpus_from_flags(FLAGS)
    if FLAGS.make_alphabet:
        path = corpus_flags.alphabet_path_from_flags(FLAGS)
        tasks.make_alphabet(read_sets(corpus), path, FLAGS.language)
        return
    if FLAGS.write_csv:
        tasks.export_csv(read_sets(corpus), FLAGS.write_csv, FLAGS.sample_rate, FLAGS.workers)
        return
    # All settings are checked before a large corpus is read.
    execution = preparation_flags.execution_from_flags(FLAGS)
    alphabet = transcript_flags.alphabet_from_flags(FLAGS)
    training, evaluation = corpus_flags.shard_settings_from_flags(FLAGS, alphabet)
    sets = read_sets(corpus)
    settings_of = {each.name: evaluation if each.for_evaluation else training for each in sets}
    if FLAGS.check:
        check_sets(sets, settings_of, FLAGS.workers)
    elif FLAGS.stats:
        for each in sets:
            tasks.report_stats(
                each.utterances, each.tfrecords_file, settings_of[each.name], each.for_evaluation
            )
    else:
        tasks.prepare_sets(sets, settings_of, execution)


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
