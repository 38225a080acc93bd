"""The door eval.py as users run it, with a model of a few steps."""

import csv
import functools
import importlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faked_tpu
import numpy as np
import pytest
import soundfile
from doors import TINY_NETWORK, assert_error, parse_door_flags, run_door, run_here
from scorers import pack_unigrams
from tiny_models import STEP, noise, write_model
from tiny_shards import random_utterances, write_shards

from speech.evaluation import corpus_shards
from speech.export import tflite
from speech.export.acoustic_graph import restore
from speech.export.description import Description
from speech.flags import corpus
from speech.networks.config import read_config
from speech.shards.index import Skipped
from speech.shards.paths import index_path
from speech.shards.shard_set import ShardSet
from utils import Alphabet, UserError

BINS = 4
FRAMES = [200, 300, 210, 290, 220, 280, 230, 270, 240, 260, 250, 255]


# Called with flags, does what the door does with them, in this process.
Evaluate = Callable[..., None]


@pytest.fixture
def evaluate() -> Evaluate:
    return functools.partial(run_here, importlib.import_module("eval"))


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
    losses = re.findall(r"dev loss (\d+\.\d+)", trained.stderr)
    assert len(losses) == 3  # two and that of the average
    for checkpoint, loss in {"latest": losses[1], "average": losses[2]}.items():
        flags = [f"--model_dir={folder}", f"--test_data={shards.pattern}"]
        more = [f"--checkpoint={checkpoint}", f"--report_dir={tmp_path}", "--beam_width=1"]
        result = run_door("eval.py", *flags, *more)
        assert result.returncode == 0, result.stderr
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["loss"] == pytest.approx(float(loss), abs=0.01)


@pytest.mark.slow
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


