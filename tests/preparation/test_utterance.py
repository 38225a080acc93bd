"""One utterance: its record, or the reason why it is unusable."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_sets import SETTINGS

from speech.corpora.utterance import Utterance
from speech.preparation import utterance as reasons
from speech.preparation.utterance import outputs_to_align, prepare_utterance, summarise_array
from utils import Alphabet


def test_transcripts_are_written_in_the_form_of_their_labels(tmp_path: Path) -> None:
    """A letter and a combining accent are the alphabet's letter, in the record too."""
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.zeros(8000), 16000)
    shard_settings = replace(SETTINGS, alphabet=Alphabet(("a", "é")))
    prepared = prepare_utterance(Utterance("1", path, "ae\u0301", "1"), shard_settings)
    example = tf.train.Example.FromString(prepared.payload).features.feature
    assert example["transcript"].bytes_list.value[0].decode() == "a\u00e9"
    assert list(example["label"].int64_list.value)[: prepared.labels] == [0, 1]


def test_a_broken_link_is_no_audio(tmp_path: Path) -> None:
    (tmp_path / "a.flac").symlink_to(tmp_path / "nowhere")
    prepared = prepare_utterance(Utterance("1", str(tmp_path / "a.flac"), "a", "1"), SETTINGS)
    assert prepared.reason == reasons.NO_AUDIO


def test_an_array_is_summarised_in_one_line() -> None:
    values = np.arange(1000, dtype=np.float32).reshape(10, 100)
    line = "[10, 100] float32, mean 499.5, deviation 288.7: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..."
    assert summarise_array(values) == line
    assert summarise_array(values[:0]) == "[0, 100] float32"
    assert summarise_array(np.array([1.5])) == "[1] float64, mean 1.5, deviation 0: 1.5"


def ctc_can_align(label: list[int], outputs: int) -> bool:
    """Whether TensorFlow's CTC loss of a label over this many outputs is finite."""
    indices = [[0, i] for i in range(len(label))]
    sparse = tf.SparseTensor(indices, np.array(label, np.int32), [1, len(label)])
    try:
        loss = tf.compat.v1.nn.ctc_loss(sparse, np.zeros((outputs, 1, 4), np.float32), [outputs])
    except tf.errors.InvalidArgumentError:  # not enough time for the label even without repeats
        return False
    return bool(np.isfinite(loss.numpy()).all())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=8))
@example([1, 1])
@example([0, 1, 0])
@example([2, 2, 2, 1, 1])
def test_an_utterance_is_alignable_where_tensorflows_loss_is_finite(label: list[int]) -> None:
    needed = outputs_to_align(label)
    assert ctc_can_align(label, needed)
    assert needed == 1 or not ctc_can_align(label, needed - 1)


def test_one_output_more_or_less_decides(tmp_path: Path) -> None:
    path = str(tmp_path / "a.wav")
    for frames, reason in [(21, ""), (20, reasons.UNALIGNABLE)]:
        soundfile.write(path, np.zeros(320 + 160 * (frames - 1)), 16000)
        utterance = Utterance("1", path, "abbcdefghi", "1")  # 10 labels and a blank: 11 outputs
        assert prepare_utterance(utterance, SETTINGS).reason == reason
