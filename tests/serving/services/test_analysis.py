"""Waveforms, spectrograms and details of recordings."""

from pathlib import Path

import numpy as np
import pytest
from tiny_models import noise, write_model

from speech.audio.segmentation import Segment
from speech.decoding.beam_search import BeamSettings
from speech.export import loading
from speech.features import front_end as features
from speech.features.front_end import FrontEnd
from speech.serving.services import analysis
from speech.serving.services.analysis import COLUMNS, Extremes
from speech.transcription.subtitles import join_words
from speech.transcription.transcriber import Transcriber
from utils import ENGLISH


@pytest.mark.parametrize("samples", [0, 1, 79, 16000, 16000 * 20 + 7])
def test_columns_of_a_waveform_cover_every_sample_for_all_block_sizes(samples: int) -> None:
    sound = noise(samples).astype(np.float32) if samples else np.zeros(0, np.float32)
    found = []
    for block in (100, 4096, 10**6):
        extremes = Extremes(16000)
        for start in range(0, samples, block):
            extremes.add(sound[start : start + block])
        found.append(extremes.columns())
        lowest, highest = found[-1]
        assert len(lowest) == len(highest) == min(-(-samples // 80), COLUMNS)
        if samples:
            assert lowest.min() == max(sound.min() / 32768, -1)
            assert highest.max() == min(sound.max() / 32768, 1)
    for lowest, highest in found[1:]:
        np.testing.assert_array_equal(lowest, found[0][0])
        np.testing.assert_array_equal(highest, found[0][1])


@pytest.mark.parametrize(("rate", "frequency"), [(16000, 3000), (8000, 500)])
def test_tone_is_in_its_row_of_the_spectrogram(rate: int, frequency: int) -> None:
    front_end = FrontEnd(sample_rate=rate, highest_frequency=3500)
    tone = 16384 * np.sin(2 * np.pi * frequency * np.arange(rate) / rate)
    shown = analysis.spectrogram(tone.astype(np.float32), front_end)
    rows, columns = shown.data.shape
    assert (rows, columns) == (128, front_end.frames(rate))
    loudest = shown.data[:, 1:-1].argmax(axis=0)
    assert abs(loudest - frequency / (rate / 2) * rows).max() <= 1
    assert shown.highest - shown.lowest == pytest.approx(analysis.DYNAMIC_RANGE)
    assert (
        -16 < shown.highest < -6
    )  # half of full scale is -6 dB; a row is the mean of two frequencies


def test_one_sample_has_details() -> None:
    assert analysis.spectrogram(np.ones(1, np.float32), FrontEnd()).data.shape == (128, 1)


def test_details_are_the_networks_inputs_and_outputs(tmp_path: Path) -> None:
    write_model(tmp_path / "model", "conv_gru")
    transcriber = Transcriber(loading.load(str(tmp_path / "model")), BeamSettings(beam_width=8))
    samples = noise(16000).astype(np.float32)
    seen = features.extract(samples, transcriber.config.front_end)
    log_probs = transcriber.model.of_features(seen)
    segment = transcriber.transcribe(samples, start=2.0)
    details = analysis.details_of(Segment(32000, samples), seen, log_probs, segment, transcriber)
    assert details.start == 2.0
    scale = (details.features.highest - details.features.lowest) / 255
    restored = details.features.data * scale + details.features.lowest
    np.testing.assert_allclose(restored, seen.T, atol=scale)
    np.testing.assert_allclose(details.probabilities / 255, np.exp(log_probs.T), atol=1 / 255)
    # The path collapses to the text.
    path = details.path
    kept = [label for label, before in zip(path, [None, *path], strict=False) if label != before]
    assert ENGLISH.decode(kept) == join_words(segment.transcript.words)


def test_path_of_an_empty_text_is_blank() -> None:
    log_probs = np.full((5, ENGLISH.size), -np.log(ENGLISH.size), np.float32)
    assert analysis.best_path(log_probs, "", ENGLISH) == [ENGLISH.blank] * 5
