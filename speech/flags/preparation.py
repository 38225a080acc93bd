"""Flags of the doors that prepare shards, and their settings."""

import os
import re
from typing import Any

from absl import flags, logging

import constants
from speech.augmentation import waveform
from speech.augmentation.waveform import Copies
from speech.features import front_end
from speech.features.front_end import FrontEnd
from speech.flags import kinds
from speech.flags.rules import check_rules
from speech.preparation.beam import Runner
from speech.preparation.tasks import ExecutionSettings
from speech.shards.index import ShardSettings
from speech.system import storage
from utils import Alphabet, UserError

# Flags that apply only to some kinds of features.
FLAGS_OF_FEATURES = {
    "nfft": (front_end.FBANK, front_end.MFCC, front_end.SPECTROGRAM),
    "nrof_fbanks": (front_end.FBANK, front_end.MFCC),
    "numcep": (front_end.MFCC,),
    "deltas": (front_end.FBANK, front_end.MFCC, front_end.SPECTROGRAM),
}

# Frames between two outputs of the network that is usually trained on some kinds of features.
_DEFAULT_STRIDES = {front_end.DEEPSPEECH: 1}


def define_shard_flags() -> None:
    """Defines the flags of shards except for those of `define_front_end_flags`."""
    kinds.define_integer(
        "partition_size", constants.PARTITION_SIZE, "Utterances per shard.", lower_bound=1
    )
    kinds.define_integer(
        "starting_position",
        constants.STARTING_POSITION,
        "Corpus position of the first utterance to prepare, in sorted order.",
        lower_bound=0,
    )
    kinds.define_integer(
        "max_sequence_length",
        constants.MAX_SEQUENCE_LENGTH,
        "Number of frames that records are padded to; longer utterances are skipped. Default for "
        f"development and test sets: {constants.EVALUATION_SEQUENCE_LENGTH}, to keep them whole.",
        lower_bound=1,
        upper_bound=constants.LONGEST_SEQUENCE,
    )
    kinds.define_integer(
        "max_label_length",
        constants.MAX_LABEL_LENGTH,
        "Number of labels that records are padded to; longer transcripts are skipped. Default for "
        f"development and test sets: {constants.EVALUATION_LABEL_LENGTH}.",
        lower_bound=1,
        upper_bound=constants.LONGEST_LABEL,
    )
    kinds.define_integer(
        "stride_size",
        None,
        "Frames between two outputs of the network that will be trained: utterances with more "
        f"labels than outputs are skipped. Default: {constants.STRIDE_SIZE}; of deepspeech 1.",
        lower_bound=1,
        upper_bound=constants.LONGEST_SEQUENCE,
    )
    flags.DEFINE_bool("pad", True, "Padding of records; --nopad saves about a quarter of the size.")
    flags.DEFINE_string(
        "alphabet",
        None,
        "File with one character per line, or utf-8 for the bytes of any text. Default: a-z, space "
        "and apostrophe.",
    )
    kinds.define_alias("alphabet_config_path", "alphabet")
    flags.DEFINE_multi_string(
        "augment",
        [],
        "Augmentation of additional copies of every utterance, e.g. "
        "--augment='reverb[p=0.5,delay=20~10]' --augment='speed[factor=0.9:1.1]'; see "
        "docs/augmentation.md.",
    )
    kinds.define_integer(
        "augmented_copies",
        None,
        "Number of augmented copies per utterance. Default with --augment: 1.",
        lower_bound=1,
        upper_bound=constants.MOST_COPIES,
    )
    kinds.define_random_seed("Seed of the augmented copies.")
    flags.DEFINE_bool("strict", False, "Failure at the first unusable utterance.")
    kinds.define_integer(
        "workers",
        os.cpu_count(),
        "Number of processes.",
        lower_bound=1,
        upper_bound=constants.MOST_WORKERS,
    )
    flags.DEFINE_string(
        "runner",
        None,
        "Apache Beam runner that prepares on many machines, e.g. DataflowRunner, FlinkRunner, or "
        "DirectRunner for this machine; see docs/shards.md.",
    )
    flags.DEFINE_list(
        "runner_options",
        [],
        "Options of the runner, e.g. "
        "project=my-project,region=us-central1,temp_location=gs://BUCKET/tmp.",
    )