def test_skipped_and_unaligned_utterances_are_reported(
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


def test_missing_model_directory_is_named(
    shards: ShardSet, tmp_path: Path, evaluate: Evaluate
) -> None:
    folder = tmp_path / "nowhere"
    with pytest.raises(UserError, match=rf"{folder}.*python training\.py"):
        evaluate(f"--model_dir={folder}", f"--test_data={shards.pattern}")


def test_model_directory_without_checkpoint_is_named(
    shards: ShardSet, trained: tuple[Path, float], tmp_path: Path, evaluate: Evaluate
) -> None:
    (tmp_path / "config.json").write_text((trained[0] / "config.json").read_text())
    message = rf"{tmp_path} has no checkpoint.*training\.py --model_dir={tmp_path}"
    with pytest.raises(UserError, match=message):
        evaluate(f"--model_dir={tmp_path}", f"--test_data={shards.pattern}")


def test_shards_of_another_front_end_are_refused(
    trained: tuple[Path, float], tmp_path: Path, evaluate: Evaluate
) -> None:
    others = two_words(tmp_path, bins=6)
    message = "mel_filters 4 in the model, 6 in the shards"
    with pytest.raises(UserError, match=message) as error:
        evaluate(f"--model_dir={trained[0]}", f"--test_data={others.pattern}")
    assert others.pattern in str(error.value) and str(trained[0]) in str(error.value)


@pytest.mark.estimator
def test_missing_tpu_is_reported(shards: ShardSet, trained: tuple[Path, float]) -> None:
    flags = [f"--model_dir={trained[0]}", f"--test_data={shards.pattern}"]
    assert_error(run_door("eval.py", "--use_tpu", *flags), "no TPU cores", "--engine=pjrt")


def test_tpu_of_another_machine_requires_model_and_shards_in_a_bucket(
    shards: ShardSet, trained: tuple[Path, float], evaluate: Evaluate
) -> None:
    flags = [f"--model_dir={trained[0]}", f"--test_data={shards.pattern}", "--report_dir="]
    with pytest.raises(UserError, match="gs://") as error:
        evaluate("--use_tpu", "--tpu_name=my-tpu", *flags)
    for part in (f"--test_data={shards.pattern}", "--tpu_name=my-tpu"):
        assert part in str(error.value)


def test_batch_that_the_cores_do_not_divide_is_refused(
    trained: tuple[Path, float], evaluate: Evaluate
) -> None:
    with pytest.raises(UserError, match=r"--eval_batch_size=12.*8 cores"):
        evaluate("--use_tpu", f"--model_dir={trained[0]}", "--eval_batch_size=12")


@pytest.mark.estimator
def test_tpu_of_several_hosts_is_refused(
    shards: ShardSet, trained: tuple[Path, float], tmp_path: Path, evaluate: Evaluate
) -> None:
    message = "TPU local has 4 hosts.*leave out --use_tpu"
    report = tmp_path / "report"
    flags = [f"--model_dir={trained[0]}", f"--test_data={shards.pattern}", "--use_tpu"]
    with faked_tpu.topology(cores=32, hosts=4), pytest.raises(UserError, match=message):
        evaluate(*flags, "--tpu_name=local", "--num_tpu_cores=32", f"--report_dir={report}")
    assert not report.exists()


# --- With a scorer, several sets, and another evaluation ------------------------------------------

VOCABULARY = {"a": -1.0, "abc": -1.5, "abcbc": -2.0, "cab": -0.5}
# Many words, and no unknown ones, whatever the network's output.
WEIGHTS = ("--lm_beta=20", "--unknown_penalty=200")


@dataclass(frozen=True)
class Evaluated:
    """Two sets, evaluated at once with a scorer."""

    result: subprocess.CompletedProcess[str]
    others: ShardSet
    scorer: str
    logits: Path
    report: Path


@pytest.fixture(scope="module")
def evaluated(
    shards: ShardSet, trained: tuple[Path, float], tmp_path_factory: pytest.TempPathFactory
) -> Evaluated:
    folder = tmp_path_factory.mktemp("evaluated")
    others = random_utterances(FRAMES[:3], BINS, seed=1, letters="ab")
    other_set = write_shards(folder / "shards", others, name="other.tfrecords", longest=(300, 12))
    scorer = pack_unigrams(folder, VOCABULARY, alpha=0.25, beta=1)
    (folder / "audio").mkdir()
    soundfile.write(folder / "audio" / "utterance-0001.flac", np.zeros(160), 16000)
    result = run_door(
        "eval.py",
        f"--model_dir={trained[0]}",
        f"--test_data={shards.pattern},{other_set.pattern}",
        f"--scorer={scorer}",
        *WEIGHTS,
        "--hot_words=abc:2",
        f"--logits_cache={folder / 'logits'}",
        f"--report_dir={folder / 'report'}",
        f"--audio={folder / 'audio'}",
    )
    assert result.returncode == 0, result.stderr
    return Evaluated(result, other_set, scorer, folder / "logits", folder / "report")


def hypotheses(report: Path) -> list[str]:
    with open(report / "utterances.csv", newline="", encoding="utf-8") as file:
        return [row["hypothesis"] for row in csv.DictReader(file)]


def summary_of(report: Path) -> dict[str, Any]:
    return dict(json.loads((report / "summary.json").read_text()))


def test_with_a_scorer_words_are_the_vocabularys(evaluated: Evaluated) -> None:
    words = " ".join(hypotheses(evaluated.report / "tiny")).split()
    assert len(words) > 12 and set(words) <= VOCABULARY.keys()
    assert summary_of(evaluated.report / "tiny")["decoder"] == {
        "beam_width": 100,
        "scorer": evaluated.scorer,
        "alpha": 0.25,
        "beta": 20.0,
        "unknown_penalty": 200.0,
        "hot_words": "abc:2",
    }


def test_each_of_several_sets_has_its_rates_and_its_report(evaluated: Evaluated) -> None:
    report, printed = evaluated.report, evaluated.result.stdout
    assert sorted(os.listdir(report)) == ["index.html", "other", "tiny"]
    index = (report / "index.html").read_text()
    at = [printed.index(f"{name}:\n") for name in ("tiny", "other")]
    assert at[0] < at[1]
    for name, utterances in (("tiny", 12), ("other", 3)):
        assert sorted(os.listdir(report / name)) == [
            "report.html",
            "summary.json",
            "utterances.csv",
        ]
        summary = summary_of(report / name)
        assert summary["utterances"] == utterances
        assert f"WER {summary['wer']:.2%} CER {summary['cer']:.2%}" in printed
        assert f'<a href="{name}/report.html"' in index and f"{summary['wer']:.2%}" in index
        page = (report / name / "report.html").read_text()
        # Of the utterance that has a recording.
        assert page.count("<audio controls") in (1, 2) and "data:audio/flac;base64," in page
    assert f"All sets: {report}/index.html" in printed
    assert evaluated.result.stderr.count("Kept the network's output in") == 2


def test_kept_output_gives_the_same_rates_without_recognition(
    shards: ShardSet, trained: tuple[Path, float], evaluated: Evaluated, tmp_path: Path
) -> None:
    """Also compares with the evaluation before, and sweeps."""
    before = evaluated.report / "tiny"
    result = run_door(
        "eval.py",
        f"--model_dir={trained[0]}",
        f"--test_data={shards.pattern}",
        f"--scorer={evaluated.scorer}",
        *WEIGHTS,
        "--beam_width=90",
        "--cutoff_top_n=8",
        f"--logits_cache={evaluated.logits}",
        f"--report_dir={tmp_path}",
        f"--compare={before}/summary.json",
        "--sweep",
    )
    assert result.returncode == 0, result.stderr
    assert f"The network's output is in {evaluated.logits}/model.ckpt-3-" in result.stderr
    # The hot word, the wider beam and labels that are hardly probable are all that changed.
    summary, other = summary_of(tmp_path), summary_of(before)
    assert summary["decoder"].pop("beam_width") == 90 and "hot_words" not in summary["decoder"]
    for key in ("loss", "greedy_wer", "greedy_cer", "utterances", "words", "checkpoint_step"):
        assert summary[key] == other[key]
    points = f"{100 * (summary['wer'] - other['wer']):+.2f}"
    assert f"Against {before}/summary.json: WER {points} points" in result.stdout
    page = (tmp_path / "report.html").read_text()
    assert "Against another run" in page
    assert "WER by beam width" in page and '<th scope="row">90</th>' in page
    assert "framed: nearest to alpha 0.25, beta 20" in page


def test_comparison_with_another_set_names_an_utterance(
    shards: ShardSet,
    trained: tuple[Path, float],
    evaluated: Evaluated,
    tmp_path: Path,
    evaluate: Evaluate,
) -> None:
    other = evaluated.report / "other"
    flags = [f"--model_dir={trained[0]}", f"--test_data={shards.pattern}", f"--compare={other}"]
    message = f"utterance utterance-0000 has another reference in {other}.*the same shards"
    with pytest.raises(UserError, match=message):
        evaluate(*flags, f"--logits_cache={evaluated.logits}", f"--report_dir={tmp_path}")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--scorer=NOWHERE"], "The scorer NOWHERE can't be read: No such file"),
        (["--scorer=LM/lm.arpa"], "LM/lm.arpa is no scorer: make one with build_lm.py"),
        (["--scorer=LM/kenlm.scorer"], "another alphabet than the model in MODEL, with .*less"),
        (["--lm_alpha=1"], "--lm_alpha and --lm_beta weight a language model"),
        (["--hot_words=foo"], "hot_words has 'foo'"),
        (["--hot_words=Foo:3"], "hot word 'Foo' has \\['F'\\]: write it in lower case, foo"),
        (["--compare=NOWHERE"], "NOWHERE is no report.*Name the --report_dir"),
        (["--compare=NOWHERE", "--test_data=a,b"], "--compare compares one set"),
        (["--audio=LM"], "LM contains no recordings"),
        (["--test_data="], "--test_data is empty: name the shards"),
        (["--test_data=SHARDS,SHARDS"], "two sets tiny: evaluate them one after the other"),
        (["--test_data=SHARDS,NOWHERE*"], r"No shards match NOWHERE\*"),
    ],
    ids=lambda flags: " ".join(flags) if isinstance(flags, list) else "",
)
def test_contradictory_flags_are_reported_before_recognition(
    shards: ShardSet,
    trained: tuple[Path, float],
    tmp_path: Path,
    evaluate: Evaluate,
    flags: list[str],
    message: str,
) -> None:
    folder = tmp_path / "lm"
    folder.mkdir()
    pack_unigrams(folder, {"a": -1}, alphabet=Alphabet(("a", " ")))
    places = {
        "NOWHERE": str(tmp_path / "nowhere"),
        "LM": str(folder),
        "MODEL": str(trained[0]),
        "SHARDS": shards.pattern,
    }
    for name, place in places.items():
        flags = [flag.replace(name, place) for flag in flags]
        message = message.replace(name, re.escape(place))
    report = tmp_path / "report"
    common = [f"--model_dir={trained[0]}", f"--test_data={shards.pattern}"]
    with pytest.raises(UserError, match=message):
        evaluate(*common, f"--report_dir={report}", *flags)
    assert not report.exists()


