"""The import of TensorFlow without its notes, tried on a package that only writes."""

import subprocess
import sys
from pathlib import Path

from doors import ROOT

NOTES = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795911002.453312   28221 port.cc:153] oneDNN custom operations are on. You may see
"""


def imported(
    folder: Path, after: str = "", first: str = "import speech"
) -> subprocess.CompletedProcess[str]:
    """Imports, after `first`, a package that writes NOTES and a line and then runs `after`."""
    package = folder / "tensorflow"
    package.mkdir()
    (package / "__init__.py").write_text(
        f"import os\nos.write(2, {(NOTES + 'out of memory' + chr(10)).encode()!r})\n{after}\n"
    )
    code = f"{first}; import tensorflow, os; os.write(2, {NOTES.encode()!r})"
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {code}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_only_the_notes_of_the_import_are_hidden(tmp_path: Path) -> None:
    ended = imported(tmp_path)
    assert (ended.returncode, ended.stderr) == (0, f"out of memory\n{NOTES}")


def test_looking_for_tensorflow_is_no_import(tmp_path: Path) -> None:
    look = "import speech, importlib.util; importlib.util.find_spec('tensorflow')"
    assert imported(tmp_path, first=look).stderr == f"out of memory\n{NOTES}"


def test_an_import_that_ends_the_process_has_said_why(tmp_path: Path) -> None:
    ended = imported(tmp_path, "os.abort()")
    assert ended.returncode < 0 and ended.stderr == "out of memory\n"


def test_an_error_of_the_import_is_raised(tmp_path: Path) -> None:
    ended = imported(tmp_path, "import no_such_module")
    assert ended.returncode == 1 and ended.stderr.startswith("out of memory\nTraceback")


def test_without_grep_the_notes_are_shown(tmp_path: Path) -> None:
    ended = imported(tmp_path, first="import os; os.environ['PATH'] = ''; import speech")
    assert (ended.returncode, ended.stderr) == (0, f"{NOTES}out of memory\n{NOTES}")


def test_without_standard_error_the_import_succeeds(tmp_path: Path) -> None:
    ended = imported(tmp_path, "os.dup2(1, 2)", "import os, speech; os.close(2); os.write = print")
    assert ended.returncode == 0
