"""Any corpus -> shards: Mozilla DeepSpeech's CSV, Common Voice, manifests, folders.

  python prepare_csv.py --train_files=ru/train.csv --dev_files=ru/dev.csv --test_files=ru/test.csv \
      --language=ru
  python prepare_csv.py --files_path=commands --split=70/20/10 --language=es
  python prepare_csv.py --files_path=more.jsonl --tfrecords_file=data/more.tfrecords

The formats are in docs/corpora.md, alphabets and the rules of languages in docs/alphabets.md. With
the same flags, --check looks for what would spoil a training, --make_alphabet lists the characters
there are, and --write_csv exports. The same command run again continues where it was stopped.
"""

import os
from dataclasses import dataclass, replace

from absl import flags, logging

import constants
import utils
from speech.augmentation.waveform import NO_COPIES
from speech.corpora import splits
from speech.corpora.formats import commands, registry
from speech.corpora.transcripts import normalise
from speech.corpora.utterance import Utterance, with_copies
from speech.flags import preparation as prepare_flags
from speech.flags import transcripts as transcript_flags
from speech.preparation import (
    corpus_stats,
    csv_export,
    preflight,
    preflight_page,
    preflight_report,
    tasks,
)
from speech.shards.index import ShardSettings
from speech.shards.paths import index_path
from speech.system import command_line, storage
from speech.text import alphabets

FLAGS = flags.FLAGS

# Set -> name of its shards.
SETS = {
    "train": constants.TRAIN_SET,
    "dev": constants.DEV_SET,
    "test": constants.TEST_SET,
}


@dataclass(frozen=True)
class CorpusSet:
    """What becomes one set of shards."""

    name: str  # of SETS, or of the shards
    tfrecords_file: str  # path that the shards' names begin with
    utterances: list[Utterance]
    whole: bool  # it is for evaluation, where no utterance is too long and none has copies


def define_flags() -> None:
    define_corpus_flags()
    transcript_flags.define_transcript_flags()
    flags.DEFINE_bool(
        "check",
        False,
        "Prepare nothing: read everything and report what would spoil a training, in "
        f"{constants.REPORT_DIR}/.",
    )
    flags.DEFINE_bool(
        "make_alphabet",
        False,
        "Prepare nothing: list the transcripts' characters and write them to --alphabet, by "
        "default alphabet.txt in --tfrecords_dir.",
    )
    flags.DEFINE_string(
        "write_csv", None, "Prepare nothing: write the sets to this folder as DeepSpeech's CSV."
    )
    prepare_flags.define_shard_flags()
    prepare_flags.define_front_end_flags()
    prepare_flags.define_task_flags()
    command_line.define_logging_flag()


def define_corpus_flags() -> None:
    """Where the corpus is, how to read it, and where its shards go."""
    command_line.define_paths(
        "files_path", [], "Tables or folders, local or gs://, merged into one set; or see --split."
    )
    command_line.define_paths("train_files", [], "The same, of the training set.")
    command_line.define_paths("dev_files", [], "The same, of the development set.")
    command_line.define_paths("test_files", [], "The same, of the test set.")
    flags.DEFINE_string(
        "split",
        None,
        "Divide --files_path into training, development and test set, e.g. 70/20/10 percent; "
        "nobody speaks in two of them.",
    )
    command_line.define_choice(
        "format", None, list(registry.FORMATS), "Of the files; default: what they look like."
    )
    flags.DEFINE_string("audio_root", None, "Folder that a table's paths of audio are relative to.")
    flags.DEFINE_string(
        "id_pattern",
        None,
        "Regular expression for names of recordings that carry a command's id: "
        f"(?P<id>...) and perhaps (?P<speaker>...). Default: {commands.DEFAULT_PATTERN}",
    )
    flags.DEFINE_string(
        "tfrecords_file", None, "Path that the shards' names begin with, of the set --files_path."
    )
    flags.DEFINE_string(
        "tfrecords_dir",
        constants.DATA_DIR,
        f"Folder of the shards of several sets: {', '.join(SETS.values())}.",
    )


