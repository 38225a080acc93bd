"""Checkpoint, SavedModel and TensorFlow Lite file of one model, through one interface."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from tiny_models import STEP, noise, write_model

from speech.decoding.beam_search import greedy_decode
from speech.export import loading, saved_model, tflite
from speech.export.acoustic_graph import restore
from speech.export.acoustic_model import AcousticModel
from speech.export.description import Description, Naming
from speech.features import front_end
from speech.system import storage
from speech.transcription.acoustic_stream import stream_of
from utils import UserError

Floats = npt.NDArray[np.float32]

PRECISIONS = (tflite.FLOAT32, tflite.FLOAT16, tflite.INT8)


def forms_of(folder: Path, precisions: tuple[str, ...]) -> dict[str, AcousticModel]:
    """Returns a model directory's model, and its exported forms read back."""
    loaded = loading.load(str(folder))
    config = loaded.description.config
    graph = restore(config, f"{folder}/model.ckpt-{STEP}")
    description = Description(config, STEP, Naming("é", "1.0"))
    saved_model.save(graph, description, str(folder / "saved"))
    forms: dict[str, AcousticModel] = {
        "checkpoint": loaded,
        "saved_model": loading.load(str(folder / "saved")),
    }
    for precision in precisions:
        path = str(folder / f"{precision}.tflite")
        storage.write_bytes(path, tflite.convert(graph, description, precision))
        forms[precision] = loading.load(path)
    for name in ("saved_model", *precisions):
        assert forms[name].description == description
    return forms


@pytest.mark.parametrize(
    ("network", "normalisation"),
    [("deep_speech_1", "utterance"), ("deep_speech_lstm", "none"), ("conv_gru", "corpus")],
)
def test_all_forms_compute_the_same(network: str, normalisation: str, tmp_path: Path) -> None:
    shift = 0.01 if normalisation == "none" else 0.3
    config = write_model(tmp_path / "model", network, shift, normalisation=normalisation)
    forms = forms_of(tmp_path / "model", ("float32",))
    assert {form.carries_state for form in forms.values()} == {network == "deep_speech_lstm"}
    # One frame; then another number of frames, for which TensorFlow Lite resizes its tensors.
    for samples in (noise(5000), noise(100), noise(16001)):
        features = front_end.extract(samples, config.front_end)
        wanted = forms["checkpoint"].of_features(features)
        assert wanted.shape == (config.network.output_frames(len(features)), config.alphabet.size)
        for form in forms.values():
            for log_probs in (form.of_features(features), form.of_samples(samples)):
                np.testing.assert_allclose(log_probs, wanted, rtol=0, atol=2e-4)
                text = greedy_decode(log_probs, config.alphabet)
                assert text == greedy_decode(wanted, config.alphabet)
            if form.carries_state:
                np.testing.assert_allclose(streamed(form, samples), wanted, rtol=0, atol=2e-4)
    batch = [front_end.extract(noise(length), config.front_end) for length in (5000, 100, 16001)]
    for form in forms.values():
        for log_probs, alone in zip(form.of_batch(batch), batch, strict=True):
            np.testing.assert_allclose(log_probs, form.of_features(alone), rtol=0, atol=2e-5)


def streamed(form: AcousticModel, samples: npt.NDArray[np.int16]) -> Floats:
    """Returns the output of a stream that runs at the same time as another one."""
    stream, other = stream_of(form), stream_of(form)
    found = []
    for at in range(0, len(samples), 3000):
        found.append(stream.feed(samples[at : at + 3000]))
        other.feed(samples[at : at + 3000][::-1])
    return np.concatenate([*found, stream.finish()])


def test_saved_model_takes_batches_of_any_lengths(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    forms = forms_of(tmp_path / "model", ())
    sounds = [noise(5000), noise(100), noise(9000)]
    padded = np.full([3, 9100], 999.0, np.float32)
    for row, each in enumerate(sounds):
        padded[row, : len(each)] = each
    loaded = tf.saved_model.load(str(tmp_path / "model" / "saved"))
    outputs = loaded.signatures["serving_default"](
        samples=tf.constant(padded), sample_length=tf.constant([len(each) for each in sounds])
    )
    rows = zip(sounds, outputs["log_probs"].numpy(), outputs["output_length"].numpy(), strict=True)
    for samples, log_probs, length in rows:
        wanted = forms["checkpoint"].of_samples(samples)
        assert length == len(wanted)
        np.testing.assert_allclose(log_probs[:length], wanted, rtol=0, atol=2e-4)


def test_files_may_be_overwritten_in_place_while_a_model_is_used(tmp_path: Path) -> None:
    write_model(tmp_path / "model", "conv_gru")
    forms = forms_of(tmp_path / "model", ("float32",))
    before = {name: form.of_samples(noise(9000)) for name, form in forms.items()}
    maps = Path("/proc/self/maps")
    if maps.exists():  # a mapped file would crash the tests below
        assert str(tmp_path) not in maps.read_text()
    for path in (tmp_path / "model").rglob("*"):
        if path.is_file():
            with open(path, "r+b") as file:
                file.truncate()
    for name, form in forms.items():
        np.testing.assert_array_equal(form.of_samples(noise(9000)), before[name])
        # Other shapes, for which memory is allocated and kernels are prepared.
        assert np.isfinite(form.of_samples(noise(20000))).all()


@pytest.mark.slow
def test_quantised_files_are_smaller_and_nearly_the_same(tmp_path: Path) -> None:
    write_model(tmp_path / "model", "deep_speech_lstm", 0.01, normalisation="corpus")
    forms = forms_of(tmp_path / "model", PRECISIONS)
    samples = noise(16000)
    wanted = np.exp(forms["checkpoint"].of_samples(samples))
    for precision, within in (("float16", 1e-3), ("int8", 0.05)):
        found = np.exp(forms[precision].of_samples(samples))
        assert 0 < np.abs(found - wanted).max() < within
        # An int8 file quantises a piece by its own largest activations.
        assert np.abs(np.exp(streamed(forms[precision], samples)) - found).max() < within
    sizes = [(tmp_path / "model" / f"{each}.tflite").stat().st_size for each in PRECISIONS]
    assert sizes == sorted(sizes, reverse=True)


def test_path_that_is_not_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a model: name a model directory"):
        loading.load(str(tmp_path))
    (tmp_path / "x.tflite").write_text("a text of more than eight letters")
    with pytest.raises(UserError, match=r"x\.tflite is not a TensorFlow Lite model"):
        loading.load(str(tmp_path / "x.tflite"))
    (tmp_path / "empty.tflite").touch()
    with pytest.raises(UserError, match=r"empty\.tflite is not a TensorFlow Lite model"):
        loading.load(str(tmp_path / "empty.tflite"))
    with pytest.raises(UserError, match=r"none\.tflite can't be read: No such file"):
        loading.load(str(tmp_path / "none.tflite"))


def test_lite_file_in_a_bucket_is_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match=r"^gs://bucket/a\.tflite is in a bucket, .* copy it"):
        loading.load("gs://bucket/a.tflite")


def test_saved_model_of_another_program_is_refused_and_never_replaced(tmp_path: Path) -> None:
    folder = str(tmp_path / "other")
    tf.saved_model.save(tf.Module(), folder)
    with pytest.raises(UserError, match="is not a SavedModel of export"):
        loading.load(folder)
    config = write_model(tmp_path / "model")
    graph = restore(config, f"{tmp_path}/model/model.ckpt-{STEP}")
    with pytest.raises(UserError, match="contains files that aren't an exported model's"):
        saved_model.save(graph, Description(config, STEP), folder)
