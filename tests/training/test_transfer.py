"""Loading a trained model's variables: what is planned, reported and really loaded."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import faked_tpu
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
import tiny_training
from doors import TINY_NETWORK, assert_error, run_door
from tiny_shards import random_utterances, write_shards

import model
from speech.engines.engine import RunSettings
from speech.features.front_end import FrontEnd
from speech.input_pipeline.batching import Batching
from speech.input_pipeline.training_input import TrainingInput, training_input_fn
from speech.networks.config import (
    ModelConfig,
    NetworkConfig,
    TrainingConfig,
    read_config,
    save_config,
)
from speech.shards.shard_set import ShardSet
from speech.training import transfer
from speech.training.transfer import DROPPED, FRESH, LOADED, Source, Transfer
from utils import ENGLISH, UTF_8, Alphabet, UserError

Array = npt.NDArray[np.float32]

BINS = 4
GERMAN = Alphabet((*ENGLISH.characters, *"äöü"))
NETWORK = NetworkConfig.of(BINS, ENGLISH.size, conv_channels=(2, 2), recurrent_unit_size=8)
LAYERS = ("conv_0", "conv_1", "rnn", "output")


def model_config(
    alphabet: Alphabet = ENGLISH, learning_rate: float = 1e-2, **sizes: Any
) -> ModelConfig:
    network = replace(NETWORK, labels=alphabet.size, **sizes)
    training = TrainingConfig(train_batch_size=2, learning_rate=learning_rate, dropout=0.0)
    return ModelConfig(FrontEnd(mel_filters=BINS), alphabet, network, training)


def plan(
    config: ModelConfig, drop_layers: int = 0, source: ModelConfig | None = None, at: str = "s"
) -> Transfer:
    source = source or model_config()
    return transfer.plan(Source(at, source), config, drop_layers)


def refused(*arguments: Any, **more: Any) -> str:
    with pytest.raises(UserError) as error:
        plan(*arguments, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


def fates(taken: Transfer) -> dict[str, str]:
    return {row.variable: row.fate for row in taken.rows}


# --- What is decided ------------------------------------------------------------------------------


def test_same_model_is_loaded_whole_layer_by_layer() -> None:
    taken = plan(model_config())
    assert set(fates(taken).values()) == {LOADED}
    assert tuple(dict.fromkeys(name.partition("/")[0] for name in taken.loaded)) == LAYERS
    assert "rnn/recurrent_kernel" in taken.loaded and len(taken.loaded) == 9
    assert taken.parameters(LOADED) == 2006 + 261


@pytest.mark.parametrize("dropped", [1, 2, 3])
def test_last_layers_are_dropped(dropped: int) -> None:
    for name, fate in fates(plan(model_config(), dropped)).items():
        assert (fate == DROPPED) == name.startswith(LAYERS[-dropped:]), name


def test_other_alphabet_drops_the_layer_of_letters_and_shows_its_shapes() -> None:
    taken = plan(model_config(GERMAN), 1)
    table = taken.table().splitlines()
    assert "conv_0/kernel         11 x 41 x 1 x 2          902  loaded" in table
    assert "output/kernel         8 x 29 -> 8 x 32         256  dropped" in table
    assert table[-1] == "parameters: 2,006 loaded, 288 dropped, 0 fresh"


def test_variables_that_one_of_the_two_does_not_have_are_fresh_and_dropped() -> None:
    deeper = model_config(conv_channels=(2, 2, 2))
    taken = plan(deeper, 2)
    assert fates(taken)["conv_2/kernel"] == FRESH and fates(taken)["conv_1/kernel"] == LOADED
    assert taken.parameters(FRESH) == 11 * 21 * 2 * 2 + 2
    taken = plan(model_config(), 2, source=deeper)
    assert fates(taken)["conv_2/bias"] == DROPPED and "conv_2/bias" not in taken.loaded
    assert taken.rows[-1].shape == (11, 21, 2, 2)


def test_moving_averages_are_variables_like_others() -> None:
    gru = replace(model_config(), network=NetworkConfig.of(BINS, ENGLISH.size, "conv_gru"))
    taken = plan(gru, 1, source=gru)
    averages = {name: fate for name, fate in fates(taken).items() if "moving_mean" in name}
    assert averages == dict.fromkeys(
        ("conv_0/moving_mean", "gru_0/moving_mean", "gru_1/moving_mean"), LOADED
    )


# --- What is refused ------------------------------------------------------------------------------


def test_wrong_shapes_are_named_with_how_many_layers_to_drop() -> None:
    text = refused(model_config(recurrent_unit_size=9))
    assert "rnn/kernel is 2 x 2 x 8 there and 2 x 2 x 9 here" in text
    assert "output/kernel is 8 x 29 there and 9 x 29 here" in text and "conv_0" not in text
    assert "recurrent_unit_size 8 in the model, 9 given" in text
    assert text.endswith("drop at least the layers that differ: --drop_layers=2.")
    assert "rnn/kernel" in refused(model_config(recurrent_unit_size=9), 1)
    assert plan(model_config(recurrent_unit_size=9), 2).parameters(LOADED) == 902 + 2 + 924 + 2


def test_wrong_shape_of_the_first_layer_leaves_nothing_to_drop() -> None:
    text = refused(model_config(context_size=5), 3)
    assert "conv_0/kernel is 11 x 41 x 1 x 2 there and 5 x 41 x 1 x 2 here" in text
    assert "that model's sizes" in text and "--drop_layers" not in text


@pytest.mark.parametrize(
    ("alphabet", "parts"),
    [
        (GERMAN, ["'äöü' only in the shards"]),
        (Alphabet(ENGLISH.characters[:-1]), [f"{ENGLISH.characters[-1]!r} only in the model"]),
        (Alphabet((*ENGLISH.characters[:-1], "ä")), ["only in the model", "'ä' only in"]),
        (Alphabet(ENGLISH.characters[::-1]), ["the same characters in another order"]),
        (UTF_8, [f"{''.join(ENGLISH.characters)} in the model", "utf-8 (bytes) in the shards"]),
    ],
    ids=["more", "fewer", "others", "order", "bytes"],
)
def test_other_alphabet_is_refused_if_its_layer_is_kept(
    alphabet: Alphabet, parts: list[str]
) -> None:
    text = refused(model_config(alphabet))
    for part in (*parts, "--drop_layers=1"):
        assert part in text
    assert fates(plan(model_config(alphabet), 1))["output/kernel"] == DROPPED


def conformer(alphabet: Alphabet = ENGLISH, phones: tuple[str, ...] = ()) -> ModelConfig:
    sizes = {"blocks": 1, "dense_unit_size": 8, "attention_heads": 2, "conv_channels": (2,)}
    network = NetworkConfig.of(BINS, alphabet.size, "conformer", phones=phones, **sizes)
    return replace(model_config(alphabet), network=network)


def test_phones_are_added_to_a_model_of_letters_without_its_condition() -> None:
    planned = fates(plan(conformer(phones=(" ", "a", "?")), 2, conformer()))
    assert planned["output/kernel"] == planned["block_0/norm/scale"] == LOADED
    assert planned["phones/kernel"] == FRESH
    assert planned["condition/kernel"] == DROPPED


def test_other_alphabet_of_the_same_size_needs_its_layer_dropped_with_those_after_it() -> None:
    other = conformer(Alphabet(ENGLISH.characters[::-1]))
    with pytest.raises(UserError, match=r"another order.*--drop_layers=2"):
        plan(other, 1, conformer())
    assert fates(plan(other, 2, conformer()))["output/kernel"] == DROPPED


def test_other_phones_of_the_same_number_are_refused_if_their_layer_is_kept() -> None:
    source, other = (conformer(phones=(" ", each, "?")) for each in "ab")
    with pytest.raises(UserError, match=r"a there, b here.*--drop_layers=2"):
        plan(other, 1, source)
    assert fates(plan(other, 2, source))["phones/kernel"] == DROPPED


def test_other_front_end_is_refused_with_what_differs() -> None:
    other = replace(model_config(), front_end=FrontEnd(mel_filters=BINS, sample_rate=22050))
    assert "sample_rate 16000 in the model, 22050 in the shards" in refused(other, 1)


def test_other_network_is_refused() -> None:
    gru = replace(model_config(), network=NetworkConfig.of(BINS, ENGLISH.size, "conv_gru"))
    text = refused(model_config(), 1, source=gru)
    assert "is a network conv_gru" in text and "--network=deep_speech_1 is another one" in text


@pytest.mark.parametrize("dropped", [4, 5])
def test_dropping_every_layer_is_refused(dropped: int) -> None:
    text = refused(model_config(), dropped)
    assert f"--drop_layers={dropped}" in text and ", ".join(LAYERS) in text
    assert "Drop 3 at most" in text


# --- Finding the source ---------------------------------------------------------------------------


def save_checkpoint(folder: Path, step: int) -> str:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        number = tf.compat.v1.train.get_or_create_global_step()
        session.run(number.assign(step))
        return str(tf.compat.v1.train.Saver().save(session, str(folder / "model.ckpt"), number))


def test_model_directory_means_its_best_checkpoint_and_else_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    save_config(str(folder), model_config())
    old, latest = save_checkpoint(folder, 3), save_checkpoint(folder, 7)
    assert transfer.find_source(str(folder)) == Source(latest, model_config())
    assert transfer.find_source(old) == Source(old, model_config())
    (folder / "best").mkdir()
    best = save_checkpoint(folder / "best", 5)
    for path in (str(folder), f"{folder}/", str(folder / "best"), best):
        assert transfer.find_source(path) == Source(best, model_config())
    monkeypatch.chdir(folder)
    assert transfer.find_source("model.ckpt-3").config == model_config()


def test_path_without_checkpoint_or_config_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "model.ckpt-1"):
        with pytest.raises(UserError, match=f"--init_checkpoint={path} holds no checkpoint"):
            transfer.find_source(str(path))
    checkpoint = save_checkpoint(tmp_path, 1)
    with pytest.raises(UserError, match=rf"config\.json, which describes the .* {checkpoint}"):
        transfer.find_source(checkpoint)


# --- What is loaded -------------------------------------------------------------------------------


def tiny_shards(folder: Path, alphabet: Alphabet = ENGLISH) -> ShardSet:
    utterances = random_utterances([40, 50, 60, 45], BINS)
    return write_shards(folder, utterances, alphabet=alphabet, name=f"{alphabet.size}.tfrecords")


def train(
    folder: Path, shards: ShardSet, config: ModelConfig, steps: int, taken: Transfer | None = None
) -> None:
    tiny_training.train(
        folder,
        shards,
        steps,
        config.training,
        config=config,
        initial_values=taken.initial_values() if taken else None,
    )


def values(folder: Path, step: int) -> dict[str, Array]:
    reader = tf.train.load_checkpoint(str(folder / f"model.ckpt-{step}"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.mark.slow
def test_loaded_variables_begin_with_the_sources_values_and_nothing_else_does(
    tmp_path: Path,
) -> None:
    source, fresh, tuned = (tmp_path / name for name in ("source", "fresh", "tuned"))
    german = tiny_shards(tmp_path, GERMAN)
    train(source, tiny_shards(tmp_path), model_config(), 3)
    train(fresh, german, model_config(GERMAN), 1)
    taken = plan(model_config(GERMAN), 1, at=str(source / "model.ckpt-3"))
    train(tuned, german, model_config(GERMAN), 2, taken)

    trained, drawn, begun = values(source, 3), values(fresh, 0), values(tuned, 0)
    assert set(begun) == set(drawn) and "conv_0/kernel/Adam" in begun
    for name, value in begun.items():
        expected = trained if name in taken.loaded else drawn
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    # Otherwise the comparison could not distinguish them.
    assert not np.array_equal(trained["rnn/kernel"], drawn["rnn/kernel"])
    assert begun["global_step"] == 0 and begun["output/kernel"].shape == (8, GERMAN.size)

    # Continued training starts at its last checkpoint.
    train(tuned, german, model_config(GERMAN, learning_rate=0.0), 3, taken)
    np.testing.assert_array_equal(values(tuned, 3)["rnn/kernel"], values(tuned, 2)["rnn/kernel"])
    assert not np.array_equal(values(tuned, 3)["rnn/kernel"], trained["rnn/kernel"])


@pytest.mark.estimator
def test_tpu_loads_before_its_computation(tmp_path: Path) -> None:
    from speech.engines import tpu_estimator

    config, shards = model_config(), tiny_shards(tmp_path)
    train(tmp_path / "source", shards, config, 1)
    taken = plan(config, 1, at=str(tmp_path / "source" / "model.ckpt-1"))
    settings = replace(config.training, train_batch_size=faked_tpu.CORES)
    run = RunSettings(str(tmp_path / "tuned"), eval_batch_size=8, train_batch_size=faked_tpu.CORES)
    batching = Batching(faked_tpu.CORES, static=True)
    input_fn = training_input_fn(
        TrainingInput(shards, replace(batching, batch_size=1), 1, shuffle_buffer_size=8)
    )

    def run_on_tpu() -> None:
        model_fn = model.model_fn_builder(replace(config, training=settings), run.model_dir)
        built = tpu_estimator.build(model_fn, run, faked_tpu.device(), taken.initial_values())
        built.train(input_fn, max_steps=1)

    graph = faked_tpu.graph_of(run_on_tpu)
    restored = {}
    for operation in graph.get_operations():
        if operation.type == "AssignVariableOp":
            for source in ancestors(operation.inputs[1].op):
                if source.type == "RestoreV2":
                    restored[operation.inputs[0].op.name] = source
    assert sorted(restored) == sorted(taken.loaded)
    assert all("_tpu_replicate" not in each.node_def.attr for each in restored.values())


def ancestors(operation: tf.Operation) -> list[tf.Operation]:
    """The operation and the ones whose values go into it, by one input each."""
    found = [operation]
    while found[-1].inputs and found[-1].type != "RestoreV2":
        found.append(found[-1].inputs[0].op)
    return found


# --- As people run it -----------------------------------------------------------------------------


@pytest.mark.slow
def test_fine_tuning_to_another_alphabet(tmp_path: Path) -> None:
    source, tuned = tmp_path / "source", tmp_path / "tuned"

    def door(alphabet: Alphabet, folder: Path, *more: str) -> Any:
        shards = tiny_shards(tmp_path, alphabet)
        flags = [f"--train_data={shards.pattern}", "--dev_data=", f"--model_dir={folder}"]
        return run_door("training.py", *flags, "--train_batch_size=2", *TINY_NETWORK, *more)

    train(source, tiny_shards(tmp_path), model_config(), 2)
    save_config(str(source), model_config())

    taking = f"--init_checkpoint={source}"
    assert_error(door(GERMAN, tuned, taking, "--train_steps=2"), "'äöü'", "--drop_layers=1")
    assert not tuned.exists()

    result = door(GERMAN, tuned, taking, "--drop_layers=1", "--train_steps=2")
    assert result.returncode == 0, result.stderr
    assert f"From {source}/model.ckpt-2:\n" in result.stderr
    assert "parameters: 2,006 loaded, 288 dropped, 0 fresh" in result.stderr
    assert read_config(str(tuned)).alphabet == GERMAN
    name = "conv_0/kernel"
    np.testing.assert_array_equal(values(tuned, 0)[name], values(source, 2)[name])

    # The source is needed but once.
    shutil.rmtree(source)
    result = door(GERMAN, tuned, taking, "--drop_layers=1", "--train_steps=3")
    assert result.returncode == 0, result.stderr
    assert "--init_checkpoint is not read again" in result.stderr
    assert "parameters:" not in result.stderr


@pytest.mark.parametrize("path", ["tiny64", "tiny64/train-400", "tiny64/output_graph.pbmm"])
def test_a_genuine_model_of_deepspeech_is_to_be_imported(genuine: str, path: str) -> None:
    named = f"{genuine}/{path}"
    with pytest.raises(UserError, match=rf"import_deepspeech\.py {named} --model_dir=NEW"):
        transfer.find_source(named)