def asked_sets() -> list[CorpusSet]:
    """The sets that the flags name, their transcripts written by the language's rules."""
    if FLAGS.split:
        shares = splits.parse_shares(FLAGS.split)
        utterances = read(FLAGS.files_path, "--files_path")
        # Not by --random_seed: other copies would come with another test set.
        found = splits.split(utterances, shares, constants.RANDOM_SEED)
    elif FLAGS.files_path:
        name = os.path.basename(tfrecords_file())
        utterances = read(FLAGS.files_path, "--files_path")
        return [CorpusSet(name, tfrecords_file(), utterances, whole=False)]
    else:
        found = {name: read(paths, f"--{name}_files") for name, paths in named_sets().items()}
    return [
        CorpusSet(name, shards_of(name), utterances, whole=name != "train")
        for name, utterances in found.items()
        if utterances
    ]


def named_sets() -> dict[str, list[str]]:
    """Set -> its files, of those that have a flag of their own and were named."""
    named = {name: FLAGS[f"{name}_files"].value for name in SETS}
    return {name: paths for name, paths in named.items() if paths}


def shards_of(name: str) -> str:
    return storage.join(FLAGS.tfrecords_dir, SETS[name])


def tfrecords_file() -> str:
    """The path that the shards' names of the set --files_path begin with.

    Where no shards are written the name of the files does as well.
    """
    if FLAGS.tfrecords_file:
        return str(FLAGS.tfrecords_file)
    if FLAGS.check or FLAGS.make_alphabet or FLAGS.write_csv or FLAGS.stats:
        return os.path.splitext(os.path.basename(os.path.abspath(FLAGS.files_path[0])))[0]
    raise utils.UserError(
        f"--files_path={','.join(FLAGS.files_path)} needs a name for its shards: give "
        f"--tfrecords_file, as in {shards_of('train')}; or make several sets of it by --split."
    )


def read(paths: list[str], flag: str) -> list[Utterance]:
    """The utterances of a set, their transcripts written by the language's rules."""
    reading = registry.Reading(FLAGS.audio_root, FLAGS.id_pattern, FLAGS.language)
    utterances = registry.read(paths, FLAGS.format, reading, flag)
    logging.info("%s: %d utterances", ", ".join(paths), len(utterances))
    return normalise(utterances, transcript_flags.asked_rules(FLAGS))


def present_sets() -> list[str]:
    """The tfrecords_file of each prepared set that the flags name, by default of all there are."""
    if FLAGS.tfrecords_file:
        return [FLAGS.tfrecords_file]
    names = [shards_of(name) for name in named_sets() or SETS]
    there = [name for name in names if storage.exists(index_path(name))]
    if not there:
        raise utils.UserError(
            f"There are no shards at {', '.join(names)}: prepare them first, or name those that "
            "are there with --tfrecords_file or --tfrecords_dir."
        )
    return there


def check_flags() -> None:
    prepare_flags.check_tasks(FLAGS, "check", "make_alphabet", "write_csv")
    prepare_flags.check_augmentation(FLAGS)
    if FLAGS.tfrecords_file:
        prepare_flags.check_name(FLAGS.tfrecords_file)
    for flag in ("split", "write_csv"):
        if FLAGS[flag].value == "":
            raise utils.UserError(f"--{flag}= is empty: give a value, or leave it out.")
    if FLAGS.verify or FLAGS.upload_to is not None:
        return
    named = [f"--{name}_files" for name in named_sets()]
    if FLAGS.files_path and named:
        raise utils.UserError(
            f"--files_path is one set and {', '.join(named)} another: name several sets by "
            "--train_files, --dev_files and --test_files alone."
        )
    if not FLAGS.files_path and not named:
        raise utils.UserError(
            "There is no corpus: name its tables or folders by --train_files, --dev_files and "
            "--test_files, or by --files_path (docs/corpora.md)."
        )
    registry.check_apart({f"--{name}_files": paths for name, paths in named_sets().items()})
    if FLAGS.split and not FLAGS.files_path:
        raise utils.UserError(
            f"--split={FLAGS.split} divides --files_path, {', '.join(named)} are divided already: "
            "leave one of them out."
        )
    if FLAGS.tfrecords_file and (FLAGS.split or named):
        raise utils.UserError(
            f"--tfrecords_file={FLAGS.tfrecords_file} is the name of one set: name the folder of "
            f"several by --tfrecords_dir, in which they are {', '.join(SETS.values())}."
        )
    if FLAGS.starting_position and (FLAGS.split or len(named) > 1):
        raise utils.UserError(
            f"--starting_position={FLAGS.starting_position} is of one set: name that one alone."
        )
    if FLAGS.spell_numbers and not FLAGS.language:
        raise utils.UserError("--spell_numbers needs to know in what words: give --language.")
    if FLAGS.stats:
        for paths in (FLAGS.files_path, *named_sets().values()):
            corpus_stats.check_local(paths)


