"""Labels of phones that training adds to those of letters."""

import numpy as np
import tensorflow as tf

from speech.input_pipeline.phone_labels import phone_labels
from speech.text.lexicon import Lexicon
from utils import Alphabet

ENGLISH = Alphabet(tuple(" abcdefghijklmnopqrstuvwxyz'"))
LEXICON = Lexicon(
    ("AE", "DH", "K", "S", "T"),
    {"cat": (2, 0, 4), "the": (1,), "six": (3, 2, 3, 3), "éa": (0,)},
)


def phones_of(texts: list[str], width: int, alphabet: Alphabet = ENGLISH) -> list[list[int]]:
    """Returns each text's phones without padding."""
    labels = [alphabet.encode(each) for each in texts]
    padded = np.zeros([len(texts), width], np.int32)
    for row, each in zip(padded, labels, strict=True):
        row[: len(each)] = each
    batch = {"label": padded, "label_length": np.array([len(each) for each in labels], np.int32)}
    batches = tf.data.Dataset.from_tensors(batch).map(phone_labels(LEXICON, alphabet))
    assert batches.element_spec["phone"].shape == [len(texts), width]
    (found,) = batches.as_numpy_iterator()
    for phones, length in zip(found["phone"], found["phone_length"], strict=True):
        assert not phones[length:].any()
    return [
        list(phones[:length])
        for phones, length in zip(found["phone"], found["phone_length"], strict=True)
    ]


def test_each_utterance_has_the_phones_of_its_words() -> None:
    assert phones_of(["the cat", "cat  the ", ""], 9) == [[1, 2, 0, 4], [2, 0, 4, 1], []]


def test_unknown_word_has_one_label() -> None:
    assert phones_of(["the dog sat"], 11) == [[1, LEXICON.unknown, LEXICON.unknown]]


def test_phones_beyond_the_labels_are_lost() -> None:
    assert phones_of(["six"], 3) == [[3, 2, 3]]


def test_words_are_found_whatever_their_case() -> None:
    assert phones_of(["ÉA"], 2, Alphabet(("É", "A"))) == [[0]]
