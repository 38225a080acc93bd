"""The door check_tpu.py: as people run it on a tiny network, and its parts."""

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from absl import flags
from doors import TINY_NETWORK, assert_error, run_door, run_here
from hypothesis import given
from hypothesis import strategies as st
from tiny_shards import random_utterances, write_shards

import check_tpu
import constants
from check_tpu import HEADINGS, LARGEST_BATCH, Data, largest_batch, reason, row, table
from speech.features.front_end import FrontEnd
from speech.networks import registry
from speech.networks.config import ModelConfig, NetworkConfig, TrainingConfig, save_config
from speech.shards.shard_set import ShardSet
from speech.tpu.compiler import Compiled, compile_program
from speech.tpu.estimate import TOPOLOGIES, estimate
from utils import ENGLISH, UserError

MEBIBYTE = 2**20

# Called with flags, does what the door does with them, in this process.
Door = Callable[..., None]


@pytest.fixture
def door() -> Door:
    return functools.partial(run_here, check_tpu)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Of 100 frames, a second each."""
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(folder, random_utterances([100] * 4, 80), bins=80, longest=(200, 12))


def model_dir(folder: Path, bins: int = 80) -> str:
    """A model directory with nothing but a config, of bfloat16."""
    network = NetworkConfig(bins, ENGLISH.size, conv_channels=(2, 2), recurrent_unit_size=8)
    config = ModelConfig(
        FrontEnd(mel_filters=bins), ENGLISH, network, TrainingConfig(bfloat16=True)
    )
    folder.mkdir()
    save_config(str(folder), config)
    return str(folder)


# --- As people run it -----------------------------------------------------------------------------


def test_step_that_compiles_is_a_line_of_the_table(compiler_python: str, shards: ShardSet) -> None:
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
    network = registry.build(NetworkConfig(80, 29, conv_channels=(2, 2), recurrent_unit_size=8))
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
    never_negative = ("optimizer", "other", "unpriced MiB", "of peak")
    assert all(of[each] > 0 for each in HEADINGS[1:] if each not in never_negative)
    assert all(of[each] >= 0 for each in never_negative)
    parts = ("convolutions", "recurrent", "loss", "optimizer", "other")
    assert sum(of[part] for part in parts) == pytest.approx(of["step ms"], abs=0.31)
    used = of["arguments"] + of["temporary"] + of["code"]
    memory = TOPOLOGIES["v5e"].memory_bytes / MEBIBYTE
    assert used + of["free MiB"] == pytest.approx(memory, abs=2.1)
    # 64 utterances of a second in a step.
    assert of["audio h/h"] == pytest.approx(64000 / of["step ms"], rel=0.05 / of["step ms"] + 1e-3)


def test_step_that_does_not_fit_ends_in_the_compilers_reason(compiler_python: str) -> None:
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
    assert_error(result, "It doesn't compile: v2, 2048 utterances a core:", "out of memory on HBM")
    assert result.stderr.splitlines()[-1].startswith("error: ")
    # No line of a table, and what one sees is not the compiler's whole report.
    assert "TPU" not in result.stdout and "openxla.org" not in result.stderr


# --- What is asked for ----------------------------------------------------------------------------


@pytest.mark.parametrize("topology", ["v99", "v2,v5", "v2:2x2", ""])
def test_unknown_topology_is_named(door: Door, topology: str) -> None:
    with pytest.raises(flags.Error, match=rf"--topology={topology}: .*some of <v2\|v3"):
        door(f"--topology={topology}")


@pytest.mark.parametrize("size", ["0", "many", "-8", "8.0", "²", ""])
def test_batch_that_is_no_number_is_named(door: Door, size: str) -> None:
    with pytest.raises(UserError, match=f"--train_batch_size={size} must be whole numbers"):
        door(f"--train_batch_size={size}")


def test_batch_that_is_no_multiple_of_the_cores_is_named(door: Door) -> None:
    with pytest.raises(UserError, match="--train_batch_size=12 can't be divided among 8 cores"):
        door("--train_batch_size=12")


def test_one_bad_batch_among_good_ones_is_named(door: Door) -> None:
    with pytest.raises(UserError, match="--train_batch_size=5 can't be divided among 2 cores"):
        door("--train_batch_size=4,5,6", "--num_tpu_cores=2")


def test_number_of_cores_is_positive(door: Door) -> None:
    with pytest.raises(flags.IllegalFlagValueError, match="num_tpu_cores"):
        door("--num_tpu_cores=0")


def test_folder_without_a_config_is_no_model(door: Door, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a model directory, it has no config\.json"):
        door(f"--model_dir={tmp_path}")


def test_shards_that_are_not_there_are_named(door: Door) -> None:
    with pytest.raises(UserError, match=r"No shards match /no/such/train\.tfrecords\.\*"):
        door("--train_data=/no/such/train.tfrecords.*")


def test_shards_of_another_front_end_than_the_models_are_refused(
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


# --- What is compiled -----------------------------------------------------------------------------

# A program that takes a thousand cycles.
TEXT = (
    "ENTRY %main.1 (arg.1: f32[]) -> f32[] {\n"
    '  ROOT %add.1 = f32[]{:T(128)} add(%arg.1, %arg.1), metadata={op_name="loss/add"}, '
    'backend_config={"window_config":{"estimated_cycles":"1000"}}\n'
    "}\n"
)

OUT_OF_MEMORY = "RESOURCE_EXHAUSTED: Ran out of memory on HBM."


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[ModelConfig, Data, int, str]]:
    """What a faked compiler was given; v2 has memory for 20 utterances, v5e for 100."""
    given_to_it: list[tuple[ModelConfig, Data, int, str]] = []
    room = {"v2:2x2": 20, "v5e:2x2": 100}

    def step_of(config: ModelConfig, data: Data, batch: int) -> bytes:
        given_to_it.append((config, data, batch, ""))
        return str(batch).encode()

    def compile_program(hlo: bytes, topology: str, python: str) -> Compiled:
        assert python == "the compiler's python"
        config, data, batch, _ = given_to_it[-1]
        assert batch == int(hlo)
        given_to_it.append((config, data, batch, topology))
        if topology not in room:
            return Compiled(1.0, error="UNIMPLEMENTED: no such TPU.\nSee elsewhere.")
        return Compiled(1.0, OUT_OF_MEMORY) if batch > room[topology] else Compiled(1.0, text=TEXT)

    monkeypatch.setattr(check_tpu, "find_python", lambda named: "the compiler's python")
    monkeypatch.setattr(check_tpu, "step_of", step_of)
    monkeypatch.setattr(check_tpu, "compile_program", compile_program)
    return given_to_it


def test_every_batch_is_compiled_for_every_topology(
    door: Door, compiled: list[tuple[ModelConfig, Data, int, str]]
) -> None:
    door("--topology=v2,v5e", "--train_batch_size=8,16", "--num_tpu_cores=2", "--dropout=0.5")
    asked = [(batch, topology) for _, _, batch, topology in compiled if topology]
    assert asked == [(4, "v2:2x2"), (4, "v5e:2x2"), (8, "v2:2x2"), (8, "v5e:2x2")]
    config, data, *_ = compiled[0]
    assert config.network == NetworkConfig(80, 29) and config.training.dropout == 0.5
    assert not config.training.bfloat16
    assert (data.frames, data.labels) == (1729, 338)
    assert data.audio_seconds == pytest.approx(17.29)


def test_model_and_shards_decide_what_is_compiled(
    door: Door,
    compiled: list[tuple[ModelConfig, Data, int, str]],
    shards: ShardSet,
    tmp_path: Path,
) -> None:
    folder = model_dir(tmp_path / "model")
    door(f"--model_dir={folder}", f"--train_data={shards.pattern}", "--topology=v2")
    config, data, batch, _ = compiled[0]
    assert config.network.conv_channels == (2, 2) and config.training.bfloat16
    assert (data.frames, data.labels) == (200, 12)
    assert data.audio_seconds == pytest.approx(1.0)
    assert batch == 4  # 32 over 8 cores


def test_flags_change_of_a_model_what_training_may_change(
    door: Door, compiled: list[tuple[ModelConfig, Data, int, str]], tmp_path: Path
) -> None:
    folder = model_dir(tmp_path / "model")
    door(f"--model_dir={folder}", "--nobfloat16", "--dropout=0.3", "--topology=v2")
    training = compiled[0][0].training
    assert not training.bfloat16 and training.dropout == 0.3
    for flag in ("conv_channels=8,8", "network=conv_gru"):
        name = flag.partition("=")[0]
        with pytest.raises(UserError, match=f"--{name} is the model's own in --model_dir"):
            door(f"--model_dir={folder}", f"--{flag}", "--topology=v2")


def test_network_is_compiled_by_its_name(
    door: Door,
    compiled: list[tuple[ModelConfig, Data, int, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    door("--network=deep_speech_lstm", "--dense_unit_size=64", "--topology=v2")
    asked = compiled[0][0].network
    assert asked == NetworkConfig(80, 29, "deep_speech_lstm", dense_unit_size=64)
    parameters = registry.parameters(registry.sketch(asked))
    assert f"{parameters:,} parameters" in capsys.readouterr().out


def test_failures_are_told_behind_the_table_of_what_compiles(
    door: Door,
    compiled: list[tuple[ModelConfig, Data, int, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(UserError) as error:
        door("--topology=v2,v3,v5e", "--train_batch_size=32", "--num_tpu_cores=1")
    assert str(error.value) == (
        f"It doesn't compile: v2, 32 utterances a core: {OUT_OF_MEMORY}; "
        "v3, 32 utterances a core: UNIMPLEMENTED: no such TPU."
    )
    _, _, _, values, _ = capsys.readouterr().out.splitlines()
    assert values.split()[0] == "v5e"


def test_find_batch_says_what_fits_each_topology(
    door: Door,
    compiled: list[tuple[ModelConfig, Data, int, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    door("--topology=v2,v5e", "--train_batch_size=2,4", "--num_tpu_cores=1", "--find_batch")
    found = dict(
        re.findall(r"^(\w+): (\d+) utterances fit a core\.$", capsys.readouterr().out, re.M)
    )
    assert found.keys() == {"v2", "v5e"}
    assert int(found["v2"]) == 20 and 95 <= int(found["v5e"]) <= 100


def test_find_batch_stops_at_an_error_that_is_not_of_memory(
    door: Door, compiled: list[tuple[ModelConfig, Data, int, str]]
) -> None:
    """A program that can't be compiled at all is not one that is too large."""
    with pytest.raises(UserError, match="8 utterances a core: UNIMPLEMENTED: no such TPU"):
        door("--topology=v3", "--train_batch_size=8", "--num_tpu_cores=1", "--find_batch")


