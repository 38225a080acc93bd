"""Flags of prepare_csv.py: where a corpus is, how to read it, and what to do with it."""

import os
from dataclasses import replace

from absl import flags

import constants
from speech.augmentation.waveform import NO_COPIES
from speech.corpora import splits
from speech.corpora.formats import commands, registry
from speech.flags import kinds, preparation
from speech.flags.rules import Rule, check_rules
from speech.flags.transcripts import rules_from_flags
from speech.preparation import corpus_stats
from speech.preparation.sets import SETS, CorpusSettings, Source
from speech.shards.index import ShardSettings
from speech.shards.paths import index_path
from speech.system import storage
from speech.system.bucket import BUCKET_PREFIX
from utils import Alphabet, UserError


def define_corpus_flags() -> None:
    """Defines the flags of the corpus and of the names of its shards."""
    kinds.define_paths(
        "files_path",
        [],
        "Tables or folders, local or gs://, merged into one set, or divided by --split.",
    )
    kinds.define_paths("train_files", [], "Tables or folders of the training set.")
    kinds.define_paths("dev_files", [], "Tables or folders of the development set.")
    kinds.define_paths("test_files", [], "Tables or folders of the test set.")
    flags.DEFINE_string(
        "split",
        None,
        "Percentages of --files_path for training, development and test set, e.g. 70/20/10; the "
        "sets share no speaker.",
    )
    define_reading_flags()
    for name in SETS:
        define_limit_flag(name)
    flags.DEFINE_string(
        "tfrecords_file", None, "Path that the shards' names begin with, for the set --files_path."
    )
    flags.DEFINE_string(
        "tfrecords_dir",
        constants.DATA_DIR,
        f"Folder of the shards of several sets: {', '.join(SETS.values())}.",
    )


def define_reading_flags() -> None:
    """Defines the flags of how a corpus is read, which `reading_from_flags` reads."""
    kinds.define_choice(
        "format", None, list(registry.FORMATS), "Format of the corpus. Default: detected."
    )
    flags.DEFINE_string(
        "audio_root", None, "Folder that the audio paths of a table are relative to."
    )
    flags.DEFINE_string(
        "id_pattern",
        None,
        "Regular expression for the command id in the names of recordings: "
        f"(?P<id>...) and optionally (?P<speaker>...). Default: {commands.DEFAULT_PATTERN}",
    )


def define_limit_flag(name: str) -> None:
    """Defines the limit of a set, with DeepSpeech's name and default; name: of SETS."""
    kinds.define_integer(
        f"limit_{name}",
        0,
        f"Number of the {name} set's first utterances that are used, for trials; 0: all.",
        lower_bound=0,
    )


def define_corpus_task_flags() -> None:
    """Defines the flags of tasks that write no shards."""
    flags.DEFINE_bool(
        "check",
        False,
        f"Report of what would harm training, in {constants.REPORT_DIR}/, instead of preparing.",
    )
    flags.DEFINE_bool(
        "make_alphabet",
        False,
        "List of the transcripts' characters, written to --alphabet, by default alphabet.txt in "
        "--tfrecords_dir, instead of preparing.",
    )
    flags.DEFINE_string(
        "write_csv",
        None,
        "Folder of exported sets, as DeepSpeech's CSV files, instead of preparing.",
    )


def check_corpus_flags(values: flags.FlagValues) -> None:
    """Raises UserError if the flags contradict each other."""
    preparation.check_task_flags(values, "check", "make_alphabet", "write_csv")
    preparation.check_augmentation_flags(values)
    if values.tfrecords_file:
        preparation.check_name(values.tfrecords_file)
    check_rules(
        (values[flag].value == "", f"--{flag}= is empty: give a value, or leave it out.")
        for flag in ("split", "write_csv")
    )
    if values.verify or values.upload_to is not None:
        return
    named = _named_sets(values)
    check_rules(_corpus_rules(values, [f"--{name}_files" for name in named]))
    registry.check_disjoint({f"--{name}_files": paths for name, paths in named.items()})
    if values.stats:
        for paths in (values.files_path, *named.values()):
            corpus_stats.check_local(paths)


def _corpus_rules(values: flags.FlagValues, named: list[str]) -> list[Rule]:
    """Returns the rules for the flags of a corpus that is read.

    Args:
        named: the flags of sets that are given, such as --train_files.
    """
    return [
        (
            values.files_path and named,
            f"--files_path is one set and {', '.join(named)} another: name several sets with "
            "--train_files, --dev_files and --test_files alone.",
        ),
        (
            not values.files_path and not named,
            "There is no corpus: name its tables or folders with --train_files, --dev_files and "
            "--test_files, or with --files_path (docs/corpora.md).",
        ),
        (
            values.split and not values.files_path,
            f"--split={values.split} divides --files_path, but {', '.join(named)} are sets "
            "already: leave one of them out.",
        ),
        (
            values.tfrecords_file and (values.split or named),
            f"--tfrecords_file={values.tfrecords_file} names one set: give the folder of several "
            f"sets with --tfrecords_dir, where they are named {', '.join(SETS.values())}.",
        ),
        (
            values.starting_position and (values.split or len(named) > 1),
            f"--starting_position={values.starting_position} applies to one set: name that set "
            "alone.",
        ),
        (
            values.spell_numbers and not values.language,
            "--spell_numbers requires a language: give --language.",
        ),
        *(
            (
                values[f"limit_{name}"].value
                and not values.split
                and f"--{name}_files" not in named,
                f"--limit_{name} limits the {name} set, and there is none: give --{name}_files, or "
                "divide --files_path with --split.",
            )
            for name in SETS
        ),
    ]


