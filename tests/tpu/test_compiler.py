"""The TPU's compiler, on recurrent layers, the loss, and programs that don't compile."""

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from speech.layers.ctc_loss import ctc_loss
from speech.layers.recurrence import FRAMES_A_TURN
from speech.layers.rnn import bidirectional_rnn, gru, lstm
from speech.tpu import compiler
from speech.tpu.compiler import REQUIREMENTS, Compiled, compile_program, find_python
from speech.tpu.estimate import TOPOLOGIES, estimate
from speech.tpu.hlo import Hlo
from speech.tpu.lowering import lower
from utils import UserError

BATCH, FRAMES, INPUTS, UNITS, CLASSES, LABELS = 8, 24, 128, 128, 29, 6


def compiled(hlo: Hlo, topology: str, python: str) -> Compiled:
    """Compiles a program for one core."""
    return compile_program(hlo, TOPOLOGIES[topology].name, 1, python)


# --- Recurrent layers and loss --------------------------------------------------------------------

# Cell -> its layer, and the shapes of its weights.
LAYERS: dict[str, tuple[Callable[..., Any], Sequence[tuple[int, ...]]]] = {
    "rnn": (bidirectional_rnn, [(2, INPUTS, UNITS), (2, UNITS, UNITS), (2, UNITS)]),
    "lstm": (lstm, [(2, INPUTS, 4 * UNITS), (2, UNITS, 4 * UNITS), (2, 4 * UNITS)]),
    "gru": (gru, [(2, INPUTS, 3 * UNITS), (2, UNITS, 3 * UNITS), (2, 2, 3 * UNITS)]),
}


