"""Transcripts of samples and of recordings with several segments."""

import numpy as np
import pytest
from tiny_models import noise, write_model

from speech.audio import segmentation
from speech.decoding.beam_search import BeamSettings
from speech.export import loading
from speech.transcription.subtitles import join_words
from speech.transcription.transcriber import Transcriber


@pytest.fixture(scope="module")
def transcriber(tmp_path_factory: pytest.TempPathFactory) -> Transcriber:
    folder = tmp_path_factory.mktemp("transcriber") / "model"
    write_model(folder)
    return Transcriber(loading.load(str(folder)), BeamSettings(beam_width=8))


def test_candidates_are_the_beam_searchs_with_times_in_the_recording(
    transcriber: Transcriber,
) -> None:
    samples = noise(16000)
    segment = transcriber.transcribe(samples, n=3, start=10.0)
    assert (segment.start, segment.seconds) == (10.0, 1.0)
    found = transcriber.decoder.n_best(transcriber.log_probs(samples), 3)
    for candidate, hypothesis in zip(segment.candidates, found, strict=True):
        assert join_words(candidate.words) == " ".join(hypothesis.text.split())
        assert candidate.confidence == hypothesis.score
    times = [(word.start, word.start + word.duration) for word in segment.transcript.words]
    assert times
    assert all(10 <= start < end <= 11.03 for start, end in times)
    assert times == sorted(times)


def test_no_samples_have_an_empty_text(transcriber: Transcriber) -> None:
    segment = transcriber.transcribe(np.zeros(0, np.int16))
    assert (segment.seconds, segment.transcript.words) == (0.0, ())


def test_long_recording_is_transcribed_segment_by_segment(transcriber: Transcriber) -> None:
    loud, quiet = noise(16000 * 3), np.zeros(16000 * 3, np.int16)
    blocks = [loud, quiet, loud]
    segments = list(transcriber.segments(iter(blocks)))
    cut = list(segmentation.cut_at_pauses(blocks, 16000))
    assert len(segments) == len(cut) == 2
    for segment, expected in zip(segments, cut, strict=True):
        assert segment == transcriber.transcribe(expected.samples, start=expected.start / 16000)
