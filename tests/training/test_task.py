"""A training's task: what settings and shards give, and what is refused."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import tensorflow as tf
from tiny_shards import random_utterances, write_shards

from speech.engines.devices import Device, DeviceSettings
from speech.engines.engine import RunSettings
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.phone_labels import ROOM
from speech.networks.config import ModelConfig, NetworkChoice, TrainingConfig, save_config
from speech.shards.shard_set import ShardSet
from speech.text.lexicon import SPACE, UNKNOWN, Lexicon
from speech.training import transfer
from speech.training.settings import (
    DataSettings,
    LoopSettings,
    StartSettings,
    TrainingSettings,
)
from speech.training.task import Data, find_data, make_task, model_config
from utils import Alphabet, UserError

BINS = 4


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(folder, random_utterances([20, 30, 40, 25, 35, 45], BINS))


def settings_of(shards: ShardSet, folder: Path) -> TrainingSettings:
    return TrainingSettings(
        data=DataSettings(shards.pattern),
        network=NetworkChoice(sizes={"conv_channels": (2, 2), "recurrent_unit_size": 8}),
        optimisation=TrainingConfig(train_batch_size=4),
        loop=LoopSettings(max_epochs=2.5),
        start=StartSettings(),
        run=RunSettings(str(folder), 4, 4),
        device=DeviceSettings(),
    )


def save_model(folder: Path, config: ModelConfig) -> str:
    """Writes a model directory whose checkpoint has only a step; returns the checkpoint's path."""
    save_config(str(folder), config)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        step = tf.compat.v1.train.get_or_create_global_step()
        session.run(step.initializer)
        return str(tf.compat.v1.train.Saver().save(session, str(folder / "model.ckpt"), step))


def test_steps_follow_from_epochs_and_shards(shards: ShardSet, tmp_path: Path) -> None:
    settings = settings_of(shards, tmp_path / "model")
    task = make_task(settings, find_data(settings.data), Device())
    assert (task.config.training.steps_per_epoch, task.config.training.train_steps) == (2, 5)
    assert task.config.network.conv_channels == (2, 2) and task.config.network.bins == BINS
    assert not (tmp_path / "model").exists()
    given = replace(settings, loop=replace(settings.loop, train_steps=7))
    assert make_task(given, Data(shards, None), Device()).config.training.train_steps == 7


def test_batch_larger_than_a_static_epoch_is_refused(shards: ShardSet, tmp_path: Path) -> None:
    """Only a TPU's batches can't be incomplete: without one, the function alone is called."""
    with pytest.raises(UserError) as error:
        model_config(settings_of(shards, tmp_path), shards, Batching(16, static=True))
    assert "--train_batch_size=16" in str(error.value) and "6 utterances" in str(error.value)
    assert shards.pattern in str(error.value)


def test_utterances_of_a_step_are_named(shards: ShardSet, tmp_path: Path) -> None:
    task = make_task(settings_of(shards, tmp_path), Data(shards, None), Device())
    ids = [*task.utterances_of(1), *task.utterances_of(2)]
    assert sorted(ids) == [f"utterance-{number:04d}" for number in range(6)]
    on_pod = replace(task, batching=replace(task.batching, hosts=2))
    assert on_pod.utterances_of(1) == []


def test_shared_settings_show_every_difference(shards: ShardSet, tmp_path: Path) -> None:
    settings = settings_of(shards, tmp_path)
    shared = make_task(settings, Data(shards, None), Device()).shared_settings()
    for other, name in (
        (replace(settings, data=replace(settings.data, sorta_grad=True)), "sorta_grad"),
        (replace(settings, start=StartSettings("model", 0)), "init_checkpoint"),
        (replace(settings, optimisation=TrainingConfig(4, dropout=0.5)), "dropout"),
    ):
        task = make_task(settings, Data(shards, None), Device())
        config = model_config(other, shards, task.batching)
        found = replace(task, settings=other, config=config).shared_settings()
        assert {key for key in found if found[key] != shared[key]} == {name}


def test_damaged_checkpoints_are_refused(shards: ShardSet, tmp_path: Path) -> None:
    settings = settings_of(shards, tmp_path)
    task = make_task(settings, Data(shards, None), Device())
    save_config(str(tmp_path), task.config)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-3"')
    with pytest.raises(UserError, match=r"No checkpoint in .* can be read"):
        make_task(settings, Data(shards, None), Device())


