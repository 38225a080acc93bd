"""An exported model, or one of DeepSpeech, that computes outputs for one set after another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from speech.decoding.types import LogProbs
from speech.evaluation.network_output import NetworkOutput
from speech.evaluation.recognition import check_finite
from speech.export.acoustic_model import AcousticModel, Floats
from speech.input_pipeline.parsing import stored_features, transcripts
from speech.layers.ctc_loss import alignable, ctc_loss
from speech.shards.shard_set import ShardSet
from speech.system.progress_bar import progress_bar
from utils import Alphabet


@dataclass(frozen=True)
class ModelRecogniser:
    """A model that `loading.load` has loaded."""

    model: AcousticModel
    path: str
    batch_size: int  # utterances

    @property
    def step(self) -> int:
        return self.model.description.checkpoint_step

    def outputs_of(self, shards: ShardSet) -> list[NetworkOutput]:
        losses = _Losses(self.model.description.config.alphabet)
        known, features = iter(transcripts(shards)), stored_features(shards)
        found: list[NetworkOutput] = []
        with progress_bar(shards.index.records, " utterances") as bar:
            for batch in _batches(features, self.batch_size):
                outputs = self.model.of_batch(batch)
                rows = list(islice(known, len(batch)))
                of_batch = losses.of([reference for _, reference in rows], outputs)
                for row, log_probs, loss in zip(rows, outputs, of_batch, strict=True):
                    # A copy: a view would keep its whole batch, padding included, in memory.
                    found.append(NetworkOutput(*row, log_probs.copy(), loss))
                    check_finite(found[-1], shards)
                bar.update(len(batch))
        return found


def _batches(features: Iterator[Floats], size: int) -> Iterator[list[Floats]]:
    while batch := list(islice(features, size)):
        yield batch


class _Losses:
    """Computes CTC losses in batches of any shape."""

    def __init__(self, alphabet: Alphabet) -> None:
        self._alphabet = alphabet
        lengths = tf.TensorSpec([None], tf.int32)
        labels = tf.TensorSpec([None, None], tf.int32)
        log_probs = tf.TensorSpec([None, None, alphabet.size], tf.float32)

        @tf.function(input_signature=[log_probs, lengths, labels, lengths])
        def compute(
            log_probs: tf.Tensor, output_length: tf.Tensor, label: tf.Tensor, length: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            losses = ctc_loss(log_probs, output_length, label, length)
            return losses, alignable(label, length, output_length)

        self._compute = compute

    def of(self, references: Sequence[str], outputs: Sequence[LogProbs]) -> list[float | None]:
        """Returns the loss of each utterance, in nats; None: see `NetworkOutput`.

        Args:
            references: their transcripts.
            outputs: float32 [outputs, classes] each.
        """
        labels = [np.array(self._alphabet.encode(each), np.int32) for each in references]
        letters = [each[:, : self._alphabet.size] for each in outputs]
        losses, aligned = self._compute(*_padded(letters), *_padded(labels))
        return [
            float(loss) if is_aligned else None
            for loss, is_aligned in zip(losses.numpy(), aligned.numpy(), strict=True)
        ]


def _padded(
    arrays: Sequence[npt.NDArray[Any]],
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
    """Returns arrays [length, ...] as one [batch, longest, ...] with zeros, and their lengths."""
    lengths = np.array([len(each) for each in arrays], np.int32)
    padded = np.zeros((len(arrays), lengths.max(), *arrays[0].shape[1:]), arrays[0].dtype)
    for row, each in zip(padded, arrays, strict=True):
        row[: len(each)] = each
    return padded, lengths
