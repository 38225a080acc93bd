"""DeepSpeech's own .tflite, .pb and .pbmm files as they are, against its clients."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from doors import ROOT

from speech.audio.reader import read_audio
from speech.decoding.beam_search import BeamSearchDecoder, BeamSettings
from speech.export.acoustic_model import AcousticModel
from speech.export.deepspeech_lite import DeepSpeechLiteModel
from speech.export.loading import load
from speech.features.front_end import deepspeech, extract
from speech.transcription.acoustic_stream import is_exact, stream_of


@pytest.fixture(scope="module")
def lite(genuine: str) -> AcousticModel:
    return load(f"{genuine}/tiny64/output_graph.tflite")


def test_texts_are_those_of_the_real_client(genuine: str, lite: AcousticModel) -> None:
    clients = json.loads(Path(f"{genuine}/client_transcripts.json").read_text())
    expected = clients["stt tiny64/output_graph.tflite beam 100"]
    decoder = BeamSearchDecoder(lite.description.config.alphabet, BeamSettings(100))
    found = {
        name: decoder.n_best(lite.of_samples(read_audio(f"{genuine}/wavs/{name}", 16000)), 1)[0]
        for name in expected
    }
    known = "LDC93S1.wav"  # which the model was trained on; it knows nothing of the other four
    assert found[known].text == expected[known]["text"]
    assert found[known].acoustic_score == pytest.approx(expected[known]["confidence"], abs=1e-3)
    assert sum(found[name].text == expected[name]["text"] for name in expected) >= 4


def test_metadata_become_the_description(lite: AcousticModel) -> None:
    assert isinstance(lite, DeepSpeechLiteModel) and lite.beam_width == 500
    assert lite.description.config.front_end == deepspeech()
    assert lite.description.naming.language == "en-US"


@pytest.mark.parametrize("outputs", [1, 5, 16, 17, 40])
def test_pieces_of_any_length_give_the_outputs_of_the_whole(
    outputs: int, genuine: str, lite: AcousticModel
) -> None:
    features = extract(read_audio(f"{genuine}/wavs/LDC93S1.wav", 16000), deepspeech())
    whole, state, found = lite.of_features(features), None, []
    padded = np.pad(features, ((9, 9), (0, 0)))
    for start in range(0, len(features), outputs):
        piece = padded[start : start + outputs + 18]
        log_probs, state = lite.stream(piece, (0, 0), state)
        found.append(log_probs)
    np.testing.assert_allclose(np.concatenate(found), whole, rtol=0, atol=1e-5)


def test_a_stream_gives_the_outputs_of_the_whole(genuine: str, lite: AcousticModel) -> None:
    samples = read_audio(f"{genuine}/wavs/LDC93S1.wav", 16000)
    assert is_exact(lite)
    stream = stream_of(lite)
    found = [stream.feed(samples[at : at + 320]) for at in range(0, len(samples), 320)]
    outputs = np.concatenate([*found, stream.finish()])
    np.testing.assert_allclose(outputs, lite.of_samples(samples), rtol=0, atol=1e-5)


@pytest.mark.parametrize("suffix", ["pb", "pbmm"])
def test_graphs_compute_what_the_real_ones_did(suffix: str, genuine: str) -> None:
    model = load(f"{genuine}/tiny64/output_graph.{suffix}")
    samples = read_audio(f"{genuine}/wavs/LDC93S1.wav", 16000)
    expected = np.load(f"{genuine}/tiny64/reference.npz")["LDC93S1.wav/probs"]
    found = np.exp(model.of_samples(samples))
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=0, atol=1e-5)


def test_a_tflite_file_needs_no_tensorflow(genuine: str) -> None:
    """It would take 3 seconds and 500 MB."""
    code = (
        "import sys, transcribe; from speech.export.loading import load;"
        f"model = load({genuine + '/tiny64/output_graph.tflite'!r});"
        "import numpy as np; model.of_samples(np.zeros(9000, np.int16));"
        "print('tensorflow' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"
