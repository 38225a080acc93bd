"""KenLM's programs are found and run, and what they complain of is passed on with a remedy."""

import os
from pathlib import Path

import pytest
from arpa_models import needs_kenlm, read_model, sentences, sum_of_probabilities, write_lines

import constants
from speech.language_model import kenlm_programs
from speech.language_model.kenlm_programs import Estimation, Packing, Programs
from utils import UserError


def write_program(folder: Path, name: str, script: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return str(folder / name)


@pytest.fixture
def kenlm() -> Programs:
    found = kenlm_programs.find(None, constants.KENLM_BINS)
    assert found is not None
    return found


def estimation(
    order: int = 3,
    prune: tuple[int, ...] = (0, 0, 0),
    fallback: bool = True,
    memory: str = "85%",
) -> Estimation:
    return Estimation(order, prune, fallback, memory)


def test_the_named_folder_comes_first_then_the_default_then_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, default, path = (tmp_path / name for name in ("named", "default", "path"))
    for folder in (named, default, path):
        write_program(folder, "lmplz", "")
        write_program(folder, "build_binary", "")
    monkeypatch.setenv("PATH", str(path))
    for required, in_default, expected in (
        (str(named), str(default), named),
        (None, str(default), default),
        (None, "/nowhere", path),
    ):
        found = kenlm_programs.find(required, in_default)
        assert found == Programs(str(expected / "lmplz"), str(expected / "build_binary"))


def test_missing_programs_are_none_unless_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    write_program(tmp_path, "lmplz", "")
    assert kenlm_programs.find(None, "/nowhere") is None
    with pytest.raises(
        UserError, match=f"--kenlm_bins={tmp_path} has no executable lmplz and build_binary"
    ):
        kenlm_programs.find(str(tmp_path), "/nowhere")


def test_memory_is_a_share_or_a_size() -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert kenlm_programs.memory_bytes("50%") == machine // 2
    assert kenlm_programs.memory_bytes("2G") == 2 * 2**30
    assert kenlm_programs.memory_bytes("64") == 64 * 2**10
    for wrong in ("lots", "-1G", "0%", "1.2.3", "5 G"):
        with pytest.raises(UserError, match=f"--max_arpa_memory={wrong} is not an amount"):
            kenlm_programs.memory_bytes(wrong)


@pytest.mark.parametrize(
    ("script", "expected_message"),
    [
        ("echo '--5-*-10' >&2; echo 'in a.cc' >&2; echo broken >&2; exit 1", "failed: broken See"),
        ("echo 'No space left on device in x' >&2; exit 1", "No space left.*--output_dir"),
        ("kill -9 $$", "killed.*--max_arpa_memory"),
        ("exit 3", "failed: status 3"),
    ],
)
def test_a_failure_has_a_remedy(script: str, expected_message: str, tmp_path: Path) -> None:
    program = write_program(tmp_path / "bin", "lmplz", script)
    with pytest.raises(UserError, match=f"lmplz .*{expected_message}"):
        kenlm_programs.estimate(Programs(program, ""), "text", 1, "arpa", estimation(), None)


def test_a_program_that_does_not_run_is_named(tmp_path: Path) -> None:
    program = tmp_path / "lmplz"
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)
    with pytest.raises(UserError, match=f"{program} can't be run"):
        kenlm_programs.estimate(Programs(str(program), ""), "t", 1, "arpa", estimation(), None)


@needs_kenlm
def test_a_limited_vocabulary_leaves_a_complete_model(kenlm: Programs, tmp_path: Path) -> None:
    lines = [sentence.lower().rstrip(".!?") for sentence in sentences(300)]
    text = write_lines(tmp_path / "text", lines)
    vocabulary = write_lines(tmp_path / "vocabulary", ["the", "cat", "saw", "moon"])
    arpa = tmp_path / "arpa"
    kenlm_programs.estimate(kenlm, text, 2000, str(arpa), estimation(), vocabulary)
    model = read_model(arpa)
    words = {word for ngram in model for word in ngram.split()} - {"<s>", "</s>", "<unk>"}
    assert words == {"the", "cat", "saw", "moon"}
    for history in ([], ["the"], ["the", "cat"], ["cat", "saw"]):
        assert sum_of_probabilities(model, history) == pytest.approx(1, abs=1e-4)


@needs_kenlm
def test_too_little_text_is_an_error_that_names_the_flag(kenlm: Programs, tmp_path: Path) -> None:
    text = write_lines(tmp_path / "text", ["the cat sat"])
    arpa = tmp_path / "arpa"
    with pytest.raises(UserError, match=r"discounts.*--discount_fallback"):
        kenlm_programs.estimate(kenlm, text, 3, str(arpa), estimation(fallback=False), None)
    kenlm_programs.estimate(kenlm, text, 3, str(arpa), estimation(), None)
    assert "the cat sat" in read_model(arpa)


@needs_kenlm
def test_too_little_memory_is_an_error(kenlm: Programs, tmp_path: Path) -> None:
    text = write_lines(tmp_path / "text", ["the cat sat"])
    with pytest.raises(UserError, match="--max_arpa_memory, such as"):
        kenlm_programs.estimate(
            kenlm, text, 3, str(tmp_path / "arpa"), estimation(memory="1K"), None
        )


@needs_kenlm
@pytest.mark.parametrize("binary_type", kenlm_programs.BINARY_TYPES)
def test_a_binary_of_each_type_is_packed(kenlm: Programs, binary_type: str, tmp_path: Path) -> None:
    text = write_lines(tmp_path / "text", ["the cat sat"])
    arpa, binary = tmp_path / "arpa", tmp_path / "binary"
    kenlm_programs.estimate(kenlm, text, 3, str(arpa), estimation(), None)
    kenlm_programs.pack(kenlm, str(arpa), str(binary), Packing(binary_type, 255, 8))
    assert binary.read_bytes().startswith(b"mmap lm")


@needs_kenlm
def test_packing_another_file_is_an_error(kenlm: Programs, tmp_path: Path) -> None:
    arpa = write_lines(tmp_path / "arpa", ["no model"])
    with pytest.raises(UserError, match="build_binary failed"):
        kenlm_programs.pack(kenlm, arpa, str(tmp_path / "binary"), Packing("trie", 255, 8))
