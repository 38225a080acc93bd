"""The documents: flags as the doors define them, links and anchors that lead somewhere."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_script

ROOT = Path(__file__).resolve().parent.parent


def flags_page() -> ModuleType:
    """Imports docs/flags.py, which is in no package."""
    return load_script(ROOT / "docs" / "flags.py")


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False
    )


# --- Flags ----------------------------------------------------------------------------------------


def test_a_doors_table_has_the_flags_that_the_door_takes_and_no_library_s() -> None:
    text = (ROOT / "docs" / "flags.md").read_text("utf-8")
    table = text.split("## prepare_csv.py\n")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `--(?:\[no\])?(\w+)`", table, re.MULTILINE)
    libraries, own = False, []
    for line in run("prepare_csv.py", "--helpfull").stdout.split("\n"):
        if re.fullmatch(r"[a-z][\w.]*:", line):
            libraries = line.startswith(("absl.", "tensorflow."))
        flag = re.match(r"  (?:-\w,)?--(?:\[no\])?(\w+):", line)
        if flag and not libraries:
            own.append(flag[1])
    assert sorted(listed) == sorted(own)
    assert "logging" in listed


def test_flags_that_changed_since_the_page_was_written_are_an_error_that_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = flags_page()
    written = tmp_path / "flags.md"
    monkeypatch.setattr(module, "PAGE", written)
    monkeypatch.setattr(module, "page", lambda: "# Flags\n")
    monkeypatch.setattr(sys, "argv", ["flags.py", "--check"])
    with pytest.raises(SystemExit, match="make docs-flags"):
        module.main()
    written.write_text("# Flags of yesterday\n")
    with pytest.raises(SystemExit, match="make docs-flags"):
        module.main()
    monkeypatch.setattr(sys, "argv", ["flags.py"])
    module.main()
    monkeypatch.setattr(sys, "argv", ["flags.py", "--check"])
    module.main()


def test_help_texts_stay_what_they_are_in_markdown() -> None:
    escaped = flags_page()._escaped
    assert escaped("a|b of *.txt, 1~2") == r"a\|b of \*.txt, 1\~2"
    assert escaped("--x=1.") == "`--x=1`."
    assert escaped("as '--augment='speed[factor=1~2]'") == "as '`--augment='speed[factor=1~2]'`"
    assert escaped("run `python -m a --show`.") == "run `python -m a --show`."
    assert escaped("see docs/shards.md.") == "see [shards](shards.md)."


# --- Links ----------------------------------------------------------------------------------------


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A repository with the settings of this one and a page to link to."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "page.md").write_text("# The page\n\n## Twice\n\n## Twice\n")
    (tmp_path / "picture.png").write_bytes(b"")
    return tmp_path


def check_links(documents: Path, text: str) -> subprocess.CompletedProcess[str]:
    (documents / "README.md").write_text(text)
    for command in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *command], cwd=documents, check=True)
    return run("-m", "md_dead_link_check", cwd=documents)


def test_links_and_anchors_that_lead_somewhere_pass(documents: Path) -> None:
    checked = check_links(
        documents,
        "[a](page.md) [b](page.md#the-page) [c](page.md#twice-1) ![d](picture.png)\n"
        "[e](https://no.such.host.example/page)\n",
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    "broken", ["no_page.md", "page.md#no-anchor", "#no-anchor", "page.md#twice-2"]
)
def test_a_broken_link_or_anchor_is_an_error_that_names_it(documents: Path, broken: str) -> None:
    checked = check_links(documents, f"[good](page.md)\n\n[bad]({broken})\n")
    assert checked.returncode == 1
    assert broken in checked.stdout
    assert "README.md:3" in checked.stdout
    assert "[good]" not in checked.stdout
