"""prepare_libri.py from the command line: its shards, and its messages for bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from doors import run_door
from emulator import Emulator
from tiny_shards import random_utterances, write_shards

from speech.features.front_end import FrontEnd

WriteSplit = Callable[[Path, dict[str, str]], None]

SCRIPT = Path(__file__).resolve().parents[2] / "prepare_libri.py"
SPOKEN = {"1-1-0000": "HELLO", "1-1-0001": "IT'S ME", "1-2-0000": "GOOD DAY", "2-1-0000": "BYE"}


def run(folder: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    """Runs the door in `folder`; the environment sets no folders."""
    return run_door("prepare_libri.py", "--workers=1", *flags, folder=folder)


def refusal(folder: Path, *flags: str) -> str:
    """Returns the message of a call that must fail with an error."""
    outcome = run(folder, *flags)
    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stderr
    return outcome.stderr


def index_of(folder: Path, name: str = "t") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / f"{name}.index.json").read_text())
    return content


def records(folder: Path, name: str = "t") -> dict[str, dict[str, list[Any]]]:
    """What TensorFlow reads from the shards: utterance id -> name -> values."""
    found = {}
    for payload in tf.data.TFRecordDataset(sorted(map(str, folder.glob(f"{name}.0*")))):
        lists = tf.train.Example.FromString(payload.numpy()).features.feature
        example = {k: list(getattr(v, v.WhichOneof("kind")).value) for k, v in lists.items()}
        found[example["utterance_id"][0].decode()] = example
    return found


@pytest.fixture
def folder(tmp_path: Path, write_split: WriteSplit) -> Path:
    """A folder with a good split in dev-clean."""
    write_split(tmp_path / "dev-clean", SPOKEN)
    return tmp_path


FLAGS = ("--files_path=dev-clean", "--tfrecords_file=t")


# --- Good input -----------------------------------------------------------------------------------


def test_a_split_becomes_shards_and_the_rerun_leaves_them(folder: Path) -> None:
    outcome = run(folder, *FLAGS, "--partition_size=3", "--max_sequence_length=50")
    assert outcome.returncode == 0, outcome.stderr
    names = ["t.00000000", "t.00000003", "t.index.json"]
    assert sorted(path.name for path in folder.glob("t.*")) == names
    assert "4 of 4" in outcome.stdout and "skipped" in outcome.stdout
    examples = records(folder)
    assert {name: example["transcript"] for name, example in examples.items()} == {
        name: [text.lower().encode()] for name, text in SPOKEN.items()
    }
    for example in examples.values():
        assert len(example["features"]) == 80 * 50
        assert 18 <= example["feature_length"][0] <= 40
        assert len(example["label"]) == 600
    assert examples["2-1-0000"]["label"][:4] == [1, 24, 4, 0]  # b, y, e and padding
    written = {path: path.stat().st_mtime_ns for path in folder.glob("t.*")}
    again = run(folder, *FLAGS, "--partition_size=3", "--max_sequence_length=50")
    assert again.returncode == 0
    assert "t is finished: nothing to do" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.glob("t.*")} == written


def test_debugging_shows_features_and_labels_of_each_utterance(folder: Path) -> None:
    outcome = run(folder, *FLAGS, "--logging=DEBUG", "--workers=2")
    assert outcome.returncode == 0, outcome.stderr
    for name, example in records(folder).items():
        frames, labels = example["feature_length"][0], example["label_length"][0]
        text = example["transcript"][0].decode()
        numbers = ", ".join(map(str, example["label"][:labels]))
        assert f"{name}: features [frames, bins] [{frames}, 80] float32, mean " in outcome.stderr
        assert f"{labels} labels of {text!r}: {numbers}\n" in outcome.stderr
    assert "labels of" not in run(folder, "--files_path=dev-clean", "--tfrecords_file=u").stderr


def test_flags_reach_the_front_end_and_the_records(folder: Path) -> None:
    (folder / "letters.txt").write_text("\n".join("abcdeghilmosty' ") + "\n", encoding="utf-8")
    outcome = run(
        folder,
        *FLAGS,
        *("--sample_rate=8000", "--winlen=0.025", "--winstep=0.02", "--nrof_fbanks=40", "--nopad"),
        *("--alphabet=letters.txt", "--workers=2", "--starting_position=1"),
    )
    assert outcome.returncode == 0, outcome.stderr
    settings = index_of(folder)["settings"]
    front_end = settings["front_end"]
    assert [front_end[key] for key in ("sample_rate", "window_seconds", "step_seconds")] == [
        *(8000, 0.025, 0.02)
    ]
    assert (front_end["mel_filters"], front_end["highest_frequency"]) == (40, 4000.0)
    assert (settings["padded"], "".join(settings["alphabet"])) == (False, "abcdeghilmosty' ")
    examples = records(folder)
    assert set(examples) == set(SPOKEN) - {"1-1-0000"}
    for example in examples.values():
        assert len(example["features"]) == 40 * example["feature_length"][0]
        assert len(example["label"]) == example["label_length"][0]


@pytest.mark.parametrize(
    ("flags", "bins"),
    [
        (["--features=mfcc", "--numcep=20", "--nrof_fbanks=26", "--nfft=512", "--deltas=2"], 60),
        (["--features=spectrogram", "--nfft=320", "--normalisation=none"], 161),
        (["--features=waveform", "--winlen=0.01", "--normalisation=none"], 160),
    ],
)
def test_every_kind_of_features_is_available(folder: Path, flags: list[str], bins: int) -> None:
    outcome = run(folder, *FLAGS, "--nopad", *flags)
    assert outcome.returncode == 0, outcome.stderr
    front_end = FrontEnd.from_json(index_of(folder)["settings"]["front_end"])
    (kind,) = (flag.partition("=")[2] for flag in flags if flag.startswith("--features"))
    assert (front_end.features, front_end.bins) == (kind, bins)
    examples = records(folder)
    assert set(examples) == set(SPOKEN)
    for example in examples.values():
        assert len(example["features"]) == bins * example["feature_length"][0]
    again = run(folder, *FLAGS, "--nopad", *flags)
    assert "t is finished: nothing to do" in again.stderr
    assert "features " in refusal(folder, *FLAGS, "--nopad")


@pytest.mark.parametrize(
    ("flag", "features"),
    [
        ("--nrof_fbanks=40", "waveform"),
        ("--nrof_fbanks=80", "spectrogram"),
        ("--numcep=13", "fbank"),
        ("--nfft=512", "waveform"),
        ("--deltas=1", "waveform"),
    ],
)
def test_a_flag_without_effect_on_the_features_is_refused(
    folder: Path, flag: str, features: str
) -> None:
    message = refusal(folder, *FLAGS, flag, f"--features={features}")
    assert f"{flag} has no effect on --features={features}" in message
    assert not list(folder.glob("t.*"))


def test_empty_mel_filters_cause_a_warning(folder: Path) -> None:
    outcome = run(folder, *FLAGS, "--nfft=320")
    assert outcome.returncode == 0
    assert "of 80 mel filters" in outcome.stderr and "--nfft=320" in outcome.stderr


def test_a_bare_call_prepares_existing_sets_and_names_the_others(
    tmp_path: Path, write_split: WriteSplit
) -> None:
    write_split(tmp_path / "data/LibriSpeech/dev-clean", SPOKEN)
    write_split(tmp_path / "data/LibriSpeech/test-clean", {"5-1-0000": "TEST"})
    outcome = run(tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    assert sorted(path.name for path in (tmp_path / "data").glob("*.*")) == [
        *("dev.tfrecords.00000000", "dev.tfrecords.index.json"),
        *("test.tfrecords.00000000", "test.tfrecords.index.json"),
    ]
    assert set(records(tmp_path / "data", "test.tfrecords")) == {"5-1-0000"}
    assert "train-clean-100 doesn't exist and is left out" in outcome.stderr
    assert "--download=train-clean-100" in outcome.stderr
    assert "--download=dev-clean" not in outcome.stderr


@pytest.mark.parametrize("folders", ["dev-clean", "./dev-clean/"])
def test_a_split_of_librispeech_has_a_default_name(folder: Path, folders: str) -> None:
    outcome = run(folder, f"--files_path={folders}")
    assert outcome.returncode == 0, outcome.stderr
    assert set(records(folder / "data", "dev.tfrecords")) == set(SPOKEN)


@pytest.mark.parametrize(
    ("folders", "flags", "longest"),
    [
        ("dev-clean", [], (3600, 600)),
        ("test-other/", [], (3600, 600)),
        ("dev-clean,test-other", [], (3600, 600)),
        ("dev-clean", ["--max_sequence_length=50"], (50, 600)),
        ("dev-clean", ["--max_label_length=50"], (3600, 50)),
        ("train-clean-100", [], (1729, 338)),
        ("dev-clean,train-clean-100", [], (1729, 338)),
        ("train-clean-100", ["--max_sequence_length=50"], (50, 338)),
    ],
)
def test_sets_for_evaluation_are_kept_whole(
    tmp_path: Path,
    write_split: WriteSplit,
    folders: str,
    flags: list[str],
    longest: tuple[int, int],
) -> None:
    for number, name in enumerate(folders.split(",")):
        write_split(tmp_path / name, {f"{number}-1-0000": "IT"})
    outcome = run(tmp_path, f"--files_path={folders}", "--tfrecords_file=t", *flags)
    assert outcome.returncode == 0, outcome.stderr
    settings = index_of(tmp_path)["settings"]
    assert (settings["max_sequence_length"], settings["max_label_length"]) == longest


def test_ctrl_c_stops_without_a_traceback_and_the_same_call_resumes(
    tmp_path: Path, write_split: WriteSplit
) -> None:
    """As at a terminal: every process of the group gets the signal."""
    write_split(tmp_path / "dev-clean", {f"1-1-{number:04d}": "IT" for number in range(200)})
    flags = [*FLAGS, "--workers=2", "--partition_size=1", "--nopad"]
    started = subprocess.Popen(
        [sys.executable, str(SCRIPT), *flags],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Whoever runs the tests in the background has the signal ignored, and children inherit it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "t.00000001").exists() and time.monotonic() < until:
            time.sleep(0.01)
        os.killpg(started.pid, signal.SIGINT)
        _, stderr = started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == 130, stderr
    assert "stopped" in stderr and "Traceback" not in stderr
    shards = len(list(tmp_path.glob("t.0*")))
    assert 2 <= shards < 200
    outcome = run(tmp_path, *flags[:2], *flags[3:])
    assert outcome.returncode == 0, outcome.stderr
    assert "of 200 shards exist already" in outcome.stderr
    assert len(records(tmp_path)) == 200


def test_a_bare_call_without_data_names_the_download(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    assert "data/LibriSpeech/train-clean-100 is not a folder" in message
    assert "python prepare_libri.py --download=train-clean-100" in message
    assert not list(tmp_path.iterdir())


def test_several_folders_are_merged(folder: Path, write_split: WriteSplit) -> None:
    write_split(folder / "dev-other", {"1-9-0000": "OTHER"})
    outcome = run(folder, "--files_path=dev-clean,dev-other", "--tfrecords_file=t")
    assert outcome.returncode == 0, outcome.stderr
    assert set(records(folder)) == {*SPOKEN, "1-9-0000"}


def test_stats_report_the_sets_of_a_bare_call_and_prepare_none(
    tmp_path: Path, write_split: WriteSplit
) -> None:
    write_split(tmp_path / "data/LibriSpeech/train-clean-100", SPOKEN)
    write_split(tmp_path / "data/LibriSpeech/dev-clean", {"5-1-0000": "TEST"})
    outcome = run(tmp_path, "--stats")
    assert outcome.returncode == 0, outcome.stderr
    train, dev = outcome.stdout.split("data/dev.tfrecords\n")
    assert train.startswith("data/train.tfrecords\n") and "4 of 4 usable" in train
    assert "at most 1% of the hours" in train and "discard nothing" in dev
    assert "3600" in dev and "3600" not in train
    assert [line for line in train.splitlines() if line.startswith("report/")] == [
        "report/train.tfrecords.lengths.png"
    ]
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        *("dev.tfrecords.lengths.png", "train.tfrecords.lengths.png")
    ]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["LibriSpeech"]


def test_preparation_discards_what_stats_predict(folder: Path) -> None:
    limit = "--max_sequence_length=30"
    (row,) = (
        line.split()
        for line in run(folder, *FLAGS, "--stats", limit).stdout.splitlines()
        if line.endswith("present setting") and line.split()[0] == "30"
    )
    assert run(folder, *FLAGS, limit).returncode == 0
    assert 0 < int(row[1]) == len(index_of(folder)["skipped"]) < 4


def test_stats_without_a_usable_utterance_are_an_error_after_the_reasons(folder: Path) -> None:
    for path in folder.glob("dev-clean/*/*/*.flac"):
        path.write_text("not a flac")
    outcome = run(folder, *FLAGS, "--stats")
    assert outcome.returncode == 1 and "Traceback" not in outcome.stderr
    assert "None of the 4 utterances could be used" in outcome.stderr
    assert ["unreadable", "audio", "4"] in [line.split() for line in outcome.stdout.splitlines()]
    assert not (folder / "report").exists()


# --- A set in a bucket ----------------------------------------------------------------------------

MANY = {f"1-1-{number:04d}": "IT" for number in range(60)}
ONE_EACH = ("--partition_size=1", "--nopad")


def objects(emulator: Emulator, folder: str) -> dict[str, bytes]:
    """Name -> content of every object in a folder of the bucket, gs://BUCKET/folder."""
    prefix = folder.removeprefix(f"gs://{emulator.bucket}/") + "/"
    return {name.removeprefix(prefix): each for name, each in emulator.objects(prefix).items()}


