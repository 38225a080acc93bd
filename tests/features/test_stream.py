"""Features of samples in blocks, against those of all samples at once."""

import itertools
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import noise

from speech.features.front_end import CORPUS, NONE, FrontEnd, deepspeech, extract
from speech.features.stream import FeatureStream

KINDS: list[dict[str, Any]] = [
    {"features": "fbank"},
    {"features": "fbank", "deltas": 1},
    {"features": "mfcc", "deltas": 2, "normalisation": CORPUS},
    {"features": "spectrogram", "fft_size": 512},
    {"features": "waveform"},
    {"window_seconds": 0.01, "step_seconds": 0.015, "deltas": 2},  # samples that no frame has
    asdict(deepspeech()),
    asdict(deepspeech(8000, 0.025, 0.01)),
]


def front_end(kind: dict[str, Any]) -> FrontEnd:
    return FrontEnd(**{"normalisation": NONE, **kind})


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    length=st.integers(1, 6000),
    cuts=st.lists(st.integers(0, 6000), max_size=12),
    as_float=st.booleans(),
)
def test_frames_of_any_blocks_are_those_of_the_whole(
    kind: dict[str, Any], length: int, cuts: list[int], as_float: bool
) -> None:
    settings = front_end(kind)
    samples = noise(length)
    stream, found = FeatureStream(settings), []
    for begin, end in itertools.pairwise([0, *sorted(cuts), 6000]):
        block = samples[begin:end]
        found.append(stream.feed(block.astype(np.float32) if as_float else block))
    found.append(stream.finish())
    assert all(each.dtype == np.float32 and each.shape[1] == settings.bins for each in found)
    np.testing.assert_array_equal(np.concatenate(found), extract(samples, settings))


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_comes_with_its_last_sample(kind: dict[str, Any]) -> None:
    """Or, with differences, with the last sample of those that it looks ahead at."""
    settings = front_end(kind)
    window, step, ahead = settings.window_samples, settings.step_samples, 2 * settings.deltas
    stream, frames = FeatureStream(settings), 0
    for end, sample in enumerate(noise(window + 12 * step), start=1):
        frames += len(stream.feed(np.array([sample])))
        assert frames == max((end - window) // step + 1 - ahead, 0) * (end >= window)


def test_what_waits_doesnt_grow() -> None:
    stream = FeatureStream(front_end({"features": "mfcc", "deltas": 2}))
    for _ in range(50):
        stream.feed(noise(1600))
        assert len(stream._waiting) <= 320 + 160
        assert stream._frames.shape[1] <= 2 * 4 + 1


def test_no_samples_are_no_frames() -> None:
    stream = FeatureStream(FrontEnd(deltas=1))
    assert stream.feed(noise(0)).shape == (0, 160)
    assert stream.finish().shape == (0, 160)
