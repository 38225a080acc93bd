"""Flags of the model that is evaluated and of the sets that it is evaluated with."""

from typing import Any

from absl import flags

import constants
from speech.flags import corpus, kinds, transcripts
from speech.flags.checkpoint import define_checkpoint_flags
from speech.flags.rules import check_rules
from speech.networks.config import config_path
from speech.preparation.sets import CorpusSettings
from speech.system import storage
from utils import UserError


def define_model_flags() -> None:
    """Defines the flags that `model_from_flags` reads, and those of a directory's checkpoint."""
    flags.DEFINE_string("model_dir", constants.MODEL_DIR, "Directory of the trained model.")
    kinds.define_alias("checkpoint_dir", "model_dir")
    flags.DEFINE_string(
        "model",
        None,
        "SavedModel or .tflite file of export.py, or .tflite, .pb or .pbmm file of DeepSpeech, "
        "instead of --model_dir.",
    )
    define_checkpoint_flags()


def define_test_set_flags() -> None:
    """Defines the flags of the sets."""
    kinds.define_paths(
        "test_data",
        constants.TEST_DATA,
        "Test shards: globs or gs:// globs, separated by commas.",
    )
    kinds.define_paths(
        "test_files",
        [],
        "Tables (DeepSpeech's CSV and others) or folders of recordings, a set each, instead of "
        "--test_data.",
    )
    corpus.define_limit_flag("test")
    corpus.define_reading_flags()
    transcripts.define_transcript_flags()


def check_evaluation_flags(values: Any) -> None:
    """Raises UserError if the flags contradict each other; values: absl's FLAGS."""
    of_directory = [
        f"--{flag}"
        for flag in ("model_dir", "checkpoint", "average_checkpoints", "use_tpu")
        if values[flag].present and values[flag].value
    ]
    of_files = [
        f"--{flag}"
        for flag in ("limit_test", "format", "audio_root", "id_pattern", "language")
        if values[flag].value
    ]
    check_rules(
        [
            (
                values.model == "",
                "--model= is empty: name a model, or leave it out.",
            ),
            (
                values.model and of_directory and not is_directory(values.model),
                f"--model={values.model} is a whole model, and {', '.join(of_directory)} has no "
                "effect on it: leave one of them out.",
            ),
            (
                values.test_files and values["test_data"].present,
                "--test_files are read instead of --test_data: leave one of them out.",
            ),
            (
                values.test_files and values.use_tpu,
                "--use_tpu needs shards: prepare --test_files with prepare_csv.py, and give "
                "--test_data.",
            ),
            (
                of_files and not values.test_files,
                f"{', '.join(of_files)} is of --test_files: shards are as they were prepared.",
            ),
            (
                values.compare and len(values.test_files or values.test_data) > 1,
                "--compare compares one set: give --test_data or --test_files one, the other's.",
            ),
        ]
    )


def is_directory(path: str) -> bool:
    """Returns whether a path is a model directory."""
    return storage.exists(config_path(path))


def model_from_flags(values: Any) -> tuple[str, bool]:
    """Returns the model's path, and whether it is a model directory."""
    path = values.model or values.model_dir
    return path, not values.model or is_directory(path)


def corpus_from_flags(values: Any) -> CorpusSettings | None:
    """Returns the corpus of --test_files; None: there are shards.

    Raises:
        UserError: a value is invalid.
    """
    return corpus.test_corpus_from_flags(values) if values.test_files else None


def test_data_from_flags(values: Any) -> list[str]:
    """Returns the globs of the test shards.

    Raises:
        UserError: none is given, and the default has no shards.
    """
    patterns: list[str] = values.test_data
    if not values["test_data"].present and not any(map(storage.sizes, patterns)):
        raise UserError(
            f"There is no test set: no shards match {', '.join(patterns)}. Give tables or folders "
            "of recordings with --test_files, or shards of prepare_csv.py or prepare_libri.py with "
            "--test_data."
        )
    return patterns
