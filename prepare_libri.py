"""LibriSpeech -> shards.

  python prepare_libri.py --download=train-clean-100,dev-clean,test-clean
  python prepare_libri.py --partition_size=30000

A bare call prepares the three sets of constants.LIBRISPEECH_SETS. To prepare one set of your own,
give --files_path (one folder, or several that are merged) and --tfrecords_file. The same command
run again continues where it was stopped.
"""

import os

from absl import flags, logging

import constants
import utils
from speech.corpora import download
from speech.corpora.formats.librispeech import librispeech
from speech.corpora.transcripts import normalise
from speech.corpora.utterance import with_copies
from speech.flags import preparation as prepare_flags
from speech.preparation import corpus_stats, tasks
from speech.shards.paths import index_path
from speech.system import command_line, storage
from speech.text import alphabets, transcripts

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_list(
        "download",
        [],
        "Splits to fetch from LibriSpeech's site, check and unpack first, e.g. train-clean-100. "
        "Nothing is prepared in the same call.",
    )
    command_line.define_paths(
        "files_path",
        None,
        "Folders of one or several splits, local or gs://, merged into one set. Default: "
        + ", ".join(folder for folder, _ in default_sets()),
    )
    flags.DEFINE_string(
        "tfrecords_file",
        None,
        "Path that the shards' names begin with. Default: "
        + ", ".join(name for _, name in default_sets()),
    )
    prepare_flags.define_shard_flags()
    prepare_flags.define_front_end_flags()
    prepare_flags.define_task_flags()
    command_line.define_logging_flag()


def default_sets() -> list[tuple[str, str]]:
    """(folder, tfrecords_file) of each of LibriSpeech's sets that a bare call prepares."""
    return [
        (f"{constants.LIBRISPEECH_DIR}/{split}", f"{constants.DATA_DIR}/{name}")
        for split, name in constants.LIBRISPEECH_SETS.items()
    ]


def asked_sets() -> list[tuple[list[str], str]]:
    """(folders, tfrecords_file) of each set to prepare, as the flags ask."""
    if FLAGS.files_path or FLAGS.tfrecords_file:
        folders = FLAGS.files_path or [_folder_of(FLAGS.tfrecords_file)]
        return [(folders, FLAGS.tfrecords_file or _name_of(folders))]
    if FLAGS.starting_position:
        raise utils.UserError(
            "--starting_position is of one set: name it with --files_path and --tfrecords_file."
        )
    there = [(folder, name) for folder, name in default_sets() if os.path.isdir(folder)]
    for folder, _ in default_sets():
        if there and not os.path.isdir(folder):
            logging.warning(
                "%s is not there and is left out: python prepare_libri.py --download=%s",
                folder,
                os.path.basename(folder),
            )
    return [([folder], name) for folder, name in there or default_sets()]


def _name_of(folders: list[str]) -> str:
    """The default name of the shards of one of LibriSpeech's splits; others are to be named."""
    for folder, name in default_sets():
        if [os.path.basename(os.path.normpath(each)) for each in folders] == [
            os.path.basename(folder)
        ]:
            return name
    if FLAGS.stats:  # no shard is written: the name is that of the picture
        return "+".join(os.path.basename(os.path.abspath(folder)) for folder in folders)
    raise utils.UserError(
        f"--files_path={','.join(folders)} needs a name for its shards: give --tfrecords_file, as "
        f"in {default_sets()[0][1]}."
    )


def _folder_of(tfrecords_file: str) -> str:
    """The folder of the set that has this name by default; others are to be named."""
    for folder, name in default_sets():
        if os.path.basename(name) == os.path.basename(tfrecords_file):
            return folder
    raise utils.UserError(
        f"--tfrecords_file={tfrecords_file} doesn't tell of what the shards are to be: give the "
        "folder with --files_path."
    )


def present_sets() -> list[str]:
    """The tfrecords_file of each prepared set that the flags name, by default of all there are."""
    if FLAGS.tfrecords_file:
        return [FLAGS.tfrecords_file]
    if FLAGS.files_path:
        return [_name_of(FLAGS.files_path)]
    names = [name for _, name in default_sets()]
    there = [name for name in names if storage.exists(index_path(name))]
    if not there:
        raise utils.UserError(
            f"There are no shards at {', '.join(names)}: prepare them first, or name those that "
            "are there with --tfrecords_file."
        )
    return there


def for_evaluation(folders: list[str]) -> bool:
    """Whether these are LibriSpeech's dev and test splits, which are kept whole."""
    names = [os.path.basename(os.path.normpath(folder)) for folder in folders]
    return all(name.startswith(("dev-", "test-")) for name in names)


def check_flags() -> None:
    prepare_flags.check_tasks(FLAGS, "download")
    for flag in ("files_path", "tfrecords_file"):
        if FLAGS.download and FLAGS[flag].value:
            raise utils.UserError(
                f"--download and --{flag} can't be done by one call: download first, then prepare "
                f"with --{flag}."
            )
    prepare_flags.check_augmentation(FLAGS)
    if FLAGS.augment and not (FLAGS.files_path or FLAGS.tfrecords_file):
        raise utils.UserError(
            "--augment is of one set, so that no development or test set is augmented unasked: "
            "name it with --files_path and --tfrecords_file."
        )
    if FLAGS.tfrecords_file:
        prepare_flags.check_name(FLAGS.tfrecords_file)
    if FLAGS.stats:
        corpus_stats.check_local(FLAGS.files_path or [])


def main() -> None:
    check_flags()
    for split in FLAGS.download:
        download.librispeech(split.lower(), constants.LIBRISPEECH_URL, constants.DATA_DIR)
    if FLAGS.download:
        return
    if FLAGS.verify or FLAGS.upload_to is not None:
        tasks.verify_and_upload(present_sets(), FLAGS.verify, FLAGS.upload_to)
        return
    making = prepare_flags.asked_making(FLAGS)
    alphabet = alphabets.read_alphabet(FLAGS.alphabet)
    for folders, tfrecords_file in asked_sets():
        whole = for_evaluation(folders)
        settings = prepare_flags.asked_settings(FLAGS, alphabet, whole)
        found = normalise(librispeech(folders), transcripts.AS_IT_IS)
        utterances = with_copies(found, settings.copies.augmented_copies)
        logging.info("%s: %d utterances", ", ".join(folders), len(utterances))
        if FLAGS.stats:
            tasks.report_stats(utterances, tfrecords_file, settings, whole)
        else:
            tasks.prepare_set(utterances, tfrecords_file, settings, making)


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
