"""Tests that files of an earlier version are read as they were by that version.

data/ has small files of each kind; data/README.txt says how they were made. The tests run doors
with them, and compare the results with those of that version. The bytes of shards are the same on
every x86-64 processor with AVX2 and FMA.
"""

import csv
import hashlib
import importlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doors import run_here

import prepare_csv
import prepare_libri
import training
import transcribe
import tune_lm

evaluation = importlib.import_module("eval")

HERE = Path(__file__).parent

SHARD_FLAGS = (
    *("--nrof_fbanks=8", "--max_sequence_length=100", "--max_label_length=8"),
    *("--partition_size=3", "--workers=1"),
)
# Recordings, and the words that the model of tones recognises, with start and duration in seconds.
RECORDINGS = ("corpus/dev/2/1/2-1-0000.flac", "corpus/test/3/1/3-1-0000.flac")
A_CAT_AND_CAT_AT = [
    [("a", 0.0, 0.1), ("cat", 0.29, 0.41)],
    [("cat", 0.0, 0.4), ("at", 0.59, 0.26)],
]

# In nats, of a mean loss of up to 120; other processors round differently, by 1e-5.
TOLERANCE = 1e-4


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns an empty folder, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def unpack(folder: Path, *kinds: str) -> None:
    for kind in kinds:
        with tarfile.open(HERE / "data" / f"{kind}.tar.xz") as archive:
            archive.extractall(folder, filter="data")


def contents(folder: Path) -> dict[str, bytes]:
    """Returns name -> content of the files below a folder, hidden ones too."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def evaluate(*flags: str) -> dict[str, Any]:
    """Evaluates; returns summary.json, and the hypotheses by the utterances' ids."""
    run_here(evaluation, *flags, "--report_dir=new_report")
    with open("new_report/utterances.csv", newline="", encoding="utf-8") as file:
        hypotheses = {row["utterance_id"]: row["hypothesis"] for row in csv.DictReader(file)}
    return {**json.loads(Path("new_report/summary.json").read_text()), "hypotheses": hypotheses}


def records(model_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (model_dir / "history.jsonl").read_text().splitlines()]


def sha256sums(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents(folder).items()}


# --- Shards ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "flags"),
    [
        ("padded", "train", ()),
        ("padded", "test", ()),
        (
            *("nopad", "train"),
            (
                *("--nopad", "--normalisation=corpus"),
                *("--augment=volume[p=1,dbfs=-20~6]", "--augmented_copies=1"),
            ),
        ),
        ("nopad", "dev", ("--nopad", "--normalisation=corpus")),
    ],
)
def test_finished_shards_are_verified_kept_and_reproduced_to_the_byte(
    folder: Path, kind: str, name: str, flags: tuple[str, ...]
) -> None:
    unpack(folder, "corpus", "shards")
    before = contents(folder / "shards")
    shards = f"--tfrecords_file=shards/{kind}/{name}.tfrecords"
    run_here(prepare_libri, shards, "--verify")
    given = (f"--files_path=corpus/{name}", *SHARD_FLAGS, *flags)
    run_here(prepare_libri, shards, *given)
    assert contents(folder / "shards") == before
    run_here(prepare_libri, f"--tfrecords_file=new/{name}.tfrecords", *given)
    made = contents(folder / "new")
    own = {path.name for path in (folder / "shards" / kind).glob(f"{name}.*")}
    assert made == {file: before[f"{kind}/{file}"] for file in own}


@pytest.mark.parametrize("kind", ["alone", "beam"])
def test_an_unfinished_preparation_ends_with_the_bytes_of_an_undisturbed_one(
    folder: Path, kind: str
) -> None:
    unpack(folder, "corpus", "shards", "unfinished")
    unfinished = folder / "unfinished" / kind
    first = unfinished / "train.tfrecords.00000000"
    written = first.stat().st_mtime_ns
    shards = f"--tfrecords_file={unfinished}/train.tfrecords"
    run_here(prepare_libri, "--files_path=corpus/train", shards, *SHARD_FLAGS)
    undisturbed = contents(folder / "shards/padded")
    assert contents(unfinished) == {
        name: content for name, content in undisturbed.items() if name.startswith("train.")
    }
    assert first.stat().st_mtime_ns == written  # it isn't written again


