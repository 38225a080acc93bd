"""Scorers of DeepSpeech, against KenLM and against ds_ctcdecoder, which uses them natively."""

import contextlib
import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speech.decoding import kenlm_binary, ngrams
from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings
from speech.decoding.scorer import (
    STRICT_PENALTY,
    Scorer,
    from_kenlm,
    read_scorer,
    save_deepspeechs,
    save_scorer,
    write_weights,
)
from speech.text.alphabets import read_alphabet
from utils import ENGLISH, UTF_8, Alphabet, UserError


@pytest.fixture(scope="module")
def alphabet(genuine: str) -> Alphabet:
    return read_alphabet(f"{genuine}/alphabet.txt")


@pytest.fixture(scope="module")
def pruned(genuine: str, alphabet: Alphabet) -> Scorer:
    """Returns Mozilla's own scorer, of order 4, quantised and compressed."""
    return read_scorer(f"{genuine}/scorers/pruned_lm.scorer", alphabet)


def word_numbers(scorer: Scorer) -> dict[str, int]:
    """Returns the number of each word of the vocabulary."""
    found = {}

    def walk(node: int, text: str) -> None:
        letters = scorer.letters
        if letters["word"][node] != -1:
            found[text] = int(letters["word"][node])
        for child in range(letters["first_child"][node], letters["first_child"][node + 1]):
            walk(child, text + scorer.alphabet.characters[letters["label"][child]])

    walk(0, "")
    return found


def log10_of(scorer: Scorer, words: list[int]) -> list[float]:
    """Returns the logarithm of each word's probability after <s> and the words before."""
    context, found = [scorer.begin], []
    for word in words:
        length = min(len(context), scorer.order - 1)
        nearest = np.array(context[::-1][:length], np.int32)
        score = ngrams.log_probability(scorer.ngrams, word, nearest, length)
        found.append(score / ngrams.NATURAL)
        context.append(word)
    return found


def test_scores_are_those_of_kenlm(genuine: str, pruned: Scorer) -> None:
    number_of = word_numbers(pruned)
    assert len(number_of) == pruned.words == 3540
    sentences = json.loads(Path(f"{genuine}/scorers/pruned_lm.kenlm_log10.json").read_text())
    assert len(sentences) == 400
    for words, expected in sentences:
        numbers = [*(number_of.get(word, pruned.unknown) for word in words), pruned.end]
        np.testing.assert_allclose(log10_of(pruned, numbers), expected, rtol=0, atol=1e-6)


def test_a_quantised_model_is_that_of_its_arpa_file(genuine: str, alphabet: Alphabet) -> None:
    """256 values for each order have room for all of this small model's."""
    scorer = read_scorer(f"{genuine}/scorers/demo.scorer", alphabet)
    model, order, words = ngrams.read_arpa(f"{genuine}/scorers/demo.arpa")
    assert (scorer.order, len(scorer.ngrams)) == (order, len(model))
    number_of = word_numbers(scorer)
    known = [word for word in words if word in number_of]
    assert len(known) == len(number_of) > 70
    ours = {word: number for number, word in enumerate(words)}
    other = Scorer(
        *("", alphabet, 0, 0, False, order, model),
        *(ours["<s>"], ours["</s>"], ours["<unk>"], scorer.letters),
    )
    rng = np.random.default_rng(0)
    for _ in range(200):
        sentence = rng.choice(known, 6).tolist()
        found = log10_of(scorer, [number_of[word] for word in sentence])
        np.testing.assert_allclose(found, log10_of(other, [ours[word] for word in sentence]), 1e-2)


@pytest.mark.parametrize(
    ("reference", "scorer_file", "beam_width", "least"),
    [
        ("deepspeech_beam100", None, 100, 40),
        ("deepspeech_beam500", None, 500, 40),
        ("deepspeech_beam100_demo_scorer", "demo.scorer", 100, 40),
        # Its words are not those that are spoken: the searches drop other prefixes.
        ("deepspeech_beam100_pruned_lm", "pruned_lm.scorer", 100, 36),
    ],
)
def test_texts_are_those_of_ds_ctcdecoder(
    genuine: str,
    alphabet: Alphabet,
    reference: str,
    scorer_file: str | None,
    beam_width: int,
    least: int,
) -> None:
    scorer = read_scorer(f"{genuine}/scorers/{scorer_file}", alphabet) if scorer_file else None
    weights = (0.931289039105002, 1.1834137581510284) if scorer else (None, None)
    settings = BeamSettings(beam_width, alpha=weights[0], beta=weights[1])
    decoder = BeamSearchDecoder(alphabet, settings, scorer)
    log_probs = np.load(f"{genuine}/decoder/ds256_log_probs.npz")
    expected = json.loads(Path(f"{genuine}/decoder/{reference}.json").read_text())
    assert len(expected) == 40
    found = {name: decoder.n_best(log_probs[name], 1)[0].text for name in expected}
    equal = [found[name] == text.strip() for name, (text, _) in expected.items()]
    assert sum(equal) >= least


