"""build_lm.py from the command line: its models, and its messages for bad input."""

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from arpa_models import WITHOUT_KENLM, needs_kenlm, read_model, sentences, write_lines
from doors import ROOT, assert_error, environment_of_door, run_door, run_here
from sounds import write_sound

import build_lm
import prepare_csv
import prepare_libri
from speech.decoding.scorer import is_deepspeechs, read_scorer
from speech.shards.records import read_records
from speech.text.alphabets import read_alphabet
from utils import UTF_8

DOOR = "build_lm.py"


def test_files_of_all_kinds_become_a_model_without_the_test_set(
    tmp_path: Path, librispeech_mini: str
) -> None:
    training, test = (f"{librispeech_mini}/{split}" for split in ("train", "test"))
    packed = tmp_path / "books.gz"
    packed.write_bytes(gzip.compress("\n".join(sentences(50)).encode()))
    quote = "Before quoting: " + " ".join(transcript_words(test)[0]) + ", and after."
    plain = write_lines(tmp_path / "plain", ["The zyzzyva sings.", quote])
    result = run_door(
        DOOR,
        f"--input_txt={training},{packed},{plain}",
        f"--exclude_txt={test}",
        f"--output_dir={tmp_path / 'lm'}",
        "--arpa_prune=0",
        "--arpa_order=4",
        environment=WITHOUT_KENLM,
    )
    assert result.returncode == 0, result.stderr
    assert "sentences were left out" in result.stdout
    assert "KenLM" in result.stderr and "There is no lm.binary" in result.stderr
    learnt = set((tmp_path / "lm" / "vocab-500000.txt").read_text().split())
    assert {"zyzzyva", "umbrella"} <= learnt and "quoting" not in learnt
    allowed = {word for words in transcript_words(training) for word in words}
    allowed |= {word for line in sentences(50) for word in line.lower().rstrip(".!?").split()}
    assert learnt <= allowed | {"zyzzyva", "sings"}
    model = read_model(tmp_path / "lm" / "lm.arpa")
    assert {ngram for ngram in model if " " not in ngram} == learnt | {"<s>", "</s>", "<unk>"}
    # A run of six words would need each of its three runs of four, of which some must be missing.
    for words in transcript_words(test):
        for at in range(len(words) - 5):
            runs = [" ".join(words[at + start : at + start + 4]) for start in range(3)]
            assert not all(run in model for run in runs), runs


def test_labels_and_model_have_the_same_words_of_text_with_invisible_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = {"1-2-0000": "CO\u00adOPERATE WELL", "1-2-0001": "ZERO\u200bWIDTH\u2028NOW"}
    chapter = tmp_path / "split" / "1" / "2"
    for name in spoken:
        write_sound(chapter / f"{name}.flac", 2.0)
    lines = [f"{name} {text}" for name, text in spoken.items()]
    write_lines(chapter / "1-2.trans.txt", lines)
    (tmp_path / "a.csv").write_text(
        "wav_filename,transcript\n"
        + "".join(f"split/1/2/{name}.flac,{text.lower()}\n" for name, text in spoken.items()),
        encoding="utf-8",
    )
    for name, value in WITHOUT_KENLM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    for door, corpus in ((prepare_libri, "split"), (prepare_csv, "a.csv")):
        run_here(door, f"--files_path={corpus}", f"--tfrecords_file={door.__name__}", "--workers=1")
        with open(f"{door.__name__}.00000000", "rb") as file:
            records = [tf.train.Example.FromString(record) for record in read_records(file)]
        labels = [
            each.features.feature["transcript"].bytes_list.value[0].decode() for each in records
        ]
        run_here(
            build_lm,
            *(f"--input_txt={corpus}", "--output_dir=lm", "--arpa_order=2", "--arpa_prune=0"),
            "--discount_fallback",
        )
        learnt = (tmp_path / "lm" / "vocab-500000.txt").read_text().split()
        assert sorted(learnt) == sorted(" ".join(labels).split())
        assert len(learnt) == 4 and "cooperate" in learnt


