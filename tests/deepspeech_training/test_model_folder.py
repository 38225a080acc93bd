"""What a folder of checkpoints has."""

from pathlib import Path

import pytest
from tiny_models import write_model

from speech.deepspeech_training.model_folder import ModelFolder
from utils import UserError


def test_a_model_directory_is_known_by_its_config(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    folder = ModelFolder(str(tmp_path / "model"))
    assert folder.has_model and not folder.is_deepspeechs
    assert Path(f"{folder.latest}.index").exists()
    with pytest.raises(UserError, match=r"--n_hidden=3: the model in .* has"):
        folder.check_network(3, layer_norm=False)


def test_a_checkpoint_of_deepspeech_has_no_config(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/gone/train-400"\n')
    folder = ModelFolder(str(tmp_path))
    assert folder.is_deepspeechs and not folder.has_model
    assert (folder.step, folder.latest) == (400, str(tmp_path / "train-400"))


def test_a_folder_without_checkpoints_has_no_model(tmp_path: Path) -> None:
    folder = ModelFolder(str(tmp_path / "new"))
    assert not folder.has_model and not folder.is_deepspeechs and folder.step == 0
    folder.check_network(3, layer_norm=True)
