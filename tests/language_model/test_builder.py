"""Text, or another's model, becomes vocabulary, model and scorer, completely or not at all."""

import gzip
from pathlib import Path

import pytest
from arpa_models import needs_kenlm, read_model, sentences, write_lines

import constants
from speech.decoding import scorer
from speech.language_model import builder, kenlm_programs
from speech.language_model.builder import Built, Target, parse_prune
from speech.language_model.kenlm_programs import Estimation, Packing, Programs
from speech.language_model.text_files import TextFile
from speech.text.transcripts import TranscriptRules
from utils import ENGLISH, Alphabet, UserError

PACKING = Packing("trie", 255, 8)
ESTIMATION = Estimation(3, (0, 0, 1), discount_fallback=True, memory="85%")


def target(folder: Path, **changes: object) -> Target:
    settings: dict[str, object] = {
        "output_dir": str(folder),
        "package": str(folder / "scorer"),
        "alphabet": ENGLISH,
        "characters": False,
        "rules": TranscriptRules(),
        "top_k": 1000,
        "alpha": 1.0,
        "beta": 2.0,
    }
    return Target(**{**settings, **changes})  # type: ignore[arg-type]


def build(
    lines: list[str],
    made: Target,
    excluded: list[str] | None = None,
    programs: Programs | None = None,
) -> Built:
    folder = Path(made.output_dir).parent
    text = TextFile(write_lines(folder / "text", lines), "--input_txt")
    known = [TextFile(write_lines(folder / "known", excluded), "--exclude_txt")] if excluded else []
    return builder.build([text], known, ESTIMATION, PACKING, programs, made)


@pytest.mark.parametrize(
    ("text", "thresholds"),
    [("0|0|1", (0, 0, 1, 1, 1)), ("0", (0,) * 5), ("0|1|1|2|3", (0, 1, 1, 2, 3))],
)
def test_the_last_threshold_applies_to_higher_orders(
    text: str, thresholds: tuple[int, ...]
) -> None:
    assert parse_prune(text, order=5) == thresholds


