"""examples/english_lexicon.py: which words are guessed, and what the lexicon has."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_script

from speech.text.lexicon import read_lexicon

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "english_lexicon.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Imports the script."""
    return load_script(SCRIPT)


def test_words_are_those_of_texts_and_tables(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("It\u2019s \u201cMagozwe\u201d, 2 cats.\n")
    table = "wav_filename,wav_filesize,transcript\nfirst.wav,1,the herdsman's hat\n"
    (tmp_path / "train.csv").write_text(table)
    paths = [str(tmp_path / name) for name in ("book.txt", "train.csv")]
    assert script.words_of(paths) == {"it's", "magozwe", "cats", "the", "herdsman's", "hat"}


def test_guesses_learn_from_plain_words_without_stress(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[list[str], str | None]] = []

    def phonetisaurus(arguments: Sequence[str], folder: Path, text: str | None = None) -> str:
        calls.append(([*arguments], text))
        return "hat HH AE T\nnothing\nodd OD\n"

    monkeypatch.setattr(script, "phonetisaurus", phonetisaurus)
    dictionary = ["cat K AE1 T # an animal", "cat(2) K AA1 T", "a.b. EY1 B IY1", "4th F AO1"]
    assert script.guess(dictionary, {"hat", "nothing"}, tmp_path) == "hat HH AE T\n"
    assert (tmp_path / "examples.txt").read_text() == "cat K AE T\n"
    assert [text for _, text in calls] == [None, "hat\nnothing"]
    guessed = tmp_path / "lexicon.txt"
    guessed.write_text("cat K AE1 T\nhat HH AE T\n")
    assert read_lexicon(str(guessed)).pronunciations == {"cat": ("k@t",), "hat": ("h@t",)}
