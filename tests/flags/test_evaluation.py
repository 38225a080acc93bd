"""Flags of the evaluation's model and sets."""

import importlib
from functools import partial
from pathlib import Path

import pytest
from doors import parse_door_flags

from speech.flags import evaluation
from speech.networks.config import CONFIG_FILE
from utils import UserError

parse = partial(parse_door_flags, importlib.import_module("eval"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model="], "--model= is empty"),
        (["--model=x.tflite", "--model_dir=m"], "--model_dir has no effect"),
        (["--model=x.tflite", "--checkpoint=best"], "--checkpoint has no effect"),
        (["--model=x.tflite", "--use_tpu"], "--use_tpu has no effect"),
        (["--test_files=a.csv", "--test_data=b.*"], "instead of --test_data"),
        (["--test_files=a.csv", "--use_tpu"], "--use_tpu needs shards"),
        (["--limit_test=3"], "--limit_test is of --test_files"),
        (["--language=de"], "--language is of --test_files"),
        (["--test_files=a.csv,b.csv", "--compare=c"], "--compare compares one set"),
    ],
)
def test_contradictory_flags_are_refused(flags: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluation.check_evaluation_flags(parse(*flags))


def test_a_model_directory_may_be_named_by_either_flag(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text("{}")
    assert evaluation.model_from_flags(parse(f"--model_dir={tmp_path}")) == (str(tmp_path), True)
    values = parse(f"--model={tmp_path}", "--checkpoint=latest")
    evaluation.check_evaluation_flags(values)
    assert evaluation.model_from_flags(values) == (str(tmp_path), True)
    assert evaluation.model_from_flags(parse("--model=x.pb")) == ("x.pb", False)


def test_without_any_test_set_the_flags_for_one_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # without data/
    with pytest.raises(UserError, match=r"no test set.*with --test_files, .*with --test_data"):
        evaluation.test_data_from_flags(parse())
    assert evaluation.test_data_from_flags(parse("--test_data=a.*,b.*")) == ["a.*", "b.*"]


def test_without_test_files_there_is_no_corpus() -> None:
    assert evaluation.corpus_from_flags(parse()) is None
