"""The front end as TensorFlow operations, for graphs whose input is samples.

Its features equal those of front_end.extract.

On a server it uses float64, as preparation does. TensorFlow Lite has no float64: there the product
of each sample with the window is split into parts that are exact in float32, so that the logarithms
of quiet bins next to loud ones are equal.
"""

import numpy as np
import tensorflow as tf

from speech.audio.reader import INT16_SCALE
from speech.features.front_end import (
    DEEPSPEECH,
    DELTA_FRAMES,
    LIFTER,
    MFCC,
    SPECTROGRAM,
    UTTERANCE,
    WAVEFORM,
    FrontEnd,
    cosines,
    deepspeech_filters,
    mel_filters,
    window_weights,
)
from speech.features.normalisation import SMALLEST_DEVIATION

# Bits after the binary point of the window's first two parts. A sample of 16 bits times a weight of
# 7 is exact in float32's 24, and so is the difference of two of them; the second part's weights are
# below 2**-8, which leaves as many bits for its products. The third part rounds off 2**-40 of them.
PART_BITS = (7, 15)


def extract(
    samples: tf.Tensor, length: tf.Tensor, front_end: FrontEnd, dtype: tf.DType = tf.float64
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the features of a batch of utterances, within 1e-4 of front_end.extract.

    Args:
        samples: float32 [batch, samples] at the front end's sample rate and int16 scale, padded.
        length: int32 [batch], real samples of each utterance.
        front_end: normalisation over an utterance is done, over a corpus it is not.
        dtype: tf.float64, or tf.float32 for the builtin operations of TensorFlow Lite.

    Returns:
        float32 [batch, frames, bins], zeros after an utterance's end, and its frames int32 [batch].
    """
    window, step = front_end.window_samples, front_end.step_samples
    rest = tf.maximum(length - window + front_end.spare_samples, 0)
    frame_length = 1 + rest // step  # [batch], as FrontEnd.frames
    frames = tf.reduce_max(frame_length)
    real = tf.sequence_mask(length, tf.shape(samples)[1])  # [batch, samples]
    samples = tf.where(real, samples, 0.0)
    before = tf.where(real, tf.pad(samples, [[0, 0], [1, 0]])[:, :-1], 0.0)
    samples, before = _framed(samples, frames, front_end), _framed(before, frames, front_end)
    if front_end.features == WAVEFORM:
        features = samples / INT16_SCALE
    else:
        power = _power(samples, before, front_end, dtype)
        features = _logarithms(power, front_end, dtype)
    orders = [features]
    for _ in range(front_end.deltas):
        orders.append(_slope(orders[-1], frame_length))
    features = tf.concat(orders, axis=2)
    mask = tf.sequence_mask(frame_length, frames, tf.float32)[:, :, tf.newaxis]
    if front_end.normalisation == UTTERANCE:
        features = _normalise(features, mask, frame_length, dtype)
    features = tf.ensure_shape(features * mask, [None, None, front_end.bins])
    return features, frame_length


def _framed(samples: tf.Tensor, frames: tf.Tensor, front_end: FrontEnd) -> tf.Tensor:
    """Cuts [batch, samples] into overlapping [batch, frames, window], with zeros after the end."""
    window, step = front_end.window_samples, front_end.step_samples
    missing = tf.maximum((frames - 1) * step + window - tf.shape(samples)[1], 0)
    samples = tf.pad(samples, [[0, 0], [0, missing]])
    places = tf.range(frames)[:, tf.newaxis] * step + tf.range(window)  # [frames, window]
    return tf.gather(samples, places, axis=1)


def _power(
    samples: tf.Tensor, before: tf.Tensor, front_end: FrontEnd, dtype: tf.DType
) -> tf.Tensor:
    """Returns power spectra, not yet divided by the FFT's size.

    Args:
        samples: float32 [batch, frames, window].
        before: the previous samples, likewise.

    Returns:
        float32 [batch, frames, frequencies].
    """
    weights = window_weights(front_end)
    emphasis = front_end.pre_emphasis * weights
    parts = [(weights, emphasis)]
    if dtype == tf.float32:
        parts = list(zip(_parts(weights), _parts(emphasis), strict=True))
    samples, before = tf.cast(samples, dtype), tf.cast(before, dtype)
    real, imaginary = [], []
    for of_sample, of_before in parts:
        windowed = samples * tf.constant(of_sample, dtype) - before * tf.constant(of_before, dtype)
        spectrum = tf.signal.rfft(windowed, [front_end.fft_size])
        real.append(tf.math.real(spectrum))
        imaginary.append(tf.math.imag(spectrum))
    return tf.cast(tf.square(sum(real)) + tf.square(sum(imaginary)), tf.float32)


def _parts(weights: np.ndarray) -> list[np.ndarray]:
    """Splits weights into float64 parts that add up to them; see PART_BITS."""
    parts = []
    for bits in PART_BITS:
        parts.append(np.round(weights * 2.0**bits) / 2.0**bits)
        weights = weights - parts[-1]
    return [*parts, weights]


def _logarithms(power: tf.Tensor, front_end: FrontEnd, dtype: tf.DType) -> tf.Tensor:
    """Turns power spectra [batch, frames, frequencies] into features [batch, frames, bins]."""
    if front_end.features == SPECTROGRAM:
        return _floored_log(power / front_end.fft_size, front_end)
    if front_end.features == DEEPSPEECH:
        return _deepspeech_cepstra(tf.sqrt(power), front_end, dtype)
    filters = tf.constant(mel_filters(front_end).toarray().T)  # [frequencies, mel filters]
    logarithms = _floored_log(tf.tensordot(power, filters, 1), front_end)
    if front_end.features != MFCC:
        return logarithms
    energy = tf.reduce_sum(power, axis=2, keepdims=True) / front_end.fft_size
    transform = tf.constant(_cepstral_transform(front_end), dtype)  # [mel filters, coefficients]
    cepstra = tf.cast(tf.tensordot(tf.cast(logarithms, dtype), transform, 1), tf.float32)
    return tf.concat([_floored_log(energy, front_end), cepstra[:, :, 1:]], axis=2)


def _deepspeech_cepstra(magnitudes: tf.Tensor, front_end: FrontEnd, dtype: tf.DType) -> tf.Tensor:
    """Turns [batch, frames, frequencies] into Mozilla's features [batch, frames, coefficients]."""
    filters = tf.constant(deepspeech_filters(front_end).toarray().T, dtype)
    logarithms = _floored_log(tf.tensordot(tf.cast(magnitudes, dtype), filters, 1), front_end)
    transform = tf.constant(cosines(front_end).T, dtype)  # [mel filters, coefficients]
    return tf.cast(tf.tensordot(logarithms, transform, 1), tf.float32)


def _floored_log(energies: tf.Tensor, front_end: FrontEnd) -> tf.Tensor:
    return tf.math.log(tf.maximum(energies, front_end.energy_floor))


def _cepstral_transform(front_end: FrontEnd) -> np.ndarray:
    """Returns the DCT and the lifter as one matrix, float64 [mel filters, coefficients]."""
    number = np.arange(front_end.coefficients)
    lifter = 1 + LIFTER / 2 * np.sin(np.pi * number / LIFTER)
    return cosines(front_end).T * lifter


def _slope(values: tf.Tensor, frame_length: tf.Tensor) -> tf.Tensor:
    """Returns slopes over DELTA_FRAMES frames on either side; both [batch, frames, bins].

    An utterance's first and last frame are repeated beyond its ends.
    """
    places = tf.range(tf.shape(values)[1])[tf.newaxis]  # [1, frames]
    last = frame_length[:, tf.newaxis] - 1
    slope = tf.zeros_like(values)
    for distance in range(1, DELTA_FRAMES + 1):
        after = tf.gather(values, tf.minimum(places + distance, last), batch_dims=1)
        before = tf.maximum(tf.minimum(places - distance, last), 0)
        slope += distance * (after - tf.gather(values, before, batch_dims=1))
    return slope / (2 * sum(each**2 for each in range(1, DELTA_FRAMES + 1)))


def _normalise(
    features: tf.Tensor, mask: tf.Tensor, frame_length: tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
    """Gives bins mean 0 and deviation 1 over the real frames; mask: [batch, frames, 1]."""
    values, real = tf.cast(features, dtype), tf.cast(mask, dtype)
    count = tf.cast(frame_length, dtype)[:, tf.newaxis, tf.newaxis]  # [batch, 1, 1]
    for _ in range(2):  # the second time removes what float32 left of the mean
        values -= tf.reduce_sum(values * real, axis=1, keepdims=True) / count
    variance = tf.reduce_sum(tf.square(values) * real, axis=1, keepdims=True) / count
    return tf.cast(values / tf.maximum(tf.sqrt(variance), SMALLEST_DEVIATION), tf.float32)
