"""What is said of a path that isn't what was asked for."""

from pathlib import Path

import pytest

from speech.system.mistaken_paths import explain_model, explain_scorer

DEEPSPEECHS = {
    "checkpoint": 'model_checkpoint_path: "/data/train-400"\n',
    "train-400.index": "",
}
OURS = {"checkpoint": 'model_checkpoint_path: "model.ckpt-3"\n', "model.ckpt-3.index": ""}


def folder_of(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "path"),
    [
        (DEEPSPEECHS, ""),
        (DEEPSPEECHS, "train-400"),
        (DEEPSPEECHS, "train-400.index"),
        ({"best_dev_checkpoint": ""}, ""),
        ({"flags.txt": ""}, ""),
    ],
)
def test_checkpoints_of_deepspeech_are_to_be_imported(
    tmp_path: Path, files: dict[str, str], path: str
) -> None:
    named = str(folder_of(tmp_path, files) / path)
    assert f"python import_deepspeech.py {named} --model_dir=NEW" in explain_model(named)


@pytest.mark.parametrize("name", ["a.pb", "a.pbmm", "a.TFLITE"])
def test_files_of_models_are_no_directories_and_no_scorers(name: str) -> None:
    assert f"import_deepspeech.py {name} --model_dir=NEW" in explain_model(name)
    assert explain_scorer(name).startswith(f"{name} is a model's file")


def test_a_scorer_is_no_model() -> None:
    assert "x/kenlm.scorer is a scorer" in explain_model("x/kenlm.scorer")
    assert explain_scorer("x/kenlm.scorer") == ""


@pytest.mark.parametrize("path", ["", "model.ckpt-3", "nowhere"])
def test_nothing_is_said_of_our_own_checkpoints(tmp_path: Path, path: str) -> None:
    assert explain_model(str(folder_of(tmp_path, OURS) / path)) == ""


def test_a_folder_with_the_name_of_the_state_is_none(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    assert explain_model(str(tmp_path)) == ""
