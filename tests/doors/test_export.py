"""The door export.py as a program, on a model of a few training steps."""

import subprocess
from pathlib import Path

import pytest
from doors import TINY_NETWORK, assert_refused, run_door
from tiny_models import noise, write_model
from tiny_shards import random_utterances, write_shards

import export
from speech.decoding.beam_search import greedy_decode
from speech.export import loading
from speech.shards.shard_set import ShardSet

FORMS = {
    "saved_model": "saved_model",
    "tflite": "model.tflite",
    "tflite_float16": "model-float16.tflite",
    "tflite_int8": "model-int8.tflite",
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    utterances = random_utterances([60, 40, 80, 50], 4)
    return write_shards(tmp_path_factory.mktemp("shards"), utterances, longest=(80, 12))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "model"
    result = run_door(
        "training.py",
        f"--train_data={shards.pattern}",
        "--dev_data=",
        f"--model_dir={folder}",
        "--train_batch_size=2",
        "--max_epochs=1",
        *TINY_NETWORK,
    )
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def exporting(
    tmp_path_factory: pytest.TempPathFactory, shards: ShardSet, trained: Path
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("export") / "new"
    result = run_door(
        "export.py",
        f"--model_dir={trained}",
        f"--export_dir={folder}",
        f"--train_data={shards.pattern}",
        f"--test_data={shards.pattern}",
        "--export_model_name=Tiny",
        "--export_model_version=0.1",
    )
    assert result.returncode == 0, result.stderr
    return folder, result


def test_every_form_is_written_and_printed(
    exporting: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, result = exporting
    assert {each.name for each in folder.iterdir()} == {*FORMS.values(), "model_card.md"}
    *lines, last = result.stdout.splitlines()
    assert last == f"The model's card: {folder}/model_card.md"
    assert [line.partition(":")[0] for line in lines] == ["checkpoint", *FORMS]
    assert all(" MB WER " in line for line in lines)
    # The converter's own messages are left out.
    assert "Summary on the non-converted ops" not in result.stderr
    assert "Ignored output_format" not in result.stderr


def test_page_lists_data_sizes_and_rates(
    exporting: tuple[Path, subprocess.CompletedProcess[str]], shards: ShardSet
) -> None:
    folder, _ = exporting
    page = (folder / "model_card.md").read_text()
    assert page.startswith("# Tiny 0.1\n")
    assert f"`{shards.pattern}`: 4 utterances, 0.00 hours." in page
    rows = [line for line in page.splitlines() if line.split(" ")[1:2] and " MB |" in line]
    assert [row.split(" ")[1] for row in rows] == ["checkpoint", *FORMS]
    for row in rows[:3]:  # the same as the checkpoint
        assert "| 0 of 4 |" in row
        assert row.split("|")[3:7] == rows[0].split("|")[3:7]
    assert 'model = load("saved_model")' in page and "tensorflow/serving" in page


def test_all_forms_write_the_same_transcript_of_a_recording(
    exporting: tuple[Path, subprocess.CompletedProcess[str]], trained: Path
) -> None:
    folder, _ = exporting
    checkpoint = loading.load(str(trained))
    samples = noise(16000)
    alphabet = checkpoint.description.config.alphabet
    wanted = greedy_decode(checkpoint.of_samples(samples), alphabet)
    assert wanted
    for path in FORMS.values():
        loaded = loading.load(str(folder / path))
        assert greedy_decode(loaded.of_samples(samples), alphabet) == wanted
        assert loaded.description.naming.version == "0.1"
        assert loaded.description.checkpoint_step == checkpoint.description.checkpoint_step > 0


@pytest.mark.slow
def test_single_format_is_written_and_not_measured(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    result = run_door(
        "export.py",
        f"--model_dir={tmp_path / 'model'}",
        f"--export_dir={tmp_path / 'out'}",
        "--formats=tflite_int8",
    )
    assert result.returncode == 0, result.stderr
    assert {each.name for each in (tmp_path / "out").iterdir()} == {
        "model-int8.tflite",
        "model_card.md",
    }
    page = (tmp_path / "out" / "model_card.md").read_text()
    assert "Not measured" in page and "tensorflow/serving" not in page


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--formats=onnx", "--formats=onnx: value should be some of <saved_model|tflite"),
        ("--formats=", "--formats=: value should be some of"),
        ("--test_data=x", "--export_dir=gs://bucket/x"),
        ("--model_dir=no-such-model", "no-such-model is not a model directory"),
    ],
)
def test_invalid_flags_are_refused(flag: str, expected: str) -> None:
    assert_refused(export, "--export_dir=gs://bucket/x", flag, parts=[expected])
