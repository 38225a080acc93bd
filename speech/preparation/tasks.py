"""The tasks of the doors that prepare sets: prepare, measure, check, export, verify, upload."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from absl import logging

import constants
from speech.corpora.utterance import Utterance, with_copies
from speech.preparation import beam, corpus_stats, csv_export, write_shards
from speech.preparation.beam import Runner
from speech.preparation.sets import CorpusSet
from speech.shards import upload, verify
from speech.shards.index import ShardSettings
from speech.system import storage
from speech.text import alphabets
from utils import Alphabet, UserError


@dataclass(frozen=True)
class ExecutionSettings:
    """How a preparation runs; ShardSettings are the contents of the shards."""

    starting_position: int  # in the corpus
    workers: int  # processes on this machine
    runner: Runner | None  # of Apache Beam; None: this machine without Beam
    strict: bool  # an unusable utterance is an error


def prepare_set(
    utterances: list[Utterance],
    tfrecords_file: str,
    settings: ShardSettings,
    execution: ExecutionSettings,
) -> None:
    """Writes the missing shards of a set with its augmented copies, and prints a summary.

    Raises:
        UserError: as `write_shards.prepare`, or no utterance is usable.
    """
    utterances = with_copies(utterances, settings.copies.augmented_copies)
    start, strict = execution.starting_position, execution.strict
    if execution.runner:
        index = beam.prepare(utterances, tfrecords_file, settings, start, execution.runner, strict)
    else:
        index = write_shards.prepare(
            utterances, tfrecords_file, settings, start, execution.workers, strict
        )
    print(write_shards.summary(tfrecords_file, index))
    if not index.records:
        raise UserError(
            f"None of the {index.corpus_utterances} utterances could be used: see the reasons in "
            f"{tfrecords_file}.index.json."
        )


def prepare_sets(
    sets: Sequence[CorpusSet],
    settings_of: Mapping[str, ShardSettings],
    execution: ExecutionSettings,
) -> None:
    """Prepares the sets of a corpus after a report of its unknown characters.

    Args:
        settings_of: name of a set -> its settings, with one alphabet.

    Raises:
        UserError: as `prepare_set`, or the alphabet can't write the transcripts.
    """
    _report_unknown_characters(sets, settings_of[sets[0].name].alphabet, execution.strict)
    for each in sets:
        prepare_set(each.utterances, each.tfrecords_file, settings_of[each.name], execution)


def _report_unknown_characters(sets: Sequence[CorpusSet], alphabet: Alphabet, strict: bool) -> None:
    """Warns about all unknown characters before hours are spent on preparation.

    Raises:
        UserError: the alphabet can write no transcript or, if `strict`, not all of them.
    """
    path = storage.join(constants.REPORT_DIR, "unknown_characters.csv")
    utterances = (each for found in sets for each in found.utterances)
    unknown = alphabets.report_unknown(utterances, alphabet, path)
    if unknown is None:
        return
    message = (
        "Characters of the transcripts are missing from the alphabet:\n"
        f"{unknown.text()}\n"
        "Correct them, or give another --alphabet; prepare_csv.py also has --language, "
        "--strip_diacritics, --spell_numbers, and --make_alphabet."
    )
    if strict or unknown.everything:
        raise UserError(message)
    logging.warning("%s Utterances with unknown characters are skipped.", message)


def report_stats(
    utterances: list[Utterance],
    tfrecords_file: str,
    settings: ShardSettings,
    for_evaluation: bool,
) -> None:
    """Prints and draws the lengths of a set.

    Args:
        for_evaluation: recommended limits discard nothing.

    Raises:
        UserError: no utterance is usable, or the figure can't be written.
    """
    lengths = corpus_stats.measure(utterances, settings)
    if not lengths.usable:
        print(corpus_stats.overview(tfrecords_file, lengths))
        raise UserError(
            f"None of the {len(utterances)} utterances could be used: see the reasons above."
        )
    share = 0.0 if for_evaluation else corpus_stats.RECOMMENDED_SHARE
    recommended = corpus_stats.recommend(lengths, settings, share)
    print(corpus_stats.report(tfrecords_file, lengths, settings, recommended))
    figure = corpus_stats.figure_path(constants.REPORT_DIR, tfrecords_file)
    corpus_stats.draw(figure, tfrecords_file, lengths, settings, recommended)
    print(f"\n{figure}")


def make_alphabet(sets: Sequence[CorpusSet], path: str, language: str | None) -> None:
    """Prints the characters of all sets and writes those that aren't suspicious to a file."""
    counts = alphabets.count_characters(each for found in sets for each in found.utterances)
    print(alphabets.table(counts, language))
    kept, left_out = alphabets.sift(counts, language)
    alphabets.write_alphabet(path, kept, left_out)
    print(f"\n{path}: {len(kept)} characters, {len(left_out)} suspicious ones are left out")


def export_csv(sets: Sequence[CorpusSet], folder: str, sample_rate: int, workers: int) -> None:
    """Exports the sets as DeepSpeech's CSV files.

    Raises:
        UserError: as `csv_export.write_csv`, before anything is written if possible.
    """
    paths = {each.name: storage.join(folder, f"{each.name}.csv") for each in sets}
    for each in sets:
        csv_export.check_target(paths[each.name], each.utterances, sample_rate)
    for each in sets:
        path = paths[each.name]
        written = csv_export.write_csv(path, each.utterances, sample_rate, workers)
        print("\n  ".join([f"{path}: rows: {written.rows}", *written.lines()]))


def verify_and_upload(tfrecords_files: list[str], verified: bool, folder: str | None) -> None:
    """Verifies prepared sets, uploads them to a bucket, or both in this order.

    Args:
        verified: verifies the sets.
        folder: in a bucket; None: no upload.

    Raises:
        UserError: shards are damaged, the upload isn't from here to a bucket, or it fails.
    """
    if folder is not None:
        _check_upload(tfrecords_files, folder)
    if verified:
        _verify_sets(tfrecords_files)
    if folder is not None:
        for tfrecords_file in tfrecords_files:
            _upload_set(tfrecords_file, folder)


def _verify_sets(tfrecords_files: list[str]) -> None:
    damages: list[str] = []
    for tfrecords_file in tfrecords_files:
        verified = verify.verify(tfrecords_file)
        damages += verified.damages
        size = f"{verified.bytes / 1e6:.1f} MB"
        print(f"{tfrecords_file}: {verified.records} records ({size}) are whole")
    if damages:
        raise UserError(
            "\n  ".join([f"{len(damages)} damaged shards:", *damages])
            + "\nRemove those that exist and run the command that wrote them again: it writes only "
            "these."
        )


def _check_upload(tfrecords_files: list[str], folder: str) -> None:
    """Raises UserError if this isn't a copy of local shards to a bucket."""
    if not storage.in_bucket(folder):
        raise UserError(
            f"--upload_to={folder} is not a folder in a bucket: give it as gs://BUCKET/PATH."
        )
    for tfrecords_file in tfrecords_files:
        if storage.in_bucket(tfrecords_file):
            raise UserError(
                f"{tfrecords_file} is in a bucket already: --upload_to copies local shards, name "
                "them with --tfrecords_file."
            )


def _upload_set(tfrecords_file: str, folder: str) -> None:
    done = upload.upload(tfrecords_file, folder)
    print(
        f"{tfrecords_file} -> {folder}: {done.sent} shards sent ({done.bytes / 1e6:.1f} MB), "
        f"{done.already_there} were there"
    )
