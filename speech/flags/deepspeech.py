"""Flags of DeepSpeech.py, and the arguments of this project's doors that have their meaning.

Names, kinds and defaults are those of training/deepspeech_training/util/flags.py of Mozilla
DeepSpeech 0.9.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags, logging

import constants
from speech.audio.reader import LOWEST_RATE
from speech.augmentation.grammar import SIGNAL_KINDS, parse_features, parse_signal
from speech.decoding.scorer import LARGEST_GAIN
from speech.deepspeech_training.settings import Doors, Folders, Report, RunSettings
from speech.features import front_end
from speech.flags import kinds
from speech.flags.rules import check_rules
from utils import UTF8_NAME, UserError

# The alphabet that DeepSpeech.py reads if none is named.
DEFAULT_ALPHABET = "data/alphabet.txt"


def _define_boolean(name: str, default: bool, meaning: str) -> None:
    flags.DEFINE_bool(name, default, meaning)


_Define = Callable[[str, Any, str], None]
_BOOLEAN: _Define = _define_boolean
_INTEGER: _Define = kinds.define_integer
_NUMBER: _Define = kinds.define_number

# Flag -> its kind and default, and the flags of each door that get its value.
_TRAINING = {
    "n_hidden": (_INTEGER, 2048, ("dense_unit_size", "recurrent_unit_size"), "Units of a layer."),
    "dropout_rate": (_NUMBER, 0.05, ("dropout",), "Dropout rate of the dense layers."),
    "learning_rate": (_NUMBER, 0.001, ("learning_rate",), "Learning rate of Adam."),
    "layer_norm": (_BOOLEAN, False, ("layer_norm",), "Layer normalisation of the dense layers."),
    "train_batch_size": (_INTEGER, 1, ("train_batch_size",), "Utterances in a training batch."),
    "dev_batch_size": (_INTEGER, 1, ("eval_batch_size",), "Utterances in a batch of --dev_files."),
    "max_to_keep": (_INTEGER, 5, ("keep_checkpoint_max",), "Latest checkpoints that are kept."),
    "random_seed": (_INTEGER, 4568, ("random_seed",), "Seed of weights, order and dropout."),
    "automatic_mixed_precision": (_BOOLEAN, False, ("bfloat16",), "Products in bfloat16."),
}
# Lower bounds other than 1 or just above 0, and upper bounds, those of the doors.
_LEAST = {
    **dict.fromkeys(("random_seed", "dropout_rate", "lm_alpha", "es_min_delta"), 0),
    "lm_beta": -LARGEST_GAIN,
}
_MOST = {
    "dropout_rate": 0.95,
    "train_batch_size": constants.LARGEST_BATCH_SIZE,
    "dev_batch_size": constants.LARGEST_BATCH_SIZE,
    "max_to_keep": constants.MOST_CHECKPOINTS,
    "plateau_reduction": 1,
    "beam_width": constants.LARGEST_BEAM_WIDTH,
    "cutoff_prob": 1,
    "lm_alpha": LARGEST_GAIN,
    "lm_beta": LARGEST_GAIN,
}
_WAITING = {
    "early_stop": (_BOOLEAN, False, "End of training when the loss on --dev_files stops falling."),
    "es_epochs": (_INTEGER, 25, "Epochs without a better loss after which training ends."),
    "es_min_delta": (_NUMBER, 0.05, "Difference by which a better loss is lower."),
    "reduce_lr_on_plateau": (_BOOLEAN, False, "A lower learning rate when the loss stops falling."),
    "plateau_epochs": (_INTEGER, 10, "Epochs without a better loss after which it is lowered."),
    "plateau_reduction": (_NUMBER, 0.1, "Factor on the learning rate on a plateau."),
}
_SEARCH = {
    "beam_width": (_INTEGER, 1024, "Number of prefixes that the beam search keeps."),
    "cutoff_prob": (_NUMBER, 1.0, "Sum of probabilities after which the search tries no more."),
    "cutoff_top_n": (_INTEGER, 300, "Number of characters that the search tries at an output."),
}
_WEIGHTS = {
    "lm_alpha": (_NUMBER, 0.931289039105002, "Weight of the scorer's language model."),
    "lm_beta": (_NUMBER, 1.1834137581510284, "Bonus of each word, with a scorer."),
}
_NAMING = {
    "export_author_id": ("author", "Author of the exported model."),
    "export_model_name": ("model", "Name of the exported model."),
    "export_model_version": ("0.0.1", "Version of the exported model."),
    "export_language": ("", "Language of the exported model."),
    "export_license": ("", "Licence of the exported model."),
    "export_description": ("", "Description of the exported model."),
}
_STRINGS = {
    "feature_cache": ("", "Folder of the shards. Default: shards in --save_checkpoint_dir."),
    "alphabet_config_path": (
        "",
        f"Alphabet. Default: {DEFAULT_ALPHABET}, else DeepSpeech's English.",
    ),
    "scorer_path": ("", "Scorer that the test uses; empty for none."),
    "checkpoint_dir": ("", "Folder that a model is loaded from and saved in."),
    "load_checkpoint_dir": ("", "Folder to load from, DeepSpeech's own too, if it is another."),
    "save_checkpoint_dir": ("", "Folder to save in, if it is another."),
    "export_dir": ("", "Folder of the exported model; empty: nothing is exported."),
    "export_file_name": ("output_graph", "Name of the exported .tflite file."),
    "one_shot_infer": ("", "Recording to transcribe."),
    "test_output_file": ("", "JSON file of every transcript of the test."),
}
_MILLISECONDS = {"feature_win_len": (32, "winlen"), "feature_win_step": (20, "winstep")}
_SETS = ("train", "dev", "test")

# Flags that change nothing here, and why.
IGNORED_BOOLEANS = {
    "use_allow_growth": "memory of a GPU is TensorFlow's affair",
    "load_cudnn": "a checkpoint is the same on every device",
    "train_cudnn": "a GPU is used if there is one",
    "log_placement": "--log_level=0 shows more",
    "remove_export": "files of equal names are replaced",
}
IGNORED_VALUES = {
    "read_buffer": "shards are read",
    "cache_for_epochs": "shards are kept until the corpus changes",
    "inter_op_parallelism_threads": "set TF_NUM_INTEROP_THREADS",
    "intra_op_parallelism_threads": "set TF_NUM_INTRAOP_THREADS",
    "checkpoint_secs": "checkpoints are written every 500 steps and after every epoch",
    "summary_dir": "TensorBoard's files are in --save_checkpoint_dir",
    "export_contact_info": "write it into model_card.md",
    "export_min_ds_version": "exported files are this project's",
    "export_max_ds_version": "exported files are this project's",
    "lm_alpha_max": "it is of tune_lm.py",
    "lm_beta_max": "it is of tune_lm.py",
    "n_trials": "it is of tune_lm.py",
}
# Flag -> the only value that is accepted, and what to do instead of giving another.
REFUSED: dict[str, tuple[bool | float | str, str]] = {
    "dropout_rate4": (0.0, "the LSTM has no dropout"),
    "dropout_rate5": (0.0, "the LSTM's output has no dropout"),
    "relu_clip": (20.0, "the networks clip at 20"),
    "beta1": (0.9, "Adam has its paper's numbers"),
    "beta2": (0.999, "Adam has its paper's numbers"),
    "epsilon": (1e-8, "Adam has its paper's numbers"),
    "reverse_train": (False, "training shuffles: training.py --sorta_grad has an order"),
    "reverse_dev": (False, "reverse the rows of the CSV file"),
    "reverse_test": (False, "reverse the rows of the CSV file"),
    "metrics_files": ("", "give them as --test_files to a run without --train_files"),
    "force_initialize_learning_rate": (
        False,
        "continue in another folder, with --load_checkpoint_dir and --save_checkpoint_dir",
    ),
    "n_steps": (16, "an exported model takes any number of frames"),
    "export_batch_size": (1, "an exported model takes any batch"),
    "export_beam_width": (500, "give --beam_width to the program that uses the model"),
    "export_zip": (False, "give --export_tflite, and zip --export_dir with the scorer"),
}
_OWN_RATES = ("dropout_rate2", "dropout_rate3", "dropout_rate6")  # -1: as dropout_rate
LOGGING = ("debug", "info", "warning", "error")  # by --log_level


def _bounds(name: str, define: Callable[..., None]) -> dict[str, float]:
    """Returns the bounds of a flag, so that a wrong value isn't found after hours of training."""
    if define is _BOOLEAN:
        return {}
    bounds = {"lower_bound": _LEAST.get(name, 1 if define is _INTEGER else 1e-12)}
    return {**bounds, "upper_bound": _MOST[name]} if name in _MOST else bounds


