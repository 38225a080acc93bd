"""Flags of prepare_libri.py: the splits of LibriSpeech and the names of their shards."""

import os
from dataclasses import dataclass

from absl import flags, logging

import constants
from speech.flags import kinds, preparation
from speech.flags.rules import check_rules
from speech.preparation import corpus_stats
from speech.shards.paths import index_path
from speech.system import storage
from utils import UserError


@dataclass(frozen=True)
class SplitSet:
    """A set of one or several splits."""

    folders: list[str]  # local or gs://
    tfrecords_file: str  # path that the shards' names begin with

    @property
    def for_evaluation(self) -> bool:
        """Whether all folders are dev or test splits of LibriSpeech, which are kept whole."""
        names = [os.path.basename(os.path.normpath(folder)) for folder in self.folders]
        return all(name.startswith(("dev-", "test-")) for name in names)


def default_sets() -> list[tuple[str, str]]:
    """Returns (folder, tfrecords_file) of each set of constants.LIBRISPEECH_SETS."""
    return [
        (f"{constants.LIBRISPEECH_DIR}/{split}", f"{constants.DATA_DIR}/{name}")
        for split, name in constants.LIBRISPEECH_SETS.items()
    ]


def define_librispeech_flags() -> None:
    """Defines the flags of the splits and of the names of their shards."""
    flags.DEFINE_list(
        "download",
        [],
        "Splits to download from LibriSpeech's site, check and unpack, e.g. train-clean-100, "
        "instead of preparing.",
    )
    kinds.define_paths(
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


def check_librispeech_flags(values: flags.FlagValues) -> None:
    """Raises UserError if the flags contradict each other."""
    preparation.check_task_flags(values, "download")
    check_rules(
        (
            values.download and values[flag].value,
            f"--download and --{flag} can't be combined: download first, then prepare with "
            f"--{flag}.",
        )
        for flag in ("files_path", "tfrecords_file")
    )
    preparation.check_augmentation_flags(values)
    one_set = values.files_path or values.tfrecords_file
    check_rules(
        [
            (
                values.augment and not one_set,
                "--augment applies to one set, so that development and test sets are not "
                "augmented by mistake: name it with --files_path and --tfrecords_file.",
            )
        ]
    )
    if values.tfrecords_file:
        preparation.check_name(values.tfrecords_file)
    if values.stats:
        corpus_stats.check_local(values.files_path or [])


def sets_from_flags(values: flags.FlagValues) -> list[SplitSet]:
    """Returns the sets to prepare; by default those of default_sets that are downloaded.

    Raises:
        UserError: the folder or the name of a set is missing, or --starting_position is given
            for several sets.
    """
    if values.files_path or values.tfrecords_file:
        folders = values.files_path or [_folder_of(values.tfrecords_file)]
        return [SplitSet(folders, values.tfrecords_file or _name_of(values, folders))]
    if values.starting_position:
        raise UserError(
            "--starting_position applies to one set: name it with --files_path and "
            "--tfrecords_file."
        )
    existing = [(folder, name) for folder, name in default_sets() if os.path.isdir(folder)]
    for folder, _ in default_sets():
        if existing and not os.path.isdir(folder):
            logging.warning(
                "%s doesn't exist and is left out: python prepare_libri.py --download=%s",
                folder,
                os.path.basename(folder),
            )
    return [SplitSet([folder], name) for folder, name in existing or default_sets()]


def _name_of(values: flags.FlagValues, folders: list[str]) -> str:
    """Returns the default name of the shards of one of LibriSpeech's splits."""
    for folder, name in default_sets():
        if [os.path.basename(os.path.normpath(each)) for each in folders] == [
            os.path.basename(folder)
        ]:
            return name
    if values.stats:  # no shards are written: the name is that of the figure
        return "+".join(os.path.basename(os.path.abspath(folder)) for folder in folders)
    raise UserError(
        f"--files_path={','.join(folders)} needs a name for its shards: give --tfrecords_file, as "
        f"in {default_sets()[0][1]}."
    )


def _folder_of(tfrecords_file: str) -> str:
    """Returns the folder of the default set of this name."""
    for folder, name in default_sets():
        if os.path.basename(name) == os.path.basename(tfrecords_file):
            return folder
    raise UserError(
        f"--tfrecords_file={tfrecords_file} is not the name of a default set: give the folder with "
        "--files_path."
    )


def prepared_sets_from_flags(values: flags.FlagValues) -> list[str]:
    """Returns the tfrecords_file of each prepared set that the flags name, by default of all.

    Raises:
        UserError: no set is prepared.
    """
    if values.tfrecords_file:
        return [values.tfrecords_file]
    if values.files_path:
        return [_name_of(values, values.files_path)]
    names = [name for _, name in default_sets()]
    prepared = [name for name in names if storage.exists(index_path(name))]
    if not prepared:
        raise UserError(
            f"There are no shards at {', '.join(names)}: prepare them first, or name existing "
            "ones with --tfrecords_file."
        )
    return prepared
