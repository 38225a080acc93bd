"""Flags of the doors that make shards, and what they ask for."""

import os
import re

from absl import flags, logging

import constants
from speech.augmentation import waveform
from speech.augmentation.waveform import Copies
from speech.features import front_end
from speech.features.front_end import FrontEnd
from speech.preparation.beam import Runner
from speech.preparation.tasks import Making
from speech.shards.index import ShardSettings
from speech.system import command_line, storage
from utils import Alphabet, UserError

# Flags that only some kinds of features have a use for.
FLAGS_OF_FEATURES = {
    "nfft": (front_end.FBANK, front_end.MFCC, front_end.SPECTROGRAM),
    "nrof_fbanks": front_end.FILTERED,
    "numcep": (front_end.MFCC,),
    "deltas": (front_end.FBANK, front_end.MFCC, front_end.SPECTROGRAM),
}


def define_shard_flags() -> None:
    """What shards are made of, and how they are made; `define_front_end_flags` goes with them."""
    command_line.define_integer(
        "partition_size", constants.PARTITION_SIZE, "Utterances a shard covers.", lower_bound=1
    )
    command_line.define_integer(
        "starting_position",
        constants.STARTING_POSITION,
        "Utterance to begin at, in the corpus's sorted order.",
        lower_bound=0,
    )
    command_line.define_integer(
        "max_sequence_length",
        constants.MAX_SEQUENCE_LENGTH,
        "Frames a record is padded to; longer utterances are skipped. LibriSpeech's dev-* and "
        f"test-*: {constants.EVALUATION_SEQUENCE_LENGTH}, so that none is.",
        lower_bound=1,
        upper_bound=constants.LONGEST_SEQUENCE,
    )
    command_line.define_integer(
        "max_label_length",
        constants.MAX_LABEL_LENGTH,
        "Labels a record is padded to; longer transcripts are skipped. LibriSpeech's dev-* and "
        f"test-*: {constants.EVALUATION_LABEL_LENGTH}.",
        lower_bound=1,
        upper_bound=constants.LONGEST_LABEL,
    )
    flags.DEFINE_bool("pad", True, "Store records padded; --nopad saves about a quarter.")
    flags.DEFINE_string(
        "alphabet",
        None,
        "File with one character a line, or utf-8 for the bytes of any text. Default: a-z, space "
        "and apostrophe.",
    )
    flags.DEFINE_multi_string(
        "augment",
        [],
        "Beside every utterance keep augmented copies, e.g. --augment='reverb[p=0.5,delay=20~10]' "
        "--augment='speed[factor=0.9:1.1]'; see docs/augmentation.md.",
    )
    command_line.define_integer(
        "augmented_copies",
        None,
        "Of each utterance; default with --augment: 1.",
        lower_bound=1,
        upper_bound=constants.MOST_COPIES,
    )
    command_line.define_random_seed("Seed of the augmented copies.")
    flags.DEFINE_bool("strict", False, "Stop at the first unusable utterance.")
    command_line.define_integer(
        "workers",
        os.cpu_count(),
        "Processes that prepare.",
        lower_bound=1,
        upper_bound=constants.MOST_WORKERS,
    )
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


def define_task_flags() -> None:
    """What else than preparing there is to do with a set."""
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


def define_front_end_flags() -> None:
    """The flags that decide what features are; see `FrontEnd`."""
    command_line.define_choice(
        "features",
        front_end.FBANK,
        front_end.FEATURES,
        "Log mel filterbank energies, cepstral coefficients, log power spectrum, or samples.",
    )
    command_line.define_integer("sample_rate", constants.SAMPLE_RATE, "Hz.")
    command_line.define_number("winlen", constants.WINDOW_SECONDS, "Length of a frame in seconds.")
    command_line.define_number(
        "winstep", constants.STEP_SECONDS, "Seconds between two frames' starts."
    )
    command_line.define_integer(
        "nfft", constants.FFT_SIZE, "Samples of the FFT that a frame is padded to with zeros."
    )
    command_line.define_integer(
        "nrof_fbanks", constants.MEL_FILTERS, "Mel filters of fbank and mfcc."
    )
    command_line.define_integer("numcep", constants.CEPSTRAL_COEFFICIENTS, "Coefficients of mfcc.")
    command_line.define_integer(
        "deltas",
        0,
        "Orders of differences over time that are appended to each frame.",
        lower_bound=0,
        upper_bound=front_end.MOST_DELTAS,
    )
    command_line.define_choice(
        "normalisation",
        front_end.UTTERANCE,
        front_end.NORMALISATIONS,
        "Each bin's mean and deviation are taken over the utterance, or over the training set, or "
        "left as they are.",
    )


def asked_making(values: flags.FlagValues) -> Making:
    """How the flags ask for shards to be made."""
    runner = None
    if values.runner:
        workers = values.workers if values["workers"].present else None
        runner = Runner(values.runner, values.runner_options, workers)
    return Making(values.starting_position, values.workers, runner, values.strict)