def define_flags() -> None:
    """Defines the flags of DeepSpeech.py."""
    for name in _SETS:
        kinds.define_paths(f"{name}_files", [], f"CSV files of the {name} set; empty for none.")
        kinds.define_integer(f"limit_{name}", 0, "Rows to use; 0: all.", lower_bound=0)
    for name, (default, meaning) in {**_STRINGS, **_NAMING}.items():
        flags.DEFINE_string(name, default, meaning)
    flags.DEFINE_alias("scorer", "scorer_path")
    of_training = {
        name: (kind, number, text) for name, (kind, number, _, text) in _TRAINING.items()
    }
    tables = {**of_training, **_WAITING, **_SEARCH, **_WEIGHTS}
    for name, (define, number, meaning) in tables.items():
        define(name, number, meaning, **_bounds(name, define))
    for name, (milliseconds, _) in _MILLISECONDS.items():
        kinds.define_integer(
            name,
            milliseconds,
            "Milliseconds of a frame, or between two.",
            lower_bound=1,
            upper_bound=int(1000 * front_end.LONGEST_STEP),
        )
    kinds.define_integer(
        "audio_sample_rate",
        16000,
        "Sample rate of the model in Hz.",
        lower_bound=LOWEST_RATE,
        upper_bound=front_end.HIGHEST_RATE,
    )
    kinds.define_integer("epochs", 75, "Number of epochs of this run.", lower_bound=0)
    kinds.define_integer(
        "test_batch_size",
        1,
        "Utterances in a batch of --test_files.",
        lower_bound=1,
        upper_bound=constants.LARGEST_BATCH_SIZE,
    )
    kinds.define_integer("drop_source_layers", 0, "Last layers that are not loaded.", lower_bound=0)
    kinds.define_integer("report_count", 5, "Samples of each kind that a test prints.")
    kinds.define_integer("log_level", 1, "Lowest level of messages.", 0, len(LOGGING) - 1)
    kinds.define_choice(
        "load_train", "auto", ("auto", "best", "last", "init"), "Model to continue."
    )
    kinds.define_choice("load_evaluate", "auto", ("auto", "best", "last"), "Model to test, export.")
    flags.DEFINE_multi_string("augment", [], "Augmentation, see docs/augmentation.md.")
    flags.DEFINE_bool("bytes_output_mode", False, "The bytes of UTF-8 as alphabet.")
    flags.DEFINE_alias("utf8", "bytes_output_mode")
    flags.DEFINE_bool("export_tflite", False, "Export of weights in 8 bits.")
    flags.DEFINE_bool("show_progressbar", True, "Messages about the progress.")
    _define_others()