def define_task_flags() -> None:
    """Defines the flags of tasks other than preparation."""
    flags.DEFINE_bool(
        "stats",
        False,
        "Report of hours, speakers, lengths and the effect of limits on the lengths, with figures "
        f"in {constants.REPORT_DIR}/, instead of preparing.",
    )
    flags.DEFINE_bool(
        "verify",
        False,
        "Verification of the checksums of all records of prepared sets, instead of preparing.",
    )
    flags.DEFINE_string(
        "upload_to",
        None,
        "Folder in a bucket to copy the shards of prepared sets to, e.g. gs://BUCKET/data, instead "
        "of preparing. Equal files are not sent again. With --verify, the shards are verified "
        "first.",
    )


def define_front_end_flags() -> None:
    """Defines the flags of the front end; see `FrontEnd`."""
    kinds.define_choice(
        "features",
        front_end.FBANK,
        front_end.FEATURES,
        "Kind of features: log mel filterbank energies, cepstral coefficients, log power spectrum, "
        "samples, or Mozilla DeepSpeech's cepstral coefficients.",
    )
    kinds.define_integer("sample_rate", constants.SAMPLE_RATE, "Sample rate in Hz.")
    kinds.define_alias("audio_sample_rate", "sample_rate")
    kinds.define_number(
        "winlen",
        constants.WINDOW_SECONDS,
        "Length of a frame in seconds. Default of deepspeech: 0.032.",
    )
    kinds.define_number(
        "winstep",
        constants.STEP_SECONDS,
        "Seconds between the starts of two frames. Default of deepspeech: 0.02.",
    )
    kinds.define_integer(
        "nfft", constants.FFT_SIZE, "Size of the FFT in samples; frames are padded with zeros."
    )
    kinds.define_integer(
        "nrof_fbanks", constants.MEL_FILTERS, "Number of mel filters of fbank and mfcc."
    )
    kinds.define_integer(
        "numcep", constants.CEPSTRAL_COEFFICIENTS, "Number of coefficients of mfcc."
    )
    kinds.define_integer(
        "deltas",
        0,
        "Number of orders of time derivatives that are appended to each frame.",
        lower_bound=0,
        upper_bound=front_end.MOST_DELTAS,
    )
    kinds.define_choice(
        "normalisation",
        front_end.UTTERANCE,
        front_end.NORMALISATIONS,
        "Normalisation of mean and deviation of each bin: over the utterance, over the training "
        "set, or none. Default of deepspeech: none.",
    )


def execution_from_flags(values: flags.FlagValues) -> ExecutionSettings:
    """Returns how a preparation runs."""
    runner = None
    if values.runner:
        workers = values.workers if values["workers"].present else None
        runner = Runner(values.runner, values.runner_options, workers)
    return ExecutionSettings(values.starting_position, values.workers, runner, values.strict)


def shard_settings_from_flags(
    values: flags.FlagValues, alphabet: Alphabet, for_evaluation: bool
) -> ShardSettings:
    """Returns the contents of shards.

    Args:
        for_evaluation: limits that are not given keep the set whole.

    Raises:
        UserError: a value is invalid.
    """
    frames, labels = limits_from_flags(values, for_evaluation)
    return ShardSettings(
        front_end=front_end_from_flags(values),
        alphabet=alphabet,
        partition_size=values.partition_size,
        max_sequence_length=frames,
        max_label_length=labels,
        padded=values.pad,
        stride=stride_from_flags(values),
        copies=copies_from_flags(values),
    )


def stride_from_flags(values: flags.FlagValues) -> int:
    """Returns the frames between two outputs of the network that the shards are for."""
    return values.stride_size or _DEFAULT_STRIDES.get(values.features, constants.STRIDE_SIZE)


