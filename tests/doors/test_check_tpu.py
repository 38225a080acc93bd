"""The door check_tpu.py, as users run it, on a tiny network, and with a faked compiler."""

import functools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from absl import flags
from doors import TINY_NETWORK, assert_error, run_door, run_here
from tiny_shards import random_utterances, write_shards

import check_tpu
from speech.features.front_end import FrontEnd
from speech.networks import registry
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig, save_config
from speech.shards.shard_set import ShardSet
from speech.tpu import check
from speech.tpu.compiler import Compiled
from speech.tpu.estimate import TOPOLOGIES
from speech.tpu.table import HEADINGS, MEBIBYTE, BatchShape
from utils import ENGLISH, UserError

# Runs the door with flags in this process.
Door = Callable[..., None]


@pytest.fixture
def door() -> Door:
    return functools.partial(run_here, check_tpu)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Shards of utterances of 100 frames, a second each."""
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(folder, random_utterances([100] * 4, 80), bins=80, longest=(200, 12))


def model_dir(folder: Path, bins: int = 80) -> str:
    """Makes a model directory with nothing but a config, which says bfloat16."""
    network = NetworkConfig.of(bins, ENGLISH.size, conv_channels=(2, 2), recurrent_unit_size=8)
    config = ModelConfig(
        FrontEnd(mel_filters=bins), ENGLISH, network, TrainingConfig(bfloat16=True)
    )
    folder.mkdir()
    save_config(str(folder), config)
    return str(folder)


# --- As people run it -----------------------------------------------------------------------------


def test_step_that_compiles_is_a_row_of_the_table(compiler_python: str, shards: ShardSet) -> None:
    result = run_door(
        "check_tpu.py",
        f"--train_data={shards.pattern}",
        f"--compiler_python={compiler_python}",
        "--topology=v5e",
        "--train_batch_size=128",
        "--num_tpu_cores=2",
        "--bfloat16",
        *TINY_NETWORK,
        seconds=180,
    )
    assert result.returncode == 0, result.stderr
    assert "Compiles 64 utterances a core for v5e." in result.stderr
    title, headings, values, features = result.stdout.strip().splitlines()
    network = registry.build(NetworkConfig.of(80, 29, conv_channels=(2, 2), recurrent_unit_size=8))
    parameters = sum(each.shape.num_elements() for each in network.trainable_variables)
    assert title == (
        "64 utterances a core, 128 over 2 of 200 frames and 12 labels; "
        f"{parameters:,} parameters, bfloat16"
    )
    assert re.split(r"\s{2,}", headings.strip()) == HEADINGS
    assert features == f"A step's features are {64 * 200 * 80 * 4 / MEBIBYTE:.1f} MiB a core."

    name, *numbers = values.split()
    assert name == "v5e" and len(numbers) == len(HEADINGS) - 1
    of = {
        heading: float(number.rstrip("%"))
        for heading, number in zip(HEADINGS[1:], numbers, strict=True)
    }
    never_negative = ("optimizer", "other", "sums", "unpriced MiB", "of peak")
    assert all(of[each] > 0 for each in HEADINGS[1:] if each not in never_negative)
    assert all(of[each] >= 0 for each in never_negative)
    parts = ("convolutions", "recurrent", "loss", "optimizer", "other", "sums")
    assert sum(of[part] for part in parts) == pytest.approx(of["step ms"], abs=0.31)
    used = of["arguments"] + of["temporary"] + of["code"]
    memory = TOPOLOGIES["v5e"].memory_bytes / MEBIBYTE
    assert used + of["free MiB"] == pytest.approx(memory, abs=2.1)
    # 64 utterances of a second in a step.
    assert of["audio h/h"] == pytest.approx(64000 / of["step ms"], rel=0.05 / of["step ms"] + 1e-3)


def test_step_that_does_not_fit_ends_with_the_compilers_reason(compiler_python: str) -> None:
    result = run_door(
        "check_tpu.py",
        f"--compiler_python={compiler_python}",
        "--topology=v2",
        "--train_batch_size=2048",
        "--num_tpu_cores=1",
        "--conv_channels=2",
        "--recurrent_unit_size=8",
        seconds=180,
    )
    assert_error(
        result, "The step doesn't compile: v2, 2048 utterances a core:", "out of memory on HBM"
    )
    assert result.stderr.splitlines()[-1].startswith("error: ")
    # There is no table, and not the compiler's whole report.
    assert "TPU" not in result.stdout and "openxla.org" not in result.stderr


# --- Flags ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("topology", ["v99", "v2,v5", "v2:2x2", ""])
def test_unknown_topology_is_refused(door: Door, topology: str) -> None:
    with pytest.raises(flags.Error, match=rf"--topology={topology}: .*some of <v2\|v3"):
        door(f"--topology={topology}")


@pytest.mark.parametrize("size", ["0", "many", "-8", "8.0", "²", ""])
def test_batch_that_is_no_number_is_refused(door: Door, size: str) -> None:
    with pytest.raises(UserError, match=f"--train_batch_size={size} must be whole numbers"):
        door(f"--train_batch_size={size}")


def test_batch_must_be_divisible_by_the_cores(door: Door) -> None:
    with pytest.raises(UserError, match="--train_batch_size=12 can't be divided among 8 cores"):
        door("--train_batch_size=12")


def test_one_bad_batch_among_good_ones_is_refused(door: Door) -> None:
    with pytest.raises(UserError, match="--train_batch_size=5 can't be divided among 2 cores"):
        door("--train_batch_size=4,5,6", "--num_tpu_cores=2")


def test_number_of_cores_must_be_positive(door: Door) -> None:
    with pytest.raises(flags.IllegalFlagValueError, match="num_tpu_cores"):
        door("--num_tpu_cores=0")


def test_folder_without_a_config_is_refused(door: Door, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a model directory, it has no config\.json"):
        door(f"--model_dir={tmp_path}")


def test_missing_shards_are_named(door: Door) -> None:
    with pytest.raises(UserError, match=r"No shards match /no/such/train\.tfrecords\.\*"):
        door("--train_data=/no/such/train.tfrecords.*")


def test_shards_with_another_front_end_than_the_model_are_refused(
    door: Door, shards: ShardSet, tmp_path: Path
) -> None:
    folder = model_dir(tmp_path / "model", bins=40)
    with pytest.raises(UserError) as error:
        door(f"--model_dir={folder}", f"--train_data={shards.pattern}")
    for part in (folder, shards.pattern, "mel_filters 40 in the model, 80 in the shards"):
        assert part in str(error.value)


def test_python_without_the_compiler_is_refused(door: Door) -> None:
    with pytest.raises(UserError, match="--compiler_python=/no/such/python can't import jax"):
        door("--compiler_python=/no/such/python")


# --- With a faked compiler ------------------------------------------------------------------------

# A program that takes a thousand cycles.
TEXT = (
    "ENTRY %main.1 (arg.1: f32[]) -> f32[] {\n"
    '  ROOT %add.1 = f32[]{:T(128)} add(%arg.1, %arg.1), metadata={op_name="loss/add"}, '
    'backend_config={"window_config":{"estimated_cycles":"1000"}}\n'
    "}\n"
)

OUT_OF_MEMORY = "RESOURCE_EXHAUSTED: Ran out of memory on HBM."


# Config, shape and batch of a step, and the topology that it was compiled for; "" before that.
Compilations = list[tuple[ModelConfig, BatchShape, int, str]]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Compilations:
    """What a faked compiler was called with; v2 has memory for 20 utterances, v5e for 100."""
    calls: Compilations = []
    room = {"v2:2x2": 20, "v5e:2x2": 100}

    def step_program(config: ModelConfig, shape: BatchShape, batch: int, cores: int) -> str:
        calls.append((config, shape, batch, ""))
        return f"{batch} on {cores}"

    def compile_program(hlo: str, topology: str, cores: int, python: str) -> Compiled:
        assert python == "the compiler's python"
        config, shape, batch, _ = calls[-1]
        assert hlo == f"{batch} on {cores}"
        calls.append((config, shape, batch, topology))
        if topology not in room:
            return Compiled(1.0, error="UNIMPLEMENTED: no such TPU.\nSee elsewhere.")
        return (
            Compiled(1.0, error=OUT_OF_MEMORY)
            if batch > room[topology]
            else Compiled(1.0, text=TEXT)
        )

    monkeypatch.setattr(check, "find_python", lambda named: "the compiler's python")
    monkeypatch.setattr(check, "step_program", step_program)
    monkeypatch.setattr(check, "compile_program", compile_program)
    return calls


def test_every_batch_is_compiled_for_every_topology(door: Door, compiled: Compilations) -> None:
    door("--topology=v2,v5e", "--train_batch_size=8,16", "--num_tpu_cores=2", "--dropout=0.5")
    found = [(batch, topology) for _, _, batch, topology in compiled if topology]
    assert found == [(4, "v2:2x2"), (4, "v5e:2x2"), (8, "v2:2x2"), (8, "v5e:2x2")]
    config, shape, *_ = compiled[0]
    assert config.network == NetworkConfig.of(80, 29) and config.training.dropout == 0.5
    assert not config.training.bfloat16
    assert (shape.frames, shape.labels) == (1729, 338)
    assert shape.audio_seconds == pytest.approx(17.29)


def test_step_has_the_network_of_the_model_and_the_shape_of_the_shards(
    door: Door,
    compiled: Compilations,
    shards: ShardSet,
    tmp_path: Path,
) -> None:
    folder = model_dir(tmp_path / "model")
    door(f"--model_dir={folder}", f"--train_data={shards.pattern}", "--topology=v2")
    config, shape, batch, _ = compiled[0]
    assert config.network.conv_channels == (2, 2) and config.training.bfloat16
    assert (shape.frames, shape.labels) == (200, 12)
    assert shape.audio_seconds == pytest.approx(1.0)
    assert batch == 4  # 32 over 8 cores


def test_flags_may_change_a_models_training_but_not_its_network(
    door: Door, compiled: Compilations, tmp_path: Path
) -> None:
    folder = model_dir(tmp_path / "model")
    door(f"--model_dir={folder}", "--nobfloat16", "--dropout=0.3", "--topology=v2")
    training = compiled[0][0].training
    assert not training.bfloat16 and training.dropout == 0.3
    for flag in ("conv_channels=8,8", "network=conv_gru"):
        name = flag.partition("=")[0]
        with pytest.raises(UserError, match=f"--{name} can't be combined with --model_dir"):
            door(f"--model_dir={folder}", f"--{flag}", "--topology=v2")


def test_network_is_chosen_by_name(
    door: Door,
    compiled: Compilations,
    capsys: pytest.CaptureFixture[str],
) -> None:
    door("--network=deep_speech_lstm", "--dense_unit_size=64", "--topology=v2")
    network = compiled[0][0].network
    assert network == NetworkConfig.of(80, 29, "deep_speech_lstm", dense_unit_size=64)
    parameters = registry.parameters(registry.sketch(network))
    assert f"{parameters:,} parameters" in capsys.readouterr().out


def test_failures_follow_the_table_of_what_compiles(
    door: Door,
    compiled: Compilations,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(UserError) as error:
        door("--topology=v2,v3,v5e", "--train_batch_size=32", "--num_tpu_cores=1")
    assert str(error.value) == (
        f"The step doesn't compile: v2, 32 utterances a core: {OUT_OF_MEMORY}; "
        "v3, 32 utterances a core: UNIMPLEMENTED: no such TPU."
    )
    _, _, _, values, _ = capsys.readouterr().out.splitlines()
    assert values.split()[0] == "v5e"


def test_find_batch_prints_what_fits_each_topology(
    door: Door,
    compiled: Compilations,
    capsys: pytest.CaptureFixture[str],
) -> None:
    door("--topology=v2,v5e", "--train_batch_size=2,4", "--num_tpu_cores=1", "--find_batch")
    found = dict(
        re.findall(r"^(\w+): (\d+) utterances fit a core\.$", capsys.readouterr().out, re.M)
    )
    assert found.keys() == {"v2", "v5e"}
    assert int(found["v2"]) == 20 and 95 <= int(found["v5e"]) <= 100


def test_find_batch_stops_at_an_error_other_than_memory(door: Door, compiled: Compilations) -> None:
    """A program that can't be compiled is not one that is too large."""
    with pytest.raises(UserError, match="8 utterances a core: UNIMPLEMENTED: no such TPU"):
        door("--topology=v3", "--train_batch_size=8", "--num_tpu_cores=1", "--find_batch")
