"""Reading and rewriting ARPA files."""

import gzip
from pathlib import Path

import pytest

from speech.language_model import arpa
from utils import UserError

MODEL = """Estimated by hand.

\\data\\
ngram 1=6
ngram 2 = 3

\\1-grams:
-99\t<s>\t-0.5
-1.5\t</s>
-2\t<UNK>
-0.7\tTHE\t-0.25
-0.9\tCAT
-3\tÆ

\\2-grams:
-0.1\t<s> THE
-0.2\tTHE CAT
-0.3\tTHE Æ

\\end\\
"""


@pytest.fixture(params=["plain", "gzipped"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    content = MODEL.encode()
    path = tmp_path / "model"
    path.write_bytes(gzip.compress(content) if request.param == "gzipped" else content)
    return str(path)


def test_a_model_has_sizes_and_words(model: str) -> None:
    assert arpa.ngram_counts(model) == [6, 3]
    assert arpa.unigrams(model) == [("THE", -0.7), ("CAT", -0.9), ("Æ", -3.0)]


def test_a_rewritten_model_is_complete(model: str, tmp_path: Path) -> None:
    target = tmp_path / "small"
    arpa.rewrite(model, str(target), {"THE": "the", "CAT": "cat"})
    assert arpa.ngram_counts(str(target)) == [5, 2]
    lines = target.read_text().splitlines()
    assert lines[0] == "\\data\\" and lines[-1] == "\\end\\"
    assert [line for line in lines if "\t" in line] == [
        "-99\t<s>\t-0.5",
        "-1.5\t</s>",
        "-2\t<unk>",
        "-0.7\tthe\t-0.25",
        "-0.9\tcat",
        "-0.1\t<s> the",
        "-0.2\tthe cat",
    ]


@pytest.mark.parametrize(
    ("damaged", "expected_message"),
    [
        ("", "its end"),
        ("some text\n", "its end"),
        ("\\data\\\n\\1-grams:\n", "1-grams"),
        (MODEL.split("-0.2")[0], "its end"),
        (MODEL.replace("\\end\\", "\\3-grams:"), "3-grams"),
        (MODEL.replace("THE CAT", "THE"), "an n-gram of 2"),
        (MODEL.replace("ngram 2 = 3\n", ""), "2-grams"),
    ],
)
def test_an_incomplete_model_is_refused(
    damaged: str, expected_message: str, tmp_path: Path
) -> None:
    path = tmp_path / "model"
    path.write_text(damaged)
    with pytest.raises(UserError, match="not a complete ARPA file") as raised:
        arpa.rewrite(str(path), str(tmp_path / "small"), {"THE": "the", "CAT": "cat", "Æ": "a"})
    assert str(path) in str(raised.value) and expected_message in str(raised.value)


def test_a_model_without_words_or_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_text("\\data\\\nngram 1=1\n\n\\1-grams:\n-1\t<s>\n\\end\\\n")
    with pytest.raises(UserError, match="file with words"):
        arpa.unigrams(str(path))
    path.write_text("\\data\\\nngram 1=1\n\n\\1-grams:\nmany\tTHE\n\\end\\\n")
    with pytest.raises(UserError, match="a number"):
        arpa.unigrams(str(path))


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with pytest.raises(UserError, match=f"{path} can't be read: No such file"):
        arpa.ngram_counts(str(path))
    path.write_bytes(gzip.compress(MODEL.encode())[:-12])
    with pytest.raises(UserError, match=f"{path} can't be read"):
        arpa.rewrite(str(path), str(tmp_path / "small"), {})
    path.write_bytes("\\data\\\nngram 1=1\n\\1-grams:\n-1\tü\n".encode("latin-1"))
    with pytest.raises(UserError, match="isn't UTF-8"):
        arpa.unigrams(str(path))