def test_shards_of_the_first_version_are_verified(folder: Path) -> None:
    unpack(folder, "first_version")
    for name in ("train", "dev"):
        run_here(
            prepare_libri, f"--tfrecords_file=first_version/shards/{name}.tfrecords", "--verify"
        )


def test_real_speech_gives_the_same_shards(folder: Path, librispeech_mini: str) -> None:
    """Leaves out the training set, whose digests can be compared by hand."""
    lines = (HERE / "librispeech_mini.sha256").read_text().splitlines()
    digests = {name: digest for digest, name in (line.split("  ") for line in lines)}
    for name in ("dev", "test"):
        files = f"--files_path={librispeech_mini}/{name}"
        shards = f"--tfrecords_file=new/{name}.tfrecords"
        run_here(prepare_libri, files, shards, "--partition_size=100")
    assert sha256sums(folder / "new") == {
        name: digest for name, digest in digests.items() if not name.startswith("train.")
    }


# --- Corpora --------------------------------------------------------------------------------------


def test_a_table_is_written_the_same_and_gives_the_same_shards(folder: Path) -> None:
    unpack(folder, "corpus", "csv")
    before = contents(folder / "csv")
    corpus = "--dev_files=corpus/dev"
    # An existing export is kept only if the bytes would be the same.
    for target in ("csv", "new"):
        run_here(prepare_csv, corpus, f"--write_csv={target}", "--workers=1")
    assert contents(folder / "csv") == before
    made = contents(folder / "new")
    assert made == {name: before[name] for name in made} and len(made) == 6
    table = ("--dev_files=csv/dev.csv", "--alphabet=csv/alphabet.txt", "--tfrecords_dir=shards")
    run_here(prepare_csv, *table, *SHARD_FLAGS[:3], "--workers=1")
    assert contents(folder / "shards") == contents(folder / "csv" / "shards")


def test_an_alphabet_is_written_the_same(folder: Path) -> None:
    unpack(folder, "csv")
    run_here(prepare_csv, "--dev_files=csv/dev.csv", "--alphabet=new.txt", "--make_alphabet")
    assert (folder / "new.txt").read_bytes() == (folder / "csv" / "alphabet.txt").read_bytes()


# --- Models ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "shards", "checkpoint", "step", "loss", "rates"),
    [
        ("models/deep_speech_1", "shards/padded/test", "best", 6, 110.042944, (1.0, 2.95238)),
        ("models/deep_speech_1", "shards/padded/test", "average", 6, 113.466904, (1.0, 2.95238)),
        ("models/conv_gru", "shards/nopad/test", "latest", 6, 106.95475, (1.0, 2.52381)),
        ("models/tones", "shards/tones/test", "latest", 1, 26.007065, (0.375, 0.42857)),
        ("first_version/model", "first_version/shards/dev", "latest", 3, 89.834023, (1.0, 2.61905)),
    ],
    ids=["best", "average", "corpus_statistics", "tones", "first_version"],
)
def test_a_model_has_the_same_error_rates(
    folder: Path,
    model: str,
    shards: str,
    checkpoint: str,
    step: int,
    loss: float,
    rates: tuple[float, float],
) -> None:
    unpack(folder, "models", "shards", "first_version")
    found = evaluate(
        *(f"--model_dir={model}", f"--test_data={shards}.tfrecords.*"),
        f"--checkpoint={checkpoint}",
    )
    assert found["checkpoint_step"] == step
    assert found["loss"] == pytest.approx(loss, abs=TOLERANCE)
    assert (found["wer"], found["cer"]) == pytest.approx(rates, abs=1e-4)


