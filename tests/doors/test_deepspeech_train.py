"""The door deepspeech_train.py: DeepSpeech.py's command, from CSV files to an exported model."""

import json
import re
import sys
from pathlib import Path

import pytest
from doors import assert_error, assert_refused, run_door
from scorers import pack_unigrams
from sounds import write_sound

import deepspeech_train
from speech.deepspeech_training.model_folder import ModelFolder
from speech.deepspeech_training.run import UNFINISHED_FILE

NETWORK = ("--n_hidden", "8")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with train.csv of four recordings, and with dev.csv and test.csv of two."""
    folder = tmp_path_factory.mktemp("corpus")
    for name, count in (("train", 4), ("dev", 2), ("test", 2)):
        rows = ["wav_filename,wav_filesize,transcript"]
        for number in range(count):
            sound = write_sound(folder / f"{name}{number}.wav", seconds=0.5)
            rows.append(f"{sound.name},{sound.stat().st_size},a cat")
        (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_one_command_trains_tests_and_exports(corpus: Path, tmp_path: Path) -> None:
    sets = [
        each for name in ("train", "dev", "test") for each in (f"--{name}_files", f"{name}.csv")
    ]
    model, exported = tmp_path / "model", tmp_path / "exported"
    given = [*sets, *NETWORK, "--train_batch_size", "2", "--checkpoint_dir", str(model)]
    given += ["--early_stop", "True", "--noshow_progressbar", "--train_cudnn", "--epochs", "2"]
    last = ["--export_dir", str(exported), "--test_output_file", str(tmp_path / "out.json")]

    first = run_door("deepspeech_train.py", *given, *last, seconds=900, folder=corpus)
    assert first.returncode == 0, first.stderr
    assert "--train_cudnn has no effect: a GPU is used if there is one." in first.stderr
    lines = first.stdout.splitlines()
    assert [each for each in lines if each.startswith("I Training")] == [
        "I Training epoch 0...",
        "I Training epoch 1...",
    ]
    (line,) = (each for each in lines if each.startswith("Test on "))
    rate = r"[0-9]+\.[0-9]{6}"
    assert re.fullmatch(rf"Test on test\.csv - WER: {rate}, CER: {rate}, loss: {rate}", line)
    assert lines[-1] == f"I Models exported at {exported}: {exported}/output_graph.tflite"
    assert (exported / "output_graph.tflite").exists()
    samples = json.loads((tmp_path / "out.json").read_text())
    assert {each["wav_filename"] for each in samples} == {
        str(corpus / f"test{number}.wav") for number in range(2)
    }
    assert (ModelFolder(str(model)).step, (model / UNFINISHED_FILE).exists()) == (4, False)
    shards = {path: path.stat().st_mtime_ns for path in model.glob("shards/*/*.tfrecords.0*")}
    assert len(shards) == 3

    # Epochs are those of a run: the same command trains for two more, on the same shards. A run
    # that was killed after its first epoch trains for the one that is left.
    (model / UNFINISHED_FILE).write_text('{"first_step": 2}')
    second = run_door("deepspeech_train.py", *given, "--test_files=", seconds=900, folder=corpus)
    assert second.returncode == 0, second.stderr
    assert "I Training epoch 1..." in second.stdout and "Test on" not in second.stdout
    assert ModelFolder(str(model)).step == 6
    assert shards == {
        path: path.stat().st_mtime_ns for path in model.glob("shards/*/*.tfrecords.0*")
    }

    assert_error(
        run_door("deepspeech_train.py", *given, "--n_hidden=9", folder=corpus),
        *("--n_hidden=9", f"the model in {model} has 8"),
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--train_files=none.csv"], "none.csv doesn't exist"),
        (["--train_files=train.csv", "--export_dir=train.csv/x"], "The folder train.csv/x can't"),
        (["--train_files=train.csv", "--test_output_file=."], ". is a folder, and a file is "),
        (["--train_files=train.csv", "--one_shot_infer=train.csv"], "train.csv can't be read as"),
        (["--train_files=train.csv", "--scorer=train.csv"], "train.csv is no scorer"),
        (["--train_files=train.csv", "--scorer=gs://none/x"], "gs://none/x is in a bucket"),
        (["--test_files=test.csv"], "There is no model in"),
    ],
)
def test_mistakes_are_named_before_anything_is_done(
    corpus: Path, tmp_path: Path, given: list[str], message: str
) -> None:
    folder = f"--checkpoint_dir={tmp_path / 'model'}"
    assert_error(run_door("deepspeech_train.py", *given, folder, folder=corpus), message)
    assert not (tmp_path / "model").exists()


def test_a_scorer_of_another_alphabet_is_refused_before_anything_is_done(
    corpus: Path, tmp_path: Path
) -> None:
    scorer = pack_unigrams(tmp_path, {"cat": -1.0})  # of our English, in another order
    given = ("--train_files=train.csv", f"--scorer_path={scorer}")
    folder = f"--checkpoint_dir={tmp_path / 'model'}"
    result = run_door("deepspeech_train.py", *given, folder, folder=corpus)
    assert_error(result, f"The scorer {scorer} is of another alphabet", "in another order")
    assert not (tmp_path / "model").exists()


def test_without_tensorflow_nothing_is_prepared(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # as if it weren't installed
    given = (f"--train_files={corpus / 'train.csv'}", f"--checkpoint_dir={tmp_path / 'model'}")
    assert_refused(deepspeech_train, *given, parts=["TensorFlow is not installed", "'.[cpu]'"])
    assert not (tmp_path / "model").exists()


def test_a_letter_outside_the_alphabet_is_named(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "alphabet.txt").write_text("a\nc\n \n")
    result = run_door(
        "deepspeech_train.py",
        *(f"--train_files={corpus}/train.csv", f"--checkpoint_dir={tmp_path / 'model'}"),
        "--alphabet_config_path=alphabet.txt",
        folder=tmp_path,
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "Characters of the transcripts are missing from the alphabet" in result.stderr
    assert "or give another --alphabet_config_path;" in result.stderr


def test_messages_of_doors_name_the_flags_of_this_one(corpus: Path, tmp_path: Path) -> None:
    given = (f"--train_files={corpus / 'train.csv'}", f"--checkpoint_dir={tmp_path / 'model'}")
    result = run_door("deepspeech_train.py", *given, "--feature_win_len=60000", folder=tmp_path)
    assert result.returncode == 1
    assert "see --nfft, --feature_win_len and --audio_sample_rate." in result.stderr