def conformer_of(shards: ShardSet, folder: Path, lexicon: str) -> TrainingSettings:
    """Returns settings of a small Conformer with a lexicon."""
    (folder / "lexicon.txt").write_text(lexicon)
    sizes = {"conv_channels": (2, 2), "dense_unit_size": 8, "attention_heads": 2, "blocks": 2}
    return replace(
        settings_of(shards, folder / "model"),
        data=DataSettings(shards.pattern, lexicon=str(folder / "lexicon.txt")),
        network=NetworkChoice("conformer", sizes),
    )


# Every word of three letters at most.
LETTERS = ["".join(each) for n in (1, 2, 3) for each in itertools.product("abc", repeat=n)]
SPELLED = "\n".join(f"{word} {' '.join(word)}" for word in LETTERS)


def test_lexicon_gives_the_network_its_phones(shards: ShardSet, tmp_path: Path) -> None:
    settings = conformer_of(shards, tmp_path, SPELLED)
    data = find_data(settings.data)
    task = make_task(settings, data, Device())
    assert task.config.network.phones == (SPACE, "a", "b", "c", UNKNOWN)
    assert data.lexicon and task.config.phonetic_alphabet == data.lexicon.alphabet
    assert task.config.network.classes == shards.index.settings.alphabet.size + 6
    _, labels = next(iter(task.batches_from(0)({"batch_size": 4})))
    utterances, width = labels["label"].shape
    assert labels["phone"].shape == [utterances, ROOM * width]
    without = make_task(settings, replace(data, lexicon=None), Device()).shared_settings()
    shared = task.shared_settings()
    assert {key for key in shared if shared[key] != without[key]} == {"lexicon", "phones"}


@pytest.mark.parametrize(
    ("network", "lexicon", "message"),
    [
        ("conformer", "dog d o g", r"lexicon.txt has none of the first \d+ words"),
        ("deep_speech_1", SPELLED, "has no output of phones: leave out --lexicon"),
    ],
)
def test_lexicon_that_teaches_nothing_is_refused(
    shards: ShardSet, tmp_path: Path, network: str, lexicon: str, message: str
) -> None:
    settings = conformer_of(shards, tmp_path, lexicon)
    if network != "conformer":
        settings = replace(settings, network=NetworkChoice(network))
    with pytest.raises(UserError, match=message):
        make_task(settings, find_data(settings.data), Device())


def test_training_is_not_resumed_with_other_phones(shards: ShardSet, tmp_path: Path) -> None:
    settings = conformer_of(shards, tmp_path, "\n".join(f"{word} x" for word in LETTERS))
    data = find_data(settings.data)
    save_model(tmp_path / "model", make_task(settings, data, Device()).config)
    make_task(settings, data, Device())
    other = Lexicon(Alphabet((SPACE, "y", UNKNOWN)), dict.fromkeys(LETTERS, ("y",)))
    for lexicon, message in (
        (None, "the model's phones are x, there is no --lexicon"),
        (other, "the model's phones are x, those of --lexicon are y"),
    ):
        with pytest.raises(UserError, match=message):
            make_task(settings, replace(data, lexicon=lexicon), Device())


def test_dropping_layers_without_a_source_is_refused(shards: ShardSet, tmp_path: Path) -> None:
    settings = replace(settings_of(shards, tmp_path), start=StartSettings(None, drop_layers=2))
    with pytest.raises(UserError, match="--drop_layers=2 requires --init_checkpoint"):
        make_task(settings, Data(shards, None), Device())


def test_source_is_not_read_when_training_is_resumed(shards: ShardSet, tmp_path: Path) -> None:
    settings = replace(settings_of(shards, tmp_path), start=StartSettings("/no/such/model"))
    with pytest.raises(UserError, match="--init_checkpoint=/no/such/model"):
        make_task(settings, Data(shards, None), Device())
    save_model(tmp_path, model_config(settings, shards, Batching(4, static=False)))
    assert make_task(settings, Data(shards, None), Device()).initial_values is None


def test_a_source_is_looked_for_once(
    shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(shards, tmp_path / "new")
    config = model_config(settings, shards, Batching(4, static=False))
    checkpoint = save_model(tmp_path / "source", config)
    looked_for: list[str] = []
    find = transfer.find_source

    def count(path: str) -> transfer.Source:
        looked_for.append(path)
        return find(path)

    monkeypatch.setattr(transfer, "find_source", count)
    given = replace(settings, start=StartSettings(str(tmp_path / "source")))
    initial = make_task(given, Data(shards, None), Device()).initial_values
    assert initial and initial.checkpoint == checkpoint
    assert looked_for == [str(tmp_path / "source")]