# --- Models of other kinds, and sets without shards -----------------------------------------------


def test_a_table_gives_the_rates_of_its_shards_by_directory_and_by_exported_model(
    tmp_path: Path, evaluate: Evaluate
) -> None:
    """Also the loss; the exported model recognises shards, too."""
    write_model(tmp_path / "model", "deep_speech_lstm")
    rows = ["wav_filename,wav_filesize,transcript"]
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", noise(9000 + 3000 * number), 16000)
        rows.append(f"{number}.wav,1,ab cab")
    (tmp_path / "mine.csv").write_text("\n".join([*rows, "no.wav,1,missing"]))
    graph = restore(
        read_config(str(tmp_path / "model")), str(tmp_path / f"model/model.ckpt-{STEP}")
    )
    description = Description(read_config(str(tmp_path / "model")), STEP)
    exported = tmp_path / "model.tflite"
    exported.write_bytes(tflite.convert(graph, description, tflite.FLOAT32))
    table = f"--test_files={tmp_path}/mine.csv"
    with corpus_shards.prepared(
        corpus.test_corpus_from_flags(parse_door_flags(importlib.import_module("eval"), table)),
        read_config(str(tmp_path / "model")),
    ) as (pattern,):
        given = [
            (f"--model_dir={tmp_path}/model", f"--test_data={pattern}"),
            (f"--model_dir={tmp_path}/model", table),
            (f"--model={exported}", f"--test_data={pattern}"),
            (f"--model={exported}", table),
        ]
        summaries = []
        for number, arguments in enumerate(given):
            evaluate(*arguments, f"--report_dir={tmp_path}/{number}", "--beam_width=8")
            summaries.append(summary_of(tmp_path / str(number)))
    first = summaries[0]
    assert first["utterances"] == 3 and first["checkpoint_step"] == STEP and first["loss"] > 0
    for other in summaries[1:]:
        for key in ("wer", "cer", "greedy_wer", "utterances", "words", "checkpoint_step"):
            assert other[key] == first[key]
        assert other["loss"] == pytest.approx(first["loss"], rel=1e-4)


