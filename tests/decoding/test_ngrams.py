"""Language models read from ARPA files give KenLM's probabilities."""

import itertools
import math
import random
from pathlib import Path

import numpy as np
import pytest
from arpa_models import sentences, write_lines

from speech.decoding.ngrams import NATURAL, log_probability, read_arpa
from speech.language_model import embedded
from speech.language_model.kenlm_programs import Estimation
from utils import UserError

kenlm = pytest.importorskip("kenlm")

WORDS = ["a", "b", "c", "d", "e", "f"]
STRANGE = "nowhere"  # in no model

# n-gram, its words separated by spaces -> base 10 logarithms of probability and back-off weight.
Table = dict[str, tuple[float, float]]

SMALL = r"""
\data\
ngram 1=5
ngram 2=2

\1-grams:
-1.0	<unk>
-99	<s>	-0.30103
-0.5	</s>
-0.7	a	-0.2
-0.9	b

\2-grams:
-0.3	<s> a
-0.4	a b

\end\
"""


def random_table(rng: random.Random, order: int, unknown: str) -> list[Table]:
    """The n-grams of each order; unknown: what stands for other words, if anything.

    Contexts of n-grams are n-grams, as everywhere. No back-off lifts a probability above 1, which
    KenLM can't keep.
    """
    vocabulary = ["<s>", "</s>", *WORDS, *([unknown] if unknown else [])]
    orders = [dict.fromkeys(vocabulary, (0.0, 0.0))]
    for _ in range(order - 1):
        contexts = [each for each in orders[-1] if not each.endswith("</s>")]
        every = [f"{each} {word}" for each in contexts for word in vocabulary if word != "<s>"]
        orders.append(dict.fromkeys(rng.sample(every, min(len(every) // 2, 60)), (0.0, 0.0)))
    return [
        {ngram: (round(rng.uniform(-4, -1.3), 4), round(rng.uniform(-1, 0.3), 4)) for ngram in each}
        for each in orders
    ]


def suffixes_added(orders: list[Table]) -> list[Table]:
    """With every n-gram's last words n-grams too, and every one's first ones."""
    orders = [dict(each) for each in orders]
    for length in range(len(orders) - 1, 0, -1):
        for ngram in orders[length]:
            words = ngram.split()
            for part in (words[1:], words[:-1]):
                orders[length - 1].setdefault(" ".join(part), (-1.25, -0.125))
    return orders


def write_table(path: Path, orders: list[Table], back_offs: float = 1) -> str:
    """back_offs: the share of back-off weights that are written."""
    rng = random.Random(0)
    lines = ["\\data\\"]
    lines += [f"ngram {order}={len(each)}" for order, each in enumerate(orders, start=1)]
    for order, each in enumerate(orders, start=1):
        lines += ["", f"\\{order}-grams:"]
        for ngram, (log_prob, back_off) in each.items():
            tail = f"\t{back_off}" if order < len(orders) and rng.random() < back_offs else ""
            lines.append(f"{log_prob}\t{ngram}{tail}")
    return write_lines(path, [*lines, "", "\\end\\"])


def assert_as_kenlm(path: str, words: list[str], rng: random.Random) -> None:
    """Every word of random sentences has KenLM's probability after all words before it."""
    config = kenlm.Config()
    config.show_progress = False
    theirs = kenlm.Model(path, config)
    model, order, known = read_arpa(path)
    assert order == theirs.order
    number_of = {word: number for number, word in enumerate(known)}
    for length in [*range(8), 8, 8, 8, 8, 20, 20]:
        spoken = rng.choices(words, k=length)
        state, after = kenlm.State(), kenlm.State()
        theirs.BeginSentenceWrite(state)
        context = [number_of["<s>"]]  # the nearest first
        for word in [*spoken, "</s>"]:
            expected = theirs.BaseScore(state, word, after)
            number = number_of.get(word, number_of["<unk>"])
            before = np.array(context[: order - 1], np.int32)
            found = log_probability(model, number, before, len(before))
            assert found / NATURAL == pytest.approx(expected, abs=2e-5 * abs(expected) + 1e-5)
            context.insert(0, number)
            state, after = after, state


@pytest.mark.parametrize("unknown", ["<unk>", "<UNK>", ""])
@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_random_models_say_what_kenlm_says(tmp_path: Path, order: int, unknown: str) -> None:
    """With words that no model knows among the sentences, and some back-off weights left out."""
    for seed in range(4):
        rng = random.Random(f"{order} {unknown} {seed}")
        orders = suffixes_added(random_table(rng, order, unknown))
        path = write_table(tmp_path / "a.arpa", orders, back_offs=0.7)
        assert_as_kenlm(path, [*WORDS, STRANGE], rng)


@pytest.mark.parametrize("order", [3, 4, 5])
def test_ngrams_whose_suffixes_were_pruned_say_what_kenlm_says(tmp_path: Path, order: int) -> None:
    """SRILM leaves out "b c" beside "a b c"."""
    pruned = 0
    for seed in range(6):
        rng = random.Random(f"pruned {order} {seed}")
        orders = suffixes_added(random_table(rng, order, "<unk>"))
        for shorter, longer in itertools.pairwise(orders[1:]):
            contexts = {ngram.rpartition(" ")[0] for ngram in longer}
            suffixes = {ngram.partition(" ")[2] for ngram in longer}
            free = sorted((suffixes - contexts) & shorter.keys())
            for ngram in rng.sample(free, min(len(free), 4)):
                del shorter[ngram]
                pruned += 1
        path = write_table(tmp_path / "a.arpa", orders)
        assert np.isnan(read_arpa(path)[0]["log_prob"][1:-1]).any()
        assert_as_kenlm(path, [*WORDS, STRANGE], rng)
    assert pruned > 20


@pytest.mark.parametrize(("order", "prune"), [(2, "0|0"), (5, "0|0|1|1|1")])
def test_estimated_models_say_what_kenlm_says(tmp_path: Path, order: int, prune: str) -> None:
    text = write_lines(tmp_path / "text", [each.lower()[:-1] for each in sentences(150)])
    path = str(tmp_path / "lm.arpa")
    thresholds = tuple(map(int, prune.split("|")))
    embedded.estimate(text, path, Estimation(order, thresholds, False, "10%"), None)
    rng = random.Random(order)
    words = sorted(set(Path(text).read_text().split()))
    assert_as_kenlm(path, [*words, STRANGE], rng)


def test_unigrams_alone_are_read(tmp_path: Path) -> None:
    """KenLM has no such models."""
    path = write_table(
        tmp_path / "a.arpa",
        [{"<s>": (-99, 0), "a": (-0.5, 0), "</s>": (-0.25, 0), "<unk>": (-2, 0)}],
    )
    model, order, words = read_arpa(path)
    assert (order, words) == (1, ["<s>", "a", "</s>", "<unk>"])
    none = np.zeros(0, np.int32)
    found = [log_probability(model, number, none, 0) / NATURAL for number in range(4)]
    assert found == pytest.approx([-99, -0.5, -0.25, -2])


def test_an_order_may_have_no_ngrams(tmp_path: Path) -> None:
    """As lmplz writes it where all were pruned."""
    text = SMALL.replace("ngram 2=2", "ngram 2=2\nngram 3=0").replace(
        "\\end", "\\3-grams:\n\n\\end"
    )
    (tmp_path / "a.arpa").write_text(text)
    model, order, words = read_arpa(str(tmp_path / "a.arpa"))
    assert order == 3
    context = np.array([words.index("a"), words.index("<s>")], np.int32)
    assert log_probability(model, words.index("b"), context, 2) / NATURAL == pytest.approx(-0.4)


def test_what_is_around_the_model_does_not_matter(tmp_path: Path) -> None:
    """Text before it, blank lines, blanks at the ends, Windows' line ends, no last line end."""
    path = tmp_path / "a.arpa"
    path.write_text(SMALL)
    plain = read_arpa(str(path))
    for text in (
        f"made by somebody\n\n{SMALL}",
        SMALL.replace("\n\n", "\n\n\n"),
        SMALL.replace("\n", "  \n"),
        SMALL.replace("\n", "\r\n"),
        SMALL.replace("\t", " "),
        SMALL.rstrip(),
        SMALL + "\nmore\n",
        SMALL.replace("-0.4\ta b\n\n\\end", "-0.4\ta b\n\\end"),  # lmplz has a blank line there
    ):
        path.write_bytes(text.encode())
        model, order, words = read_arpa(str(path))
        assert (order, words) == plain[1:]
        assert model.tobytes() == plain[0].tobytes()


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("ngram 1=5", "ngram 1=x", 3, "'ngram 1=x' where 'ngram 1=COUNT' should be"),
        ("ngram 2=2", "ngram 3=2", 4, "'ngram 3=2' where 'ngram 2=COUNT' should be"),
        ("ngram 1=5\nngram 2=2\n", "", 3, "counts no n-grams"),
        ("ngram 1=5", "ngram 1=4", 11, r"'-0.9\tb' where '\2-grams:' should be"),
        ("ngram 1=5", "ngram 1=6", 12, "has '' among its 1-grams"),
        ("ngram 2=2", "ngram 2=1", 15, r"more n-grams than it counts, or no \end\ "),
        ("ngram 2=2", "ngram 2=3", 16, "has '' among its 2-grams"),
        ("\\2-grams:", "\\3-grams:", 13, r"'\\3-grams:' where '\2-grams:' should be"),
        ("-0.7\ta", "-0.7x\ta", 10, "'-0.7x a -0.2', in which a number can't be read"),
        ("a\t-0.2", "a\t-0.2x", 10, "'-0.7 a -0.2x', in which a number can't be read"),
        ("-0.7\ta", "0.7\ta", 10, "'0.7 a -0.2', whose numbers are no logarithms"),
        ("-0.7\ta", "nan\ta", 10, "'nan a -0.2', whose numbers are no logarithms"),
        ("a\t-0.2", "a\t-inf", 10, "'-0.7 a -inf', whose numbers are no logarithms"),
        ("-0.9\tb", "-0.9\ta", 11, "the unigram of 'a' twice"),
        ("-0.9\tb", "-0.9\t<UNK>", 11, "the unigram of '<unk>' twice"),
        ("-0.4\ta b", "-0.4\ta c", 15, "no unigram of 'c'"),
        ("-0.4\ta b", "-0.4\tb", 15, "'-0.4 b' among its 2-grams"),
        ("-0.4\ta b", "-0.4\ta b a -0.1", 15, "'-0.4 a b a -0.1' among its 2-grams"),
        ("\t<s>\t", "\t<x>\t", 11, "no <s> or no </s>"),
        ("\\end\\", "", 18, "ends in the middle"),
    ],
)
def test_damaged_file_is_named_with_the_line(
    tmp_path: Path, old: str, new: str, line: int, message: str
) -> None:
    assert old in SMALL
    path = tmp_path / "a.arpa"
    path.write_text(SMALL.replace(old, new))
    with pytest.raises(UserError) as error:
        read_arpa(str(path))
    assert str(error.value).startswith(f"{path}, line {line}: the ARPA file ")
    assert message in str(error.value)


def test_file_cut_off_anywhere_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.arpa"
    for size in range(len(SMALL.rstrip()) - 1):
        path.write_text(SMALL[:size])
        with pytest.raises(UserError, match=r"a\.arpa"):
            read_arpa(str(path))


def test_a_file_that_is_no_arpa_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "text"
    for content, message in (
        (b"", r"is no ARPA file: no line of it is \\data\\"),
        (b"the cat\nsat\n", r"is no ARPA file: no line of it is \\data\\"),
        (b"\\data\\\nngram 1=\xff", "is not UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message) as error:
            read_arpa(str(path))
        assert str(path) in str(error.value)
    for missing in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=f"{missing} can't be read"):
            read_arpa(str(missing))


def test_unknown_word_of_a_model_without_one_is_next_to_impossible(tmp_path: Path) -> None:
    path = tmp_path / "a.arpa"
    path.write_text(SMALL.replace("-1.0\t<unk>\n", "").replace("1=5", "1=4"))
    model, _, words = read_arpa(str(path))
    assert words == ["<s>", "</s>", "a", "b", "<unk>"]
    found = log_probability(model, words.index("<unk>"), np.zeros(0, np.int32), 0)
    assert found == pytest.approx(-100 * math.log(10))
