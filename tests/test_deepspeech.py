"""The modules deepspeech and stt, with genuine models."""

import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepspeech
import stt


def audio(genuine: str, name: str = "LDC93S1.wav") -> np.ndarray:
    with wave.open(f"{genuine}/wavs/{name}") as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


@pytest.fixture
def model(genuine: str) -> deepspeech.Model:
    return deepspeech.Model(f"{genuine}/tiny64/output_graph.tflite")


TEXT = "she had your dark suit in greasy wash water all year"


def test_a_client_s_calls_work(genuine: str, model: deepspeech.Model) -> None:
    assert (model.sampleRate(), model.beamWidth()) == (16000, 500)
    assert model.setBeamWidth(100) == 0 and model.beamWidth() == 100
    model.enableExternalScorer(f"{genuine}/scorers/pruned_lm.scorer")
    assert model.setScorerAlphaBeta(0.75, 1.85) == 0
    model.addHotWord("greasy", 1.5)
    assert model.stt(audio(genuine)) == TEXT
    model.eraseHotWord("greasy")
    model.clearHotWords()
    assert model.disableExternalScorer() == 0
    assert isinstance(deepspeech.version(), str) and stt.Model is deepspeech.Model


@pytest.mark.parametrize(
    ("hot_words", "changed", "confidence"),  # those of the client stt 1.4.0, with a beam of 100
    [
        ({}, ("", ""), -0.7562203),
        ({"year": 10}, ("", ""), -0.7562203),  # the last word
        ({"dark": -20}, ("dark", "ars"), -25.1546879),
        ({"suit": 5, "greasy": 5}, ("", ""), 29.2437782),
        ({"water": -15}, ("water", "waters"), -22.9842987),
        ({"had": 8, "as": -3.5, "nowhere": 9, "dark suit": 40}, ("", ""), 23.2437916),
    ],
)
def test_hot_words_count_as_in_the_real_client(
    genuine: str,
    model: deepspeech.Model,
    hot_words: dict[str, float],
    changed: tuple[str, str],
    confidence: float,
) -> None:
    model.setBeamWidth(100)
    model.enableExternalScorer(f"{genuine}/scorers/pruned_lm.scorer")
    for word, boost in hot_words.items():
        model.addHotWord(word, boost)
    (best,) = model.sttWithMetadata(audio(genuine)).transcripts
    text = "".join(token.text for token in best.tokens)
    assert text == TEXT.replace(*changed)
    assert best.confidence == pytest.approx(confidence, abs=1e-3)


@pytest.mark.parametrize(
    ("samples", "text"),  # of stt 1.4.0's native function
    [
        (4000, "sh"),
        (9009, "she had you"),
        (19027, "she had your dark sui"),
        (29045, "she had your dark suit in greas"),
        (44072, "she had your dark suit in greasy wash water al"),
    ],
)
def test_samples_that_wait_can_be_decoded(
    genuine: str, model: deepspeech.Model, samples: int, text: str
) -> None:
    model.setBeamWidth(100)
    stream = model.createStream()
    stream.feedAudioContent(audio(genuine)[:samples])
    assert stream.intermediateDecodeFlushBuffers() == text
    (best, _) = stream.intermediateDecodeWithMetadataFlushBuffers(2).transcripts
    assert "".join(token.text for token in best.tokens) == text
    stream.feedAudioContent(audio(genuine)[samples:])
    assert stream.finishStream() == TEXT  # the stream wasn't changed


def test_metadata_are_those_of_the_real_client(genuine: str, model: deepspeech.Model) -> None:
    clients = json.loads(Path(f"{genuine}/client_transcripts.json").read_text())
    expected = clients["stt tiny64/output_graph.tflite beam 100"]["LDC93S1.wav"]
    model.setBeamWidth(100)
    (best, *others) = model.sttWithMetadata(audio(genuine), 3).transcripts
    assert "".join(token.text for token in best.tokens) == expected["text"]
    assert best.confidence == pytest.approx(expected["confidence"], abs=1e-3)
    steps = [token.timestep for token in best.tokens]
    assert np.abs(np.array(steps) - expected["timesteps"]).max() <= 1
    assert len(others) == 2 and others[0].confidence < best.confidence
    assert best.tokens[5].start_time == pytest.approx(steps[5] * 0.02)


