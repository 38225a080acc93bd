"""Deep Speech as described in its paper (Hannun et al., arXiv 1412.5567, section 2).

features -> dense layers, the first over a window of frames -> bidirectional recurrent layer ->
two dense layers
"""

import tensorflow as tf

from speech.layers.basic import NO_DROPOUT, Dense, DenseStack, Dropout, variable
from speech.layers.convolutions import zero_padding
from speech.layers.cross_replica import ALONE, Replicas
from speech.layers.rnn import bidirectional_rnn
from speech.layers.windows import centred
from speech.networks.config import NetworkConfig
from speech.networks.network import Network


class DeepSpeechPaper(Network):
    """Five layers of clipped-ReLU units, the fourth recurrent, and a linear one.

    As in the paper, both directions share the recurrent layer's input kernel and bias (equations
    3 and 4) and are summed; dropout is applied to the other layers (section 2.1); the first layer
    sees 9 frames to each side and has a stride of 2 (section 3.3).
    """

    def __init__(
        self, config: NetworkConfig, random_seed: int, on_tpu: bool, replicas: Replicas = ALONE
    ) -> None:
        super().__init__(config, random_seed, on_tpu, replicas)
        dense, units = config.dense_unit_size, config.recurrent_unit_size
        draw = self._initializers
        front = ["dense_0", "dense_1", "dense_2"]
        self.front = DenseStack(front, config.bins, dense, draw.he, config.context_size)
        self.rnn_kernel = variable("rnn/kernel", [1, dense, units], draw.each(1, "he_normal"))
        self.rnn_recurrent_kernel = variable(
            "rnn/recurrent_kernel", [2, units, units], draw.each(2, "orthogonal")
        )
        self.rnn_bias = variable("rnn/bias", [1, units], tf.zeros)
        self.back = DenseStack(["dense_3"], units, dense, draw.he)
        self.output = Dense("output", dense, config.labels, draw.glorot())
        self.layers = [*front, "rnn", "dense_3", "output"]

    def __call__(
        self,
        features: tf.Tensor,
        feature_length: tf.Tensor,
        dropout: Dropout = NO_DROPOUT,
        compute_dtype: tf.DType = tf.float32,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        config = self.config
        output_length = config.output_frames(feature_length)  # [batch]
        with tf.name_scope("dense"):
            hidden = zero_padding(features, feature_length)
            hidden = tf.pad(hidden, [[0, 0], centred(config.context_size), [0, 0]])
            hidden = self.front(hidden, dropout, compute_dtype, config.stride_size)
            # hidden: [batch, outputs, units]
        with tf.name_scope("recurrent"):
            hidden = bidirectional_rnn(
                hidden,
                output_length,
                self.rnn_kernel,
                self.rnn_recurrent_kernel,
                self.rnn_bias,
                compute_dtype,
            )  # [outputs, batch, units]
        with tf.name_scope("dense"):
            hidden = self.back(hidden, dropout, compute_dtype)
        with tf.name_scope("output"):
            logits = tf.cast(self.output(hidden, compute_dtype), tf.float32)
        # logits: [outputs, batch, classes]
        return tf.transpose(logits, [1, 0, 2]), output_length
