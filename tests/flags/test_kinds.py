"""Tests of the kinds of flags, with every door's flags."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from absl import flags
from doors import DOORS, parse_door_flags

import build_lm
import check_tpu
import eval as eval_door
import export
import prepare_csv
import prepare_libri
import serve
import transcribe
from speech.flags.kinds import LARGEST_SEED


@pytest.mark.parametrize("name", DOORS)
def test_choices_are_accepted_in_capital_and_small_letters(name: str) -> None:
    door = importlib.import_module(name)
    defined = [parse_door_flags(door)[flag] for flag in parse_door_flags(door)]
    choices = {
        each.name: each.parser.enum_values for each in defined if isinstance(each, flags.EnumFlag)
    }
    assert "logging" in choices
    for flag, values in choices.items():
        for value in values:
            for given in (value.upper(), value.lower(), value.title()):
                assert parse_door_flags(door, f"--{flag}={given}")[flag].value == value


@pytest.mark.parametrize("name", DOORS)
def test_numbers_far_beyond_any_use_are_refused(name: str) -> None:
    door = importlib.import_module(name)
    defined = [parse_door_flags(door)[flag] for flag in parse_door_flags(door)]
    kinds = (flags.IntegerParser, flags.FloatParser)
    own = [each for each in defined if not each.help.startswith("Alias for")]
    for flag in (each.name for each in own if isinstance(each.parser, kinds)):
        for number in (10**12, 2**63, 10**400, -(10**12)):
            with pytest.raises(flags.IllegalFlagValueError, match=f"--{flag}={number}"):
                parse_door_flags(door, f"--{flag}={number}")


@pytest.mark.parametrize(
    ("door", "flag", "given", "values"),
    [
        (transcribe, "formats", "SRT,Txt", ["srt", "txt"]),
        (check_tpu, "topology", "V2,v5E", ["v2", "v5e"]),
        (export, "formats", "TFLite_Int8", ["tflite_int8"]),
    ],
)
def test_lists_of_choices_are_accepted_in_either_case_and_others_refused(
    door: ModuleType, flag: str, given: str, values: list[str]
) -> None:
    assert parse_door_flags(door, f"--{flag}={given}")[flag].value == values
    for other in ("", f"{values[0]},x", ","):
        with pytest.raises(
            flags.IllegalFlagValueError, match=rf"--{flag}={other}: .*\|{values[0]}|{values[0]}\|"
        ):
            parse_door_flags(door, f"--{flag}={other}")


@pytest.mark.parametrize("name", DOORS)
def test_numbers_that_are_not_finite_are_refused(name: str) -> None:
    door = importlib.import_module(name)
    defined = [parse_door_flags(door)[flag] for flag in parse_door_flags(door)]
    own = [each for each in defined if not each.help.startswith("Alias for")]
    numbers = [each.name for each in own if isinstance(each.parser, flags.FloatParser)]
    for flag in numbers:
        for number in ("nan", "inf", "-inf", "1e999"):
            with pytest.raises(flags.IllegalFlagValueError, match=f"--{flag}={number}"):
                parse_door_flags(door, f"--{flag}={number}")


@pytest.mark.parametrize("name", ["training", "prepare_libri", "prepare_csv", "tune_lm"])
def test_a_random_seed_has_the_same_bounds_in_every_door(name: str) -> None:
    door = importlib.import_module(name)
    assert parse_door_flags(door, f"--random_seed={LARGEST_SEED}").random_seed == LARGEST_SEED
    for seed in (-1, LARGEST_SEED + 1, 1795886922020500156):  # the last one: date +%s%N
        with pytest.raises(flags.IllegalFlagValueError, match=f"--random_seed={seed}.*range"):
            parse_door_flags(door, f"--random_seed={seed}")


@pytest.mark.parametrize(
    ("door", "flag"),
    [
        *((prepare_csv, f"{name}_files") for name in ("train", "dev", "test")),
        (prepare_csv, "files_path"),
        (prepare_libri, "files_path"),
        (build_lm, "input_txt"),
        (build_lm, "exclude_txt"),
        (eval_door, "test_data"),
        (eval_door, "audio"),
        *((serve, name) for name in ("models", "scorers", "test_data", "audio")),
    ],
)
def test_an_existing_path_may_have_commas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: ModuleType, flag: str
) -> None:
    monkeypatch.chdir(tmp_path)

    def read(value: str) -> list[str]:
        found: list[str] = getattr(parse_door_flags(door, f"--{flag}={value}"), flag)
        return found

    (tmp_path / "a,b").mkdir()
    assert read("a,b") == ["a,b"]
    assert read("a,b/*.tfrecords") == ["a", "b/*.tfrecords"]
    (tmp_path / "a,b" / "x.tfrecords").touch()
    assert read("a,b/*.tfrecords") == ["a,b/*.tfrecords"]
    assert read("a, b,c") == ["a", "b", "c"] and read('"a,b",c') == ["a,b", "c"]
    assert read("") == []


@pytest.mark.parametrize(
    ("name", "alias", "original", "value"),
    [
        ("training", "checkpoint_dir=x", "model_dir", "x"),
        ("training", "drop_source_layers=2", "drop_layers", 2),
        ("training", "dev_batch_size=3", "eval_batch_size", 3),
        ("training", "max_to_keep=3", "keep_checkpoint_max", 3),
        ("training", "dropout_rate=0.3", "dropout", 0.3),
        ("eval", "test_batch_size=3", "eval_batch_size", 3),
        ("eval", "checkpoint_dir=x", "model_dir", "x"),
        ("eval", "scorer_path=x", "scorer", "x"),
        ("export", "checkpoint_dir=x", "model_dir", "x"),
        ("tune_lm", "scorer_path=x", "scorer", "x"),
        ("transcribe", "scorer_path=x", "scorer", "x"),
        ("prepare_csv", "alphabet_config_path=x", "alphabet", "x"),
        ("prepare_csv", "audio_sample_rate=8000", "sample_rate", 8000),
        ("import_deepspeech", "alphabet_config_path=x", "alphabet", "x"),
    ],
)
def test_deepspeechs_names_are_aliases(name: str, alias: str, original: str, value: Any) -> None:
    values = parse_door_flags(importlib.import_module(name), f"--{alias}")
    assert values[original].value == value and values[original].present
