"""The cache of compiled code: it is used where it can be written, and isn't needed elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from doors import ROOT

# Two functions that take no time to compile, of which one calls the other.
MODULE = """
from speech.decoding.compilation import compiled

@compiled
def double(number):
    return 2 * number

@compiled
def double_twice(number: int) -> int:
    return double(double(number))

def main():
    from absl import logging
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    print(double_twice(3))
"""
KEPT = "can't be kept"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the module, in which it is started."""
    (tmp_path / "module.py").write_text(MODULE)
    return tmp_path


def run(folder: Path, *before: str, cache: Path | None = None) -> list[str]:
    """What is logged of the cache while the module runs; it must print the right number.

    Its user has no folder to write to but the module's own.

    Args:
        before: a command that starts another one.
        cache: the folder that NUMBA_CACHE_DIR names.
    """
    outcome = subprocess.run(
        [*before, sys.executable, "-c", "import module; module.main()"],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{folder}:{ROOT}",
            "HOME": "/dev/null",
            **({"NUMBA_CACHE_DIR": str(cache)} if cache else {}),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (outcome.returncode, outcome.stdout) == (0, "12\n"), outcome.stderr
    return [line for line in outcome.stderr.splitlines() if "compilation.py" in line]


def read_only(folder: Path) -> list[str]:
    """The command that starts another one where a folder is mounted read-only."""
    mount = f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"
    command = ["unshare", "-m", "sh", "-c", f'{mount} && cd {folder} && exec "$@"', "sh"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("folders can't be mounted here")
    return command


def test_the_first_start_says_that_it_compiles_and_the_second_reads_the_cache(
    folder: Path,
) -> None:
    (line,) = run(folder)
    assert "Compiling the decoder" in line
    assert len(list(folder.glob("__pycache__/*.o"))) == 1
    assert run(folder) == []


@pytest.mark.parametrize("kept_bytes", [0, 30, 99])
def test_a_file_that_a_crash_cut_short_is_replaced(folder: Path, kept_bytes: int) -> None:
    run(folder)
    for path in folder.glob("__pycache__/*.o"):
        path.write_bytes(path.read_bytes()[:kept_bytes])
    lines = run(folder)
    assert len([line for line in lines if "is damaged" in line]) == 1, lines
    assert run(folder) == []


def test_code_is_compiled_again_after_a_change_of_any_file_beside_it(folder: Path) -> None:
    run(folder)
    (folder / "other.py").write_text("CONSTANT = 1\n")
    (line,) = run(folder)
    assert "Compiling the decoder" in line
    assert len(list(folder.glob("__pycache__/*.o"))) == 1


def test_what_was_compiled_before_runs_without_numba(folder: Path) -> None:
    run(folder)
    program = "import sys, module; module.main(); assert 'numba' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}
    subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, check=True)


def test_compiled_code_is_read_where_it_cannot_be_written(folder: Path) -> None:
    run(folder)
    assert run(folder, *read_only(folder)) == []


def test_compiled_code_is_read_from_a_named_folder_that_cannot_be_written(folder: Path) -> None:
    cache = folder / "cache"
    cache.mkdir()
    run(folder, cache=cache)
    assert run(folder, *read_only(cache), "env", "-C", str(folder), cache=cache) == []


def test_code_is_compiled_where_nothing_can_be_written(folder: Path) -> None:
    lines = run(folder, *read_only(folder))
    assert len([line for line in lines if KEPT in line and "NUMBA_CACHE_DIR" in line]) == 1, lines
    assert not list(folder.glob("__pycache__"))


def test_a_full_disk_is_reported_once(folder: Path) -> None:
    lines = run(folder, "sh", "-c", 'ulimit -f 0; exec "$@"', "sh")
    assert len([line for line in lines if KEPT in line and "File too large" in line]) == 1, lines
