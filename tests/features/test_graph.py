"""The front end as TensorFlow operations, against the one that prepares shards."""

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from speech.features import front_end as features
from speech.features import graph
from speech.features.front_end import FrontEnd

Samples = npt.NDArray[np.int16]

FRONT_ENDS: dict[str, dict[str, Any]] = {
    "fbank": {},
    "fbank of a corpus": {"normalisation": "corpus"},
    "fbank with deltas": {"deltas": 2, "normalisation": "none"},
    "mfcc": {"features": "mfcc", "mel_filters": 26, "fft_size": 512, "deltas": 1},
    "spectrogram": {"features": "spectrogram", "fft_size": 512},
    "waveform": {"features": "waveform", "normalisation": "none"},
    "normalised waveform": {"features": "waveform"},
    "deepspeech": asdict(features.deepspeech()),
    "steps longer than windows": {"window_seconds": 0.01, "step_seconds": 0.025, "deltas": 1},
}

every_front_end = pytest.mark.parametrize(
    "front_end", [FrontEnd(**each) for each in FRONT_ENDS.values()], ids=list(FRONT_ENDS)
)


def sound(samples: int, seed: int = 0) -> Samples:
    """Loud low tones that fade out over hardly any noise: quiet bins beside loud ones."""
    seconds = np.arange(samples) / 16000
    rng = np.random.default_rng(seed)
    tones = sum(9000 / n * np.sin(2 * np.pi * 130 * n * seconds) for n in range(1, 5))
    loudness = np.exp(-3 * seconds) * (1 + np.sin(2 * np.pi * 3 * seconds)) / 2
    noise = rng.normal(size=samples)
    return np.round(tones * loudness + noise).astype(np.int16)


# Several, one and no whole windows; the last frame full, and of one sample; 7552 is full for 32 ms.
LENGTHS = (16000, 320, 321, 1, 7360, 7361, 7552)


@every_front_end
def test_batch_has_the_features_of_each_utterance(front_end: FrontEnd) -> None:
    sounds = [sound(length, length) for length in LENGTHS]
    padded = np.full([len(sounds), max(LENGTHS) + 500], 12345.0, np.float32)  # no silence
    for row, each in enumerate(sounds):
        padded[row, : len(each)] = each
    found, lengths = graph.extract(padded, tf.constant(LENGTHS), front_end)
    for each, of_it, length in zip(sounds, found.numpy(), lengths.numpy(), strict=True):
        wanted = features.extract(each, front_end)
        assert length == len(wanted)
        np.testing.assert_allclose(of_it[:length], wanted, rtol=0, atol=1e-4)
        assert not of_it[length:].any()


def test_silence_is_no_noise_after_normalisation() -> None:
    front_end = FrontEnd()
    silence = np.zeros([1, 30000], np.float32)
    for dtype in (tf.float64, tf.float32):
        found, _ = graph.extract(silence, tf.constant([30000]), front_end, dtype)
        np.testing.assert_allclose(found[0], features.extract(silence[0], front_end), atol=1e-4)


def lite(front_end: FrontEnd) -> Interpreter:
    @tf.function(input_signature=[tf.TensorSpec([1, None], tf.float32, name="samples")])
    def extract(samples: tf.Tensor) -> dict[str, tf.Tensor]:
        length = tf.shape(samples)[1:]
        return {"features": graph.extract(samples, length, front_end, tf.float32)[0]}

    module = tf.Module()
    module.extract = extract
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [extract.get_concrete_function()], module
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return Interpreter(model_content=converter.convert())


@every_front_end
def test_small_machines_compute_them_in_float32_by_builtin_operations(front_end: FrontEnd) -> None:
    extract = lite(front_end).get_signature_runner()
    for length in LENGTHS:
        samples = sound(length, length)
        found = extract(samples=samples[np.newaxis].astype(np.float32))["features"][0]
        wanted = features.extract(samples, front_end)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)
