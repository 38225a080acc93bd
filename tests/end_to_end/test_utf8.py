"""The alphabet of bytes from one end to the other: speech, shards, model, language model, text."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from arpa_models import write_lines
from doors import TINY_NETWORK, run_door

import constants
from speech.decoding.alignment import word_times
from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings, greedy_decode
from speech.decoding.scorer import Scorer, read_scorer
from speech.language_model import text_files
from speech.language_model.builder import Target, build
from speech.language_model.kenlm_programs import Estimation, Packing
from speech.networks.config import read_config
from speech.shards.shard_set import ShardSet, find_shards
from speech.text.transcripts import TranscriptRules
from utils import UTF_8

Array = npt.NDArray[np.float32]
WriteSplit = Callable[[Path, dict[str, str]], None]


def language_model(
    folder: Path, lines: list[str], characters: bool = False, language: str | None = None
) -> Scorer:
    """Of words or characters of some lines, written by the rules of a language."""
    text = text_files.find_text([write_lines(folder / "text", lines)], "--input_txt")
    package = str(folder / constants.SCORER_FILE)
    rules = TranscriptRules(language)
    target = Target(str(folder), package, UTF_8, characters, rules, 100, 0.9, 1.2)
    estimation = Estimation(3, (0, 0, 0), discount_fallback=True, memory="85%")
    build(text, [], estimation, Packing("trie", 255, 8), None, target)
    return read_scorer(package)


def heard(text: str, instead: str) -> Array:
    """[outputs, 257] in which `instead` is a little more probable than `text`, byte by byte."""
    said, wrong = text.encode(), instead.encode()
    assert len(said) == len(wrong)
    probabilities = np.full((2 * len(said), UTF_8.size), 1e-6, np.float32)
    probabilities[::2, UTF_8.blank] = 1
    for at, (one, other) in enumerate(zip(said, wrong, strict=True)):
        probabilities[2 * at + 1, [one, other]] = [0.4, 0.6] if one != other else 1
    return np.log(probabilities / probabilities.sum(1, keepdims=True))


def test_a_model_of_chinese_characters_mends_what_was_heard(tmp_path: Path) -> None:
    lines = ["今天天气很好。", "天气很好，今天。", "你好世界"] * 20  # noqa: RUF001
    scorer = language_model(tmp_path, lines, characters=True, language="zh")
    assert set((tmp_path / "vocab-100.txt").read_text().split()) == set("天好气很今你世界")
    log_probs = heard("今天天气很好", "今夨天気很妤")
    assert greedy_decode(log_probs, UTF_8) == "今夨天気很妤"
    assert BeamSearchDecoder(UTF_8).decode(log_probs) == "今夨天気很妤"
    text = BeamSearchDecoder(UTF_8, None, scorer).decode(log_probs)
    assert text == "今天天气很好"
    times = word_times(log_probs, text, UTF_8)
    assert [(each.text, each.start) for each in times] == [
        (each, 6 * at + 1) for at, each in enumerate(text)
    ]
    hot = BeamSettings(hot_words=(("妤", 20.0),))
    assert BeamSearchDecoder(UTF_8, hot, scorer).decode(log_probs) == "今天天气很妤"


def test_a_model_of_arabic_words_mends_what_was_heard(tmp_path: Path) -> None:
    scorer = language_model(tmp_path, ["مرحبا يا عالم", "يا عالم مرحبا"] * 20)
    log_probs = heard("مرحبا يا عالم", "مرحنا با عالن")
    assert greedy_decode(log_probs, UTF_8) == "مرحنا با عالن"
    assert BeamSearchDecoder(UTF_8, None, scorer).decode(log_probs) == "مرحبا يا عالم"
    alone = BeamSettings(hot_words=(("عالم", 9.0),))
    assert BeamSearchDecoder(UTF_8, alone).decode(log_probs) == "مرحنا با عالم"
    both = BeamSettings(hot_words=(("مرحنا", 30.0),))
    assert BeamSearchDecoder(UTF_8, both, scorer).decode(log_probs) == "مرحنا يا عالم"


def test_a_sequence_of_bytes_that_is_no_text_costs_what_an_unknown_word_does(
    tmp_path: Path,
) -> None:
    scorer = language_model(tmp_path, ["你好", "好你"] * 20, characters=True)
    log_probs = np.log(np.full((40, UTF_8.size), 1 / UTF_8.size, np.float32))
    (best,) = BeamSearchDecoder(UTF_8, BeamSettings(20), scorer).n_best(log_probs, 1)
    assert "\ufffd" not in best.text and np.isfinite(best.score)


SPOKEN = {"1-1-0001": "你好", "1-1-0002": "مرحبا", "1-1-0003": "é ok"}


def prepare(write_split: WriteSplit, tmp_path: Path) -> ShardSet:
    """Shards of SPOKEN."""
    write_split(tmp_path / "split", SPOKEN)
    prepared = run_door(
        "prepare_libri.py",
        f"--files_path={tmp_path / 'split'}",
        f"--tfrecords_file={tmp_path / 'a.tfrecords'}",
        "--alphabet=utf-8",
        "--max_sequence_length=60",
        "--nrof_fbanks=8",
        "--workers=1",
    )
    assert prepared.returncode == 0, prepared.stderr
    return find_shards(str(tmp_path / "a.tfrecords.*"))


def test_speech_becomes_shards_of_bytes(write_split: WriteSplit, tmp_path: Path) -> None:
    shards = prepare(write_split, tmp_path)
    index = json.loads((tmp_path / "a.tfrecords.index.json").read_text())
    assert index["settings"]["alphabet"] == "utf-8"
    assert shards.index.settings.alphabet == UTF_8 and not shards.index.skipped
    assert shards.index.records == 3 and shards.index.longest_label == len("مرحبا".encode())


@pytest.mark.slow
def test_shards_of_bytes_become_a_model_and_text(write_split: WriteSplit, tmp_path: Path) -> None:
    shards, folder = prepare(write_split, tmp_path), tmp_path / "model"
    trained = run_door(
        "training.py",
        f"--train_data={shards.pattern}",
        f"--dev_data={shards.pattern}",
        f"--model_dir={folder}",
        "--train_batch_size=3",
        "--max_epochs=1",
        *TINY_NETWORK,
    )
    assert trained.returncode == 0, trained.stderr
    config = read_config(str(folder))
    assert config.alphabet == UTF_8 and config.network.labels == 257
    evaluated = run_door(
        "eval.py",
        f"--model_dir={folder}",
        f"--test_data={shards.pattern}",
        f"--report_dir={tmp_path / 'report'}",
    )
    assert evaluated.returncode == 0, evaluated.stderr
    report = (tmp_path / "report" / "utterances.csv").read_text(encoding="utf-8")
    assert all(text in report for text in SPOKEN.values())
