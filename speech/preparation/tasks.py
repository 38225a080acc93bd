"""What the doors that make shards do with a set: prepare, measure, verify, upload."""

from dataclasses import dataclass

import constants
from speech.corpora.utterance import Utterance
from speech.preparation import beam, corpus_stats, write_shards
from speech.preparation.beam import Runner
from speech.shards import upload, verify
from speech.shards.index import ShardSettings
from speech.system import storage
from utils import UserError


@dataclass(frozen=True)
class Making:
    """How a set of shards is made; what it is made of are its ShardSettings."""

    starting_position: int  # in the corpus
    workers: int  # processes on this machine
    runner: Runner | None  # of Apache Beam; None: this machine without it
    strict: bool  # an unusable utterance is an error


def prepare_set(
    utterances: list[Utterance], tfrecords_file: str, settings: ShardSettings, making: Making
) -> None:
    """Writes what is missing of a set, and prints its table.

    Raises:
        UserError: as `prepare.prepare`, or no utterance could be used.
    """
    start, strict = making.starting_position, making.strict
    if making.runner:
        index = beam.prepare(utterances, tfrecords_file, settings, start, making.runner, strict)
    else:
        index = write_shards.prepare(
            utterances, tfrecords_file, settings, start, making.workers, strict
        )
    print(write_shards.summary(tfrecords_file, index))
    if not index.records:
        raise UserError(
            f"None of the {index.corpus_utterances} utterances could be used: the reasons are "
            f"in {tfrecords_file}.index.json."
        )


def report_stats(
    utterances: list[Utterance],
    tfrecords_file: str,
    settings: ShardSettings,
    whole: bool,
) -> None:
    """Prints and draws the lengths of a set.

    Args:
        whole: the set is to be evaluated: recommended limits discard nothing.

    Raises:
        UserError: no utterance could be used, or the picture can't be written.
    """
    lengths = corpus_stats.measure(utterances, settings)
    if not lengths.usable:
        print(corpus_stats.overview(tfrecords_file, lengths))
        raise UserError(
            f"None of the {len(utterances)} utterances could be used: the reasons are above."
        )
    share = 0.0 if whole else corpus_stats.RECOMMENDED_SHARE
    recommended = corpus_stats.recommend(lengths, settings, share)
    print(corpus_stats.report(tfrecords_file, lengths, settings, recommended))
    picture = corpus_stats.picture_path(constants.REPORT_DIR, tfrecords_file)
    corpus_stats.draw(picture, tfrecords_file, lengths, settings, recommended)
    print(f"\n{picture}")


def verify_and_upload(tfrecords_files: list[str], verified: bool, folder: str | None) -> None:
    """Rereads prepared sets, or copies them into a bucket, or first the one and then the other.

    Args:
        folder: in a bucket; None: nothing is copied.

    Raises:
        UserError: shards are damaged, or this can't be such a copy, or it fails.
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
            + "\nRemove those of them that are there and run the command that wrote them again: it "
            "writes just these."
        )


def _check_upload(tfrecords_files: list[str], folder: str) -> None:
    """Raises UserError if this can't be a copy of local shards into a bucket."""
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