def test_a_stream_gives_the_text(genuine: str, model: deepspeech.Model) -> None:
    stream = model.createStream()
    samples = audio(genuine)
    texts = []
    for at in range(0, len(samples), 320):
        stream.feedAudioContent(samples[at : at + 320])
        texts.append(stream.intermediateDecode())
    assert stream.finishStream() == TEXT
    assert texts[0] == "" and TEXT.startswith(texts[70][:10])
    with pytest.raises(RuntimeError, match="finished"):
        stream.feedAudioContent(samples[:320])
    freed = model.createStream()
    freed.freeStream()
    with pytest.raises(RuntimeError):
        freed.intermediateDecodeWithMetadata(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: type(model)(b"x"), "model_path is b'x': give a path."),
        (lambda model: model.enableExternalScorer(None), "scorer_path is None: give a path."),
        (lambda model: model.setScorerAlphaBeta("x", 1), "alpha is 'x': give a number."),
        (lambda model: model.setScorerAlphaBeta(1, None), "beta is None: give a number."),
        (lambda model: model.addHotWord("suit", "3"), "boost is '3': give a number."),
        (lambda model: model.addHotWord(["suit"], 3), "word is ['suit']: give a text."),
        (lambda model: model.eraseHotWord(["suit"]), "word is ['suit']: give a text."),
    ],
)
def test_an_argument_of_a_wrong_kind_is_named(
    model: deepspeech.Model, call: Callable[[Any], object], message: str
) -> None:
    with pytest.raises(TypeError) as error:
        call(model)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "samples",
    [None, "abc", b"odd", [0.5], [[1], [1, 2]], np.zeros(0), np.zeros((3, 2), np.int16), [70000]],
    ids=repr,
)
def test_what_is_no_audio_is_refused_in_a_line(model: deepspeech.Model, samples: Any) -> None:
    for call in (model.stt, model.sttWithMetadata, model.createStream().feedAudioContent):
        with pytest.raises(RuntimeError, match=r"^The audio .*: give int16 numbers"):
            call(samples)


@pytest.mark.parametrize("samples", [[], b"", np.zeros(0, np.int16)])
def test_no_samples_have_no_text(model: deepspeech.Model, samples: Any) -> None:
    assert model.stt(samples) == ""
    assert len(model.sttWithMetadata(samples).transcripts) == 1


def test_errors_have_the_client_s_codes(
    genuine: str, model: deepspeech.Model, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match=r"CreateModel failed with '.*' \(0x3007\)"):
        deepspeech.Model(f"{tmp_path}/absent.tflite")
    with pytest.raises(RuntimeError, match=r"EnableExternalScorer failed with .* \(0x2005\)"):
        model.enableExternalScorer(f"{tmp_path}/absent.scorer")
    (tmp_path / "no.scorer").write_text("no scorer")
    with pytest.raises(RuntimeError, match=r"'Invalid scorer file.' \(0x2002\)"):
        model.enableExternalScorer(tmp_path / "no.scorer")
    assert model.disableExternalScorer() == model.setScorerAlphaBeta(1, 1) == 0x2004
    for call in (
        lambda: model.addHotWord("a", 1),
        lambda: model.eraseHotWord("a"),
        model.clearHotWords,
    ):
        with pytest.raises(RuntimeError, match=r"HotWords? failed with .* \(0x2004\)"):
            call()
    model.enableExternalScorer(f"{genuine}/scorers/pruned_lm.scorer")
    model.addHotWord("twice", 1000)
    with pytest.raises(RuntimeError, match=r"\(0x3008\)"):
        model.addHotWord("twice", 1)
    with pytest.raises(RuntimeError, match=r"\(0x3010\)"):
        model.eraseHotWord("absent")
    with pytest.raises(RuntimeError, match="beam width"):
        model.setBeamWidth(0)
    with pytest.raises(RuntimeError, match="give int16"):
        model.stt("text")