def main() -> None:
    check_flags()
    if FLAGS.verify or FLAGS.upload_to is not None:
        tasks.verify_and_upload(present_sets(), FLAGS.verify, FLAGS.upload_to)
        return
    if FLAGS.make_alphabet:
        make_alphabet(asked_sets())
        return
    if FLAGS.write_csv:
        write_csv(asked_sets())
        return
    # What the flags ask for is looked at before a large corpus is read.
    alphabet = transcript_flags.asked_alphabet(FLAGS)
    of_training = prepare_flags.asked_settings(FLAGS, alphabet, whole=False)
    frames, labels = prepare_flags.longest(FLAGS, whole=True)
    of_evaluation = replace(
        of_training, max_sequence_length=frames, max_label_length=labels, copies=NO_COPIES
    )
    sets = asked_sets()
    settings = {each.name: of_evaluation if each.whole else of_training for each in sets}
    if FLAGS.check:
        check(sets, settings)
    elif FLAGS.stats:
        for each in sets:
            tasks.report_stats(
                each.utterances, each.tfrecords_file, settings[each.name], each.whole
            )
    else:
        prepare(sets, settings)


def make_alphabet(sets: list[CorpusSet]) -> None:
    """Lists the characters of all sets, and writes those that aren't suspicious."""
    counts = alphabets.count_characters(each for found in sets for each in found.utterances)
    print(alphabets.table(counts, FLAGS.language))
    path = FLAGS.alphabet or storage.join(FLAGS.tfrecords_dir, "alphabet.txt")
    kept, left_out = alphabets.sift(counts, FLAGS.language)
    alphabets.write_alphabet(path, kept, left_out)
    print(f"\n{path}: {len(kept)} characters, {len(left_out)} suspicious ones are left out")


def write_csv(sets: list[CorpusSet]) -> None:
    paths = {each.name: storage.join(FLAGS.write_csv, f"{each.name}.csv") for each in sets}
    for each in sets:
        csv_export.check_target(paths[each.name], each.utterances, FLAGS.sample_rate)
    for each in sets:
        path = paths[each.name]
        written = csv_export.write_csv(path, each.utterances, FLAGS.sample_rate, FLAGS.workers)
        print("\n  ".join([f"{path}: rows: {written.rows}", *written.lines()]))


def check(sets: list[CorpusSet], settings: dict[str, ShardSettings]) -> None:
    """Prints and writes what would spoil a training; raises UserError if anything would."""
    utterances = {each.name: each.utterances for each in sets}
    found = preflight.examine(utterances, settings, FLAGS.workers)
    print(preflight_report.report(found))
    print(preflight_report.write_table(constants.REPORT_DIR, found))
    print(preflight_page.write(constants.REPORT_DIR, found, settings))
    if found.errors:
        raise utils.UserError(preflight_report.verdict(found))


def prepare(sets: list[CorpusSet], settings: dict[str, ShardSettings]) -> None:
    report_unknown_characters(sets, settings[sets[0].name].alphabet)
    making = prepare_flags.asked_making(FLAGS)
    for each in sets:
        made_of = settings[each.name]
        utterances = with_copies(each.utterances, made_of.copies.augmented_copies)
        tasks.prepare_set(utterances, each.tfrecords_file, made_of, making)


def report_unknown_characters(sets: list[CorpusSet], alphabet: utils.Alphabet) -> None:
    """Tells of all characters that the alphabet lacks, before hours are spent on the others.

    Raises:
        UserError: no transcript can be written, or with --strict not all.
    """
    path = storage.join(constants.REPORT_DIR, "unknown_characters.csv")
    utterances = (each for found in sets for each in found.utterances)
    unknown = alphabets.report_unknown(utterances, alphabet, path)
    if unknown is None:
        return
    told = (
        "The alphabet lacks characters of the transcripts:\n"
        f"{unknown.text()}\n"
        "See --language, --strip_diacritics, --spell_numbers, and --make_alphabet."
    )
    if FLAGS.strict or unknown.everything:
        raise utils.UserError(told)
    logging.warning("%s The utterances that have them are skipped.", told)


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
