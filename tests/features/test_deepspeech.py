"""Mozilla DeepSpeech's front end, against TensorFlow's operations and what its clients computed."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from speech.audio.reader import INT16_SCALE, read_audio
from speech.features.front_end import FrontEnd, deepspeech, extract
from speech.features.types import Features


def reference(samples: npt.NDArray[np.int16], front_end: FrontEnd) -> Features:
    """Returns the features [frames, 26] that TensorFlow's operations give a client.

    A client feeds window after window, and what is left of the samples, with zeros, at the end.
    """
    window, step = front_end.window_samples, front_end.step_samples
    full = max(0, 1 + (len(samples) - window) // step)
    padded = np.pad(samples, (0, full * step + window - len(samples)))
    spectrogram = tf.raw_ops.AudioSpectrogram(
        input=(padded[: full * step + window, np.newaxis] / INT16_SCALE).astype(np.float32),
        window_size=window,
        stride=step,
        magnitude_squared=True,  # the filters take the root
    )
    cepstra: Features = tf.raw_ops.Mfcc(
        spectrogram=spectrogram,
        sample_rate=front_end.sample_rate,
        upper_frequency_limit=front_end.sample_rate / 2,
        lower_frequency_limit=20.0,
        filterbank_channel_count=40,
        dct_coefficient_count=26,
    )[0].numpy()
    return cepstra


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 9000) | st.sampled_from([511, 512, 513, 832, 1152]),
    rate=st.sampled_from([8000, 16000, 22050]),
    seed=st.integers(0, 100),
    loudness=st.sampled_from([3.0, 300.0, 9000.0]),
)
def test_features_equal_tensorflows_operations(
    length: int, rate: int, seed: int, loudness: float
) -> None:
    noise = np.random.default_rng(seed).normal(size=length) * loudness
    samples = np.clip(noise, -INT16_SCALE, INT16_SCALE - 1).astype(np.int16)
    front_end = deepspeech(rate)
    expected = reference(samples, front_end)
    assert len(expected) == front_end.frames(length)
    np.testing.assert_allclose(extract(samples, front_end), expected, rtol=1e-6, atol=1e-5)


def test_silence_has_the_floor_of_the_source() -> None:
    front_end = deepspeech()
    silence = np.zeros(2000, np.int16)
    np.testing.assert_allclose(
        extract(silence, front_end), reference(silence, front_end), rtol=0, atol=1e-4
    )


def test_features_are_those_that_a_real_model_computed(genuine: str) -> None:
    reference_of = np.load(f"{genuine}/tiny64/reference.npz")
    names = [name for name in reference_of.files if name.endswith("/mfccs")]
    assert len(names) == 5
    for name in names:
        samples = read_audio(f"{genuine}/wavs/{name.removesuffix('/mfccs')}", 16000)
        found = extract(samples, deepspeech())
        np.testing.assert_allclose(found, reference_of[name], rtol=0, atol=1e-5)
