"""The door eval.py, as people run it, on a model of a few steps."""

import csv
import importlib
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import faked_tpu
import pytest
from doors import TINY_NETWORK, assert_error, run_door
from tiny_shards import random_utterances, write_shards

from speech.records import ShardSet, Skipped, index_path
from utils import UserError

BINS = 4
FRAMES = [200, 300, 210, 290, 220, 280, 230, 270, 240, 260, 250, 255]


def two_words(folder: Path, bins: int = BINS) -> ShardSet:
    """Shards of a dozen utterances of two words each."""
    utterances = [
        replace(each, transcript=f"a{'bc' * (number % 3)} cab")
        for number, each in enumerate(random_utterances(FRAMES, bins))
    ]
    return write_shards(folder, utterances, bins=bins, longest=(300, 12))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return two_words(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet) -> tuple[Path, float]:
    """A model's folder, and the loss that training found on the shards in the end."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    result = run_door(
        "training.py",
        f"--train_data={shards.pattern}",
        f"--dev_data={shards.pattern}",
        f"--model_dir={folder}",
        "--train_batch_size=4",
        "--max_epochs=1",
        *TINY_NETWORK,
    )
    assert result.returncode == 0, result.stderr
    return folder, float(re.findall(r"dev loss (\d+\.\d+)", result.stderr)[-1])


def test_evaluation_prints_the_rates_and_writes_the_report(
    shards: ShardSet, trained: tuple[Path, float], tmp_path: Path
) -> None:
    folder, dev_loss = trained
    report = tmp_path / "new" / "report"
    result = run_door(
        "eval.py",
        f"--model_dir={folder}",
        f"--test_data={shards.pattern}",
        f"--report_dir={report}",
        "--eval_batch_size=5",
    )
    assert result.returncode == 0, result.stderr
    assert f"{folder}/best/model.ckpt-3" in result.stderr and "Traceback" not in result.stderr
    last = result.stdout.splitlines()[-1]
    summary = json.loads((report / "summary.json").read_text())
    assert last == (
        f"WER {100 * summary['wer']:.2f}% CER {100 * summary['cer']:.2f}% "
        f"loss {summary['loss']:.2f} (12 utterances, 24 words)"
    )
    assert summary["checkpoint_step"] == 3
    assert summary["utterances"] == 12 and summary["words"] == 24
    assert 0 < summary["real_time_factor"] < 60
    # The same shards and checkpoint as at the end of training, in batches of another size.
    assert summary["loss"] == pytest.approx(dev_loss, abs=0.01)

    assert str(report / "report.html") in result.stdout
    assert f"<b>{summary['wer']:.2%}</b>" in (report / "report.html").read_text()
    assert str(report / "utterances.csv") in result.stdout
    with open(report / "utterances.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["utterance_id"] for row in rows} == {f"utterance-{n:04d}" for n in range(12)}
    for kind in ("words", "substitutions", "deletions", "insertions"):
        assert sum(int(row[kind]) for row in rows) == summary[kind]
    errors = summary["substitutions"] + summary["deletions"] + summary["insertions"]
    assert summary["wer"] == pytest.approx(errors / 24)
    assert sum(float(row["loss"]) for row in rows) / 12 == pytest.approx(summary["loss"], abs=1e-3)
    numbers = {row["utterance_id"]: int(row["utterance_id"][-4:]) for row in rows}
    for row in rows:
        assert row["reference"] == f"a{'bc' * (numbers[row['utterance_id']] % 3)} cab"
    rates = [float(row["wer"]) for row in rows]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.slow
def test_another_network_is_trained_and_evaluated(shards: ShardSet, tmp_path: Path) -> None:
    """One whose batch normalisation has moving averages, which training alone moves."""
    folder = tmp_path / "model"
    trained = run_door(
        "training.py",
        f"--train_data={shards.pattern}",
        f"--dev_data={shards.pattern}",
        f"--model_dir={folder}",
        "--train_batch_size=4",
        "--train_steps=4",
        "--eval_steps=2",
        "--average_checkpoints=2",
        *("--network=conv_gru", "--conv_channels=4", "--recurrent_unit_size=4"),
    )
    assert trained.returncode == 0, trained.stderr
    looks = re.findall(r"dev loss (\d+\.\d+)", trained.stderr)
    assert len(looks) == 3  # two and that of the average
    for checkpoint, loss in {"latest": looks[1], "average": looks[2]}.items():
        flags = [f"--model_dir={folder}", f"--test_data={shards.pattern}"]
        more = [f"--checkpoint={checkpoint}", f"--report_dir={tmp_path}", "--beam_width=1"]
        result = run_door("eval.py", *flags, *more)
        assert result.returncode == 0, result.stderr
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["loss"] == pytest.approx(float(loss), abs=0.01)


def test_without_report_dir_only_the_rates_are_printed(
    shards: ShardSet, trained: tuple[Path, float]
) -> None:
    flags = [f"--model_dir={trained[0]}", f"--test_data={shards.pattern}", "--report_dir="]
    result = run_door("eval.py", *flags, "--beam_width=1", "--logging=error")
    assert result.returncode == 0, result.stderr
    rates = r"WER \d+\.\d\d% CER \d+\.\d\d%"
    last = rf"{rates} loss \d+\.\d\d \(12 utterances, 24 words\)"
    interval = r"\d+\.\d\d% to \d+\.\d\d%"
    intervals = rf"95% intervals: WER {interval}, CER {interval}"
    assert re.fullmatch(rf"Greedily: {rates}\n{intervals}\n{last}\n", result.stdout)
    assert "model.ckpt" not in result.stderr


def test_skipped_and_unaligned_utterances_are_told(
    shards: ShardSet, trained: tuple[Path, float], tmp_path: Path
) -> None:
    """One utterance has more labels than outputs: it counts in the rates and has no loss."""
    short, *others = random_utterances([10, *FRAMES[1:]], BINS)
    utterances = [replace(short, transcript="aaaa bb"), *others]
    unaligned = write_shards(tmp_path / "shards", utterances, longest=(300, 12))
    path = Path(index_path(str(tmp_path / "shards" / "tiny.tfrecords")))
    index = replace(
        unaligned.index,
        corpus_utterances=13,
        skipped=(Skipped(12, "utterance-0012", "too many frames", "400 frames, at most 300"),),
    )
    path.write_text(index.to_json())
    report = tmp_path / "report"
    flags = [f"--model_dir={trained[0]}", f"--test_data={unaligned.pattern}"]
    result = run_door("eval.py", *flags, f"--report_dir={report}", "--beam_width=1")
    assert result.returncode == 0, result.stderr
    assert "1 of the set's 13 utterances were skipped in preparation" in result.stderr
    with open(report / "utterances.csv", newline="", encoding="utf-8") as file:
        losses = {row["utterance_id"]: row["loss"] for row in csv.DictReader(file)}
    assert len(losses) == 12 and losses.pop("utterance-0000") == ""
    mean = sum(map(float, losses.values())) / 11
    loss = json.loads((report / "summary.json").read_text())["loss"]
    assert loss == pytest.approx(mean, abs=1e-3)


def test_shards_that_are_not_there_are_named(trained: tuple[Path, float]) -> None:
    result = run_door("eval.py", f"--model_dir={trained[0]}", "--test_data=/no/such/test.*")
    assert_error(result, "No shards match /no/such/test.*", "prepare_libri.py")


def test_missing_model_directory_is_named(shards: ShardSet, tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    result = run_door("eval.py", f"--model_dir={folder}", f"--test_data={shards.pattern}")
    assert_error(result, str(folder), "python training.py")


def test_model_directory_without_checkpoint_is_named(
    shards: ShardSet, trained: tuple[Path, float], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text((trained[0] / "config.json").read_text())
    result = run_door("eval.py", f"--model_dir={tmp_path}", f"--test_data={shards.pattern}")
    assert_error(result, str(tmp_path), "no checkpoint", f"training.py --model_dir={tmp_path}")


def test_shards_of_another_front_end_are_refused(
    trained: tuple[Path, float], tmp_path: Path
) -> None:
    others = two_words(tmp_path, bins=6)
    result = run_door("eval.py", f"--model_dir={trained[0]}", f"--test_data={others.pattern}")
    assert_error(
        result, others.pattern, str(trained[0]), "mel_filters 4 in the model, 6 in the shards"
    )


def test_missing_tpu_is_told(shards: ShardSet, trained: tuple[Path, float]) -> None:
    flags = [f"--model_dir={trained[0]}", f"--test_data={shards.pattern}"]
    assert_error(run_door("eval.py", "--use_tpu", *flags), "no TPU cores", "PJRT")


def test_tpu_of_another_machine_wants_model_and_shards_in_a_bucket(
    shards: ShardSet, trained: tuple[Path, float]
) -> None:
    flags = [f"--model_dir={trained[0]}", f"--test_data={shards.pattern}", "--report_dir="]
    result = run_door("eval.py", "--use_tpu", "--tpu_name=my-tpu", *flags)
    assert_error(result, f"--test_data={shards.pattern}", "--tpu_name=my-tpu", "gs://")


def test_batch_that_the_cores_do_not_divide_is_refused(trained: tuple[Path, float]) -> None:
    flags = [f"--model_dir={trained[0]}", "--eval_batch_size=12"]
    assert_error(run_door("eval.py", "--use_tpu", *flags), "--eval_batch_size=12", "8 cores")


def test_tpu_of_several_hosts_is_refused(
    shards: ShardSet, trained: tuple[Path, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = importlib.import_module("eval")
    values = {
        "model_dir": str(trained[0]),
        "test_data": shards.pattern,
        "report_dir": str(tmp_path / "report"),
        "eval_batch_size": 32,
        "logging": "error",
        "use_tpu": True,
        "tpu_name": "local",
        "tpu_zone": None,
        "gcp_project": None,
        "num_tpu_cores": 32,
        "checkpoint": None,
        "average_checkpoints": None,
    }
    monkeypatch.setattr(door, "FLAGS", SimpleNamespace(**values))
    told = "TPU local has 4 hosts.*leave out --use_tpu"
    with faked_tpu.topology(cores=32, hosts=4), pytest.raises(UserError, match=told):
        door.main()
    assert not (tmp_path / "report").exists()