# --- The largest batch ----------------------------------------------------------------------------


@given(room=st.integers(0, 2 * LARGEST_BATCH), batch=st.integers(1, 2 * LARGEST_BATCH))
def test_largest_batch_is_found_to_one_part_in_sixteen(room: int, batch: int) -> None:
    tried = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= room

    found = largest_batch(fits, batch)
    largest = min(room, LARGEST_BATCH)
    assert found <= largest and largest - found <= found / 16
    assert bool(found) == bool(room)
    # Each try costs a minute.
    assert len(tried) == len(set(tried)) <= 16
    assert min(tried) >= 1 and max(tried) <= LARGEST_BATCH
    assert not found or found in tried


# --- The table ------------------------------------------------------------------------------------


def test_row_is_what_the_compiler_says() -> None:
    hertz = TOPOLOGIES["v5e"].hertz
    compiled = Compiled(
        seconds=61.4,
        argument_bytes=50 * MEBIBYTE,
        output_bytes=7 * MEBIBYTE,
        temporary_bytes=833 * MEBIBYTE,
        code_bytes=76 * MEBIBYTE,
        text=TEXT.replace('"1000"', f'"{hertz / 100:.0f}"'),  # 10 ms
    )
    network = registry.build(NetworkConfig(80, 29))
    # Frames of 4 outputs: strided by 2.
    line = row("v5e", compiled, network, Data(8, 5, audio_seconds=2.0), batch=144)
    free = TOPOLOGIES["v5e"].memory_bytes / MEBIBYTE - 966
    share = 3 * 144 * network.forward_flops(4) / 0.01 / 197e12
    assert share > 0.005
    assert dict(zip(HEADINGS, line, strict=True)) == {
        "TPU": "v5e",
        "compiled s": "61",
        "arguments": "57",
        "temporary": "833",
        "code": "76",
        "free MiB": f"{free:.0f}",
        "convolutions": "0.0",
        "recurrent": "0.0",
        "loss": "10.0",
        "optimizer": "0.0",
        "other": "0.0",
        "step ms": "10.0",
        "unpriced MiB": "0",
        "of peak": f"{share:.0%}",
        "audio h/h": "28800",
    }


