"""SageMaker's training job as a process, in a folder of SageMaker's layout."""

import csv
import signal
import subprocess
from pathlib import Path

import pytest
from sagemaker_folder import lay, run, start
from sounds import write_sound
from tiny_shards import random_utterances, write_shards

from speech.export import loading, tflite_metadata
from speech.sagemaker import job, training_job
from speech.sagemaker.job import Folder
from speech.sagemaker.training_job import Doors, message_of
from utils import UserError

FRAMES = [200, 210, 220, 230, 240, 250, 260, 270, 280, 290, 300, 295]

# All of a job's hyperparameters are strings.
TINY = {
    "conv_channels": "2,2",
    "recurrent_unit_size": "8",
    "train_batch_size": "4",
    "eval_batch_size": "8",
    "train_steps": "4",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of a job with shards to train on and to look at."""
    for channel in ("train", "dev"):
        folder = tmp_path / "input" / "data" / channel
        utterances = random_utterances(FRAMES, 4)
        write_shards(folder, utterances, name=f"{channel}.tfrecords", longest=(300, 12))
    return tmp_path


def failure(root: Path, outcome: "subprocess.CompletedProcess[str]") -> str:
    """What a job that must fail leaves."""
    assert outcome.returncode == 1, outcome.stderr
    return Folder(root).failure.read_text()


def test_a_job_without_its_channel_fails_with_the_reason(tmp_path: Path) -> None:
    lay(tmp_path, {})
    outcome = run("train", tmp_path)
    assert failure(tmp_path, outcome).startswith("The job has the channels none: name them")
    assert "Traceback" not in outcome.stderr


@pytest.mark.slow
def test_a_mistyped_hyperparameter_is_named_with_suggestions(root: Path) -> None:
    lay(root, {**TINY, "learning_rat": "0.1"}, "train", "dev")
    reason = failure(root, run("train", root))
    assert reason.startswith("training.py: a hyperparameter is not a valid flag: Unknown")
    assert "'learning_rat'. Did you mean: learning_rate" in reason


def test_an_unexpected_failure_leaves_its_traceback(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(where: Folder) -> None:
        raise TypeError("of the test")

    monkeypatch.setattr(job, "read_job", fail)
    assert training_job.run(Folder(root)) == 1
    reason = Folder(root).failure.read_text()
    assert reason.startswith("Traceback") and "TypeError: of the test" in reason


@pytest.mark.parametrize("parameters", [{"a": "x\0"}, {"a\0": "x"}, {"augment": '["\\ud800"]'}])
def test_characters_that_no_command_line_can_contain_are_refused(
    root: Path, parameters: dict[str, str]
) -> None:
    lay(root, parameters, "train")
    with pytest.raises(UserError, match="with a character that a command line can't contain"):
        job.read_job(Folder(root))


def test_the_message_of_a_door_is_its_last_error_or_its_last_lines() -> None:
    assert message_of(["I x", "error: a", "error: b", "  c"], 1) == "b\n  c"
    bad = ["I x", "FATAL Flags parsing error: Unknown command line flag 'x'.", "Pass --help"]
    assert (
        message_of(bad, 1) == "a hyperparameter is not a valid flag: Unknown command line flag 'x'."
    )
    assert message_of(["Killed"], -9) == "ended with status -9:\nKilled"


def test_the_failure_of_a_door_has_its_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^prepare_csv\.py: There is no corpus"):
        Doors(tmp_path).run("prepare_csv.py")


@pytest.mark.slow
def test_a_job_writes_model_and_export_and_resumes_from_its_checkpoints(root: Path) -> None:
    lay(root, TINY, "train", "dev")
    (root / "checkpoints").mkdir()
    outcome = run("train", root)
    assert outcome.returncode == 0, outcome.stderr
    assert "Trained for 4 of 4 steps" in outcome.stderr
    assert not Folder(root).failure.exists()
    assert (root / "checkpoints" / "config.json").exists()
    export = root / "model" / "export"
    model = loading.load(str(root / "model" / "model")).description
    assert model.checkpoint_step in (3, 4)  # whichever was the best
    assert loading.load(str(export / "saved_model")).description.config == model.config
    lite = tflite_metadata.read_description(str(export / "model.tflite"))
    assert lite.checkpoint_step == model.checkpoint_step

    # Another machine has the checkpoints and nothing else of it.
    (root / "model").rename(root / "first")
    lay(root, {**TINY, "train_steps": "7"}, "train", "dev")
    outcome = run("train", root)
    assert outcome.returncode == 0, outcome.stderr
    assert "Continues from the checkpoint of step 4, to step 7." in outcome.stderr
    assert (root / "model" / "model" / "model.ckpt-7.index").exists()
    assert not list((root / "model").rglob(".lock"))


@pytest.mark.slow
def test_a_reclaimed_spot_instance_keeps_its_steps(root: Path) -> None:
    lay(root, {**TINY, "train_steps": "100000"}, "train")
    (root / "checkpoints").mkdir()
    with start("train", root) as process:
        assert process.stderr
        for line in process.stderr:
            if "step 1" in line:
                process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 0
    assert list((root / "checkpoints").glob("model.ckpt-*.index"))
    assert list((root / "model" / "model").glob("model.ckpt-*.index"))
    assert not (root / "model" / "export").exists()
    assert not Folder(root).failure.exists()


@pytest.mark.slow
def test_a_corpus_is_prepared_first_and_the_card_names_the_test_set(tmp_path: Path) -> None:
    for channel, transcripts in {"train": "abcd", "test": "ab"}.items():
        folder = tmp_path / "input" / "data" / channel
        folder.mkdir(parents=True)
        with open(folder / "table.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["wav_filename", "wav_filesize", "transcript"])
            for letter in transcripts:
                sound = write_sound(folder / f"{channel}-{letter}.wav", 0.6)
                table.writerow([sound.name, sound.stat().st_size, letter.upper()])
    parameters = {**TINY, "train_steps": "2", "prepare.language": "en", "prepare.workers": "1"}
    lay(tmp_path, {**parameters, "dropuot": "0.1"}, "train", "test")
    outcome = run("train", tmp_path)
    assert "'dropuot'" in failure(tmp_path, outcome)
    assert "utterances" not in outcome.stderr  # nothing was prepared

    lay(tmp_path, parameters, "train", "test")
    outcome = run("train", tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    assert not Folder(tmp_path).failure.exists()
    card = (tmp_path / "model" / "export" / "model_card.md").read_text()
    assert "4 utterances" in card
    assert "saved_model: " in outcome.stdout and "WER" in outcome.stdout