@functools.cache
def layer_and_loss(cell: str) -> Hlo:
    """Returns the program of a recurrent layer's loss and its gradients."""
    layer, weights = LAYERS[cell]

    def step(
        features: tf.Tensor,
        length: tf.Tensor,
        label: tf.Tensor,
        label_length: tf.Tensor,
        output: tf.Tensor,
        *weights: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        with tf.name_scope("recurrent"):
            hidden = layer(features, length, *weights, tf.bfloat16)
            if cell != "rnn":
                hidden = tf.einsum("dbfu->fbu", hidden[0])  # both directions summed
        logits = tf.einsum("fbu,uc->bfc", hidden, output)  # hidden: [frames, batch, units]
        with tf.name_scope("loss"):
            loss = tf.reduce_sum(ctc_loss(logits, length, label, label_length))
        return loss, *tf.gradients(loss, [features, output, *weights])

    shapes = [
        tf.TensorSpec([BATCH, FRAMES, INPUTS]),
        tf.TensorSpec([BATCH], tf.int32),
        tf.TensorSpec([BATCH, LABELS], tf.int32),
        tf.TensorSpec([BATCH], tf.int32),
        tf.TensorSpec([UNITS, CLASSES]),
        *(tf.TensorSpec(shape) for shape in weights),
    ]
    return lower(step, {}, shapes).hlo


@pytest.mark.parametrize("topology", [pytest.param("v2", marks=pytest.mark.slow), "v5e"])
@pytest.mark.parametrize("cell", list(LAYERS))
def test_recurrent_layer_and_loss_compile_with_their_gradients(
    compiler_python: str, cell: str, topology: str
) -> None:
    program = compiled(layer_and_loss(cell), topology, compiler_python)
    assert program.error is None and not program.out_of_memory and program.seconds > 0
    weights = sum(4 * tf.TensorShape(shape).num_elements() for shape in LAYERS[cell][1])
    assert program.argument_bytes > weights and program.output_bytes > weights
    assert program.code_bytes > 0
    assert program.bytes < TOPOLOGIES[topology].memory_bytes

    found = estimate(program.text)
    assert found.cycles["recurrent"] > 0 and found.cycles["loss"] > 0
    assert found.endless_loops == 0
    # A TPU is slow at operations by element, for which its compiler has no estimate.
    assert not re.findall(r"[ )}](?:gather|scatter)\(", program.text)

    # The layer's two loops, forward and backward, count once for each turn.
    turns = FRAMES // FRAMES_A_TURN
    one_turn = program.text.replace(f"constant({turns})", "constant(1)")
    once = estimate(one_turn)
    assert once.endless_loops == 2
    loops, rest = divmod(found.cycles["recurrent"] - once.cycles["recurrent"], turns - 1)
    assert loops > 0 and rest == 0


# --- The compiler's numbers of TPUs ---------------------------------------------------------------


@functools.cache
def product(size: int, dtype: tf.DType) -> Hlo:
    """Returns the program of the product of two square matrices."""
    matrix = tf.TensorSpec([size, size], dtype)
    return lower(lambda left, right: left @ right, {}, [matrix, matrix]).hlo


@pytest.mark.parametrize(
    "topology",
    [
        pytest.param(each, marks=[] if each in ("v2", "v5e") else [pytest.mark.slow])
        for each in TOPOLOGIES
    ],
)
def test_large_product_takes_little_longer_than_at_the_peak(
    compiler_python: str, topology: str
) -> None:
    """That is, flops_a_cycle is what the compiler expects of all of a core's matrix units."""
    size = 4096  # smaller ones are limited by memory bandwidth on a v6e
    program = compiled(product(size, tf.bfloat16), topology, compiler_python)
    cycles = estimate(program.text).cycles.total()
    assert 0.75 < 2 * size**3 / cycles / TOPOLOGIES[topology].flops_a_cycle <= 1


@pytest.mark.parametrize("topology", list(TOPOLOGIES))
def test_program_too_large_for_the_memory_has_the_compilers_reason(
    compiler_python: str, topology: str
) -> None:
    program = compiled(product(100_000, tf.float32), topology, compiler_python)
    assert program.out_of_memory and program.text == "" and program.bytes == 0
    assert program.error and "HBM" in program.error.splitlines()[0]
    (available,) = re.findall(r"exceeds available HBM \(([\d.]+)G\)", program.error)
    assert TOPOLOGIES[topology].memory_bytes / 2**30 == pytest.approx(float(available), abs=0.01)


# --- Failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [b"", b"no program", b"\x0a\x05hello"])
def test_invalid_program_is_an_error_of_the_compiler(compiler_python: str, garbage: bytes) -> None:
    hlo = replace(product(128, tf.float32), module=garbage)
    program = compiled(hlo, "v5e", compiler_python)
    assert program.error and not program.out_of_memory and program.text == ""


def test_unknown_topology_is_an_error_of_the_compiler(compiler_python: str) -> None:
    program = compile_program(product(128, tf.float32), "v99:2x2", 1, compiler_python)
    assert program.error and "v99" in program.error and not program.out_of_memory


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo a warning >&2; kill -9 $$", ": it was ended by SIGKILL. Check"),
        ("echo first >&2; echo No space left. >&2; exit 1", ": No space left. Check"),
        ("exit 3", ": exit status 3. Check"),
        ("exit 0", ": exit status 0. Check"),
    ],
)
def test_crash_of_the_compiler_is_reported(tmp_path: Path, script: str, reason: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    with pytest.raises(UserError, match=r"crashed on v5e:2x2.*--train_batch_size") as error:
        compiled(product(128, tf.float32), "v5e", str(python))
    assert reason in str(error.value)


# --- The environment ------------------------------------------------------------------------------


def test_named_python_is_used_if_it_has_the_compiler(compiler_python: str) -> None:
    assert find_python(compiler_python) == compiler_python


def test_named_python_without_the_compiler_is_refused(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without its packages
    bare.chmod(0o755)
    reasons = {str(bare): "No module named", "/no/such/python": "No such file or directory"}
    for named, reason in reasons.items():
        with pytest.raises(UserError) as error:
            find_python(named)
        for part in (f"--compiler_python={named}", reason, *REQUIREMENTS):
            assert part in str(error.value)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the compiler's environment; the one that runs has no compiler."""
    folder = tmp_path / "environment"
    monkeypatch.setattr(compiler, "ENVIRONMENT", folder)
    monkeypatch.setattr(compiler, "_missing", lambda python: "No module named 'libtpu'")
    return folder


def test_the_running_environment_is_used_if_it_has_the_compiler(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "_missing", lambda python: None)
    assert find_python(None) == sys.executable
    assert not environment.exists()


@pytest.fixture
def commands(environment: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that make the environment, which is one file instead."""
    ran: list[list[str]] = []

    def run(command: list[str], **unused: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        shutil.rmtree(environment, ignore_errors=True)
        (environment / "bin").mkdir(parents=True)
        (environment / "bin" / "python").touch()
        return subprocess.CompletedProcess(command, 0)

    fake = SimpleNamespace(run=run, CalledProcessError=subprocess.CalledProcessError)
    monkeypatch.setattr(compiler, "subprocess", fake)
    return ran


def test_environment_is_made_once(environment: Path, commands: list[list[str]]) -> None:
    python = str(environment / "bin" / "python")
    assert find_python(None) == python
    venv, install = commands
    assert venv == [sys.executable, "-m", "venv", "--clear", str(environment)]
    assert install[0] == python and install[-2:] == list(REQUIREMENTS)
    # Otherwise pip takes packages on $PYTHONPATH for installed, and skips them.
    assert install[1] == "-I"
    assert find_python(None) == python and len(commands) == 2


@pytest.mark.parametrize("damage", ["other versions", "half", "no marker", "no python"])
def test_unsuitable_environment_is_made_again(
    environment: Path, commands: list[list[str]], damage: str
) -> None:
    find_python(None)
    marker, python = environment / "installed", environment / "bin" / "python"
    if damage == "other versions":
        marker.write_text("jax==0.1\nlibtpu==0.0.1")
    elif damage == "half":
        marker.write_text(REQUIREMENTS[0])
    elif damage == "no marker":
        marker.unlink()
    else:
        python.unlink()
        python.symlink_to("/no/such/python")
    commands.clear()
    assert find_python(None) == str(python)
    assert len(commands) == 2 and marker.read_text().split() == list(REQUIREMENTS)


def test_environment_without_its_packages_is_removed_and_the_reason_reported(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a real environment, for which pip has no package index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(UserError) as error:
        find_python(None)
    for part in (str(environment), f"No matching distribution found for {REQUIREMENTS[0]}. Check"):
        assert part in str(error.value)
    assert "--compiler_python" in str(error.value)
    assert not environment.exists()


def test_unwritable_environment_is_reported(environment: Path) -> None:
    environment.write_text("no folder")
    with pytest.raises(UserError, match="can't be made"):
        find_python(None)


def test_worker_reports_an_exception_without_a_message(
    compiler_python: str, tmp_path: Path
) -> None:
    """By the name of its class."""
    call = (
        f"import sys; sys.path.insert(0, {str(compiler.WORKER.parent)!r}); "
        "import libtpu_worker as worker\n"
        "def compile_program(*unused): raise MemoryError\n"
        f"worker.compile_program = compile_program; "
        "worker.main('a file', 'v5e:2x2', '4', '/dev/null')"
    )
    worker = subprocess.run(
        [compiler_python, "-I", "-c", call], capture_output=True, text=True, check=True
    )
    assert json.loads(worker.stdout) == {"error": "MemoryError()"}
