"""Output of streams, compared with the output of the whole recording.

Of exported forms: tests/export/test_loading.py.
"""

import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
import tiny_models
from tiny_models import noise, write_model

from speech.decoding.beam_search import BeamSearchDecoder
from speech.export import loading
from speech.export.acoustic_model import AcousticModel
from speech.features.front_end import CORPUS, NONE, UTTERANCE
from speech.transcription import acoustic_stream
from speech.transcription.acoustic_stream import is_exact, stream_of

Floats = npt.NDArray[np.float32]
Samples = npt.NDArray[np.int16]


def lstm(folder: Path, context: int = 19, stride: int = 1, **front_end: Any) -> AcousticModel:
    """Returns a tiny network with the window of the default one."""
    sizes = {**tiny_models.TINY["deep_speech_lstm"], "context_size": context, "stride_size": stride}
    with mock.patch.dict(tiny_models.TINY, {"deep_speech_lstm": sizes}):
        write_model(folder, "deep_speech_lstm", 0.01, **{"normalisation": NONE, **front_end})
    return loading.load(str(folder))


def streamed(model: AcousticModel, blocks: list[Samples]) -> Floats:
    stream = stream_of(model)
    return np.concatenate([*(stream.feed(block) for block in blocks), stream.finish()])


def in_blocks(samples: Samples, length: int) -> list[Samples]:
    return [samples[at : at + length] for at in range(0, len(samples), length)]


@pytest.mark.parametrize(
    ("context", "stride", "front_end"),
    [
        (19, 1, {"normalisation": NONE}),
        (4, 2, {"normalisation": CORPUS, "features": "mfcc", "coefficients": 6, "deltas": 2}),
        (5, 3, {"normalisation": CORPUS}),
    ],
)
def test_carried_stream_has_the_output_of_the_whole(
    context: int, stride: int, front_end: dict[str, Any], tmp_path: Path
) -> None:
    model = lstm(tmp_path / "model", context, stride, **front_end)
    assert is_exact(model)
    decoder = BeamSearchDecoder(model.description.config.alphabet)
    # 100 samples are one frame; with 1000 the window includes zeros on both sides.
    for length in (100, 1000, 20001):
        samples = noise(length)
        wanted = model.of_samples(samples)
        assert (
            length < 20001 or wanted.std(axis=0).min() > 1e-3
        )  # the output depends on the samples
        for block in (320, 1111, 50000):
            found = streamed(model, in_blocks(samples, block))
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
            assert decoder.n_best(found, 1)[0].text == decoder.decode(wanted)


def test_long_block_is_computed_piece_by_piece(tmp_path: Path) -> None:
    model = lstm(tmp_path / "model")
    samples = noise(16000 * 5)
    with mock.patch.object(model, "stream", wraps=model.stream) as stream:
        found = streamed(model, [samples])
    longest = acoustic_stream.MOST_SECONDS * 100
    assert max(len(call.args[0]) for call in stream.call_args_list) <= longest + 19
    # Only the overlap of the windows is computed twice.
    frames = sum(len(call.args[0]) for call in stream.call_args_list)
    assert frames <= 499 + 18 * stream.call_count
    np.testing.assert_allclose(found, model.of_samples(samples), rtol=0, atol=1e-5)


def test_sample_changes_the_output_within_300_ms(tmp_path: Path) -> None:
    """With the default window and step, a click changes outputs within 0.3 s."""
    model = lstm(tmp_path / "model")
    assert stream_of(model).latency_seconds == pytest.approx(0.2)
    silence = np.zeros(16000, np.int16)
    for at in range(8000, 9600, 137):
        clicked = silence.copy()
        clicked[at] = 30000
        end = at + int(0.3 * 16000)
        outputs = []
        for samples in (silence, clicked):
            stream = stream_of(model)
            blocks = in_blocks(samples[:end], 320)
            outputs.append(np.concatenate([stream.feed(block) for block in blocks]))
        assert np.abs(outputs[0] - outputs[1]).max() > 1e-3


def test_blocks_of_20_ms_are_computed_in_real_time(tmp_path: Path) -> None:
    model = lstm(tmp_path / "model")
    stream = stream_of(model)
    stream.feed(noise(16000))  # builds the graph
    blocks = in_blocks(noise(3 * 16000), 320)
    start = time.perf_counter()
    outputs = sum(len(stream.feed(block)) for block in blocks)
    assert outputs >= 290
    assert time.perf_counter() - start < 3


@pytest.mark.parametrize(
    ("network", "normalisation"),
    [("deep_speech_1", UTTERANCE), ("deep_speech_lstm", UTTERANCE), ("conv_gru", CORPUS)],
)
def test_chunked_stream_has_as_many_outputs_as_the_whole(
    network: str, normalisation: str, tmp_path: Path
) -> None:
    write_model(tmp_path / "model", network, normalisation=normalisation)
    model = loading.load(str(tmp_path / "model"))
    assert not is_exact(model)
    for length in (100, 16000, 16000 * 6 + 77):
        samples = noise(length)
        wanted = model.of_samples(samples)
        found = streamed(model, in_blocks(samples, 320))
        assert found.shape == wanted.shape
        np.testing.assert_array_equal(found, streamed(model, [samples]))
        # A single chunk is computed as a whole.
        if length == 100:
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_chunks_with_all_their_surroundings_have_the_output_of_the_whole(tmp_path: Path) -> None:
    write_model(tmp_path / "model", "conv_gru", normalisation=NONE)
    model = loading.load(str(tmp_path / "model"))
    samples = noise(16000 * 4)
    wanted = model.of_samples(samples)
    near = streamed(model, [samples])
    with (
        mock.patch.object(acoustic_stream, "BEFORE_SECONDS", 4.0),
        mock.patch.object(acoustic_stream, "AHEAD_SECONDS", 4.0),
    ):
        whole = streamed(model, [samples])
    np.testing.assert_allclose(whole, wanted, rtol=0, atol=1e-5)
    assert np.abs(near - wanted).mean() < 0.1


def test_chunks_keep_their_latency_and_memory_does_not_grow(tmp_path: Path) -> None:
    write_model(tmp_path / "model", normalisation=UTTERANCE)
    stream = acoustic_stream._ChunkStream(loading.load(str(tmp_path / "model")))
    outputs, fed, seconds = 0, 0, stream._features.front_end.step_seconds * 2
    for block in in_blocks(noise(16000 * 30), 1600):
        outputs += len(stream.feed(block))
        fed += len(block)
        assert outputs * seconds >= fed / 16000 - stream.latency_seconds - 0.1
        assert len(stream._features.frames) <= 100 * (acoustic_stream.NORMALISED_SECONDS + 3)


def test_block_without_a_frame_copies_none(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    stream = acoustic_stream._ChunkStream(loading.load(str(tmp_path / "model")))
    stream.feed(noise(16000))
    frames = stream._features.frames
    assert len(frames) and not len(stream.feed(noise(10)))
    assert stream._features.frames is frames


def test_recording_without_samples_has_no_outputs(tmp_path: Path) -> None:
    write_model(tmp_path / "chunks")
    carried = lstm(tmp_path / "carried")
    for model in (loading.load(str(tmp_path / "chunks")), carried):
        assert streamed(model, []).shape == (0, model.description.config.alphabet.size)
        assert streamed(model, [noise(0)]).shape == (0, model.description.config.alphabet.size)
