"""The door tune_lm.py as users run it, with a model of a few steps."""

import csv
import importlib
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from doors import ROOT, TINY_NETWORK, environment_of_door, run_door
from tiny_scorer import write_tiny_scorer
from tiny_shards import random_utterances, write_shards

from speech.decoding.scorer import read_scorer
from speech.shards.shard_set import ShardSet
from utils import Alphabet, UserError

BINS = 4
WORDS = {"a": -1.0, "abc": -1.5, "cab": -1.0}
OLD = (0.0, 9.0)  # give too many words


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    utterances = [
        replace(each, transcript=f"a{'bc' * (number % 2)} cab")
        for number, each in enumerate(random_utterances([40, 60, 50, 45, 55, 64], BINS))
    ]
    return write_shards(tmp_path_factory.mktemp("shards"), utterances, bins=BINS)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "model"
    flags = [f"--train_data={shards.pattern}", "--dev_data=", f"--model_dir={folder}"]
    size = ["--train_batch_size=3", "--train_steps=2", *TINY_NETWORK]
    result = run_door("training.py", *flags, *size)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that only the first search recognises."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def scorer(tmp_path: Path) -> str:
    return write_tiny_scorer(tmp_path / "tiny.scorer", WORDS, *OLD)


@pytest.fixture
def flags(model_dir: Path, shards: ShardSet, scorer: str, cache: Path, tmp_path: Path) -> list[str]:
    return [
        *(f"--model_dir={model_dir}", f"--dev_data={shards.pattern}", f"--scorer={scorer}"),
        *(f"--logits_cache={cache}", f"--output_dir={tmp_path / 'new' / 'tuning'}"),
        *("--metric=cer", "--beam_width=10", "--unknown_penalty=1"),
    ]


def weights_of(scorer: str) -> tuple[float, float]:
    read = read_scorer(scorer)
    return read.alpha, read.beta


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "trials.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_best_weights_are_written_into_the_scorer(
    flags: list[str], scorer: str, cache: Path, tmp_path: Path
) -> None:
    result = run_door("tune_lm.py", *flags, "--n_trials=25")
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    rows = rows_of(tmp_path / "new" / "tuning")
    assert len(rows) == 25
    assert (float(rows[0]["alpha"]), float(rows[0]["beta"])) == OLD
    assert rows[1]["alpha"] == "0.931289039105002" and rows[2]["alpha"] == "0.0"
    best = min(rows, key=lambda row: int(row["errors"]))
    assert int(best["errors"]) < int(rows[0]["errors"])
    assert weights_of(scorer) == (float(best["alpha"]), float(best["beta"]))
    assert (tmp_path / "new" / "tuning" / "contour.png").read_bytes().startswith(b"\x89PNG")

    lines = result.stdout.splitlines()
    (before,) = (line for line in lines if line.startswith("before"))
    (after,) = (line for line in lines if line.startswith("best"))
    assert f"{float(rows[0]['cer']):.2%}" in before and f"{float(best['cer']):.2%}" in after
    assert re.search(r"Difference -\d+\.\d\d points, 95% interval ", result.stdout)
    assert lines[-1] == f"Written to {scorer} after 25 trials."
    improvements = [
        line for line in result.stderr.splitlines() if "trial " in line and "CER" in line
    ]
    assert f"CER {float(best['cer']):.2%}" in improvements[-1]
    assert len(list(cache.glob("model.ckpt-2-*.npz"))) == 1


def run_here(monkeypatch: pytest.MonkeyPatch, flags: list[str], **more: object) -> None:
    """Runs the door's main in this process, which saves its start."""
    door = importlib.import_module("tune_lm")
    given = dict(each.removeprefix("--").split("=", 1) for each in flags)
    values = {
        **given,
        "checkpoint": None,
        "n_trials": 12,
        "patience": 12,
        "lm_alpha_max": 5.0,
        "lm_beta_max": 5.0,
        "beam_width": 10,
        "cutoff_prob": 1.0,
        "cutoff_top_n": 300,
        "unknown_penalty": 1.0,
        "eval_batch_size": 3,
        "random_seed": 1,
        "output_dir": "",
        "write": True,
        "engine": "auto",
        "use_tpu": False,
        "tpu_name": "local",
        "tpu_zone": None,
        "gcp_project": None,
        "num_tpu_cores": 8,
        "logging": "error",
        **more,
    }
    monkeypatch.setattr(door, "FLAGS", SimpleNamespace(**values))
    door.main()


def test_scorer_is_left_alone_when_asked(
    flags: list[str],
    scorer: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_here(monkeypatch, flags, write=False)
    assert capsys.readouterr().out.splitlines()[-1] == f"{scorer} is unchanged (--nowrite)."
    assert weights_of(scorer) == OLD


def test_scorer_is_left_alone_when_nothing_is_better(
    flags: list[str],
    scorer: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_here(monkeypatch, flags, n_trials=1)
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"No trial of 1 was better than the weights in {scorer}."
    )
    assert weights_of(scorer) == OLD


def test_interrupted_search_shows_its_best_and_writes_no_weights(
    flags: list[str], scorer: str, tmp_path: Path
) -> None:
    more = ["--n_trials=100000", "--patience=100000"]
    with subprocess.Popen(
        [sys.executable, "tune_lm.py", *flags, *more],
        cwd=ROOT,
        env=environment_of_door({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as door:
        assert door.stderr and door.stdout
        assert any("trial    1  alpha" in line for line in door.stderr)
        door.send_signal(signal.SIGINT)
        stdout, stderr = door.communicate(timeout=60)
    assert door.returncode == 130 and "Traceback" not in stderr
    rows = rows_of(tmp_path / "new" / "tuning")
    assert 1 <= len(rows) < 100000
    best = min(rows, key=lambda row: int(row["errors"]))
    assert stdout.splitlines()[-1] == (
        f"Stopped after {len(rows)} trials: {scorer} is unchanged; its best weights so far are "
        f"alpha {best['alpha']} and beta {best['beta']}."
    )
    assert weights_of(scorer) == OLD


def test_scorer_of_another_alphabet_is_refused(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Alphabet(tuple("abc "))
    path = write_tiny_scorer(tmp_path / "other.scorer", WORDS, alphabet=other)
    message = f"{path} is of another alphabet.*build_lm.py --alphabet"
    with pytest.raises(UserError, match=message):
        run_here(monkeypatch, flags, scorer=path)


def test_missing_files_and_empty_ranges_are_named(
    flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for flag, value, message in (
        ("dev_data", "/no/such/dev.*", "No shards match /no/such/dev"),
        ("scorer", "/no/such.scorer", "/no/such.scorer can't be read"),
        ("lm_alpha_max", 0.0, "--lm_alpha_max=0.0: give a number above 0"),
        ("lm_beta_max", float("inf"), "--lm_beta_max=inf: give a number above 0"),
        ("beam_width", 0, "beam width is 0"),
    ):
        with pytest.raises(UserError, match=message):
            run_here(monkeypatch, flags, **{flag: value})
