"""Writes docs/flags.md: the flags of every door, from the doors' own definitions.

python docs/flags.py            # writes docs/flags.md, as `make docs-flags` does
python docs/flags.py --check    # status 1 if docs/flags.md differs from the definitions
"""

import argparse
import ast
import importlib.util
import multiprocessing
import os
import re
import runpy
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

from absl import app, flags

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "flags.md"
# Two doors at a time, which is what two cores have room for.
PROCESSES = 2

INTRODUCTION = """\
# Flags

<!-- Written by `make docs-flags` from the definitions. Change the definitions, not this file. -->

Every flag of every door, in the order of definition. A flag without a default is optional or off.
Default paths follow the environment variables `DEEP_SPEECH_...` of `constants.py`. `--help`
prints a door's flags with the bounds of numbers, `--helpfull` also those of absl and TensorFlow.
`--flagfile=FILE` reads flags from a file, one a line.
"""

# Defaults that depend on the machine.
DEFAULTS = {"workers": "number of cores"}
REPEATED = re.compile(r";\s+repeat this option to specify a list of values$")
ALIAS = re.compile("Alias for --")  # absl's help
VALUES = re.compile(r"^<(\S+)>: ")
DOCUMENT = re.compile(r"\bdocs/(\w+)\.md\b")
CODE = re.compile(r"`([^`]+)`|(?<![\w`-])--\w+(?:=(?:'[^']*'|[\w.:/*-]*\w))?")


class _ParsingError(Exception):
    """Ends a door at the moment when it would parse its command line."""


def doors() -> list[Path]:
    """Returns the scripts at the top level, then the rooms that run by `python -m`."""
    scripts = [path for path in ROOT.glob("*.py") if "__main__" in path.read_text("utf-8")]
    return sorted(scripts) + sorted(ROOT.glob("speech/**/__main__.py"))


def section(door: Path) -> str:
    """Returns a door's heading and table. Defines the flags in this process: call it once."""
    with mock.patch.object(app, "run", side_effect=_ParsingError), suppress(_ParsingError):
        runpy.run_path(str(door), run_name="__main__")
    rows = [_row(flags.FLAGS[name]) for name in flags.FLAGS if _is_of_door(name, door)]
    title = door.name
    if title == "__main__.py":
        title = "python -m " + ".".join(door.relative_to(ROOT).parent.parts)
    summary = (ast.get_docstring(ast.parse(door.read_text("utf-8"))) or "").split("\n\n")[0]
    lines = [
        f"## {title}",
        "",
        _escaped(summary),
        "",
        "| flag | default | |",
        "| --- | --- | --- |",
    ]
    return "\n".join(lines + rows) + "\n"


def _is_of_door(name: str, door: Path) -> bool:
    """Returns whether the door or a room defines a flag; otherwise absl or TensorFlow does."""
    module = str(flags.FLAGS.find_module_defining_flag(name))
    return module == str(door) or module.split(".")[0] == "speech"


def _row(flag: "flags.Flag[Any]") -> str:
    name = f"`--{'[no]' if flag.boolean else ''}{flag.name}`"
    meaning = " ".join((flag.help or "").split())
    repeated = REPEATED.search(meaning)
    if repeated:
        meaning = meaning[: repeated.start()] + " May be repeated."
    values = VALUES.match(meaning)
    choices = ""
    if values:
        meaning = meaning[values.end() :]
        choices = " One of " + ", ".join(f"`{value}`" for value in values[1].split("|")) + "."
    return f"| {name} |{_default(flag)}| {_escaped(meaning)}{choices} |"


def _default(flag: "flags.Flag[Any]") -> str:
    value = None if ALIAS.match(flag.help or "") else DEFAULTS.get(flag.name, flag.default)
    if value is None or value == "" or value == []:
        return " "
    if isinstance(value, bool):
        return " on " if value else " off "
    if isinstance(value, list):
        value = ",".join(map(str, value))
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).replace("|", "\\|")
    return f" {text} " if flag.name in DEFAULTS else f" `{text}` "


def _escaped(text: str) -> str:
    """Escapes what Markdown would take for its own; flags become code, documents links."""
    pieces, end = [], 0
    for code in CODE.finditer(text):
        pieces.append(_plain(text[end : code.start()]))
        pieces.append("`" + (code[1] or code[0]).replace("|", "\\|") + "`")
        end = code.end()
    return "".join([*pieces, _plain(text[end:])])


def _plain(text: str) -> str:
    return DOCUMENT.sub(r"[\1](\1.md)", re.sub(r"([\\*<~|`])", r"\\\1", text))


def page() -> str:
    """Returns the document. Each door runs in its own process, since doors share names."""
    for name in [name for name in os.environ if name.startswith("DEEP_SPEECH_")]:
        del os.environ[name]
    os.environ.pop("TPU_NAME", None)
    sys.path[0] = str(ROOT)
    os.chdir(ROOT)
    importlib.import_module("speech")  # prepares the import of TensorFlow
    if importlib.util.find_spec("tensorflow"):
        # Once, before the processes fork: it takes longer than all of the rest.
        importlib.import_module("tensorflow")
    with multiprocessing.get_context("fork").Pool(PROCESSES, maxtasksperchild=1) as pool:
        return "\n".join([INTRODUCTION, *pool.imap(section, doors())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="Compare only.")
    check = parser.parse_args().check
    text = page()
    if not check:
        PAGE.write_text(text, "utf-8")
    elif not PAGE.exists() or PAGE.read_text("utf-8") != text:
        sys.exit("error: docs/flags.md differs from the doors' flags. Run make docs-flags.")


if __name__ == "__main__":
    main()