def limits_from_flags(values: flags.FlagValues, for_evaluation: bool) -> tuple[int, int]:
    """Returns the maximum number of frames and labels of a record."""
    frames, labels = values.max_sequence_length, values.max_label_length
    if for_evaluation and not values["max_sequence_length"].present:
        frames = constants.EVALUATION_SEQUENCE_LENGTH
    if for_evaluation and not values["max_label_length"].present:
        labels = constants.EVALUATION_LABEL_LENGTH
    return frames, labels


def copies_from_flags(values: flags.FlagValues) -> Copies:
    """Returns the augmented copies of each utterance."""
    if not values.augment:
        return waveform.NO_COPIES
    number = values.augmented_copies or 1
    return waveform.copies_of(values.augment, number, values.random_seed)


def front_end_from_flags(values: flags.FlagValues) -> FrontEnd:
    """Returns the front end.

    Raises:
        UserError: a value is invalid, or a flag doesn't apply to the kind of features.
    """
    for flag, features in FLAGS_OF_FEATURES.items():
        if values[flag].present and values.features not in features:
            raise UserError(
                f"--{flag}={values[flag].value} has no effect on --features={values.features}, "
                f"only on {', '.join(features)}: leave out one of them."
            )
    if values.features == front_end.DEEPSPEECH:
        given: dict[str, Any] = {
            name: values[flag].value
            for flag, name in (
                ("winlen", "window_seconds"),
                ("winstep", "step_seconds"),
                ("normalisation", "normalisation"),
            )
            if values[flag].present
        }
        return front_end.deepspeech(values.sample_rate, **given)
    settings = FrontEnd(
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
    if empty := front_end.empty_filters(settings):
        logging.warning(
            "%d of %d mel filters are narrower than the spacing of the frequencies and stay empty: "
            "raise --nfft=%d or lower --nrof_fbanks.",
            empty,
            settings.mel_filters,
            settings.fft_size,
        )
    return settings


def check_name(tfrecords_file: str) -> None:
    """Raises UserError if a set of shards can't have this name."""
    storage.check_path(tfrecords_file)
    example = constants.TRAIN_SET
    if os.path.basename(tfrecords_file) in ("", ".", ".."):
        raise UserError(
            f"--tfrecords_file={tfrecords_file} is a folder: add the name that the shards' names "
            f"begin with, as in {os.path.join(tfrecords_file, example)}."
        )
    if of_a_set := re.fullmatch(r"(.*[^/])\.([0-9]{8}|index\.json)", tfrecords_file):
        raise UserError(
            f"--tfrecords_file={tfrecords_file} names one file of a set: give the beginning of all "
            f"its names, {of_a_set[1]}."
        )


def check_task_flags(values: flags.FlagValues, *others: str) -> None:
    """Raises UserError if the flags request several tasks that one call can't do.

    Args:
        others: names of other flags of the door that request a task.
    """
    names = [*others, "stats", "verify", "upload_to", "runner"]
    tasks = [f"--{name}" for name in names if values[name].value not in (None, False, [])]
    check_rules(
        [
            (
                values.runner == "",
                "--runner= names no Apache Beam runner: give one, as in --runner=DirectRunner, or "
                "leave it out to prepare without Beam.",
            ),
            (
                values.runner_options and not values.runner,
                "--runner_options requires --runner, which names an Apache Beam runner.",
            ),
            (
                len(tasks) > 1 and tasks != ["--verify", "--upload_to"],
                f"{' and '.join(tasks)} can't be combined: run one command for each.",
            ),
        ]
    )


def check_augmentation_flags(values: flags.FlagValues) -> None:
    """Raises UserError if the flags of augmented copies contradict others."""
    check_rules(
        [
            (
                values.augmented_copies and not values.augment,
                f"--augmented_copies={values.augmented_copies} requires --augment, which defines "
                "the augmentation (docs/augmentation.md).",
            ),
            (
                values.augment and values.stats,
                "--stats measures the original recordings only: leave out --augment.",
            ),
        ]
    )
