"""SageMaker's folder: what a job is to do, and what is served of a model's archive."""

import shutil
from pathlib import Path

import pytest
from sagemaker_folder import lay, write_config
from tiny_scorer import write_tiny_scorer
from tiny_shards import random_utterances, write_shards

from speech.sagemaker.job import Folder, Job, find_model, find_scorer, read_job
from utils import UserError


def shards_of(root: Path, *channels: str) -> None:
    for channel in channels:
        folder = root / "input" / "data" / channel
        write_shards(folder, random_utterances([20, 30], 4), name=f"{channel}.tfrecords")


def job(root: Path, parameters: dict[str, str], *channels: str) -> Job:
    lay(root, parameters, *channels)
    return read_job(Folder(root))


def refusal(root: Path, parameters: dict[str, str], *channels: str) -> str:
    with pytest.raises(UserError) as refused:
        job(root, parameters, *channels)
    return str(refused.value)


def test_hyperparameters_are_flags_and_lists_repeat_them(tmp_path: Path) -> None:
    shards_of(tmp_path, "train")
    parameters = {
        "learning_rate": "0.001",
        "conv_channels": "8,16",
        "bfloat16": "True",
        "augment": '["time_mask[n=2,size=40~40]", "specaugment"]',
        "_tuning_objective_metric": "WER",
        "sagemaker_job_name": "x",
    }
    assert job(tmp_path, parameters, "train").training == (
        "--learning_rate=0.001",
        "--conv_channels=8,16",
        "--bfloat16=True",
        "--augment=time_mask[n=2,size=40~40]",
        "--augment=specaugment",
    )


def test_shards_are_used_as_they_are_and_other_channels_prepared(tmp_path: Path) -> None:
    shards_of(tmp_path, "train")
    data = tmp_path / "input" / "data"
    for name in ("dev/wav/1.wav", "dev/dev.csv", "test/1.wav", "test/1.txt"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()
    parameters = {"prepare.language": "ru"}
    found = job(tmp_path, parameters, "train", "dev", "test")
    assert found.shards == {"train": f"{data}/train/train.tfrecords.*"}
    assert found.raw == {"dev": (f"{data}/dev/dev.csv",), "test": (f"{data}/test",)}
    assert found.preparing == ("--language=ru",)


def test_without_config_the_folders_are_the_channels(tmp_path: Path) -> None:
    shards_of(tmp_path, "train", "dev")
    found = read_job(Folder(tmp_path))
    assert sorted(found.shards) == ["dev", "train"]
    assert found.training == ()


@pytest.mark.parametrize("name", ["train_data", "model_dir", "prepare.tfrecords_dir"])
def test_a_hyperparameter_that_the_folder_determines_is_refused(tmp_path: Path, name: str) -> None:
    shards_of(tmp_path, "train")
    (tmp_path / "input/data/dev").mkdir()
    (tmp_path / "input/data/dev/dev.csv").touch()
    assert f"{name} can't be set" in refusal(tmp_path, {name: "/elsewhere"}, "train", "dev")


def test_flags_of_preparation_are_refused_where_nothing_is_prepared(tmp_path: Path) -> None:
    shards_of(tmp_path, "train")
    assert "prepare.language" in refusal(tmp_path, {"prepare.language": "ru"}, "train")


def test_bad_channels_are_refused(tmp_path: Path) -> None:
    shards_of(tmp_path, "train", "validation")
    assert "train, validation" in refusal(tmp_path, {}, "train", "validation")
    assert "the channels dev" in refusal(tmp_path, {}, "dev")
    (tmp_path / "input/data/dev").mkdir()
    assert "dev is empty" in refusal(tmp_path, {}, "train", "dev")
    shards = tmp_path / "input/data/train"
    shutil.copy(shards / "train.tfrecords.index.json", shards / "more.tfrecords.index.json")
    assert "several sets of shards (more.tfrecords.index.json, " in refusal(tmp_path, {}, "train")


def test_several_machines_pipes_and_broken_files_are_refused(tmp_path: Path) -> None:
    shards_of(tmp_path, "train")
    lay(tmp_path, {}, "train")
    write_config(tmp_path, "inputdataconfig", {"train": {"TrainingInputMode": "Pipe"}})
    with pytest.raises(UserError, match="FastFile"):
        read_job(Folder(tmp_path))
    write_config(tmp_path, "resourceconfig", {"hosts": ["algo-1", "algo-2"]})
    with pytest.raises(UserError, match=r"2 machines \(algo-1, algo-2\)"):
        read_job(Folder(tmp_path))
    (tmp_path / "input/config/resourceconfig.json").write_text("{")
    with pytest.raises(UserError, match=r"resourceconfig\.json can't be read"):
        read_job(Folder(tmp_path))
    write_config(tmp_path, "resourceconfig", [])
    with pytest.raises(UserError, match=r"it is \[\], not an object"):
        read_job(Folder(tmp_path))


def test_the_preferred_form_of_a_model_is_served(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contains no model"):
        find_model(tmp_path)
    (tmp_path / "export" / "saved_model").mkdir(parents=True)
    (tmp_path / "model").mkdir()
    lite = tmp_path / "export" / "model-int8.tflite"
    lite.touch()
    assert find_model(tmp_path) == lite
    (tmp_path / "model" / "config.json").touch()
    assert find_model(tmp_path) == tmp_path / "model"
    (tmp_path / "export" / "saved_model" / "saved_model.pb").touch()
    assert find_model(tmp_path) == tmp_path / "export" / "saved_model"


def test_a_model_may_be_in_the_folder_itself(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    assert find_model(tmp_path) == tmp_path


def test_of_two_models_of_a_kind_none_is_chosen(tmp_path: Path) -> None:
    for name in ("a.tflite", "b.tflite"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"several models .*a\.tflite.*b\.tflite"):
        find_model(tmp_path)


def test_a_scorer_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    assert find_scorer(tmp_path) is None
    written = Path(write_tiny_scorer(tmp_path / "lm"))
    assert find_scorer(tmp_path) == written
    shutil.copy(written, tmp_path / "copy")
    with pytest.raises(UserError, match="several scorers"):
        find_scorer(tmp_path)
