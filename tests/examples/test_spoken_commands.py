"""examples/spoken_commands.py: which sentences are planned for which set, and in whose voices."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from utils import UserError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FULL = {"train": 2000, "dev": 100, "test": 200}


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """Imports the script as a module, with the modules in its folder."""
    sys.path.insert(0, str(EXAMPLES))
    import spoken_commands

    yield spoken_commands
    sys.path.remove(str(EXAMPLES))


def planned(
    script: ModuleType, lines: tuple[str, ...], language: str, utterances: dict[str, int]
) -> dict[str, set[str]]:
    """Set -> its sentences."""
    plan = script.plan_corpus(script.Settings(lines, language, "csv", utterances, 1))
    assert {name: len(commands) for name, commands in plan.items()} == utterances
    return {name: {each.sentence.text for each in commands} for name, commands in plan.items()}


@pytest.mark.parametrize("language", ["es", "ar"])
def test_sets_of_many_sentences_share_none(script: ModuleType, language: str) -> None:
    lines = script.read_lines(str(EXAMPLES / f"commands/{language}.txt"))
    found = planned(script, lines, language, FULL)
    assert not found["train"] & (found["dev"] | found["test"])
    assert not found["dev"] & found["test"]


def test_equal_sentences_of_two_lines_are_in_one_set(script: ModuleType) -> None:
    lines = ("say (one|two|three) (a|b|c|d)", "say (one|four|five) (a|b|c|d)")
    found = planned(script, lines, "en", {"train": 40, "dev": 3, "test": 3})
    assert not found["train"] & (found["dev"] | found["test"])


def test_sets_of_few_sentences_share_them_and_no_voice(script: ModuleType) -> None:
    lines = script.read_lines(str(EXAMPLES / "commands/input.txt"))
    counts = {"train": 400, "dev": 40, "test": 40}
    plan = script.plan_corpus(script.Settings(lines, "en", "csv", counts, 1))
    speakers = {name: {each.speaker for each in commands} for name, commands in plan.items()}
    assert not speakers["train"] & (speakers["dev"] | speakers["test"])
    assert not speakers["dev"] & speakers["test"]
    assert all({each.sentence.text for each in plan[name]} == set(lines) for name in plan)


def test_lines_alternate_whatever_their_alternatives(script: ModuleType) -> None:
    lines = ("a (b|c|d|e|f|g|h|i) (j|k|l|m|n|o|p)", "x (y|z)")
    plan = script.plan_corpus(script.Settings(lines, "en", "csv", {**FULL, "dev": 2, "test": 2}, 1))
    spoken = Counter(each.sentence.line for each in plan["train"])
    assert spoken[lines[0]] == spoken[lines[1]] == 1000


@pytest.mark.parametrize("line", ["a (b (c|d)", "yes|no (a|b)", "a (b|(c|d))", "a)", "a | b"])
def test_invalid_brackets_are_refused(script: ModuleType, line: str) -> None:
    with pytest.raises(UserError, match=r"write alternatives in one pair of brackets"):
        list(script.alternatives(line))


def test_alternatives_may_be_empty(script: ModuleType) -> None:
    assert list(script.alternatives("go (now|)")) == ["go now", "go "]


def test_a_file_without_sentences_is_refused(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("# nothing\n\n")
    with pytest.raises(UserError, match=r"none\.txt has no sentence"):
        script.read_lines(str(tmp_path / "none.txt"))
