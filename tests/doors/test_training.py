"""The door training.py, as users run it, on a dozen utterances of noise."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from doors import TINY_NETWORK, assert_error, assert_refused, parse_door_flags, run_door
from tiny_models import write_model
from tiny_shards import random_utterances, write_shards

import training
from speech.engines import checkpoints
from speech.networks.config import read_config
from speech.shards.shard_set import ShardSet

BINS = 4
FRAMES = [200, 210, 220, 230, 240, 250, 260, 270, 280, 290, 300, 295]
STEPS_PER_EPOCH = 3


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(folder, random_utterances(FRAMES, BINS), longest=(300, 12))


def tiny_training(shards: ShardSet, folder: Path) -> list[str]:
    """Flags of a training of the tiny network."""
    return [
        f"--train_data={shards.pattern}",
        f"--dev_data={shards.pattern}",
        f"--model_dir={folder}",
        "--train_batch_size=4",
        "--eval_batch_size=8",
        "--dropout=0",
        "--augment=time_mask[n=2,size=100]",
        *TINY_NETWORK,
    ]


def train(shards: ShardSet, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """training.py on the tiny network; `more` flags win."""
    return run_door("training.py", *tiny_training(shards, folder), *more)


def test_training_trains_reports_and_continues(shards: ShardSet, tmp_path: Path) -> None:
    folder = tmp_path / "model"

    first = train(shards, folder, "--max_epochs=2")
    assert first.returncode == 0, first.stderr
    assert "12 utterances, 0.01 hours, 3 steps an epoch" in first.stderr
    # 4 bins, of which the second convolution leaves 1, and of it 2 channels.
    convolutions = (11 * 41 * 1 * 2 + 2) + (11 * 21 * 2 * 2 + 2)
    parameters = convolutions + 2 * (2 * 8 + 8 * 8 + 8) + (8 * 29 + 29)
    assert re.search(rf"I total +{parameters:,}$", first.stderr, re.MULTILINE)
    assert re.search(r"I output  bias 29, kernel 8 x 29 +261$", first.stderr, re.MULTILINE)
    assert "Shuffles exactly: all 12 utterances fit into the buffer" in first.stderr
    progress = (
        r"epoch (\d\.\d\d)  step (\d+)/6  loss \d+\.\d\d  learning rate .*  left \d:\d\d:\d\d"
    )
    assert re.findall(progress, first.stderr) == [("1.00", "3"), ("2.00", "6")]
    evaluations = re.findall(r"epoch (\d\.\d\d)  step (\d+)  dev loss (\d+\.\d\d)", first.stderr)
    assert [each[:2] for each in evaluations] == [("1.00", "3"), ("2.00", "6")]
    assert f"The model is in {folder}" in first.stderr
    # Nobody is shown what they can do nothing about.
    assert "deprecat" not in first.stderr and "Traceback" not in first.stderr
    config = read_config(str(folder))
    assert config.front_end.bins == BINS and config.network.conv_channels == (2, 2)
    assert config.training.steps_per_epoch == STEPS_PER_EPOCH
    assert checkpoints.steps_of(checkpoints.latest_checkpoint(str(folder))) == 6

    again = train(shards, folder, "--max_epochs=2")
    assert again.returncode == 0, again.stderr
    assert "Trained for 6 of 6 steps." in again.stderr
    assert "dev loss" not in again.stderr

    more = train(shards, folder, "--max_epochs=3")
    assert more.returncode == 0, more.stderr
    assert re.findall(r"step (\d+)/9 ", more.stderr) == ["9"]
    assert re.findall(r"step (\d+)  dev loss", more.stderr) == ["9"]

    # Continued training gives the model of undisturbed training.
    straight = train(shards, tmp_path / "straight", "--train_steps=9", "--dev_data=")
    assert straight.returncode == 0, straight.stderr
    assert "dev loss" not in straight.stderr
    one, other = (tf.train.load_checkpoint(str(each)) for each in (folder, tmp_path / "straight"))
    for name in one.get_variable_to_shape_map():
        np.testing.assert_allclose(
            one.get_tensor(name), other.get_tensor(name), rtol=1e-4, atol=1e-6, err_msg=name
        )

    # Another network, and shards of another front end, are refused and change nothing.
    before = (folder / "config.json").read_text()
    parts = [str(folder), "recurrent_unit_size 8 in the model, 16 given", "another --model_dir"]
    wider = ["--recurrent_unit_size=16", "--max_epochs=9"]
    assert_refused(training, *tiny_training(shards, folder), *wider, parts=parts)
    others = write_shards(tmp_path / "other", random_utterances(FRAMES, 6), bins=6)
    parts = [str(folder), "mel_filters 4 in the model, 6 given"]
    assert_refused(training, *tiny_training(others, folder), parts=parts)
    assert (folder / "config.json").read_text() == before


@pytest.mark.parametrize(
    ("bad", "parts"),
    [
        (
            ["--train_data=/no/such/train.tfrecords.*"],
            ["No shards match /no/such/train.tfrecords.*", "prepare_libri.py"],
        ),
        (["--dev_data=/no/such/dev.tfrecords.*"], ["No shards match /no/such/dev.tfrecords.*"]),
        (["--conv_channels=32,many"], ["--conv_channels=32,many", "whole numbers"]),
        (["--conv_channels=2,0"], ["--conv_channels=2,0", "from 1 to 65536"]),
        (["--network=deep_speech_9"], ["--network=deep_speech_9", "conv_gru"]),
        (
            ["--network=deep_speech_lstm"],
            ["--conv_channels=2,2", "no size of --network=deep_speech_lstm", "--dense_unit_size"],
        ),
        (["--augment=time_mask[size=long]"], ["--augment=time_mask[size=long]", "'size=long'"]),
        (["--augment=time_mask[p=0.5~0.1]"], ["--augment=time_mask[p=0.5~0.1]", "one probability"]),
        (["--max_epochs=inf"], ["--max_epochs=inf"]),
        (["--average_checkpoints=9"], ["--average_checkpoints=9", "--keep_checkpoint_max=5"]),
        (["--dev_data=", "--early_stop"], ["--early_stop", "--dev_data"]),
    ],
    ids=[
        *("train_data", "dev_data", "channels", "no channels", "network", "size"),
        *("augment", "p", "epochs", "average", "early stop"),
    ],
)
def test_bad_flag_is_named_before_anything_is_written(
    shards: ShardSet, tmp_path: Path, bad: list[str], parts: list[str]
) -> None:
    assert_refused(training, *tiny_training(shards, tmp_path / "model"), *bad, parts=parts)
    assert not (tmp_path / "model").exists()


def test_what_is_no_flag_is_named() -> None:
    assert_error(run_door("training.py", "stray"), "'stray' is not a flag")


@pytest.mark.parametrize(
    "flag",
    [
        "--train_steps=0",
        "--eval_steps=0",
        "--learning_rate_decay_factor=-1",
        "--clip_gradients=-1",
        "--iterations_per_loop=0",
        "--save_checkpoints_steps=0",
        "--keep_checkpoint_max=0",
        "--shuffle_buffer_size=0",
    ],
)
def test_number_below_its_bound_is_named(flag: str) -> None:
    """absl's own error."""
    with pytest.raises(flags.IllegalFlagValueError, match=flag.split("=")[0].removeprefix("--")):
        parse_door_flags(training, flag)