def transcript_words(split: str) -> list[list[str]]:
    """The words of each utterance of a split."""
    return [
        line.lower().split()[1:]
        for path in sorted(Path(split).rglob("*.trans.txt"))
        for line in path.read_text().splitlines()
    ]


def test_errors_have_a_remedy(tmp_path: Path) -> None:
    text = write_lines(tmp_path / "text", sentences(5))
    folder = f"--output_dir={tmp_path / 'lm'}"
    for flags, parts in (
        ([], ("--input_txt", "--input_arpa")),
        ([f"--input_txt={text}", "--top_k=0"], ("--top_k=0", "500000")),
        ([f"--input_txt={text}", "--arpa_prune=1|0"], ("--arpa_prune=1|0", "--top_k")),
        ([f"--input_txt={text}", "--package=gs://b/s"], ("--package=gs://b/s", "local")),
        ([f"--input_arpa={text}", "--arpa_order=3"], ("--arpa_order", "--input_arpa")),
    ):
        assert_error(run_door(DOOR, folder, *flags, environment=WITHOUT_KENLM), *parts)
    assert not (tmp_path / "lm").exists()


def test_a_languages_text_is_written_in_its_letters(tmp_path: Path) -> None:
    lines = ["Ёжик съел яблоко, и кот...", "Кот съел ёжика?", "ПТИЦА — поёт!"] * 20
    result = run_door(
        DOOR,
        f"--input_txt={write_lines(tmp_path / 'text', lines)}",
        f"--output_dir={tmp_path / 'lm'}",
        "--language=RU",
        "--arpa_order=2",
        "--arpa_prune=0",
        "--discount_fallback",
        environment=WITHOUT_KENLM,
    )
    assert result.returncode == 0, result.stderr
    learnt = (tmp_path / "lm" / "vocab-500000.txt").read_text(encoding="utf-8").split()
    assert set(learnt) == {"ёжик", "ёжика", "съел", "яблоко", "и", "кот", "птица", "поёт"}


@needs_kenlm
def test_kenlm_builds_the_model_if_available(tmp_path: Path) -> None:
    text = write_lines(tmp_path / "text", sentences(300))
    flags = ("--discount_fallback", "--arpa_order=3", "--top_k=20")
    first = run_door(DOOR, f"--input_txt={text}", f"--output_dir={tmp_path / 'lm'}", *flags)
    assert first.returncode == 0, first.stderr
    assert {path.name for path in (tmp_path / "lm").iterdir()} == {
        *("lm.binary", "vocab-20.txt", "kenlm.scorer")
    }
    assert "300 sentences" in first.stdout and "KenLM took" in first.stdout
    assert "the vocabulary has 20, which cover" in first.stdout


@needs_kenlm
def test_an_existing_model_becomes_a_scorer(tmp_path: Path) -> None:
    arpa = tmp_path / "arpa"
    arpa.write_text(
        "\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-1\t<unk>\n-99\t<s>\t-0.3\n-1\t</s>\n"
        "-0.5\tHELLO\t-0.3\n\n\\2-grams:\n-0.1\t<s> HELLO\n\n\\end\\\n"
    )
    result = run_door(
        DOOR,
        f"--input_arpa={arpa}",
        f"--output_dir={tmp_path / 'lm'}",
        f"--package={tmp_path / 'scorers' / 'hello'}",
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "lm" / "vocab-500000.txt").read_text() == "hello\n"
    assert (tmp_path / "lm" / "lm.binary").stat().st_size
    assert (tmp_path / "scorers" / "hello").stat().st_size


