"""Flags of DeepSpeech.py become arguments of this project's doors."""

import re
from pathlib import Path

import pytest
from absl import flags
from doors import parse_flags

import eval as evaluation_door
import export
import prepare_csv
import training
import transcribe
from speech.deepspeech_training.settings import RunSettings
from speech.flags import deepspeech
from utils import UserError

SETS = ("--train_files=train.csv", "--dev_files=dev.csv", "--test_files=a.csv,b.csv")


def parse(*given: str) -> flags.FlagValues:
    return parse_flags(deepspeech.define_flags, *given)


def run_of(*given: str) -> RunSettings:
    return deepspeech.run_from_flags(parse(*SETS, *given))


@pytest.fixture(autouse=True)
def in_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_argument_is_a_flag_of_its_door(tmp_path: Path) -> None:
    scorer = tmp_path / "x.scorer"
    scorer.touch()
    given = ("--augment=time_mask[p=0.1]", "--augment=volume", f"--scorer={scorer}")
    doors = run_of(*given, "--feature_win_len=40", "--export_tflite").doors
    for door, arguments in (
        (prepare_csv, (*doors.preparation, *doors.copies)),
        (training, doors.training),
        (evaluation_door, doors.evaluation),
        (transcribe, doors.transcription),
        (export, doors.export),
    ):
        parse_flags(door.define_flags, *arguments)


@pytest.mark.parametrize(
    ("given", "door", "arguments"),
    [
        ((), "training", ["--dense_unit_size=2048", "--train_batch_size=1", "--random_seed=4568"]),
        (("--n_hidden=64",), "training", ["--dense_unit_size=64", "--recurrent_unit_size=64"]),
        (("--dropout_rate=0.3",), "training", ["--dropout=0.3"]),
        (("--dev_batch_size=7",), "training", ["--eval_batch_size=7"]),
        (("--max_to_keep=2",), "training", ["--keep_checkpoint_max=2"]),
        (("--layer_norm",), "training", ["--layer_norm=true"]),
        (("--early_stop=True", "--es_epochs=3"), "training", ["--early_stop=true"]),
        (("--noearly_stop",), "training", ["--early_stop=false", "--es_epochs=25"]),
        (("--automatic_mixed_precision",), "training", ["--bfloat16=true"]),
        (("--augment=tempo[p=0.1]",), "training", ["--augment=tempo[p=0.1]"]),
        (("--augment=volume[p=0.1]",), "copies", ["--augment=volume[p=0.1]"]),
        (("--test_batch_size=9",), "evaluation", ["--eval_batch_size=9"]),
        ((), "evaluation", ["--beam_width=1024", "--cutoff_top_n=300"]),
        (("--audio_sample_rate=8000",), "preparation", ["--sample_rate=8000"]),
        (("--feature_win_step=10",), "preparation", ["--winstep=0.01"]),
        ((), "export", ["--formats=tflite", "--export_author_id=author"]),
        (("--export_tflite",), "export", ["--formats=tflite_int8"]),
        (("--export_language=de",), "export", ["--export_language=de"]),
    ],
)
def test_a_flag_becomes_arguments(given: tuple[str, ...], door: str, arguments: list[str]) -> None:
    found = getattr(run_of(*given).doors, door)
    assert set(arguments) <= set(found), found


def test_a_scorer_comes_with_deepspeechs_weights(tmp_path: Path) -> None:
    (tmp_path / "x.scorer").touch()
    found = run_of("--scorer_path=x.scorer").doors.transcription
    assert {"--scorer=x.scorer", "--lm_alpha=0.931289039105002"} <= set(found)
    assert not any("lm_alpha" in each for each in run_of().doors.transcription)


def test_folders_and_files_follow_deepspeechs_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/home/data")
    assert run_of().folders.save == "/home/data/deepspeech/checkpoints"
    folders = run_of("--checkpoint_dir=c", "--load_checkpoint_dir=l").folders
    assert (folders.load, folders.save, folders.shards) == ("l", "c", "c/shards")
    assert run_of("--feature_cache=cache").folders.shards == "cache"
    assert run_of().files["test"] == ("a.csv", "b.csv")
    assert run_of().doors.alphabet == ""
    Path("data").mkdir()
    Path("data/alphabet.txt").touch()
    assert run_of().doors.alphabet == "data/alphabet.txt"
    assert run_of("--bytes_output_mode").doors.alphabet == "utf-8"


@pytest.mark.parametrize(
    ("given", "level"),
    [
        ((), "info"),
        (("--noshow_progressbar",), "warning"),
        (("--log_level=0", "--noshow_progressbar"), "debug"),
        (("--log_level=3",), "error"),
    ],
)
def test_level_of_messages(given: tuple[str, ...], level: str) -> None:
    assert run_of(*given).logging == level


def test_booleans_are_joined_to_their_flags() -> None:
    given = ["--early_stop", "True", "--noshow_progressbar", "--layer_norm", "False", "--epochs"]
    assert deepspeech.join_booleans([*given, "3", "--export_language", "True"], parse()) == [
        *("--early_stop=true", "--noshow_progressbar", "--layer_norm=false", "--epochs", "3"),
        *("--export_language", "True"),
    ]


def test_flags_without_effect_are_accepted() -> None:
    booleans = [f"--{name}" for name in deepspeech.IGNORED_BOOLEANS]
    run_of(*booleans, *(f"--{name}=1" for name in deepspeech.IGNORED_VALUES))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--relu_clip=10", "--relu_clip=10.0 is not possible, only 20.0: the networks clip at 20"),
        ("--n_steps=32", "--n_steps=32 is not possible, only 16"),
        ("--metrics_files=m.csv", "--metrics_files=m.csv is not possible"),
        ("--reverse_train", "--reverse_train=True is not possible"),
        ("--dropout_rate2=0.5", "all layers have the rate of --dropout_rate=0.05"),
        ("--alphabet_config_path=none.txt", "--alphabet_config_path=none.txt is no file"),
        ("--augment=pitch", "cepstral coefficients are not frequencies"),
        ("--augment=nothing", "is not known"),
    ],
)
def test_what_cannot_be_honoured_is_refused(given: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        run_of(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--dropout_rate=0.96", "[0, 0.95]"),
        ("--train_batch_size=65537", "[1, 65536]"),
        ("--dev_batch_size=65537", "[1, 65536]"),
        ("--test_batch_size=65537", "[1, 65536]"),
        ("--max_to_keep=100000", "[1, "),
        ("--plateau_reduction=1.5", "1]"),
        ("--beam_width=10001", "[1, 10000]"),
        ("--cutoff_prob=1.1", "1]"),
        ("--lm_alpha=101", "[0, 100]"),
        ("--lm_beta=-101", "[-100, 100]"),
        ("--feature_win_len=0", "[1, 60000]"),
        ("--feature_win_step=60001", "[1, 60000]"),
        ("--audio_sample_rate=16", "[1000, 1048576]"),
    ],
)
def test_what_a_door_would_refuse_after_training_is_refused(given: str, message: str) -> None:
    with pytest.raises(flags.IllegalFlagValueError, match=re.escape(message)):
        parse(given)


def test_a_run_needs_a_task() -> None:
    with pytest.raises(UserError, match="nothing to do"):
        deepspeech.run_from_flags(parse("--dev_files=dev.csv"))
