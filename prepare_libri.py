"""LibriSpeech -> shards.

  python prepare_libri.py --download=train-clean-100,dev-clean,test-clean
  python prepare_libri.py --partition_size=30000

A bare call prepares the three sets of constants.LIBRISPEECH_SETS. To prepare one set of your own,
give --files_path (one folder, or several that are merged) and --tfrecords_file. The same command
run again continues where it was stopped.
"""

import os
import re

from absl import flags, logging

import constants
import utils
from speech import (
    beam_pipeline,
    command_line,
    corpora,
    corpus_stats,
    download,
    features,
    prepare,
    signal_augment,
    storage,
    upload,
    verify,
)
from speech.features import FrontEnd
from speech.records import Index, ShardSettings, index_path

FLAGS = flags.FLAGS

# Flags that only some kinds of features have a use for.
FLAGS_OF_FEATURES = {
    "nfft": (features.FBANK, features.MFCC, features.SPECTROGRAM),
    "nrof_fbanks": features.FILTERED,
    "numcep": (features.MFCC,),
    "deltas": (features.FBANK, features.MFCC, features.SPECTROGRAM),
}


def define_flags() -> None:
    flags.DEFINE_list(
        "download",
        [],
        "Splits to fetch from LibriSpeech's site, check and unpack first, e.g. train-clean-100. "
        "Nothing is prepared in the same call.",
    )
    flags.DEFINE_list(
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
    flags.DEFINE_integer(
        "partition_size", constants.PARTITION_SIZE, "Utterances a shard covers.", lower_bound=1
    )
    flags.DEFINE_integer(
        "starting_position",
        constants.STARTING_POSITION,
        "Utterance to begin at, in the corpus's sorted order.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "max_sequence_length",
        constants.MAX_SEQUENCE_LENGTH,
        "Frames a record is padded to; longer utterances are skipped. LibriSpeech's dev-* and "
        f"test-*: {constants.EVALUATION_SEQUENCE_LENGTH}, so that none is.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "max_label_length",
        constants.MAX_LABEL_LENGTH,
        "Labels a record is padded to; longer transcripts are skipped. LibriSpeech's dev-* and "
        f"test-*: {constants.EVALUATION_LABEL_LENGTH}.",
        lower_bound=1,
    )
    flags.DEFINE_bool("pad", True, "Store records padded; --nopad saves about a quarter.")
    define_front_end_flags()
    flags.DEFINE_string(
        "alphabet", None, "File with one character a line. Default: a-z, space and apostrophe."
    )
    flags.DEFINE_multi_string(
        "augment",
        [],
        "Beside every utterance keep augmented copies, e.g. --augment='reverb[p=0.5,delay=20~10]' "
        "--augment='speed[factor=0.9:1.1]'; see docs/augmentation.md.",
    )
    flags.DEFINE_integer(
        "augmented_copies", None, "Of each utterance; default with --augment: 1.", lower_bound=1
    )
    flags.DEFINE_integer(
        "random_seed", constants.RANDOM_SEED, "Of the augmented copies.", lower_bound=0
    )
    flags.DEFINE_bool("strict", False, "Stop at the first unusable utterance.")
    flags.DEFINE_integer("workers", os.cpu_count(), "Processes that prepare.", lower_bound=1)
    flags.DEFINE_string(
        "runner",
        None,
        "Prepare by Apache Beam, on many machines: one of its runners, e.g. DataflowRunner, "
        "FlinkRunner, or DirectRunner for this machine. See docs/shards.md.",
    )
    flags.DEFINE_list(
        "runner_options",
        [],
        "Of the runner, e.g. project=my-project,region=us-central1,temp_location=gs://BUCKET/tmp",
    )
    flags.DEFINE_bool(
        "stats",
        False,
        "Prepare nothing: report the sets' hours, speakers and lengths, what other limits on the "
        f"lengths would discard, and draw the lengths into {constants.REPORT_DIR}/.",
    )
    flags.DEFINE_bool(
        "verify",
        False,
        "Prepare nothing: reread every record of prepared sets and compare their checksums.",
    )
    flags.DEFINE_string(
        "upload_to",
        None,
        "Prepare nothing: copy the finished shards of prepared sets to this folder, e.g. "
        "gs://BUCKET/data. What is there and equal is not sent again. With --verify they are "
        "reread first.",
    )
    command_line.define_logging_flag()


def define_front_end_flags() -> None:
    """The flags that decide what features are; see `FrontEnd`."""
    flags.DEFINE_enum(
        "features",
        features.FBANK,
        features.FEATURES,
        "Log mel filterbank energies, cepstral coefficients, log power spectrum, or samples.",
    )
    flags.DEFINE_integer("sample_rate", constants.SAMPLE_RATE, "Hz.")
    flags.DEFINE_float("winlen", constants.WINDOW_SECONDS, "Length of a frame in seconds.")
    flags.DEFINE_float("winstep", constants.STEP_SECONDS, "Seconds between two frames' starts.")
    flags.DEFINE_integer(
        "nfft", constants.FFT_SIZE, "Samples of the FFT that a frame is padded to with zeros."
    )
    flags.DEFINE_integer("nrof_fbanks", constants.MEL_FILTERS, "Mel filters of fbank and mfcc.")
    flags.DEFINE_integer("numcep", constants.CEPSTRAL_COEFFICIENTS, "Coefficients of mfcc.")
    flags.DEFINE_integer(
        "deltas",
        0,
        "Orders of differences over time that are appended to each frame.",
        lower_bound=0,
        upper_bound=features.MOST_DELTAS,
    )
    flags.DEFINE_enum(
        "normalisation",
        features.UTTERANCE,
        features.NORMALISATIONS,
        "Each bin's mean and deviation are taken over the utterance, or over the training set, or "
        "left as they are.",
    )


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


def longest(folders: list[str]) -> tuple[int, int]:
    """Most frames and labels of a record, as the flags ask.

    Unless a flag says otherwise, LibriSpeech's dev and test splits are kept whole.
    """
    whole = for_evaluation(folders)
    frames, labels = FLAGS.max_sequence_length, FLAGS.max_label_length
    if whole and not FLAGS["max_sequence_length"].present:
        frames = constants.EVALUATION_SEQUENCE_LENGTH
    if whole and not FLAGS["max_label_length"].present:
        labels = constants.EVALUATION_LABEL_LENGTH
    return frames, labels


def copies() -> signal_augment.Copies:
    """The augmented copies that the flags ask for."""
    if not FLAGS.augment:
        return signal_augment.NO_COPIES
    number = FLAGS.augmented_copies or 1
    return signal_augment.copies_of(FLAGS.augment, number, FLAGS.random_seed)


def front_end() -> FrontEnd:
    """The front end that the flags ask for.

    Raises:
        UserError: its values can't be, or a flag is given that its features have no use for.
    """
    for flag, kinds in FLAGS_OF_FEATURES.items():
        if FLAGS[flag].present and FLAGS.features not in kinds:
            raise utils.UserError(
                f"--{flag}={FLAGS[flag].value} means nothing to --features={FLAGS.features}: it is "
                f"of {', '.join(kinds)}. Leave out one of them."
            )
    asked = FrontEnd(
        features=FLAGS.features,
        sample_rate=FLAGS.sample_rate,
        window_seconds=FLAGS.winlen,
        step_seconds=FLAGS.winstep,
        fft_size=FLAGS.nfft,
        mel_filters=FLAGS.nrof_fbanks,
        highest_frequency=min(constants.HIGHEST_FREQUENCY, FLAGS.sample_rate / 2),
        coefficients=FLAGS.numcep,
        deltas=FLAGS.deltas,
        normalisation=FLAGS.normalisation,
    )
    if empty := features.empty_filters(asked):
        logging.warning(
            "%d of %d mel filters are narrower than the distance of two frequencies and stay "
            "empty: raise --nfft=%d or lower --nrof_fbanks.",
            empty,
            asked.mel_filters,
            asked.fft_size,
        )
    return asked


def shard_settings(folders: list[str]) -> ShardSettings:
    frames, labels = longest(folders)
    alphabet = utils.Alphabet.from_file(FLAGS.alphabet) if FLAGS.alphabet else utils.ENGLISH
    return ShardSettings(
        front_end=front_end(),
        alphabet=alphabet,
        partition_size=FLAGS.partition_size,
        max_sequence_length=frames,
        max_label_length=labels,
        padded=FLAGS.pad,
        stride=constants.STRIDE_SIZE,
        copies=copies(),
    )


def prepare_set(
    utterances: list[corpora.Utterance], tfrecords_file: str, settings: ShardSettings
) -> Index:
    start, strict = FLAGS.starting_position, FLAGS.strict
    if not FLAGS.runner:
        return prepare.prepare(utterances, tfrecords_file, settings, start, FLAGS.workers, strict)
    workers = FLAGS.workers if FLAGS["workers"].present else None
    return beam_pipeline.prepare(
        utterances,
        tfrecords_file,
        settings,
        start,
        beam_pipeline.Runner(FLAGS.runner, FLAGS.runner_options, workers),
        strict,
    )


def report_stats(
    utterances: list[corpora.Utterance],
    tfrecords_file: str,
    settings: ShardSettings,
    share: float,
) -> None:
    """Prints and draws the lengths of a set; share: of the hours that a limit may discard."""
    lengths = corpus_stats.measure(utterances, settings)
    if not lengths.usable:
        print(corpus_stats.overview(tfrecords_file, lengths))
        raise utils.UserError(
            f"None of the {len(utterances)} utterances could be used: the reasons are above."
        )
    recommended = corpus_stats.recommend(lengths, settings, share)
    print(corpus_stats.report(tfrecords_file, lengths, settings, recommended))
    picture = corpus_stats.picture_path(constants.REPORT_DIR, tfrecords_file)
    corpus_stats.draw(picture, tfrecords_file, lengths, settings, recommended)
    print(f"\n{picture}")


def verify_sets(tfrecords_files: list[str]) -> None:
    damages: list[str] = []
    for tfrecords_file in tfrecords_files:
        verified = verify.verify(tfrecords_file)
        damages += verified.damages
        size = f"{verified.bytes / 1e6:.1f} MB"
        print(f"{tfrecords_file}: {verified.records} records ({size}) are whole")
    if damages:
        raise utils.UserError(
            "\n  ".join([f"{len(damages)} damaged shards:", *damages])
            + "\nRemove those of them that are there and run the command that wrote them again: it "
            "writes just these."
        )


def check_upload(tfrecords_files: list[str], folder: str) -> None:
    """Raises UserError if this can't be a copy of local shards into a bucket."""
    if not storage.in_bucket(folder):
        raise utils.UserError(
            f"--upload_to={folder} is not a folder in a bucket: give it as gs://BUCKET/PATH."
        )
    for tfrecords_file in tfrecords_files:
        if storage.in_bucket(tfrecords_file):
            raise utils.UserError(
                f"{tfrecords_file} is in a bucket already: --upload_to copies local shards, name "
                "them with --tfrecords_file."
            )


def upload_set(tfrecords_file: str, folder: str) -> None:
    done = upload.upload(tfrecords_file, folder)
    print(
        f"{tfrecords_file} -> {folder}: {done.sent} shards sent ({done.bytes / 1e6:.1f} MB), "
        f"{done.already_there} were there"
    )


def check_name(tfrecords_file: str) -> None:
    """Raises UserError if no set of shards can have this name."""
    storage.check_path(tfrecords_file)
    example = os.path.basename(default_sets()[0][1])
    if os.path.basename(tfrecords_file) in ("", ".", ".."):
        raise utils.UserError(
            f"--tfrecords_file={tfrecords_file} is a folder: add the name that the shards' names "
            f"begin with, as in {os.path.join(tfrecords_file, example)}."
        )
    if of_a_set := re.fullmatch(r"(.*[^/])\.(\d{8}|index\.json)", tfrecords_file):
        raise utils.UserError(
            f"--tfrecords_file={tfrecords_file} names one file of a set: give what all its names "
            f"begin with, {of_a_set[1]}."
        )


def check_one_task() -> None:
    """Raises UserError if the flags ask for several things of which one would be left undone."""
    if FLAGS.runner == "":
        raise utils.UserError(
            "--runner= names no Apache Beam runner: give one, as in --runner=DirectRunner, or "
            "leave it out to prepare without."
        )
    asked = {
        "--download": FLAGS.download,
        "--stats": FLAGS.stats,
        "--verify": FLAGS.verify,
        "--upload_to": FLAGS.upload_to is not None,
        "--runner": FLAGS.runner,
    }
    tasks = [flag for flag, given in asked.items() if given]
    if len(tasks) > 1 and tasks != ["--verify", "--upload_to"]:
        raise utils.UserError(
            f"{' and '.join(tasks)} can't be done by one call: give one of them, and the other in "
            "a call of its own."
        )
    for flag in ("files_path", "tfrecords_file"):
        if FLAGS.download and FLAGS[flag].value:
            raise utils.UserError(
                f"--download and --{flag} can't be done by one call: download first, then prepare "
                f"with --{flag}."
            )


def check_augmentation() -> None:
    """Raises UserError if augmented copies are asked for where there would be none, or too many."""
    if not FLAGS.augment:
        if FLAGS.augmented_copies:
            raise utils.UserError(
                f"--augmented_copies={FLAGS.augmented_copies} of what? Say by --augment how they "
                "differ from the recordings (docs/augmentation.md)."
            )
        return
    if FLAGS.stats:
        raise utils.UserError(
            "--stats measures recordings, not copies that --augment would make: leave it out."
        )
    if not (FLAGS.files_path or FLAGS.tfrecords_file):
        raise utils.UserError(
            "--augment is of one set, so that no development or test set is augmented unasked: "
            "name it with --files_path and --tfrecords_file."
        )


def check_flags() -> None:
    check_one_task()
    check_augmentation()
    if FLAGS.tfrecords_file:
        check_name(FLAGS.tfrecords_file)
    if FLAGS.runner_options and not FLAGS.runner:
        raise utils.UserError("--runner_options are of an Apache Beam runner: name it by --runner.")
    if FLAGS.stats and any(storage.in_bucket(folder) for folder in FLAGS.files_path or []):
        raise utils.UserError(
            "--stats reads the headers of local files, not of those in a bucket: give it a local "
            "copy with --files_path."
        )


def main() -> None:
    check_flags()
    for split in FLAGS.download:
        download.librispeech(split, constants.LIBRISPEECH_URL, constants.DATA_DIR)
    if FLAGS.download:
        return
    if FLAGS.verify or FLAGS.upload_to is not None:
        tfrecords_files = present_sets()
        if FLAGS.upload_to is not None:
            check_upload(tfrecords_files, FLAGS.upload_to)
        if FLAGS.verify:
            verify_sets(tfrecords_files)
        if FLAGS.upload_to is not None:
            for tfrecords_file in tfrecords_files:
                upload_set(tfrecords_file, FLAGS.upload_to)
        return
    for folders, tfrecords_file in asked_sets():
        settings = shard_settings(folders)
        utterances = corpora.with_copies(
            corpora.librispeech(folders), settings.copies.augmented_copies
        )
        logging.info("%s: %d utterances", ", ".join(folders), len(utterances))
        if FLAGS.stats:
            share = 0.0 if for_evaluation(folders) else corpus_stats.RECOMMENDED_SHARE
            report_stats(utterances, tfrecords_file, settings, share)
            continue
        index = prepare_set(utterances, tfrecords_file, settings)
        print(prepare.summary(tfrecords_file, index))
        if not index.records:
            raise utils.UserError(
                f"None of the {index.corpus_utterances} utterances could be used: the reasons are "
                f"in {tfrecords_file}.index.json."
            )


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
