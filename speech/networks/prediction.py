"""The outputs of a network that recognition needs."""

import tensorflow as tf

from speech.layers.ctc_loss import alignable, ctc_loss
from speech.networks.network import Network, log_probabilities


def predict(network: Network, batch: dict[str, tf.Tensor], bfloat16: bool) -> dict[str, tf.Tensor]:
    """Computes log-probabilities and losses of a batch.

    Args:
        batch: "features" float32 [batch, frames, bins], "feature_length" int32 [batch], "label"
            int32 [batch, labels], "label_length" int32 [batch], "utterance_number" int32 [batch],
            which is returned as it is.
        bfloat16: whether matrix products and convolutions are computed in bfloat16.

    Returns:
        The tensors of engines/engine.py's OutputBatch.
    """
    logits, output_length = network(
        batch["features"],
        batch["feature_length"],
        compute_dtype=tf.bfloat16 if bfloat16 else tf.float32,
    )
    label, label_length, labels = batch["label"], batch["label_length"], network.config.labels
    with tf.name_scope("loss"):
        losses = ctc_loss(logits[..., :labels], output_length, label, label_length)
    return {
        "log_probs": log_probabilities(logits, labels),
        "output_length": output_length,
        "ctc_loss": losses,
        "aligned": tf.cast(alignable(label, label_length, output_length), tf.float32),
        "utterance_number": batch["utterance_number"],
    }
