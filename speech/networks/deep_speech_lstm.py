"""Mozilla DeepSpeech's network (github.com/mozilla/DeepSpeech, deepspeech_model.py), streamable.

features -> dense layers, the first over a window of frames -> forward LSTM -> two dense layers
"""

import tensorflow as tf

from speech.layers.basic import NO_DROPOUT, Dense, DenseStack, Dropout, variable
from speech.layers.convolutions import zero_padding
from speech.layers.cross_replica import ALONE, Replicas
from speech.layers.rnn import lstm
from speech.layers.windows import centred
from speech.networks.config import NetworkConfig
from speech.networks.network import Network

# h and c of the LSTM, float32 [1, batch, units] each.
State = tuple[tf.Tensor, tf.Tensor]


class DeepSpeechLstm(Network):
    """Three dense layers of clipped-ReLU units, an LSTM, another dense layer, and a linear one.

    As in the source, the first layer sees 9 frames to each side. Nothing else looks ahead, so that
    `stream` can take an utterance piece by piece.
    """

    def __init__(
        self, config: NetworkConfig, random_seed: int, on_tpu: bool, replicas: Replicas = ALONE
    ) -> None:
        super().__init__(config, random_seed, on_tpu, replicas)
        dense, units = config.dense_unit_size, config.recurrent_unit_size
        draw = self._initializers
        norm = config.layer_norm_epsilon if config.layer_norm else 0.0
        front = ["dense_0", "dense_1", "dense_2"]
        self.front = DenseStack(front, config.bins, dense, draw.glorot, config.context_size, norm)
        self.lstm_kernel = variable(
            "lstm/kernel", [1, dense, 4 * units], draw.each(1, "glorot_uniform")
        )
        self.lstm_recurrent_kernel = variable(
            "lstm/recurrent_kernel", [1, units, 4 * units], draw.each(1, "orthogonal")
        )
        self.lstm_bias = variable("lstm/bias", [1, 4 * units], tf.zeros)
        self.back = DenseStack(["dense_3"], units, dense, draw.glorot, norm_epsilon=norm)
        self.output = Dense("output", dense, config.labels, draw.glorot())
        self.layers = [*front, "lstm", "dense_3", "output"]

    def __call__(
        self,
        features: tf.Tensor,
        feature_length: tf.Tensor,
        dropout: Dropout = NO_DROPOUT,
        compute_dtype: tf.DType = tf.float32,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        output_length = self.config.output_frames(feature_length)  # [batch]
        features = zero_padding(features, feature_length)
        windows = tf.pad(features, [[0, 0], centred(self.config.context_size), [0, 0]])
        logits, _ = self._outputs(windows, output_length, None, dropout, compute_dtype)
        return logits, output_length

    def stream(
        self, features: tf.Tensor, state: State, compute_dtype: tf.DType = tf.float32
    ) -> tuple[tf.Tensor, State]:
        """Computes the logits of a piece of each utterance.

        An output needs a window of `context_size` frames, and the next output one that begins
        `stride_size` frames later. A piece of n outputs therefore has context_size + (n - 1) *
        stride_size frames, and the next piece begins n * stride_size frames after its beginning.
        The caller puts zeros before an utterance's first piece and after its last one: as many as
        centre the first window on the first frame (speech.layers.windows.centred).

        Args:
            features: float32 [batch, frames, bins], all real.
            state: state after the piece before; `initial_state` for the first one.
            compute_dtype: type of the matrix products.

        Returns:
            Logits, float32 [batch, outputs, classes], and the state after this piece.
        """
        config = self.config
        outputs = (tf.shape(features)[1] - config.context_size) // config.stride_size + 1
        length = tf.fill([tf.shape(features)[0]], outputs)
        return self._outputs(features, length, state, NO_DROPOUT, compute_dtype)

    def initial_state(self, batch: int) -> State:
        """Returns the state before the first piece of `batch` utterances."""
        zeros = tf.zeros([1, batch, self.config.recurrent_unit_size])
        return zeros, zeros

    def _outputs(
        self,
        windows: tf.Tensor,
        output_length: tf.Tensor,
        state: State | None,
        dropout: Dropout,
        compute_dtype: tf.DType,
    ) -> tuple[tf.Tensor, State]:
        """[batch, frames with their context, bins] -> logits [batch, outputs, classes], state."""
        with tf.name_scope("dense"):
            hidden = self.front(windows, dropout, compute_dtype, self.config.stride_size)
            # hidden: [batch, outputs, units]
        with tf.name_scope("recurrent"):
            kernels = (self.lstm_kernel, self.lstm_recurrent_kernel, self.lstm_bias)
            hidden, state = lstm(hidden, output_length, *kernels, compute_dtype, state)
            # hidden: [1, batch, outputs, units]
        with tf.name_scope("dense"):
            hidden = self.back(hidden[0], dropout, compute_dtype)
        with tf.name_scope("output"):
            return tf.cast(self.output(hidden, compute_dtype), tf.float32), state