@pytest.mark.parametrize(("case", "least"), [(0, 40), (1, 38)])
def test_hot_words_are_those_of_ds_ctcdecoder(
    genuine: str, alphabet: Alphabet, case: int, least: int
) -> None:
    """Texts and confidences; where the texts differ, ours has the larger score."""
    cases = json.loads(Path(__file__).with_name("ds_ctcdecoder_hot_words.json").read_text())
    expected = cases[case]
    scorer = read_scorer(f"{genuine}/scorers/{expected['scorer']}", alphabet)
    hot_words = tuple(expected["hot_words"].items())
    alpha, beta = 0.931289039105002, 1.1834137581510284
    settings = BeamSettings(100, alpha=alpha, beta=beta, hot_words=hot_words, as_deepspeech=True)
    decoder = BeamSearchDecoder(alphabet, settings, scorer)
    log_probs = np.load(f"{genuine}/decoder/ds256_log_probs.npz")
    errors = []
    for name, (text, confidence) in expected["texts"].items():
        best = decoder.n_best(log_probs[name], 1)[0]
        if best.text == text:
            errors.append(abs(best.score - confidence))
        else:
            assert best.score > confidence
    assert len(errors) >= least and np.median(errors) < 1e-3


def test_a_scorer_of_bytes_fits_the_alphabet_of_bytes(genuine: str, alphabet: Alphabet) -> None:
    path = f"{genuine}/scorers/pruned_lm.bytes.scorer"
    scorer = read_scorer(path, UTF_8)
    assert scorer.characters and scorer.order == 2
    assert all(len(word) == 1 for word in word_numbers(scorer))
    with pytest.raises(UserError, match=r"it is of bytes .* alphabet is not utf-8"):
        read_scorer(path, alphabet)


def test_it_is_used_strictly_and_keeps_that_when_it_is_converted(
    pruned: Scorer, tmp_path: Path, genuine: str, alphabet: Alphabet
) -> None:
    assert pruned.unknown_penalty == STRICT_PENALTY
    path = str(tmp_path / "converted.scorer")
    save_scorer(Scorer(**{**vars(pruned), "path": path}))
    converted = read_scorer(path)
    assert converted.alphabet == alphabet and converted.unknown_penalty == STRICT_PENALTY
    assert (converted.alpha, converted.beta) == (pruned.alpha, pruned.beta)
    assert converted.ngrams.tobytes() == pruned.ngrams.tobytes()
    assert converted.letters.tobytes() == pruned.letters.tobytes()


def test_new_weights_leave_it_a_scorer_of_deepspeech(
    genuine: str, alphabet: Alphabet, tmp_path: Path
) -> None:
    path = tmp_path / "a.scorer"
    shutil.copyfile(f"{genuine}/scorers/pruned_lm.scorer", path)
    before = path.read_bytes()
    write_weights(str(path), 0.5, 2.25)
    scorer = read_scorer(str(path), alphabet)
    assert (scorer.alpha, scorer.beta) == (0.5, 2.25)
    assert sum(a != b for a, b in zip(before, path.read_bytes(), strict=True)) <= 16


def test_weights_of_a_damaged_scorer_are_refused(genuine: str, tmp_path: Path) -> None:
    path = tmp_path / "cut.scorer"
    path.write_bytes(Path(f"{genuine}/scorers/demo.scorer").read_bytes()[:9000])
    with pytest.raises(UserError, match=r"cut\.scorer can't be used: "):
        write_weights(str(path), 0.5, 2.25)
    assert path.stat().st_size == 9000


def test_another_alphabet_is_refused(genuine: str) -> None:
    path = f"{genuine}/scorers/pruned_lm.scorer"
    shifted = Alphabet((*ENGLISH.characters[1:], ENGLISH.characters[0]))
    swapped = Alphabet(tuple({"g": "k", "k": "g"}.get(each, each) for each in ENGLISH.characters))
    for other in (shifted, swapped, Alphabet((" ", "a", "b"))):
        with pytest.raises(UserError, match=r"pruned_lm\.scorer can't be used: "):
            read_scorer(path, other)
    with pytest.raises(UserError, match=r"has no alphabet: convert it .*--input_scorer"):
        read_scorer(path)