def corpus_from_flags(values: flags.FlagValues) -> CorpusSettings:
    """Returns where the corpus is, how to read it, and where its shards go.

    Raises:
        UserError: a value is invalid, or the set --files_path has no name.
    """
    sources = [
        Source(name, f"--{name}_files", paths) for name, paths in _named_sets(values).items()
    ]
    if values.files_path:
        sources = [Source("", "--files_path", values.files_path)]
    one_set = values.files_path and not values.split
    return CorpusSettings(
        sources=tuple(sources),
        format_name=values.format,
        reading=reading_from_flags(values),
        rules=rules_from_flags(values),
        shares=splits.parse_shares(values.split) if values.split else None,
        tfrecords_file=_tfrecords_file(values) if one_set else "",
        tfrecords_dir=values.tfrecords_dir,
        limits={name: int(limit) for name in SETS if (limit := values[f"limit_{name}"].value)},
    )


def reading_from_flags(values: flags.FlagValues) -> registry.Reading:
    """Returns how a corpus is read."""
    return registry.Reading(values.audio_root, values.id_pattern, values.language)


def test_corpus_from_flags(values: flags.FlagValues) -> CorpusSettings:
    """Returns the corpus of --test_files, a set for each table or folder.

    Raises:
        UserError: one is named twice, or two sets would have the same name.
    """
    paths = values.test_files
    registry.check_disjoint({"--test_files": paths})
    names = _set_names(paths)
    return CorpusSettings(
        sources=tuple(
            Source(name, "--test_files", [path]) for name, path in zip(names, paths, strict=True)
        ),
        format_name=values.format,
        reading=reading_from_flags(values),
        rules=rules_from_flags(values),
        shares=None,
        tfrecords_file="",
        tfrecords_dir="",
        limits=dict.fromkeys(names, values.limit_test) if values.limit_test else {},
    )


def _set_names(paths: list[str]) -> list[str]:
    """Returns a name for each path: the file's, or the whole path where that isn't enough."""
    whole = [path.removeprefix(BUCKET_PREFIX).strip("./") for path in paths]
    for names in (
        [os.path.splitext(os.path.basename(path))[0] for path in whole],
        [path.replace("/", "_") for path in whole],
    ):
        if len(set(names)) == len(names):
            return names
    raise UserError(
        f"--test_files={','.join(paths)} would have sets of the same name: evaluate them one after "
        "the other."
    )


def _named_sets(values: flags.FlagValues) -> dict[str, list[str]]:
    """Returns set -> its tables or folders, of the sets whose flags are given."""
    named = {name: values[f"{name}_files"].value for name in SETS}
    return {name: paths for name, paths in named.items() if paths}


def _tfrecords_file(values: flags.FlagValues) -> str:
    """Returns the path that the shards' names of the set --files_path begin with.

    Without --tfrecords_file it is the name of the files, if no shards are written.
    """
    if values.tfrecords_file:
        return str(values.tfrecords_file)
    if values.check or values.make_alphabet or values.write_csv or values.stats:
        return os.path.splitext(os.path.basename(os.path.abspath(values.files_path[0])))[0]
    example = storage.join(values.tfrecords_dir, SETS["train"])
    raise UserError(
        f"--files_path={','.join(values.files_path)} needs a name for its shards: give "
        f"--tfrecords_file, as in {example}; or divide it into several sets with --split."
    )


def prepared_sets_from_flags(values: flags.FlagValues) -> list[str]:
    """Returns the tfrecords_file of each prepared set that the flags name, by default of all.

    Raises:
        UserError: no set is prepared.
    """
    if values.tfrecords_file:
        return [values.tfrecords_file]
    names = [storage.join(values.tfrecords_dir, SETS[name]) for name in _named_sets(values) or SETS]
    prepared = [name for name in names if storage.exists(index_path(name))]
    if not prepared:
        raise UserError(
            f"There are no shards at {', '.join(names)}: prepare them first, or name existing "
            "ones with --tfrecords_file or --tfrecords_dir."
        )
    return prepared


def alphabet_path_from_flags(values: flags.FlagValues) -> str:
    """Returns the path of the alphabet that --make_alphabet writes."""
    return values.alphabet or storage.join(values.tfrecords_dir, "alphabet.txt")


def shard_settings_from_flags(
    values: flags.FlagValues, alphabet: Alphabet
) -> tuple[ShardSettings, ShardSettings]:
    """Returns the contents of shards of training sets, and of evaluation sets.

    Raises:
        UserError: a value is invalid.
    """
    training = preparation.shard_settings_from_flags(values, alphabet, for_evaluation=False)
    frames, labels = preparation.limits_from_flags(values, for_evaluation=True)
    evaluation = replace(
        training, max_sequence_length=frames, max_label_length=labels, copies=NO_COPIES
    )
    return training, evaluation