def test_bound_ends_the_door_with_status_1(shards: ShardSet, tmp_path: Path) -> None:
    result = train(shards, tmp_path / "model", "--train_steps=0")
    assert result.returncode == 1
    assert "flag --train_steps=0" in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "model").exists()


def test_development_shards_of_another_front_end_are_refused_before_training(
    shards: ShardSet, tmp_path: Path
) -> None:
    others = write_shards(tmp_path / "other", random_utterances(FRAMES, 6), bins=6)
    folder = tmp_path / "model"
    assert_refused(
        training,
        *tiny_training(shards, folder),
        f"--dev_data={others.pattern}",
        parts=[others.pattern, str(folder), "mel_filters 4 in the model, 6 in the shards"],
    )
    assert not folder.exists()


def test_utterances_that_the_stride_leaves_no_outputs_for_are_warned_of(
    shards: ShardSet, tmp_path: Path
) -> None:
    """Preparation checked them for a stride of 2; at 100 the shortest ones have too few outputs."""
    result = train(shards, tmp_path / "model", "--stride_size=100", "--train_steps=1")
    assert result.returncode == 0, result.stderr
    (count,) = re.findall(r"(\d+) of the 12 utterances have more labels", result.stderr)
    assert 0 < int(count) < 12 and "lower --stride_size" in result.stderr


def test_network_may_change_while_nothing_is_trained(shards: ShardSet, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for units in (8, 16):
        result = train(shards, folder, f"--recurrent_unit_size={units}", "--max_epochs=0")
        assert result.returncode == 0, result.stderr
        assert read_config(str(folder)).network.recurrent_unit_size == units


def test_model_dir_that_cannot_be_written_is_named(shards: ShardSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "model"):
        parts = [f"--model_dir={folder}", "not a directory", "Choose another folder"]
        assert_refused(training, *tiny_training(shards, folder), parts=parts)


def test_model_dir_that_tensorflow_takes_for_a_pattern_is_refused(
    shards: ShardSet, tmp_path: Path
) -> None:
    parts = [f"{tmp_path}/model[1] has one of", "give the folder another name"]
    assert_refused(training, *tiny_training(shards, tmp_path / "model[1]"), parts=parts)
    assert not (tmp_path / "model[1]").exists()


@pytest.mark.slow
def test_training_continues_from_the_checkpoint_before_a_damaged_one(
    shards: ShardSet, tmp_path: Path
) -> None:
    flags = ["--train_steps=3", "--save_checkpoints_steps=2", "--dev_data="]
    assert train(shards, tmp_path, *flags).returncode == 0
    (tmp_path / "model.ckpt-3.data-00000-of-00001").write_bytes(b"")
    result = train(shards, tmp_path, *flags)
    assert result.returncode == 0, result.stderr
    assert f"{tmp_path}/model.ckpt-3 can't be read and is dropped" in result.stderr
    assert "Continues from the checkpoint of step 2, to step 3." in result.stderr


def test_broken_config_is_named(shards: ShardSet, tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({"format": 1}))
    assert_refused(training, *tiny_training(shards, tmp_path / "model"), parts=[str(path)])