def _define_others() -> None:
    """Defines the flags that have no effect, and those that have one value."""
    for name, why in IGNORED_BOOLEANS.items():
        flags.DEFINE_bool(name, False, f"No effect: {why}.")
    for name, why in IGNORED_VALUES.items():
        flags.DEFINE_string(name, None, f"No effect: {why}.")
    for name in _OWN_RATES:
        kinds.define_number(name, -1.0, "The rate of --dropout_rate, or -1.")
    for name, (only, remedy) in REFUSED.items():
        meaning = f"Only the default: {remedy}."
        if isinstance(only, bool):
            flags.DEFINE_bool(name, only, meaning)
        elif isinstance(only, int):
            kinds.define_integer(name, only, meaning)
        elif isinstance(only, float):
            kinds.define_number(name, only, meaning)
        else:
            flags.DEFINE_string(name, only, meaning)


def join_booleans(arguments: Sequence[str], values: flags.FlagValues) -> list[str]:
    """Joins `--early_stop True` to `--early_stop=true`, the form that absl takes."""
    joined: list[str] = []
    for each in arguments:
        before = joined[-1].lstrip("-") if joined and joined[-1].startswith("-") else ""
        if each.lower() in ("true", "false") and before in values and values[before].boolean:
            joined[-1] += f"={each.lower()}"
            if each.lower() == "false":
                logging.info("--%s %s is false; DeepSpeech.py took it for true.", before, each)
        else:
            joined.append(each)
    return joined


def run_from_flags(values: Any) -> RunSettings:
    """Returns what to run; logs a line for each flag that has no effect; values: absl's FLAGS.

    Raises:
        UserError: a flag can't be honoured, or flags contradict each other.
    """
    _refuse(values)
    for name, why in {**IGNORED_BOOLEANS, **IGNORED_VALUES}.items():
        if values[name].present:
            logging.info("--%s has no effect: %s.", name, why)
    load = values.load_checkpoint_dir or values.checkpoint_dir or _default_folder()
    save = values.save_checkpoint_dir or values.checkpoint_dir or _default_folder()
    level = LOGGING[values.log_level]
    if not values.show_progressbar and level == "info":
        level = "warning"
    return RunSettings(
        files={name: tuple(values[f"{name}_files"].value) for name in _SETS},
        limits={name: values[f"limit_{name}"].value for name in _SETS},
        folders=Folders(load, save, values.feature_cache or os.path.join(save, "shards")),
        doors=_doors(values),
        report=Report(values.report_count, values.bytes_output_mode, values.test_output_file),
        epochs=values.epochs,
        train_batch_size=values.train_batch_size,
        early_stop=values.early_stop and bool(values.dev_files),
        es_epochs=values.es_epochs,
        n_hidden=values.n_hidden,
        layer_norm=values.layer_norm,
        load_train=values.load_train,
        load_evaluate=values.load_evaluate,
        drop_layers=values.drop_source_layers,
        export_dir=values.export_dir,
        export_file_name=values.export_file_name,
        one_shot_infer=values.one_shot_infer,
        scorer=values.scorer_path,
        show_progress=values.show_progressbar,
        logging=level,
    )


