"""Writes an evaluation on the development set for TensorBoard."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from speech.training.heat_map import Sample, heat_map
from speech.training.history import DevResult
from utils import Alphabet, lines_of

# Samples with a heat map, at most: each is an image of some 50 KB at every evaluation.
MOST_HEAT_MAPS = 4


def write_dev_result(
    folder: str,
    result: DevResult,
    samples: Sequence[Sample],
    alphabet: Alphabet,
    checkpoint: str,
) -> None:
    """Writes a result as a separate event file; may be called while an estimator trains.

    Scalars are named as the result's fields (those that are None are left out), the table of all
    samples `samples`, the heat maps of the first few `heat_map/<utterance_id>`, and histograms as
    the checkpoint's variables, without the optimizer's.

    Args:
        folder: made if it doesn't exist; it may be gs://.
        alphabet: of the samples' labels.
        checkpoint: its path, without the endings of its files.

    Raises:
        tf.errors.OpError: the checkpoint can't be read, or the folder can't be written.
    """
    variables = trained_variables(checkpoint)
    images = {
        f"heat_map/{sample.utterance_id}": heat_map(sample, alphabet)  # [height, width, 3]
        for sample in samples[:MOST_HEAT_MAPS]
    }

    def write() -> None:
        with tf.device("/cpu:0"):
            writer = tf.summary.create_file_writer(folder)
            with writer.as_default(result.step):
                _write_scalars(result)
                tf.summary.text("samples", table(samples))
                for name, image in images.items():
                    tf.summary.image(name, image[np.newaxis])
                for name, values in variables.items():
                    tf.summary.histogram(name, values)
            writer.close()

    # Another thread starts eagerly, whatever graph an estimator runs in this one: a hook's is
    # finalised, and tf.init_scope doesn't leave it.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(write).result()


def _write_scalars(result: DevResult) -> None:
    scalars = {
        "loss": result.loss,
        "wer": result.wer,
        "cer": result.cer,
        "beam_wer": result.beam_wer,
        "beam_cer": result.beam_cer,
    }
    for name, value in scalars.items():
        if value is not None:
            tf.summary.scalar(name, value)


def trained_variables(checkpoint: str) -> dict[str, np.ndarray]:
    """Reads the network's variables: name -> its finite values, float32 [values].

    Without the optimizer's slots, whose names continue that of their variable, without numbers that
    are no part of the network, as the global step, and without variables that have no finite value.

    Raises:
        tf.errors.OpError: the checkpoint can't be read.
    """
    reader = tf.train.load_checkpoint(checkpoint)
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    names = (
        name
        for name in sorted(shapes)
        if shapes[name] and dtypes[name].is_floating and name.rpartition("/")[0] not in shapes
    )
    variables = {name: reader.get_tensor(name).astype(np.float32) for name in names}
    finite = {name: values[np.isfinite(values)] for name, values in variables.items()}
    return {name: values for name, values in finite.items() if values.size}


def table(samples: Sequence[Sample]) -> str:
    """Formats the samples' texts as a Markdown table, one per row."""
    rows = [("utterance", "reference", "greedy", "beam"), ("---",) * 4]
    rows += [
        (plain(each.utterance_id), plain(each.reference), plain(each.greedy), plain(each.beam))
        for each in samples
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def plain(text: str) -> str:
    """Escapes a text as one line of Markdown that shows it as it is."""
    in_one_line = " ".join(lines_of(text))
    return re.sub(r"[^\w\s'.,:-]|_", lambda found: f"&#{ord(found[0])};", in_one_line)
