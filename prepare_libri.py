"""Prepares LibriSpeech: writes shards of features and labels.

  python prepare_libri.py --download=train-clean-100,dev-clean,test-clean
  python prepare_libri.py --partition_size=30000

Without flags it prepares the three sets of constants.LIBRISPEECH_SETS. To prepare another set, give
--files_path (one folder, or several that are merged) and --tfrecords_file. The same command resumes
an interrupted run.
"""

from absl import flags, logging

import constants
from speech.corpora import download
from speech.corpora.formats.librispeech import find_utterances
from speech.corpora.transcripts import normalise
from speech.flags import librispeech as librispeech_flags
from speech.flags import preparation as preparation_flags
from speech.flags import recipes
from speech.preparation import tasks
from speech.system import command_line
from speech.text import alphabets, transcripts

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of this door."""
    librispeech_flags.define_librispeech_flags()
    preparation_flags.define_shard_flags()
    preparation_flags.define_front_end_flags()
    preparation_flags.define_task_flags()
    recipes.define_recipe_flag()
    command_line.define_logging_flag()


def main() -> None:
    """Downloads, prepares, measures, verifies or uploads, as the flags request."""
    recipes.apply_recipe(FLAGS)
    librispeech_flags.check_librispeech_flags(FLAGS)
    if FLAGS.download:
        for split in FLAGS.download:
            download.download_split(split.lower(), constants.LIBRISPEECH_URL, constants.DATA_DIR)
        return
    if FLAGS.verify or FLAGS.upload_to is not None:
        prepared = librispeech_flags.prepared_sets_from_flags(FLAGS)
        tasks.verify_and_upload(prepared, FLAGS.verify, FLAGS.upload_to)
        return
    execution = preparation_flags.execution_from_flags(FLAGS)
    alphabet = alphabets.read_alphabet(FLAGS.alphabet)
    for each in librispeech_flags.sets_from_flags(FLAGS):
        settings = preparation_flags.shard_settings_from_flags(FLAGS, alphabet, each.for_evaluation)
        utterances = normalise(find_utterances(each.folders), transcripts.AS_IT_IS)
        logging.info("%s: %d utterances", ", ".join(each.folders), len(utterances))
        if FLAGS.stats:
            tasks.report_stats(utterances, each.tfrecords_file, settings, each.for_evaluation)
        else:
            tasks.prepare_set(utterances, each.tfrecords_file, settings, execution)


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