def test_damage_is_reported(genuine: str, alphabet: Alphabet, tmp_path: Path) -> None:
    whole = Path(f"{genuine}/scorers/demo.scorer").read_bytes()
    path = tmp_path / "damaged.scorer"
    for length in [*range(51, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"damaged\.scorer can't be used: "):
            read_scorer(str(path), alphabet)
    rng = np.random.default_rng(0)
    for byte in range(51, 400):  # the numbers of all sizes are there
        changed = bytearray(whole)
        changed[byte] = 0xFF
        path.write_bytes(changed)
        with contextlib.suppress(UserError):
            read_scorer(str(path), alphabet)
    for _ in range(300):  # other bytes give another model or a message, and no other exception
        changed = bytearray(whole)
        changed[rng.integers(51, len(whole))] = rng.integers(256)
        path.write_bytes(changed)
        with contextlib.suppress(UserError):
            read_scorer(str(path), alphabet)


def test_a_language_model_without_a_vocabulary_is_no_scorer(
    genuine: str, alphabet: Alphabet
) -> None:
    with pytest.raises(UserError, match="vocabulary"):
        read_scorer(f"{genuine}/scorers/demo.lm.binary", alphabet)


def fst_sizes(path: Path, states_at: int) -> tuple[int, int]:
    """Returns the numbers of states and arcs of the acceptor, which follow its properties."""
    return struct.unpack_from("<qq", path.read_bytes(), states_at)


@pytest.mark.parametrize("name", ["pruned_lm.scorer", "pruned_lm.bytes.scorer"])
def test_the_vocabulary_is_written_as_small_as_by_deepspeech(
    name: str, genuine: str, alphabet: Alphabet, tmp_path: Path
) -> None:
    source, path = Path(f"{genuine}/scorers/{name}"), tmp_path / "a.scorer"
    scorer = read_scorer(str(source), UTF_8 if "bytes" in name else alphabet)
    save_deepspeechs(replace(scorer, alpha=0.5), str(source), str(path))
    whole, written = source.read_bytes(), path.read_bytes()
    assert len(written) == len(whole)
    end = whole.index(b"EIRT")
    assert written[:end] == whole[:end]
    # Behind the weights, the kind of the acceptor, its version, flags, properties and start.
    sizes_at = end + 25 + 4 + 9 + 12 + 24
    assert fst_sizes(path, sizes_at) == fst_sizes(source, sizes_at)
    again = read_scorer(str(path), scorer.alphabet)
    assert (again.alpha, again.beta) == (0.5, scorer.beta)
    assert again.ngrams.tobytes() == scorer.ngrams.tobytes()
    assert again.letters.tobytes() == scorer.letters.tobytes()


def test_a_binary_and_its_words_are_what_deepspeech_packed(
    genuine: str, alphabet: Alphabet
) -> None:
    words = Path(f"{genuine}/scorers/demo.vocab.txt").read_text().split()
    scorer, unknown = from_kenlm(
        f"{genuine}/scorers/demo.lm.binary", [*words, "zyzzyva"], alphabet, False
    )
    packed = read_scorer(f"{genuine}/scorers/demo.scorer", alphabet)
    assert unknown == ["zyzzyva"] and scorer.unknown_penalty == STRICT_PENALTY
    assert scorer.ngrams.tobytes() == packed.ngrams.tobytes()
    assert scorer.letters.tobytes() == packed.letters.tobytes()


def test_words_of_another_binary_are_refused(genuine: str, alphabet: Alphabet) -> None:
    with pytest.raises(UserError, match=r"demo\.lm\.binary can't be used: it doesn't have 2 of"):
        from_kenlm(f"{genuine}/scorers/demo.lm.binary", ["the", "xx", "yy"], alphabet, False)


def test_characters_of_another_alphabet_than_bytes_are_no_scorer_of_deepspeech(
    genuine: str, pruned: Scorer, tmp_path: Path
) -> None:
    path = tmp_path / "a.scorer"
    with pytest.raises(UserError, match=r"--alphabet=utf-8"):
        save_deepspeechs(replace(pruned, characters=True), pruned.path, str(path))
    assert not path.exists()


def test_weights_are_changed_without_reading_the_ngrams(
    genuine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.scorer"
    shutil.copyfile(f"{genuine}/scorers/pruned_lm.scorer", path)
    monkeypatch.delattr(kenlm_binary, "_trie")
    write_weights(str(path), 0.5, 2.25)
