"""Labels of letters -> labels of phones, in the input of training."""

from collections.abc import Callable
from itertools import chain

import numpy as np
import tensorflow as tf

from speech.input_pipeline.parsing import Batch
from speech.text.lexicon import ROOM, SPACE, UNKNOWN, Lexicon
from utils import Alphabet


def phone_labels(lexicon: Lexicon, alphabet: Alphabet) -> Callable[[Batch], Batch]:
    """Returns a function that adds the phones of a batch's labels to it.

    A space is between words. A word that isn't in the lexicon has the one label of unknown words.

    Returns:
        a function of a batch with "label", int32 [batch, labels], and "label_length", int32
        [batch]; it adds "phone", int32 [batch, ROOM * labels], in which further phones are lost,
        and "phone_length", int32 [batch].
    """
    words = np.array([*lexicon.pronunciations], object)
    spellings = [*(each[0] for each in lexicon.pronunciations.values()), UNKNOWN]
    spoken_words = [lexicon.alphabet.encode(SPACE + each) for each in spellings]
    phones_of_words = np.array(list(chain.from_iterable(spoken_words)), np.int32)
    lengths = np.array([len(each) for each in spoken_words])

    def add_phones(batch: Batch) -> Batch:
        rows = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(words, tf.range(len(words))), len(words)
        )
        label = batch["label"]
        spoken = tf.gather(tf.constant(alphabet.characters), label)
        inside = tf.sequence_mask(batch["label_length"], tf.shape(label)[1])
        text = tf.strings.reduce_join(tf.where(inside, spoken, ""), axis=1)  # [batch]
        found = tf.strings.split(tf.strings.lower(text, "utf-8"))  # [batch, (words)]
        found = found.with_flat_values(rows.lookup(found.flat_values))
        pronunciations = tf.RaggedTensor.from_row_lengths(phones_of_words, lengths, validate=False)
        phones = tf.gather(pronunciations, found).merge_dims(1, 2)  # [batch, (phones)]
        phones = phones[:, 1:]  # without the first word's space
        width = ROOM * tf.shape(label)[1]
        dense = phones.to_tensor(shape=[None, None])[:, :width]
        dense = tf.pad(dense, [[0, 0], [0, width - tf.shape(dense)[1]]])
        length = tf.minimum(tf.cast(phones.row_lengths(), tf.int32), width)
        columns = label.shape[1] and ROOM * label.shape[1]
        return {
            **batch,
            "phone": tf.ensure_shape(dense, [label.shape[0], columns]),
            "phone_length": tf.ensure_shape(length, label.shape[:1]),
        }

    return add_phones