def _default_folder() -> str:
    """Returns DeepSpeech's own default, in the user's folder of data."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(home, "deepspeech", "checkpoints")


def _refuse(values: flags.FlagValues) -> None:
    """Raises UserError if a flag can't be honoured, a file is missing, or there is no task."""
    for name, (only, remedy) in REFUSED.items():
        if values[name].value != only:
            raise UserError(
                f"--{name}={values[name].value} is not possible, only {only}: {remedy}."
            )
    for name in _OWN_RATES:
        if values[name].value not in (-1.0, values.dropout_rate):
            raise UserError(
                f"--{name}={values[name].value} is not possible: all layers have the rate of "
                f"--dropout_rate={values.dropout_rate:g}. Leave it out."
            )
    for name in ("alphabet_config_path", "scorer_path", "one_shot_infer"):
        path = values[name].value
        if path and not path.startswith("gs://") and not os.path.isfile(path):
            raise UserError(f"--{name}={path} is no file: check the path.")
    check_rules(
        [
            (
                not any(values[f"{name}_files"].value for name in ("train", "test"))
                and not values.export_dir
                and not values.one_shot_infer,
                "There is nothing to do: give --train_files to train, --test_files to test, "
                "--export_dir to export, or --one_shot_infer to transcribe.",
            ),
            (
                values.one_shot_infer and values.load_evaluate == "last",
                "--load_evaluate=last has no effect on --one_shot_infer, which takes the best "
                "model: leave it out.",
            ),
        ]
    )


def _doors(values: flags.FlagValues) -> Doors:
    """Returns the arguments of each door that follow from flags alone."""
    signals = [each for each in values.augment if each.partition("[")[0].strip() in SIGNAL_KINDS]
    others = [each for each in values.augment if each not in signals]
    for each in signals:
        parse_signal(each)
    parse_features(others, front_end.DEEPSPEECH)
    training = [
        _argument(ours, values[name].value)
        for name, (_, _, names, _) in _TRAINING.items()
        for ours in names
    ]
    if values.dev_files:
        training += [_argument(name, values[name].value) for name in _WAITING]
    elif values.early_stop or values.reduce_lr_on_plateau:
        logging.info("--early_stop and --reduce_lr_on_plateau have no effect without --dev_files.")
    search = [_argument(name, values[name].value) for name in _SEARCH]
    if values.scorer_path:
        search += [_argument("scorer", values.scorer_path)]
        search += [_argument(name, values[name].value) for name in _WEIGHTS]
    return Doors(
        preparation=tuple(_preparation(values)),
        copies=tuple(_argument("augment", each) for each in signals),
        alphabet=_alphabet(values),
        training=(*training, *(_argument("augment", each) for each in others)),
        evaluation=(*search, _argument("eval_batch_size", values.test_batch_size)),
        transcription=tuple(search),
        export=(
            *(_argument(name, values[name].value) for name in _NAMING),
            f"--formats={'tflite_int8' if values.export_tflite else 'tflite'}",
        ),
    )


def _preparation(values: Any) -> list[str]:
    """Returns the front end's arguments."""
    given = [_argument("sample_rate", values.audio_sample_rate)]
    for name, (milliseconds, ours) in _MILLISECONDS.items():
        if values[name].value != milliseconds:
            given.append(_argument(ours, values[name].value / 1000))
    return given


def _alphabet(values: flags.FlagValues) -> str:
    """Returns the alphabet's file, or utf-8; empty: DeepSpeech's own."""
    if values.bytes_output_mode:
        return UTF8_NAME
    is_there = os.path.isfile(DEFAULT_ALPHABET)
    return values.alphabet_config_path or (DEFAULT_ALPHABET if is_there else "")


def _argument(name: str, value: object) -> str:
    return f"--{name}={str(value).lower() if isinstance(value, bool) else value}"