def prepared(folder: Path) -> dict[str, bytes]:
    """Name -> content of every file of the set t."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("t.*"))}


def start_in_bucket(
    folder: Path, emulator: Emulator, own_bucket: str, *flags: str
) -> "subprocess.Popen[str]":
    """Starts to prepare a set in the bucket; returns when its first shard is there."""
    started = subprocess.Popen(
        [sys.executable, str(SCRIPT), "--workers=1", FLAGS[0], *flags],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while "t.00000000" not in objects(emulator, own_bucket):
        assert started.poll() is None and time.monotonic() < until, started.communicate()[1]
        time.sleep(0.001)
    return started


@pytest.fixture
def many(tmp_path: Path, write_split: WriteSplit) -> Path:
    """A folder with 60 utterances in dev-clean, one a shard, and their set t."""
    write_split(tmp_path / "dev-clean", MANY)
    assert run(tmp_path, *FLAGS, *ONE_EACH).returncode == 0
    assert len(prepared(tmp_path)) == len(MANY) + 1
    return tmp_path


def test_a_set_in_a_bucket_has_the_bytes_of_a_local_one_and_is_kept(
    folder: Path, emulator: Emulator, own_bucket: str
) -> None:
    # Two longer records, so that a shard goes up in several requests.
    flags = ("--partition_size=3", "--max_sequence_length=9000")
    local = run(folder, *FLAGS, *flags)
    there = run(folder, FLAGS[0], f"--tfrecords_file={own_bucket}/t", *flags, "--workers=2")
    assert there.returncode == 0, there.stderr
    assert objects(emulator, own_bucket) == prepared(folder)
    assert len(prepared(folder)["t.00000000"]) > 8 * 2**20
    assert there.stdout == local.stdout.replace("t\n", f"{own_bucket}/t\n", 1)

    emulator.forget_requests()
    again = run(folder, FLAGS[0], f"--tfrecords_file={own_bucket}/t", *flags)
    assert again.returncode == 0, again.stderr
    assert f"{own_bucket}/t is finished: nothing to do" in again.stderr
    changes = [request for request in emulator.requests() if request[0] != "GET"]
    assert [method for method, _ in changes] == ["POST", "DELETE"]
    assert all("/.t.lock" in path for _, path in changes)


def test_a_killed_preparation_in_a_bucket_resumes(
    many: Path, emulator: Emulator, own_bucket: str
) -> None:
    flags = (f"--tfrecords_file={own_bucket}/t", *ONE_EACH)
    killed = start_in_bucket(many, emulator, own_bucket, *flags)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    half = {name for name in objects(emulator, own_bucket) if name.startswith("t.0")}
    assert 1 <= len(half) < len(MANY)
    emulator.forget_requests()
    outcome = run(many, FLAGS[0], *flags)
    assert outcome.returncode == 0, outcome.stderr
    assert ".t.lock is from a run that was killed: taken over" in outcome.stderr
    assert objects(emulator, own_bucket) == prepared(many)
    sent = {path.rpartition("/")[2] for _, path in emulator.requests() if "&name=" in path}
    assert sent >= prepared(many).keys() - half
    assert len(sent & half) <= 1  # the index may not have known the last one yet


def test_a_bucket_that_vanishes_is_one_line_and_the_set_is_finished_later(
    many: Path, emulator: Emulator, own_bucket: str
) -> None:
    flags = (f"--tfrecords_file={own_bucket}/t", *ONE_EACH)
    disturbed = start_in_bucket(many, emulator, own_bucket, *flags)
    emulator.vanish()
    _, stderr = disturbed.communicate(timeout=60)
    assert disturbed.returncode == 1 and "Traceback" not in stderr
    (message,) = (line for line in stderr.splitlines() if line.startswith("error: "))
    assert f"{own_bucket}/" in message and "doesn't exist: check the bucket's name" in message
    emulator.heal()
    whole = prepared(many)
    for name, content in objects(emulator, own_bucket).items():
        assert not name.startswith("t.0") or content == whole[name]
    outcome = run(many, FLAGS[0], *flags)
    assert outcome.returncode == 0, outcome.stderr
    assert objects(emulator, own_bucket) == whole


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("gs://no-such-bucket/t", "gs://no-such-bucket/.t.lock doesn't exist: check the bucket"),
        ("gs://no-such-bucket", "give it as gs://BUCKET/PATH"),
        ("gs://", "give it as gs://BUCKET/PATH"),
    ],
)
def test_an_invalid_bucket_is_refused(
    folder: Path, own_bucket: str, target: str, says: str
) -> None:
    assert says in refusal(folder, FLAGS[0], f"--tfrecords_file={target}")
    assert [path.name for path in folder.iterdir()] == ["dev-clean"]


# --- Verifying and uploading ----------------------------------------------------------------------


def damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_a_set_is_verified_uploaded_and_verified_there(
    folder: Path, emulator: Emulator, own_bucket: str
) -> None:
    assert run(folder, *FLAGS, "--partition_size=3").returncode == 0
    size = sum(len(content) for name, content in prepared(folder).items() if "index" not in name)
    megabytes = f"{size / 1e6:.1f} MB"
    outcome = run(folder, FLAGS[1], "--verify", f"--upload_to={own_bucket}/data")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.splitlines() == [
        f"t: 4 records ({megabytes}) are whole",
        f"t -> {own_bucket}/data: 2 shards sent ({megabytes}), 0 were there",
    ]
    assert objects(emulator, f"{own_bucket}/data") == prepared(folder)
    outcome = run(folder, f"--tfrecords_file={own_bucket}/data/t", "--verify")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout == f"{own_bucket}/data/t: 4 records ({megabytes}) are whole\n"
    outcome = run(folder, FLAGS[1], f"--upload_to={own_bucket}/data/")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout == f"t -> {own_bucket}/data/: 0 shards sent (0.0 MB), 2 were there\n"


def test_a_bare_call_uploads_and_verifies_existing_sets(
    tmp_path: Path, write_split: WriteSplit, emulator: Emulator, own_bucket: str
) -> None:
    for split in ("dev-clean", "test-clean"):
        write_split(tmp_path / "data/LibriSpeech" / split, SPOKEN)
    assert run(tmp_path, "--nopad").returncode == 0
    outcome = run(tmp_path, f"--upload_to={own_bucket}")
    assert outcome.returncode == 0, outcome.stderr
    names = [
        f"{name}.tfrecords.{end}" for name in ("dev", "test") for end in ("00000000", "index.json")
    ]
    assert sorted(objects(emulator, own_bucket)) == names
    for name in ("dev", "test"):
        damage(tmp_path / f"data/{name}.tfrecords.00000000")
    outcome = run(tmp_path, "--verify")
    assert outcome.returncode == 1
    assert "error: 2 damaged shards:\n  data/dev.tfrecords.00000000: " in outcome.stderr


def test_damaged_shards_are_listed_one_per_line_and_not_uploaded(
    folder: Path, emulator: Emulator, own_bucket: str
) -> None:
    assert run(folder, *FLAGS, "--partition_size=1", "--nopad").returncode == 0
    damage(folder / "t.00000001")
    (folder / "t.00000003").unlink()
    for more in ([], [f"--upload_to={own_bucket}"]):
        outcome = run(folder, FLAGS[1], "--verify", *more)
        assert outcome.returncode == 1 and "Traceback" not in outcome.stderr
        assert outcome.stderr.splitlines()[-4:] == [
            "error: 2 damaged shards:",
            "  t.00000001: the record at byte 0 is damaged",
            "  t.00000003: is missing",
            "Remove those that exist and run the command that wrote them again: it writes only "
            "these.",
        ]
        assert outcome.stdout.startswith("t: 2 records (")
    assert objects(emulator, own_bucket) == {}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--upload_to=bucket/data"], "--upload_to=bucket/data is not a folder in a bucket: give"),
        (["--upload_to=/data"], "give it as gs://BUCKET/PATH"),
        (["--upload_to="], "--upload_to= is not a folder in a bucket: give it as gs://BUCKET/PATH"),
        (["--upload_to=gs://"], "give it as gs://BUCKET/PATH"),
        (["--upload_to=gs://no-such-bucket"], "gs://no-such-bucket/.t.lock doesn't exist"),
        (["--upload_to=bucket", "--verify"], "--upload_to=bucket is not a folder in a bucket"),
        (
            ["--upload_to=gs://bucket", "--tfrecords_file=gs://bucket/data/t"],
            "gs://bucket/data/t is in a bucket already: --upload_to copies local shards",
        ),
        (
            ["--upload_to=gs://bucket", "--tfrecords_file=u"],
            "u.index.json is missing: prepare the shards first, or name existing ones",
        ),
        (["--upload_to=gs://bucket", "--tfrecords_file="], "There are no shards at data/train."),
        (["--verify", "--tfrecords_file="], "data/test.tfrecords: prepare them first, or name"),
        (["--verify", "--tfrecords_file=u"], "u.index.json is missing: name the set to verify"),
        (["--verify", "--tfrecords_file=gs://bucket"], "give it as gs://BUCKET/PATH"),
    ],
)
def test_an_invalid_upload_is_refused(
    tmp_path: Path, own_bucket: str, flags: list[str], says: str
) -> None:
    write_shards(tmp_path, random_utterances([40], bins=4), name="t")
    before = prepared(tmp_path)
    message = refusal(tmp_path, FLAGS[1], *flags)
    assert says in message and len(message.splitlines()) == 1
    assert prepared(tmp_path) == before and not (tmp_path / "data").exists()


# --- Skipped utterances, and usable ones that seem faulty: one run for all ------------------------

FAULTY = {
    "3-1-0000": "TRUNCATED",
    "3-1-0001": "AT EIGHT KHZ",
    "3-1-0002": "STEREO",
    "3-1-0003": "NO SAMPLES",
    "3-1-0004": "ÜBER",
    "3-1-0005": "A LABEL THAT IS MUCH TOO LONG FOR A THIRD OF A SECOND OF SPEECH",
    "3-1-0006": "NO AUDIO",
    "3-1-0007": "NO TRANSCRIPT LINE",
    "3-1-0008": "NO AUDIO AT ALL BUT BYTES",
    "4-1-0000": "NO TRANSCRIPT FILE",
    "4-1-0001": "NO TRANSCRIPT FILE",
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, write_split: WriteSplit) -> Path:
    """A folder where a split with one fault of each kind was prepared."""
    folder = tmp_path_factory.mktemp("faulty")
    write_split(folder / "dev-clean", {**SPOKEN, **FAULTY})
    chapter = folder / "dev-clean/3/1"
    os.truncate(chapter / "3-1-0000.flac", 3000)
    noise = np.random.default_rng(0).normal(size=(8000, 2)) * 0.1
    soundfile.write(chapter / "3-1-0001.flac", noise[:4000, 0], 8000)
    soundfile.write(chapter / "3-1-0002.flac", noise, 16000)
    soundfile.write(chapter / "3-1-0003.flac", noise[:0], 16000)
    (chapter / "3-1-0006.flac").unlink()
    (chapter / "3-1-0008.flac").write_text("not a flac")
    lines = (chapter / "3-1.trans.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("3-1-0007")]
    (chapter / "3-1.trans.txt").write_text("".join(kept), encoding="utf-8")
    (folder / "dev-clean/4/1/4-1.trans.txt").unlink()
    outcome = run(folder, *FLAGS)
    (folder / "stdout").write_text(outcome.stdout)
    (folder / "stderr").write_text(outcome.stderr)
    assert outcome.returncode == 0, outcome.stderr
    return folder


@pytest.mark.parametrize(
    ("utterance_id", "reason", "detail"),
    [
        ("3-1-0000", "unreadable audio", "3-1-0000.flac"),
        ("3-1-0003", "unreadable audio", "3-1-0003.flac"),  # libsndfile refuses an empty flac
        ("3-1-0008", "unreadable audio", "3-1-0008.flac"),
        ("3-1-0004", "unknown character", "'ü' (U+00FC"),
        ("3-1-0005", "more labels than CTC can align", "3-1-0005.flac"),
        ("3-1-0006", "no audio", "a transcript without audio"),
        ("3-1-0007", "no transcript", "3-1-0007.flac"),
        ("4-1-0000", "no transcript", "4-1-0000.flac"),
        ("4-1-0001", "no transcript", "4-1-0001.flac"),
    ],
)
def test_an_unusable_utterance_is_skipped_by_name_and_reason(
    faulty: Path, utterance_id: str, reason: str, detail: str
) -> None:
    skipped = {each["utterance_id"]: each for each in index_of(faulty)["skipped"]}
    assert skipped[utterance_id]["reason"] == reason
    assert detail in skipped[utterance_id]["detail"]
    assert utterance_id not in records(faulty)


@pytest.mark.parametrize(("utterance_id", "frames"), [("3-1-0001", 49), ("3-1-0002", 49)])
def test_8_khz_and_stereo_are_usable(faulty: Path, utterance_id: str, frames: int) -> None:
    assert records(faulty)[utterance_id]["feature_length"] == [frames]


def test_the_skipped_are_counted_by_reason_and_nothing_else_is_missing(faulty: Path) -> None:
    stdout = [line.split() for line in (faulty / "stdout").read_text().splitlines()]
    assert ["utterances", "6", "of", "15"] in stdout
    assert ["skipped", "9,", "named", "in", "t.index.json"] in stdout
    assert ["unreadable", "audio", "3"] in stdout and ["no", "transcript", "3"] in stdout
    assert set(records(faulty)) == {*SPOKEN, "3-1-0001", "3-1-0002"}
    assert "Traceback" not in (faulty / "stderr").read_text()


def test_strict_stops_at_the_first_unusable_utterance(faulty: Path) -> None:
    message = refusal(faulty, FLAGS[0], "--tfrecords_file=strict", "--strict")
    assert "3-1-0000: unreadable audio" in message and "leave it out" in message
    assert not list(faulty.glob("strict*")) and not list(faulty.glob(".strict*"))


def test_nothing_usable_is_an_error_that_points_to_the_reasons(folder: Path) -> None:
    message = refusal(folder, *FLAGS, "--max_sequence_length=5")
    assert "None of the 4 utterances could be used" in message
    assert "t.index.json" in message
    assert {each["reason"] for each in index_of(folder)["skipped"]} == {"too many frames"}


# --- Invalid calls --------------------------------------------------------------------------------


def test_a_missing_folder(folder: Path) -> None:
    message = refusal(folder, "--files_path=dev-clear", "--tfrecords_file=t")
    assert "dev-clear is not a folder" in message and "--files_path" in message


def test_an_empty_folder(folder: Path) -> None:
    (folder / "empty").mkdir()
    message = refusal(folder, "--files_path=empty", "--tfrecords_file=t")
    assert "empty contains no utterances" in message and "--files_path" in message


@pytest.mark.parametrize("place", ["file/below/t", "/proc/self/t"])
def test_an_output_folder_that_can_not_be_written_is_named(folder: Path, place: str) -> None:
    (folder / "file").write_text("")
    message = refusal(folder, FLAGS[0], f"--tfrecords_file={place}")
    lock = os.path.join(os.path.dirname(place), ".t.lock")
    assert f"{lock} can't be written" in message and "--tfrecords_file" in message


def test_other_settings_over_an_existing_set_are_refused(folder: Path) -> None:
    assert run(folder, *FLAGS).returncode == 0
    message = refusal(folder, *FLAGS, "--nrof_fbanks=40")
    assert "t.index.json was made with other settings: mel_filters 80 then, 40 now" in message
    assert "--tfrecords_file" in message


def test_a_changed_transcript_over_an_existing_set_is_refused(folder: Path) -> None:
    assert run(folder, *FLAGS).returncode == 0
    transcripts = folder / "dev-clean/1/1/1-1.trans.txt"
    transcripts.write_text(transcripts.read_text().replace("HELLO", "HALLO"))
    message = refusal(folder, *FLAGS)
    assert "some audio or transcript has changed" in message and "--tfrecords_file" in message


@pytest.mark.parametrize("folders", ["speech", "dev-clean,speech", "dev-other"])
def test_folders_without_a_name_for_their_shards_are_refused(
    folder: Path, write_split: WriteSplit, folders: str
) -> None:
    for name in ("speech", "dev-other"):
        write_split(folder / name, {"9-1-0000": "OTHER"})
    message = refusal(folder, f"--files_path={folders}")
    assert f"--files_path={folders} needs a name" in message and "give --tfrecords_file" in message
    assert not (folder / "data").exists()


def test_a_folder_of_splits(folder: Path) -> None:
    message = refusal(folder, "--files_path=.", "--tfrecords_file=t")
    assert "several splits" in message and "dev-clean, separated by commas" in message
    assert not list(folder.glob("t.*"))


def test_an_unknown_split_is_not_downloaded(tmp_path: Path) -> None:
    message = refusal(tmp_path, "--download=dev-clear")
    assert "dev-clear is not a split of LibriSpeech" in message


def test_the_name_of_a_default_set_implies_its_folder(
    tmp_path: Path, write_split: WriteSplit
) -> None:
    write_split(tmp_path / "data/LibriSpeech/train-clean-100", SPOKEN)
    write_split(tmp_path / "data/LibriSpeech/dev-clean", {"5-1-0000": "TEST"})
    outcome = run(tmp_path, "--tfrecords_file=data/dev.tfrecords")
    assert outcome.returncode == 0, outcome.stderr
    assert set(records(tmp_path / "data", "dev.tfrecords")) == {"5-1-0000"}
    message = refusal(tmp_path, "--tfrecords_file=data/mine")
    assert "--tfrecords_file=data/mine" in message and "with --files_path" in message
    assert not list((tmp_path / "data").glob("mine*"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("out/", "--tfrecords_file=out/ is a folder: add the name"),
        ("..", "as in ../train.tfrecords"),
        ("out/t.00000000", "names one file of a set: give the beginning of all its names, out/t."),
        ("t.index.json", "names one file of a set: give the beginning of all its names, t."),
        ("gs://ab", "error: gs://ab can't be in a bucket"),
        ("gs://UPPER/t", "error: gs://UPPER/t can't be in a bucket"),
        ("gs://bucket/data/", "as in gs://bucket/data/train.tfrecords"),
    ],
)
@pytest.mark.parametrize("task", [FLAGS[0], "--verify"])
def test_a_name_that_no_set_can_have_is_refused(
    folder: Path, name: str, says: str, task: str
) -> None:
    assert says in refusal(folder, task, f"--tfrecords_file={name}")
    assert [path.name for path in folder.iterdir()] == ["dev-clean"]


@pytest.mark.parametrize("folders", ["gs://", "gs://UPPER/x"])
def test_a_folder_in_an_invalid_bucket_is_refused(folder: Path, folders: str) -> None:
    message = refusal(folder, f"--files_path={folders}", FLAGS[1])
    assert f"error: {folders} can't be in a bucket: give it as gs://BUCKET/PATH" in message


@pytest.mark.parametrize(
    ("flags", "both"),
    [
        (["--verify", "--stats"], "--stats and --verify"),
        (["--download=dev-clean", "--stats"], "--download and --stats"),
        (["--download=dev-clean", "--verify"], "--download and --verify"),
        (["--download=dev-clean", "--upload_to=gs://bucket"], "--download and --upload_to"),
        (["--download=dev-clean", FLAGS[0]], "--download and --files_path"),
        (["--download=dev-clean", FLAGS[1]], "--download and --tfrecords_file"),
        (["--download=dev-clean", "--runner=DirectRunner"], "--download and --runner"),
        (["--verify", "--runner=DirectRunner"], "--verify and --runner"),
        (["--stats", "--runner=DirectRunner"], "--stats and --runner"),
        (["--stats", "--upload_to=gs://bucket"], "--stats and --upload_to"),
        (["--runner="], "--runner= names no Apache Beam runner"),
    ],
)
def test_several_tasks_are_refused(folder: Path, flags: list[str], both: str) -> None:
    assert f"error: {both}" in refusal(folder, *flags)
    assert [path.name for path in folder.iterdir()] == ["dev-clean"]


def test_stats_of_a_folder_need_no_name_for_shards(folder: Path) -> None:
    (folder / "dev-clean").rename(folder / "speech")
    outcome = run(folder, "--stats", "--files_path=speech")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.startswith("speech\n")
    assert [path.name for path in (folder / "report").iterdir()] == ["speech.lengths.png"]


def test_folders_whose_names_are_not_utf_8(tmp_path: Path, write_split: WriteSplit) -> None:
    split = os.fsdecode(b"split\xff")
    write_split(tmp_path / "split", {"a-1-0000": "HELLO"})
    (tmp_path / "split").rename(tmp_path / split)
    (tmp_path / split / "a").rename(tmp_path / split / os.fsdecode(b"sp\xff"))
    outcome = run(tmp_path, "--stats", f"--files_path={split}")
    assert outcome.returncode == 0, outcome.stderr
    assert "1 of 1 usable" in outcome.stdout and "1 (sp\\udcff)" in outcome.stdout
    assert outcome.stdout.startswith("split\\udcff\n")
    assert (tmp_path / "report" / f"{split}.lengths.png").exists()
    outcome = run(tmp_path, f"--files_path={split}", "--tfrecords_file=t", "--workers=2")
    assert outcome.returncode == 0, outcome.stderr
    assert set(records(tmp_path)) == {"a-1-0000"}


def test_a_starting_position_without_a_set_is_refused(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "dev-clean").rename(folder / "data/dev-clean")
    message = refusal(folder, "--starting_position=2")
    assert "--starting_position applies to one set" in message and "--files_path" in message


def test_a_positional_argument(folder: Path) -> None:
    message = refusal(folder, *FLAGS, "dev-clean")
    assert "'dev-clean' is not a flag" in message and "--help" in message


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--winlen=0.1", "--winlen"),
        ("--winlen=nan", "--winlen"),
        ("--winstep=0", "--winstep"),
        ("--sample_rate=100", "--sample_rate"),
        ("--sample_rate=-1", "--sample_rate"),
        ("--nrof_fbanks=0", "--nrof_fbanks"),
        ("--workers=0", "workers"),
        ("--partition_size=many", "partition_size"),
        ("--starting_position=4", "--starting_position=4 is outside the corpus of 4"),
        ("--alphabet=letters.txt", "letters.txt can't be read: No such file"),
        ("--colour=red", "colour"),
    ],
)
def test_an_invalid_flag_is_refused(folder: Path, flag: str, says: str) -> None:
    assert says in refusal(folder, *FLAGS, flag)
    assert not list(folder.glob("t.*"))


# --- Augmented copies -----------------------------------------------------------------------------


def test_threefold_set_of_speeds_in_one_command(folder: Path) -> None:
    flags = (*FLAGS, "--augment=speed[factor=0.9:1.1]", "--augmented_copies=2")
    outcome = run(folder, *flags)
    assert outcome.returncode == 0, outcome.stderr
    assert "12 of 12" in outcome.stdout and "2 of each utterance: speed" in outcome.stdout
    examples = records(folder)
    for name in SPOKEN:
        frames = [examples[f"{name}{mark}"]["feature_length"][0] for mark in ("", "#1", "#2")]
        assert frames[1] == pytest.approx(frames[0] / 0.9, abs=2)
        assert frames[2] == pytest.approx(frames[0] / 1.1, abs=2)
    again = run(folder, *flags)
    assert "t is finished: nothing to do" in again.stderr
    assert "augmented_copies 2 then, 1 now" in refusal(folder, *FLAGS, "--augment=speed")
    assert index_of(folder)["settings"]["copies"]["augment"] == ["speed[factor=0.9:1.1]"]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ((*FLAGS, "--augment=overlay[source=noises]"), ["source=noises is no folder"]),
        ((*FLAGS, "--augment=codec[codec=mp5]"), ["codec=mp5 is none of opus, mp3"]),
        ((*FLAGS, "--augment=time_mask"), ["--augment=time_mask", "give it to training.py"]),
        ((*FLAGS, "--augment=speed", "--stats"), ["--stats measures the original recordings"]),
        ((*FLAGS, "--augmented_copies=2"), ["--augmented_copies=2 requires --augment"]),
        (("--augment=speed",), ["--augment applies to one set", "--files_path"]),
    ],
)
def test_invalid_augmentation_is_refused(
    folder: Path, flags: tuple[str, ...], names: list[str]
) -> None:
    message = refusal(folder, *flags)
    for name in names:
        assert name in message
    assert not list(folder.glob("t.*"))
