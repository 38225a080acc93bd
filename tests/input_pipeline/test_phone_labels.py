"""Labels of phones that training adds to those of letters."""

import numpy as np
import pytest
import tensorflow as tf

from speech.input_pipeline.phone_labels import ROOM, phone_labels
from speech.text.lexicon import SPACE, UNKNOWN, Lexicon
from utils import Alphabet

ENGLISH = Alphabet(tuple(" abcdefghijklmnopqrstuvwxyz'"))
LEXICON = Lexicon(
    Alphabet((SPACE, *"@ADIKbkstz", UNKNOWN)),
    {"cat": ("k@t",), "the": ("DA", "DI"), "six": ("sIKstIKsts",), "éa": ("@",)},
)


def phones_of(
    texts: list[str], width: int, alphabet: Alphabet = ENGLISH, static: bool = True
) -> list[str]:
    """Returns each text's phones without padding."""
    labels = [alphabet.encode(each) for each in texts]
    padded = np.zeros([len(texts), width], np.int32)
    for row, each in zip(padded, labels, strict=True):
        row[: len(each)] = each
    batch = {"label": padded, "label_length": np.array([len(each) for each in labels], np.int32)}
    specs = {
        name: tf.TensorSpec(values.shape if static else [None] * values.ndim, tf.int32)
        for name, values in batch.items()
    }
    batches = tf.data.Dataset.from_generator(lambda: [batch], output_signature=specs)
    batches = batches.map(phone_labels(LEXICON, alphabet))
    shape = [len(texts), ROOM * width] if static else [None, None]
    assert batches.element_spec["phone"].shape.as_list() == shape
    (found,) = batches.as_numpy_iterator()
    np.testing.assert_array_equal(found["label"], padded)
    assert found["phone"].dtype == found["phone_length"].dtype == np.int32
    assert found["phone"].shape == (len(texts), ROOM * width)
    rows = [*zip(found["phone"], found["phone_length"], strict=True)]
    assert not any(phones[length:].any() for phones, length in rows)
    return [LEXICON.alphabet.decode(phones[:length]) for phones, length in rows]


@pytest.mark.parametrize("static", [True, False])
def test_each_utterance_has_the_phones_of_its_words_with_spaces_between(static: bool) -> None:
    texts = ["the cat", "cat  the ", " the", ""]
    assert phones_of(texts, 9, static=static) == ["DA k@t", "k@t DA", "DA", ""]


def test_unknown_word_has_one_label() -> None:
    texts = ["the dog sat", "dog"]
    assert phones_of(texts, 11) == [f"DA {UNKNOWN} {UNKNOWN}", UNKNOWN]


def test_words_may_have_more_phones_than_letters() -> None:
    assert phones_of(["six", "six six"], 11) == ["sIKstIKsts", "sIKstIKsts sIKstIKsts"]


def test_phones_beyond_the_room_are_lost() -> None:
    assert phones_of(["six"], 3) == ["sIKstI"]


def test_words_are_found_whatever_their_case() -> None:
    assert phones_of(["ÉA"], 2, Alphabet(("É", "A"))) == ["@"]