def test_a_scorer_of_deepspeech_is_converted(tmp_path: Path, genuine: str) -> None:
    flags = (
        f"--input_scorer={genuine}/scorers/pruned_lm.scorer",
        f"--alphabet={genuine}/alphabet.txt",
        f"--output_dir={tmp_path}/lm",
    )
    result = run_door(DOOR, *flags)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("4-grams: 50,969\nvocabulary: 3,540 words\n")
    assert "alpha 0.75, beta 1.85" in result.stdout
    converted = read_scorer(f"{tmp_path}/lm/kenlm.scorer")
    assert (converted.words, converted.alpha) == (3540, 0.75)
    weighted = run_door(DOOR, *flags, "--default_alpha=0.5")
    assert "alpha 0.5, beta 1.85" in weighted.stdout
    for wrong in ("--input_arpa=lm.arpa", "--arpa_order=3"):
        assert_error(run_door(DOOR, *flags, wrong), "--input_scorer=", wrong.partition("=")[0])


@pytest.mark.parametrize("name", ["pruned_lm.scorer", "pruned_lm.bytes.scorer"])
def test_an_english_scorer_of_deepspeech_and_one_of_bytes_need_no_alphabet(
    tmp_path: Path, genuine: str, name: str
) -> None:
    result = run_door(DOOR, f"--input_scorer={genuine}/scorers/{name}", f"--output_dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    alphabet = UTF_8 if "bytes" in name else read_alphabet(f"{genuine}/alphabet.txt")
    assert read_scorer(f"{tmp_path}/kenlm.scorer").alphabet == alphabet


def test_a_scorer_of_another_alphabet_needs_it(tmp_path: Path, genuine: str) -> None:
    scorer = f"{tmp_path}/other.scorer"
    alphabet = write_lines(tmp_path / "alphabet.txt", list("'zyxwvutsrqponmlkjihgfedcba "))
    model = (f"--lm={genuine}/scorers/demo.lm.binary", f"--vocab={genuine}/scorers/demo.vocab.txt")
    made = run_door(DOOR, *model, f"--alphabet={alphabet}", f"--deepspeech_scorer={scorer}")
    assert made.returncode == 0, made.stderr
    refused = run_door(DOOR, f"--input_scorer={scorer}", f"--output_dir={tmp_path}")
    assert_error(refused, "it is of another alphabet", "given with --alphabet.")


def test_a_binary_of_kenlm_and_its_words_are_packed(tmp_path: Path, genuine: str) -> None:
    binary, alphabet = f"{genuine}/scorers/demo.lm.binary", f"--alphabet={genuine}/alphabet.txt"
    vocabulary = write_lines(
        tmp_path / "words", [Path(f"{genuine}/scorers/demo.vocab.txt").read_text(), "naïve"]
    )
    flags = (f"--lm={binary}", f"--vocab={vocabulary}", alphabet, f"--output_dir={tmp_path}/lm")
    result = run_door(DOOR, *flags, environment=WITHOUT_KENLM)
    assert result.returncode == 0, result.stderr
    assert "1 of 79 words were left out" in result.stdout and "naïve" in result.stdout
    assert read_scorer(f"{tmp_path}/lm/kenlm.scorer").words == 78
    theirs = f"{tmp_path}/deepspeech.scorer"
    flags = (f"--lm={binary}", f"--vocab={vocabulary}", alphabet, f"--output_dir={tmp_path}/other")
    result = run_door(DOOR, *flags, f"--deepspeech_scorer={theirs}", environment=WITHOUT_KENLM)
    assert result.returncode == 0, result.stderr
    assert is_deepspeechs(theirs) and not (tmp_path / "other").exists()
    assert_error(run_door(DOOR, f"--lm={binary}"), "--vocab")
    assert_error(
        run_door(DOOR, f"--input_arpa={binary}", f"--output_dir={tmp_path}/x"), "--lm", "--vocab"
    )


def test_deepspeechs_scorer_of_an_arpa_file_needs_kenlm(tmp_path: Path, genuine: str) -> None:
    result = run_door(
        DOOR,
        f"--input_arpa={genuine}/scorers/demo.arpa",
        f"--deepspeech_scorer={tmp_path}/d.scorer",
        f"--output_dir={tmp_path}/lm",
        environment=WITHOUT_KENLM,
    )
    assert_error(result, "--deepspeech_scorer=", "make kenlm")


@needs_kenlm
def test_a_scorer_for_deepspeech_has_the_scores_of_ours(tmp_path: Path, genuine: str) -> None:
    alphabet = f"--alphabet={genuine}/alphabet.txt"
    ours, theirs = f"{tmp_path}/lm/kenlm.scorer", f"{tmp_path}/theirs"
    flags = (alphabet, "--binary_q_bits=16", f"--output_dir={tmp_path}/lm")
    result = run_door(
        DOOR,
        *(f"--input_arpa={genuine}/scorers/demo.arpa", f"--deepspeech_scorer={theirs}1", *flags),
    )
    assert result.returncode == 0, result.stderr
    result = run_door(DOOR, f"--input_scorer={ours}", f"--deepspeech_scorer={theirs}2", *flags)
    assert result.returncode == 0, result.stderr
    first, second = (
        read_scorer(f"{theirs}{number}", read_scorer(ours).alphabet) for number in (1, 2)
    )
    assert first.words == read_scorer(ours).words == 78
    assert first.letters.tobytes() == second.letters.tobytes()
    for field in ("log_prob", "back_off"):
        np.testing.assert_allclose(first.ngrams[field], second.ngrams[field], rtol=0, atol=1e-5)


def test_a_terminated_run_leaves_neither_files_nor_an_estimator(tmp_path: Path) -> None:
    folder = tmp_path / "lm"
    bins = tmp_path / "bin"
    bins.mkdir()
    for name in ("lmplz", "build_binary"):
        (bins / name).write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
        (bins / name).chmod(0o755)
    text = write_lines(tmp_path / "text", sentences(5))
    door = subprocess.Popen(
        [sys.executable, DOOR, f"--input_txt={text}", f"--output_dir={folder}"]
        + [f"--kenlm_bins={bins}"],
        cwd=ROOT,
        env=environment_of_door({}),
        stderr=subprocess.PIPE,
    )
    pid = tmp_path / "pid"
    deadline = time.monotonic() + 30
    while not (pid.exists() and pid.read_text().strip()):
        assert door.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    door.send_signal(signal.SIGTERM)
    door.communicate(timeout=30)
    assert door.returncode == 128 + signal.SIGTERM
    assert list(folder.iterdir()) == []
    assert not os.path.exists(f"/proc/{pid.read_text().strip()}")


def test_scorer_of_pronunciations_has_the_lexicons_words(tmp_path: Path) -> None:
    text = write_lines(tmp_path / "text", ["to woo two, too", "two zyzzyvas woo", "to woo"])
    lexicon = write_lines(tmp_path / "lexicon", ["to T UW1", "two T UW1", "too T UW1", "woo W UW1"])
    made = run_door(
        DOOR,
        *(f"--input_txt={text}", f"--lexicon={lexicon}", f"--output_dir={tmp_path / 'lm'}"),
        *("--arpa_prune=0", "--arpa_order=2", "--discount_fallback"),
        environment=WITHOUT_KENLM,
    )
    assert made.returncode == 0, made.stderr
    missing = "1 of the vocabulary's 5 words have no pronunciation in the lexicon"
    assert f"{missing} and are never written: zyzzyvas" in made.stdout
    scorer = read_scorer(str(tmp_path / "lm" / "kenlm.scorer"))
    assert scorer.words == 4 and scorer.homophones == 2
    assert "".join(scorer.alphabet.characters[1:-1]) == "tuw"
    other = f"--deepspeech_scorer={tmp_path / 'other'}"
    result = run_door(DOOR, f"--input_txt={text}", f"--lexicon={lexicon}", other)
    assert_error(result, "leave out --lexicon")