def test_training_continues_and_stops_early_by_its_history(folder: Path) -> None:
    unpack(folder, "models", "shards")
    model = folder / "models" / "deep_speech_1"
    before = records(model)
    config = json.loads((model / "config.json").read_text())
    run_here(
        training,
        *("--train_data=shards/padded/train.tfrecords.*", f"--model_dir={model}"),
        *("--dev_data=shards/padded/dev.tfrecords.*", "--conv_channels=2,2"),
        *("--recurrent_unit_size=8", "--train_batch_size=3", "--learning_rate=1e-3"),
        *("--train_steps=30", "--eval_steps=3", "--keep_checkpoint_max=2"),
        *("--average_checkpoints=2", "--best_by=loss", "--early_stop", "--es_epochs=2"),
        *("--es_min_delta=1000", "--reduce_lr_on_plateau", "--plateau_epochs=1"),
    )
    newer_sizes = dict.fromkeys(("layer_norm_epsilon", "blocks", "attention_heads", "phones"))
    wanted = {
        **config,
        "network": {**config["network"], **newer_sizes},
        "training": {**config["training"], "train_steps": 30},
    }
    assert json.loads((model / "config.json").read_text()) == wanted
    after = records(model)
    assert after[: len(before)] == before
    *steps, dev_result = after[len(before) :]
    assert [each["step"] for each in (*steps, dev_result)] == [7, 8, 9, 9]
    losses = [97.887856, 112.275909, 97.794243, 83.481687]
    assert [each["loss"] for each in (*steps, dev_result)] == pytest.approx(losses, abs=1e-3)
    assert [each["learning_rate"] for each in steps] == pytest.approx([1e-3 * 0.96**2 / 10] * 3)
    for part in (".", "best", "average"):
        assert (model / part / "model.ckpt-9.index").exists()


def test_a_model_starts_with_the_variables_of_another(folder: Path) -> None:
    unpack(folder, "models", "shards")
    run_here(
        training,
        *("--train_data=shards/nopad/train.tfrecords.*", "--model_dir=new"),
        *("--dev_data=shards/nopad/dev.tfrecords.*", "--network=conv_gru", "--conv_channels=4"),
        *("--recurrent_layers=1", "--recurrent_unit_size=24", "--train_batch_size=3"),
        *("--init_checkpoint=models/conv_gru", "--train_steps=1", "--learning_rate=0"),
    )
    step, dev_result = records(folder / "new")
    assert [step["loss"], dev_result["loss"]] == pytest.approx([91.617889, 82.056203], abs=1e-3)
    statistics = [
        json.loads((folder / model / "config.json").read_text())["statistics"]
        for model in ("new", "models/conv_gru")
    ]
    assert statistics[0] and statistics[0] == statistics[1]


# --- Exports --------------------------------------------------------------------------------------

# LiteRT computes with 8-bit weights more exactly than TensorFlow 2.15 did, which wrote the files.
INT8 = (-0.223179, -0.267755)


@pytest.mark.parametrize(
    ("export", "confidences", "words"),
    [
        ("tones/saved_model", (-0.223411, -0.268093), A_CAT_AND_CAT_AT),
        ("tones/model.tflite", (-0.223403, -0.268084), A_CAT_AND_CAT_AT),
        ("tones/model-int8.tflite", INT8, A_CAT_AND_CAT_AT),
        ("conv_gru/saved_model", (-88.001662, -106.728966), None),
        ("conv_gru/model.tflite", (-88.001663, -106.728966), None),
        ("conv_gru/model-int8.tflite", (-88.010046, -106.735821), None),
    ],
)
def test_an_export_recognises_the_same(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    export: str,
    confidences: tuple[float, float],
    words: list[list[tuple[str, float, float]]] | None,
) -> None:
    unpack(folder, "corpus", "exports")
    run_here(
        transcribe,
        *(f"--model=exports/{export}", "--json", "--candidate_transcripts=1"),
        *(f"--audio={each}" for each in RECORDINGS),
    )
    # One object after another, each of several lines.
    printed = json.loads("[" + capsys.readouterr().out.replace("\n}\n{\n", "\n},\n{\n") + "]")
    assert [each["audio"] for each in printed] == list(RECORDINGS)
    best = [each["transcripts"][0] for each in printed]
    # Natural logarithms of the transcripts' probabilities.
    assert [each["confidence"] for each in best] == pytest.approx(confidences, abs=1e-3)
    if words is not None:
        names = ("word", "start_time", "duration")
        assert [
            [tuple(word[name] for name in names) for word in each["words"]] for each in best
        ] == words