@pytest.mark.parametrize("text", ["", "0 0 1", "0|x", "1|1", "0|2|1", "0|-1", "0|0|0|0|0|1"])
def test_invalid_thresholds_are_refused(text: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_prune(text, order=5)
    assert f"--arpa_prune={text} is not a list of thresholds" in str(raised.value)


def test_the_most_frequent_words_are_the_vocabulary(tmp_path: Path) -> None:
    folder = tmp_path / "lm"
    built = build(["a b c", "a b", "a d"], target(folder, top_k=2))
    assert (folder / "vocab-2.txt").read_text() == "a\nb\n"
    model = read_model(folder / "lm.arpa")
    assert {"a", "b"} <= model.keys() and not {"c", "d"} & model.keys()
    packed = scorer.read_scorer(str(folder / "scorer"))
    assert (packed.words, packed.alpha, packed.beta, packed.order) == (2, 1.0, 2.0, 3)
    assert built.text is not None
    assert (built.text.words, built.text.distinct, built.vocabulary) == (7, 4, 2)
    assert built.text.covered == pytest.approx(5 / 7)


def test_the_model_contains_nothing_of_the_test_set(tmp_path: Path) -> None:
    folder = tmp_path / "lm"
    known = ["The zebra saw a zeppelin over the river in the morning"]
    quotes = ["they said the zebra saw a zeppelin over the river twice", "a zeppelin flew"]
    built = build([*sentences(50), *quotes], target(folder), known)
    words = (folder / "vocab-1000.txt").read_text().split()
    model = read_model(folder / "lm.arpa")
    assert "zebra" not in words and "zeppelin" in words
    assert not any("zebra" in ngram for ngram in model)
    assert built.text is not None and built.text.left_out == 1


def test_the_report_has_the_counts_and_the_files(tmp_path: Path) -> None:
    made = target(tmp_path / "lm")
    lines = build(["One, two.", "Two 3 three"], made, ["two three"]).lines()
    assert lines[0] == (
        "3 characters outside the alphabet separated words, most often , 1, . 1, 3 1"
    )
    assert lines[1].startswith("1 sentences were left out")
    assert lines[2] == "1 sentences, 2 words, 2 distinct; the vocabulary has 2, which cover 100.00%"
    assert lines[3] == "n-grams of order 1 to 3: 5, 3, 0"
    for line, name in zip(lines[4:7], ("lm.arpa", "vocab-1000.txt", "scorer"), strict=True):
        assert line.startswith(f"{made.output_dir}/{name}: ")
    assert "s, the embedded estimator took" in lines[7]


def test_characters_are_the_vocabulary_of_their_model(tmp_path: Path) -> None:
    folder = tmp_path / "lm"
    chinese = Alphabet(tuple("今天气很好我们"))
    build(["今天天气很好", "我们很好"], target(folder, alphabet=chinese, characters=True))
    assert set((folder / "vocab-1000.txt").read_text().split()) == set(chinese.characters)
    assert "天 气" in read_model(folder / "lm.arpa")


def test_the_space_is_a_character_among_others(tmp_path: Path) -> None:
    folder = tmp_path / "lm"
    build(["so am I"], target(folder, characters=True))
    assert set((folder / "vocab-1000.txt").read_text().split()) == {*"soami", "<space>"}
    packed = scorer.read_scorer(str(folder / "scorer"))
    assert packed.characters and packed.words == 6
    assert packed.unknown not in packed.letters["word"]


def test_a_failure_keeps_the_old_files_and_leaves_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lm"
    build(["one two"], target(folder))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert before.keys() == {"lm.arpa", "vocab-1000.txt", "scorer"}

    def fail(*_: object) -> None:
        raise UserError("on purpose")

    monkeypatch.setattr(scorer, "save_scorer", fail)
    with pytest.raises(UserError, match="on purpose"):
        build(["three four"], target(folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_remains_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    left = tmp_path / "lm" / ".build_lm.partial" / "lmplz-1"
    left.parent.mkdir(parents=True)
    left.write_text("much")
    build(["one two"], target(tmp_path / "lm"))
    assert not left.parent.exists()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "lm" / "scorer").mkdir(parents=True)
    with pytest.raises(UserError, match="file can't be made"):
        build(["one two"], target(tmp_path / "file"))
    with pytest.raises(UserError, match=r"--package=.*scorer is a folder"):
        build(["one two"], target(tmp_path / "lm"))
    (tmp_path / "lm" / "lm.arpa").mkdir()
    with pytest.raises(UserError, match=r"lm.arpa can't be written.*--output_dir"):
        build(["one two"], target(tmp_path / "lm", package=""))


ANOTHERS = """\\data\\
ngram 1=7
ngram 2=4

\\1-grams:
-99\t<s>\t-0.5
-1.5\t</s>
-2\t<UNK>
-0.9\tCAT
-0.7\tTHE\t-0.25
-1.1\tthe\t-0.25
-3\t42

\\2-grams:
-0.1\t<s> THE
-0.1\t<s> the
-0.2\tthe CAT
-0.3\tthe 42

\\end\\
"""


def test_an_existing_model_is_written_in_the_alphabet(tmp_path: Path) -> None:
    folder, source = tmp_path / "lm", tmp_path / "3-gram.arpa.gz"
    source.write_bytes(gzip.compress(ANOTHERS.encode()))
    built = builder.package(str(source), PACKING, None, target(folder))
    # Most probable first; the one that is written as it is keeps its name.
    assert (folder / "vocab-1000.txt").read_text() == "cat\nthe\n"
    assert read_model(folder / "lm.arpa") == {
        "<s>": (-99, -0.5),
        "</s>": (-1.5, 0),
        "<unk>": (-2, 0),
        "cat": (-0.9, 0),
        "the": (-1.1, -0.25),
        "<s> the": (-0.1, 0),
        "the cat": (-0.2, 0),
    }
    assert built.text is None and built.ngrams == [5, 2]


def test_an_existing_model_of_other_letters_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "arpa"
    source.write_text(ANOTHERS)
    russian = target(tmp_path / "lm", alphabet=Alphabet(tuple("абв ")))
    with pytest.raises(UserError, match=rf"--input_arpa={source} has no word.*'THE'|'CAT'"):
        builder.package(str(source), PACKING, None, russian)


@needs_kenlm
def test_with_kenlm_the_model_is_binary_and_an_older_one_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "lm"
    build(sentences(200), target(folder))
    programs = kenlm_programs.find(None, constants.KENLM_BINS)
    built = build(sentences(200), target(folder, top_k=8), programs=programs)
    assert {path.name for path in folder.iterdir()} == {
        *("lm.binary", "vocab-8.txt", "vocab-1000.txt", "scorer")
    }
    assert built.ngrams[0] == 8 + 3
    build(sentences(200), target(folder))
    assert not (folder / "lm.binary").exists()