@pytest.mark.parametrize("file", ["output_graph.tflite", "output_graph.pbmm"])
def test_genuine_models_know_the_sentence_that_they_learnt(
    genuine: str, file: str, tmp_path: Path, evaluate: Evaluate
) -> None:
    """The texts of the other four wavs may differ from the client's in a few letters."""
    client = {"output_graph.tflite": "stt", "output_graph.pbmm": "deepspeech"}[file]
    texts = json.loads(Path(genuine, "client_transcripts.json").read_text())
    expected = texts[f"{client} tiny64/{file} beam 100"]
    with open(tmp_path / "wavs.csv", "w", newline="", encoding="utf-8") as table:
        rows = csv.writer(table)
        rows.writerow(["wav_filename", "wav_filesize", "transcript"])
        rows.writerows([f"{genuine}/wavs/{name}", 1, expected[name]["text"]] for name in expected)
    logits = f"--logits_cache={tmp_path / 'logits'}"
    flags = [f"--model={genuine}/tiny64/{file}", f"--test_files={tmp_path / 'wavs.csv'}", logits]
    for _ in range(2):  # the second time from the cache
        evaluate(*flags, f"--report_dir={tmp_path}")
    with open(tmp_path / "utterances.csv", newline="", encoding="utf-8") as written:
        found = {row["utterance_id"].rpartition("/")[2]: row for row in csv.DictReader(written)}
    assert found["LDC93S1"]["hypothesis"] == expected["LDC93S1.wav"]["text"]
    assert float(found["LDC93S1"]["loss"]) < 0.1
    assert len(found) == 5 and summary_of(tmp_path)["cer"] < 0.03
    assert len(os.listdir(tmp_path / "logits")) == 1


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--model_dir=tiny64", r"import_deepspeech\.py .*tiny64 --model_dir=NEW"),
        ("--model=tiny64", r"import_deepspeech\.py .*tiny64 --model_dir=NEW"),
        ("--model_dir=tiny64/output_graph.pb", r"eval\.py --model take the file"),
        ("--model=scorers/demo.scorer", "is a scorer"),
    ],
)
def test_genuine_files_at_the_wrong_flag_are_explained(
    genuine: str, flag: str, message: str, evaluate: Evaluate
) -> None:
    name, _, path = flag.partition("=")
    with pytest.raises(UserError, match=message):
        evaluate(f"{name}={genuine}/{path}")


def test_a_model_given_as_a_scorer_is_explained(genuine: str, evaluate: Evaluate) -> None:
    model = f"{genuine}/tiny64/output_graph.tflite"
    with pytest.raises(UserError, match="tflite is a model's file"):
        evaluate(f"--model={model}", f"--scorer={model}")