# --- Language models, evaluations and searches ----------------------------------------------------


def test_a_scorer_and_a_network_s_output_give_the_same_hypotheses(folder: Path) -> None:
    unpack(folder, "models", "shards", "lm", "logits")
    before = contents(folder / "logits")
    found = evaluate(
        *("--model_dir=models/tones", "--test_data=shards/tones/test.tfrecords.*"),
        *("--scorer=lm/kenlm.scorer", "--logits_cache=logits", "--lm_alpha=1", "--lm_beta=1"),
    )
    assert found["hypotheses"] == {
        "3-1-0000": "cat at",
        "3-1-0001": "a bat",
        "3-1-0002": "a cab",
        "3-1-0003": "a cab",
    }
    assert found["wer"] == 0.25 and found["loss"] == pytest.approx(26.007065, abs=TOLERANCE)
    assert contents(folder / "logits") == before  # it was read, not computed again


def test_a_report_is_written_the_same(folder: Path) -> None:
    unpack(folder, "models", "shards", "logits", "report")
    evaluate(
        *("--model_dir=models/tones", "--test_data=shards/tones/test.tfrecords.*"),
        "--logits_cache=logits",
    )
    summaries = [
        json.loads((folder / name / "summary.json").read_text())
        for name in ("new_report", "report")
    ]
    assert [summary.pop("real_time_factor") > 0 for summary in summaries] == [True, True]
    assert summaries[0] == summaries[1]
    tables = [(folder / name / "utterances.csv").read_bytes() for name in ("new_report", "report")]
    assert tables[0] == tables[1]


def test_an_evaluation_is_compared_with_an_earlier_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unpack(folder, "models", "shards", "lm", "logits", "report")
    evaluate(
        *("--model_dir=models/tones", "--test_data=shards/tones/test.tfrecords.*"),
        *("--logits_cache=logits", "--compare=report/summary.json", "--scorer=lm/kenlm.scorer"),
        *("--lm_alpha=1", "--lm_beta=1"),
    )
    assert (
        "Against report/summary.json: WER -12.50 points (95%: -37.50 to +0.00, p = 0.298), "
        "CER -33.33 (-70.00 to +0.00, p = 0.051)\n"
    ) in capsys.readouterr().out


def test_a_search_makes_the_same_trials_and_writes_the_best_weights(folder: Path) -> None:
    unpack(folder, "models", "shards", "lm", "logits", "tuning")
    before = contents(folder / "logits")
    scorer = (folder / "lm" / "kenlm.scorer").read_bytes()
    run_here(
        tune_lm,
        *("--model_dir=models/tones", "--dev_data=shards/tones/dev.tfrecords.*"),
        *("--scorer=lm/kenlm.scorer", "--logits_cache=logits", "--n_trials=12"),
        "--output_dir=new",
    )
    now, then = (list(rows(folder / name / "trials.csv")) for name in ("new", "tuning"))
    assert now[0] == then[0]
    numbers = [[float(each) for row in table[1:] for each in row] for table in (now, then)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-6)
    assert contents(folder / "logits") == before
    assert (folder / "lm" / "kenlm.scorer").read_bytes() != scorer


def rows(path: Path) -> Iterator[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        yield from csv.reader(file)