def test_table_is_aligned() -> None:
    line = [str(number) * (number % 7 + 1) for number in range(len(HEADINGS))]
    lines = table([line, line[::-1]]).splitlines()
    assert len({len(each) for each in lines}) == 1
    assert [each.split() for each in lines[1:]] == [line, line[::-1]]


def test_reason_is_the_first_line() -> None:
    assert reason("\n RESOURCE_EXHAUSTED: no room.\nSee elsewhere.\n") == (
        "RESOURCE_EXHAUSTED: no room."
    )


def test_step_of_a_core_is_no_part_of_a_larger_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its gradients are not divided by the cores that share a batch."""
    asked = []

    def training_step(model_fn: object, *sizes: int) -> bytes:
        asked.append(sizes)
        return b""

    def builder(config: ModelConfig, model_dir: str) -> None:
        asked.append((config.training.train_batch_size,))

    monkeypatch.setattr(check_tpu, "training_step", training_step)
    monkeypatch.setattr(check_tpu.model, "model_fn_builder", builder)
    training = replace(TrainingConfig(), train_batch_size=32)
    config = ModelConfig(FrontEnd(), ENGLISH, NetworkConfig(80, 29), training)
    check_tpu.step_of(config, Data(frames=100, labels=12, audio_seconds=1.0), batch=4)
    assert asked == [(4,), (4, 100, 80, 12)]


# --- The whole step -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("topology", "most_milliseconds"), [("v5e", 40), ("v2", 190)])
def test_default_step_takes_no_longer_than_the_project_says(
    compiler_python: str, topology: str, most_milliseconds: float
) -> None:
    """32 of the longest utterances a core, in bfloat16."""
    config = ModelConfig(
        FrontEnd(), ENGLISH, NetworkConfig(80, ENGLISH.size), TrainingConfig(bfloat16=True)
    )
    data = Data(constants.MAX_SEQUENCE_LENGTH, constants.MAX_LABEL_LENGTH, audio_seconds=17.29)
    hlo = check_tpu.step_of(config, data, batch=32)
    compiled = compile_program(hlo, TOPOLOGIES[topology].name, compiler_python)
    assert compiled.error is None and compiled.bytes < TOPOLOGIES[topology].memory_bytes
    found = estimate(compiled.text)
    milliseconds = found.milliseconds(TOPOLOGIES[topology])
    assert all(milliseconds.values()) and sum(milliseconds.values()) <= most_milliseconds
    # What the sum leaves out is little: the dropout's random numbers, written once, and copies.
    assert found.endless_loops == 0 and found.unpriced_bytes < 256 * MEBIBYTE
