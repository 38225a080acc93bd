"""Lines and numbers of users' texts are read by one function each."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Methods of str -> what to call instead, and the files that may have them.
INSTEAD = {
    "splitlines": ("utils.lines_of", ()),
    "isdigit": ("utils.is_number", ()),
    "isnumeric": ("utils.is_number", ()),
    "isdecimal": ("utils.is_number", ("utils.py",)),
}
# Whose regular expressions mean the digits of any script.
ANY_SCRIPT = (
    "speech/corpora/formats/commands.py",
    "speech/text/numbers.py",
    "speech/text/transcripts.py",
)


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module but the tests, by its path."""
    folders = (("*.py",), ("speech", "**/*.py"), ("examples", "**/*.py"), ("benchmarks", "**/*.py"))
    for folder in folders:
        for path in sorted(ROOT.joinpath(*folder[:-1]).glob(folder[-1])):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def test_no_module_splits_lines_or_checks_numbers_by_python_s_methods() -> None:
    found = [
        f"{path}:{node.lineno}: {node.attr}, call {INSTEAD[node.attr][0]}"
        for path, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute)
        and node.attr in INSTEAD
        and path not in INSTEAD[node.attr][1]
    ]
    assert not found


def test_regular_expressions_of_programs_text_mean_the_digits_0_to_9() -> None:
    found = [
        f"{path}:{node.lineno}: \\d also means the digits of other scripts, write [0-9]"
        for path, module in modules()
        if path not in ANY_SCRIPT
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        # Not \\data\\, with which an ARPA file begins.
        if "\\d" in node.value.replace("\\data", "")
    ]
    assert not found


def test_the_documents_examples_split_lines_likewise() -> None:
    found = [
        str(path) for path in (ROOT / "docs").glob("*.md") if ".splitlines" in path.read_text()
    ]
    assert not found