def asked_settings(values: flags.FlagValues, alphabet: Alphabet, whole: bool) -> ShardSettings:
    """What the flags ask shards to be made of.

    Args:
        whole: the set is to be evaluated. Unless a flag says otherwise no utterance is too long.

    Raises:
        UserError: the flags' values can't be.
    """
    frames, labels = longest(values, whole)
    return ShardSettings(
        front_end=asked_front_end(values),
        alphabet=alphabet,
        partition_size=values.partition_size,
        max_sequence_length=frames,
        max_label_length=labels,
        padded=values.pad,
        stride=constants.STRIDE_SIZE,
        copies=asked_copies(values),
    )


def longest(values: flags.FlagValues, whole: bool) -> tuple[int, int]:
    """Most frames and labels of a record.

    Args:
        whole: as of `asked_settings`.
    """
    frames, labels = values.max_sequence_length, values.max_label_length
    if whole and not values["max_sequence_length"].present:
        frames = constants.EVALUATION_SEQUENCE_LENGTH
    if whole and not values["max_label_length"].present:
        labels = constants.EVALUATION_LABEL_LENGTH
    return frames, labels


def asked_copies(values: flags.FlagValues) -> Copies:
    """The augmented copies that the flags ask for."""
    if not values.augment:
        return waveform.NO_COPIES
    number = values.augmented_copies or 1
    return waveform.copies_of(values.augment, number, values.random_seed)


def asked_front_end(values: flags.FlagValues) -> FrontEnd:
    """The front end that the flags ask for.

    Raises:
        UserError: its values can't be, or a flag is given that its features have no use for.
    """
    for flag, kinds in FLAGS_OF_FEATURES.items():
        if values[flag].present and values.features not in kinds:
            raise UserError(
                f"--{flag}={values[flag].value} means nothing to --features={values.features}: it "
                f"is of {', '.join(kinds)}. Leave out one of them."
            )
    asked = FrontEnd(
        features=values.features,
        sample_rate=values.sample_rate,
        window_seconds=values.winlen,
        step_seconds=values.winstep,
        fft_size=values.nfft,
        mel_filters=values.nrof_fbanks,
        highest_frequency=min(constants.HIGHEST_FREQUENCY, values.sample_rate / 2),
        coefficients=values.numcep,
        deltas=values.deltas,
        normalisation=values.normalisation,
    )
    if empty := front_end.empty_filters(asked):
        logging.warning(
            "%d of %d mel filters are narrower than the distance of two frequencies and stay "
            "empty: raise --nfft=%d or lower --nrof_fbanks.",
            empty,
            asked.mel_filters,
            asked.fft_size,
        )
    return asked


def check_name(tfrecords_file: str) -> None:
    """Raises UserError if no set of shards can have this name."""
    storage.check_path(tfrecords_file)
    example = constants.TRAIN_SET
    if os.path.basename(tfrecords_file) in ("", ".", ".."):
        raise UserError(
            f"--tfrecords_file={tfrecords_file} is a folder: add the name that the shards' names "
            f"begin with, as in {os.path.join(tfrecords_file, example)}."
        )
    if of_a_set := re.fullmatch(r"(.*[^/])\.([0-9]{8}|index\.json)", tfrecords_file):
        raise UserError(
            f"--tfrecords_file={tfrecords_file} names one file of a set: give what all its names "
            f"begin with, {of_a_set[1]}."
        )


def check_tasks(values: flags.FlagValues, *others: str) -> None:
    """Raises UserError if the flags ask for several things of which one would be left undone.

    Args:
        others: names of the door's own flags that ask for something else than shards.
    """
    if values.runner == "":
        raise UserError(
            "--runner= names no Apache Beam runner: give one, as in --runner=DirectRunner, or "
            "leave it out to prepare without."
        )
    if values.runner_options and not values.runner:
        raise UserError("--runner_options are of an Apache Beam runner: name it by --runner.")
    asked = [*others, "stats", "verify", "upload_to", "runner"]
    tasks = [f"--{name}" for name in asked if values[name].value not in (None, False, [])]
    if len(tasks) > 1 and tasks != ["--verify", "--upload_to"]:
        raise UserError(
            f"{' and '.join(tasks)} can't be done by one call: give one of them, and the other in "
            "a call of its own."
        )


def check_augmentation(values: flags.FlagValues) -> None:
    """Raises UserError if augmented copies are asked for of nothing, or of what has none."""
    if values.augmented_copies and not values.augment:
        raise UserError(
            f"--augmented_copies={values.augmented_copies} of what? Say by --augment how they "
            "differ from the recordings (docs/augmentation.md)."
        )
    if values.augment and values.stats:
        raise UserError(
            "--stats measures recordings, not copies that --augment would make: leave it out."
        )
