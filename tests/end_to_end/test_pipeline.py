"""Tests the whole pipeline, from flac files to a word error rate, by running the doors."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from doors import ROOT, TINY_NETWORK, run_door

from speech.networks.config import read_config
from speech.shards.shard_set import find_shards

LAST_LINE = re.compile(
    r"WER \d+\.\d\d% CER \d+\.\d\d% loss \d+\.\d\d \((\d+) utterances, (\d+) words\)"
)

needs_voices = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed"
)


# Name of the shards' folder, which is also a pattern.
DATA = "data[1]"


def run(door: str, *flags: str) -> str:
    """Runs a door, which must succeed; returns its standard output."""
    result = run_door(door, *flags, seconds=180)
    assert result.returncode == 0, result.stderr
    return result.stdout


def recognise(
    corpus: Path, folder: Path, train: str, test: str, *preparation: str
) -> tuple[int, int]:
    """Prepares, trains for an epoch and evaluates; returns (utterances, words) of the last line."""
    for split in {train, test}:
        flags = [
            f"--files_path={corpus / split}",
            f"--tfrecords_file={folder / DATA / split}.tfrecords",
        ]
        run("prepare_libri.py", *flags, *preparation, "--partition_size=5", "--nopad")
    shards = {split: f"{folder / DATA / split}.tfrecords.*" for split in (train, test)}
    data = [f"--train_data={shards[train]}", f"--dev_data={shards[test]}"]
    model = f"--model_dir={folder / 'model'}"
    run("training.py", *data, model, *TINY_NETWORK, "--max_epochs=1", "--train_batch_size=4")
    report = f"--report_dir={folder / 'report'}"
    output = run("eval.py", f"--test_data={shards[test]}", model, report, "--beam_width=10")
    match = LAST_LINE.fullmatch(output.splitlines()[-1])
    assert match, output
    summary = json.loads((folder / "report" / "summary.json").read_text())
    assert summary["utterances"] == int(match[1])
    assert summary["words"] == int(match[2])
    return int(match[1]), int(match[2])


@needs_voices
def test_a_spoken_corpus_passes_through_four_doors(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    sizes = ["--train_utterances=12", "--dev_utterances=2", "--test_utterances=6"]
    run("examples/spoken_corpus.py", f"--corpus_dir={corpus}", *sizes)
    utterances, words = recognise(corpus, tmp_path, "train", "test")
    transcripts = [
        line.split(" ", 1)[1]
        for path in (corpus / "test").rglob("*.trans.txt")
        for line in path.read_text().splitlines()
    ]
    assert utterances == 6
    assert words == sum(len(transcript.split()) for transcript in transcripts)


NOISE = {"train": range(12), "test": range(20, 24)}


@pytest.mark.slow
def test_features_normalised_over_the_training_set_pass_through_three_doors(
    tmp_path: Path, write_split: Callable[[Path, dict[str, str]], None]
) -> None:
    for split, numbers in NOISE.items():
        write_split(tmp_path / split, {f"1-1-{number:04d}": "HI" for number in numbers})
    flags = ["--features=mfcc", "--nrof_fbanks=26", "--deltas=1", "--normalisation=corpus"]
    assert recognise(tmp_path, tmp_path, "train", "test", *flags) == (4, 4)
    config = read_config(str(tmp_path / "model"))
    train, test = (find_shards(f"{tmp_path / DATA / split}.tfrecords.*").index for split in NOISE)
    assert config.front_end == train.settings.front_end and config.network.bins == 26
    assert config.statistics == train.statistics != test.statistics is not None
    # Training continues on other shards with the model's statistics.
    others = [f"--{data}_data={tmp_path / DATA / 'test'}.tfrecords.*" for data in ("train", "dev")]
    model = f"--model_dir={tmp_path / 'model'}"
    result = run_door(
        *("training.py", *others, model, *TINY_NETWORK, "--train_steps=4", "--train_batch_size=4")
    )
    assert result.returncode == 0 and "the model has learnt with" in result.stderr
    assert read_config(str(tmp_path / "model")).statistics == train.statistics


def test_real_speech_passes_through_three_doors(librispeech_mini: str, tmp_path: Path) -> None:
    assert recognise(Path(librispeech_mini), tmp_path, "dev", "test")[0] == 49


def demo_wer(folder: Path, training: str) -> float:
    """Runs `make demo` with more flags for training; returns its WER."""
    make = ["make", "demo", f"DEMO={folder}", f"TRAINING={training}", f"RUN={sys.executable}"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    subprocess.run([*make, "-o", ".venv/installed"], cwd=ROOT, check=True, env=environment)
    return float(json.loads((folder / "report" / "summary.json").read_text())["wer"])


@needs_voices
@pytest.mark.slow
def test_the_demo_recognises_unseen_sentences_in_float32_and_bfloat16(tmp_path: Path) -> None:
    float32 = demo_wer(tmp_path / "float32", "")
    bfloat16 = demo_wer(tmp_path / "bfloat16", "--bfloat16")
    assert float32 <= 0.05
    assert abs(bfloat16 - float32) <= 0.01
