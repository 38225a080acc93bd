"""Self-attention over the frames of an utterance, with rotary positions."""

import tensorflow as tf

from speech.layers.basic import Dense, Initializers

# Base of the rotary positions' wavelengths (arXiv 2104.09864, section 3.2.2).
WAVELENGTHS = 10000.0

# Added to the scores of frames that don't exist; their weights become 0.
FAR_BELOW = -1e9


class SelfAttention(tf.Module):
    """Multi-head self-attention (arXiv 1706.03762, section 3.2).

    Queries and keys are rotated by their frame's position (arXiv 2104.09864), so that a score
    depends on the distance between two frames and not on where they are.
    """

    def __init__(self, name: str, units: int, heads: int, draw: Initializers) -> None:
        """
        Args:
            name: prefix of the names of its variables.
            units: of a frame, in and out; a multiple of 2 * heads.
            heads: number of heads.
            draw: initializers of the kernels.
        """
        super().__init__()
        self._heads = heads
        self._size = units // heads
        self.inputs = Dense(f"{name}/inputs", units, 3 * units, draw.glorot())
        self.outputs = Dense(f"{name}/outputs", units, units, draw.glorot())

    def __call__(self, values: tf.Tensor, length: tf.Tensor, compute_dtype: tf.DType) -> tf.Tensor:
        """Attends from every frame to the real frames of its utterance.

        Args:
            values: float [batch, frames, units].
            length: int32 [batch], real frames.
            compute_dtype: type of the matrix products; the softmax is computed in float32.

        Returns:
            compute_dtype [batch, frames, units].
        """
        batch, frames = tf.shape(values)[0], tf.shape(values)[1]
        projected = self.inputs(values, compute_dtype)  # [batch, frames, 3 * units]
        split = tf.reshape(projected, [batch, frames, 3 * self._heads, self._size])
        split = tf.transpose(split, [0, 2, 1, 3])  # [batch, 3 * heads, frames, size]
        queries, keys, contents = tf.split(split, 3, axis=1)
        queries, keys = rotate(queries), rotate(keys)
        scores = tf.cast(tf.matmul(queries, keys, transpose_b=True), tf.float32)
        # scores: [batch, heads, frames, frames]
        absent = 1.0 - tf.sequence_mask(length, frames, tf.float32)[:, tf.newaxis, tf.newaxis]
        weights = tf.nn.softmax(scores * self._size**-0.5 + FAR_BELOW * absent)
        attended = tf.matmul(
            tf.cast(weights, compute_dtype), contents
        )  # [batch, heads, frames, size]
        joined = tf.reshape(
            tf.transpose(attended, [0, 2, 1, 3]), [batch, frames, self._heads * self._size]
        )
        return self.outputs(joined, compute_dtype)


def rotate(values: tf.Tensor) -> tf.Tensor:
    """Rotates pairs of values by an angle that grows with the frame (arXiv 2104.09864).

    Args:
        values: float [batch, heads, frames, size]; value i is paired with value i + size / 2.

    Returns:
        The same shape and type.
    """
    half = values.shape[3] // 2
    speeds = WAVELENGTHS ** (-tf.range(half, dtype=tf.float32) / half)  # [half]
    angles = tf.range(tf.shape(values)[2], dtype=tf.float32)[:, tf.newaxis] * speeds
    cosines, sines = tf.cast(tf.cos(angles), values.dtype), tf.cast(tf.sin(angles), values.dtype)
    # angles, cosines, sines: [frames, half]
    first, second = tf.split(values, 2, axis=3)
    return tf.concat([first * cosines - second * sines, second * cosines + first * sines], axis=3)
