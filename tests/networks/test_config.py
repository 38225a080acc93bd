"""A model directory's config: what is written is read, and what doesn't match is named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import constants
from speech.features.front_end import FrontEnd
from speech.features.normalisation import Statistics
from speech.networks.config import (
    CONFIG_FILE,
    CONFIG_FORMAT,
    SIZES,
    ModelConfig,
    NetworkChoice,
    NetworkConfig,
    TrainingConfig,
    check_same_front_end,
    check_same_model,
    read_config,
    resume_config,
    save_config,
)
from utils import ENGLISH, UTF_8, Alphabet, UserError

CONFIG = ModelConfig(
    FrontEnd(),
    ENGLISH,
    NetworkConfig.of(bins=80, labels=29),
    TrainingConfig(augment=("time_mask",)),
)
# A model of features that are normalised over its training set.
STATISTICS = Statistics((0.1, -2.0), (1.0, 3.5))
OVER_CORPUS = replace(
    CONFIG,
    front_end=FrontEnd(mel_filters=2, normalisation="corpus"),
    network=NetworkConfig.of(bins=2, labels=29),
    statistics=STATISTICS,
)
FINNISH = Alphabet(tuple("abcdefghijklmnopqrstuvwxyz åäö"))


def message(function: Any, *arguments: Any) -> str:
    with pytest.raises(UserError) as error:
        function(*arguments)
    return str(error.value)


# --- Written and read -----------------------------------------------------------------------------


@given(
    conv_channels=st.lists(st.integers(1, 500), min_size=1, max_size=4).map(tuple),
    learning_rate=st.floats(1e-9, 1.0),
    augment=st.lists(st.text(max_size=5), max_size=2).map(tuple),
    bfloat16=st.booleans(),
    letters=st.sets(st.sampled_from("aä字\"'\\ "), min_size=1),
)
def test_config_comes_back_from_its_json(
    conv_channels: tuple[int, ...],
    learning_rate: float,
    augment: tuple[str, ...],
    bfloat16: bool,
    letters: set[str],
) -> None:
    config = ModelConfig(
        FrontEnd(sample_rate=44100, mel_filters=13),
        Alphabet(tuple(sorted(letters))),
        NetworkConfig.of(bins=13, labels=len(letters) + 1, conv_channels=conv_channels),
        TrainingConfig(learning_rate=learning_rate, augment=augment, bfloat16=bfloat16),
    )
    assert ModelConfig.from_json(config.to_json(), "config.json") == config


def test_statistics_come_back_to_the_last_digit() -> None:
    assert ModelConfig.from_json(OVER_CORPUS.to_json(), "config.json") == OVER_CORPUS


def test_a_resumed_model_keeps_its_statistics_whatever_the_shards_are(tmp_path: Path) -> None:
    folder = str(tmp_path)
    save_config(folder, OVER_CORPUS)
    others = replace(OVER_CORPUS, statistics=Statistics((9.0, 9.0), (9.0, 9.0)))
    assert resume_config(folder, others) == OVER_CORPUS


def test_a_config_of_the_first_version_is_read() -> None:
    content = json.loads(CONFIG.to_json())
    content["front_end"]["bins"] = content["front_end"].pop("mel_filters")
    for key in ("features", "coefficients", "deltas", "normalisation"):
        del content["front_end"][key]
    del content["statistics"]
    assert ModelConfig.from_json(json.dumps(content), "config.json") == CONFIG


def test_config_comes_back_from_its_folder(tmp_path: Path) -> None:
    folder = str(tmp_path / "new" / "model")
    save_config(folder, CONFIG)
    assert read_config(folder) == CONFIG
    assert [path.name for path in Path(folder).iterdir()] == [CONFIG_FILE]


def test_a_model_of_bytes_comes_back_and_is_distinguished_from_others() -> None:
    config = replace(CONFIG, alphabet=UTF_8, network=NetworkConfig.of(bins=80, labels=UTF_8.size))
    again = ModelConfig.from_json(config.to_json(), "config.json")
    assert again.alphabet == UTF_8 and '"alphabet": "utf-8"' in config.to_json()
    with pytest.raises(UserError, match=r"alphabet 'utf-8 \(bytes\)' in the model, \"abc.* given"):
        check_same_model(config, CONFIG, "model")


def test_training_may_change_and_the_model_may_not(tmp_path: Path) -> None:
    save_config(str(tmp_path), CONFIG)
    slower = replace(CONFIG, training=TrainingConfig(learning_rate=1e-5))
    assert resume_config(str(tmp_path), slower) == slower
    other = replace(CONFIG, network=replace(CONFIG.network, recurrent_unit_size=8))
    assert "network.recurrent_unit_size" in message(resume_config, str(tmp_path), other)


def test_missing_config_of_a_checkpoint_is_named(tmp_path: Path) -> None:
    assert "has no config.json" in message(resume_config, str(tmp_path), CONFIG)


# --- What can't be read ---------------------------------------------------------------------------


def test_folder_without_config_is_refused_with_a_remedy(tmp_path: Path) -> None:
    text = message(read_config, str(tmp_path))
    assert str(tmp_path) in text and "has no config.json" in text
    assert f"python training.py --model_dir={tmp_path}" in text


def test_other_format_names_both(tmp_path: Path) -> None:
    content = {**json.loads(CONFIG.to_json()), "format": 99}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(content))
    text = message(read_config, str(tmp_path))
    assert "format 99" in text and f"format {CONFIG_FORMAT}" in text and CONFIG_FILE in text


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format": 1}',
        CONFIG.to_json()[:-20],
        CONFIG.to_json().replace('"bins"', '"pins"'),
        CONFIG.to_json().replace('"a"', '"ab"'),
        replace(OVER_CORPUS, statistics=None).to_json(),
        replace(OVER_CORPUS, statistics=Statistics((0.0,), (1.0,))).to_json(),
        replace(OVER_CORPUS, statistics=Statistics((0.0, 0.0), (1.0, 0.0))).to_json(),
        replace(CONFIG, statistics=STATISTICS).to_json(),
    ],
)
def test_broken_config_names_its_file(tmp_path: Path, broken: str) -> None:
    (tmp_path / CONFIG_FILE).write_text(broken)
    assert str(tmp_path / CONFIG_FILE) in message(read_config, str(tmp_path))


@pytest.mark.parametrize(
    ("part", "field", "value", "problem"),
    [
        ("network", "recurrent_unit_size", "8", "recurrent_unit_size '8' is no whole number"),
        ("network", "recurrent_unit_size", 2**40, "--recurrent_unit_size=1099511627776"),
        ("network", "conv_channels", [8] * 101, "its layers from 1 to 100"),
        ("network", "stride_size", None, ""),  # the network's own
        ("network", "bins", 79, "79 bins and 29 labels don't fit the front end's 80"),
        ("network", "labels", 30, "80 bins and 30 labels don't fit"),
        ("training", "learning_rate", float("nan"), "learning_rate nan is no number"),
        ("training", "bfloat16", 1, "bfloat16 1 is not of the type"),
        ("training", "learning_rate_schedule", "linear", "choose among exponential, cosine"),
        ("training", "colour", 1, "training: 'colour' is unknown"),
        ("front_end", "window_seconds", 1e300, "--winlen and --winstep in seconds"),
        ("front_end", "step_seconds", 10**400, "is no number"),
        ("front_end", "sample_rate", 2**40, "sample rate from 1 to"),
        ("front_end", "fft_size", 2**40, "the maximum of each is 65536"),
        ("front_end", "mel_filters", 2**40, "1 to 1024 mel filters"),
        ("front_end", "deltas", True, "deltas True is no whole number"),
    ],
)
def test_value_that_no_training_writes_is_named_with_its_file(
    tmp_path: Path, part: str, field: str, value: object, problem: str
) -> None:
    content = json.loads(CONFIG.to_json())
    content[part][field] = value
    path = tmp_path / CONFIG_FILE
    path.write_text(json.dumps(content))
    if not problem:
        assert read_config(str(tmp_path)) == CONFIG
        return
    text = message(read_config, str(tmp_path))
    assert str(path) in text and problem in text


def test_config_that_is_no_text_names_its_file(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_bytes(b"\xff\xfe\x00")
    assert str(tmp_path / CONFIG_FILE) in message(read_config, str(tmp_path))


@pytest.mark.parametrize(
    "sizes",
    [
        {"conv_channels": ()},
        {"conv_channels": (32, 0)},
        {"context_size": 0},
        {"stride_size": -1},
        {"recurrent_unit_size": 0},
    ],
)
def test_network_of_no_size_is_refused(sizes: dict[str, Any]) -> None:
    ((name, size),) = sizes.items()
    as_flag = ",".join(map(str, size)) if isinstance(size, tuple) else size
    assert f"--{name}={as_flag}: " in message(lambda: NetworkConfig.of(bins=80, labels=29, **sizes))


@pytest.mark.parametrize("name", constants.NETWORK_SIZES)
def test_size_that_is_not_given_is_the_networks_own(name: str) -> None:
    config = NetworkConfig.of(80, 29, name)
    own = constants.NETWORK_SIZES[name]
    assert config.sizes == own
    assert not any(getattr(config, size) for size in set(SIZES) - own.keys())
    written = json.loads(replace(CONFIG, network=config).to_json())["network"]
    assert [written[size] is None for size in SIZES] == [size not in own for size in SIZES]
    assert config == NetworkConfig.of(80, 29, name, **own)
    assert replace(config, context_size=7).context_size == 7


def test_size_that_the_network_does_not_have_is_refused_naming_its_sizes() -> None:
    text = message(lambda: NetworkConfig.of(80, 29, "conv_gru", dense_unit_size=64))
    assert "--dense_unit_size=64 is no size of --network=conv_gru" in text
    assert "--conv_channels --context_size --stride_size --recurrent_layers" in text
    text = message(lambda: NetworkConfig.of(80, 29, layer_norm=False))
    assert "--layer_norm=false" in text and "--network=deep_speech_1" in text


def test_unknown_network_is_refused_naming_those_there_are() -> None:
    text = message(lambda: NetworkConfig.of(80, 29, "deep_speech_9"))
    assert "--network=deep_speech_9" in text
    assert all(name in text for name in constants.NETWORK_SIZES)


def test_config_from_before_there_were_other_networks_is_read(tmp_path: Path) -> None:
    content = json.loads(CONFIG.to_json())
    old = ("bins", "labels", "name", "conv_channels", "context_size", "stride_size")
    kept = {key: content["network"][key] for key in (*old, "recurrent_unit_size")}
    (tmp_path / CONFIG_FILE).write_text(json.dumps({**content, "network": kept}))
    assert read_config(str(tmp_path)) == CONFIG


@pytest.mark.parametrize("name", constants.NETWORK_SIZES)
def test_every_network_comes_back_from_its_json(name: str) -> None:
    config = replace(CONFIG, network=NetworkConfig.of(80, 29, name))
    assert ModelConfig.from_json(config.to_json(), "config.json") == config


def test_phones_come_back_as_an_alphabet_whose_classes_follow_the_letters() -> None:
    phones = (" ", *"aʃ\u0303", "\N{REPLACEMENT CHARACTER}")
    config = replace(CONFIG, network=NetworkConfig.of(80, 29, "conformer", phones))
    again = ModelConfig.from_json(config.to_json(), "config.json")
    assert again == config and again.phonetic_alphabet == Alphabet(phones)
    assert (config.network.labels, config.network.classes) == (29, 29 + 6)
    without = replace(CONFIG, network=NetworkConfig.of(80, 29, "conformer"))
    assert without.phonetic_alphabet is None and without.network.classes == 29


@pytest.mark.parametrize(
    ("frames", "stride", "outputs"), [(1, 2, 1), (2, 2, 1), (3, 2, 2), (1729, 2, 865), (7, 3, 3)]
)
def test_output_frames_are_rounded_up(frames: int, stride: int, outputs: int) -> None:
    network = NetworkConfig.of(bins=80, labels=29, stride_size=stride)
    assert network.output_frames(frames) == outputs


# --- What doesn't match ---------------------------------------------------------------------------


def test_same_model_is_no_difference() -> None:
    check_same_model(CONFIG, replace(CONFIG, training=TrainingConfig(bfloat16=True)), "model")
    check_same_front_end(CONFIG, FrontEnd(), ENGLISH, "data/x.*", "model")


def test_different_model_names_every_part_and_both_values() -> None:
    given_config = ModelConfig(
        FrontEnd(window_seconds=0.025),
        FINNISH,
        NetworkConfig.of(bins=80, labels=31, conv_channels=(8,)),
        CONFIG.training,
    )
    text = message(check_same_model, CONFIG, given_config, "my/model")
    assert "my/model" in text and "another --model_dir" in text
    assert "front_end.window_seconds 0.02 in the model, 0.025 given" in text
    assert "network.labels 29 in the model, 31 given" in text
    assert "network.conv_channels (32, 32, 96) in the model, (8,) given" in text
    assert repr("".join(ENGLISH.characters)) in text
    assert repr("".join(FINNISH.characters)) in text


def test_different_shards_name_both_values_and_the_files() -> None:
    text = message(
        check_same_front_end, CONFIG, FrontEnd(mel_filters=40), FINNISH, "data/test.*", "my/model"
    )
    assert "data/test.*" in text and "my/model" in text
    assert "mel_filters 80 in the model, 40 in the shards" in text
    assert "sample_rate" not in text
    assert repr("".join(FINNISH.characters)) in text


def test_units_that_the_heads_cannot_share_in_pairs_are_refused() -> None:
    text = message(lambda: NetworkConfig.of(80, 29, "conformer", dense_unit_size=20))
    assert "--dense_unit_size=20 must be a multiple of twice --attention_heads=4" in text


def test_sizes_that_another_network_has_are_refused_without_defaults_too() -> None:
    text = message(lambda: replace(NetworkConfig.of(80, 29), dense_unit_size=64))
    assert "--dense_unit_size=64 is no size of --network=deep_speech_1" in text


def test_choice_takes_a_models_network_and_sizes_where_none_are_chosen() -> None:
    model = NetworkConfig.of(80, 29, "conv_gru", conv_channels=(4, 5), recurrent_unit_size=6)
    like = NetworkChoice(sizes={"recurrent_unit_size": 7, "stride_size": None}, is_default=True)
    assert like.like(model).config(FrontEnd(), ENGLISH) == replace(model, recurrent_unit_size=7)
    chosen = NetworkChoice("deep_speech_lstm")
    assert chosen.like(model) == chosen
