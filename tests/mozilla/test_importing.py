"""Genuine models of DeepSpeech as model directories, against what the real graphs computed."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax

from speech.audio.reader import read_audio
from speech.export.loading import load
from speech.features.front_end import deepspeech
from speech.mozilla.importing import import_model
from speech.text.alphabets import read_alphabet
from utils import ENGLISH, UserError

# Model -> the folder of its reference. 8 bits are another model: see `test_8_bits_...`.
EXACT = {
    "tiny64": "tiny64",
    "tiny64/train-400": "tiny64",
    "tiny64/output_graph.pb": "tiny64",
    "tiny64/output_graph.pbmm": "tiny64",
    "tiny64_layer_norm": "tiny64_layer_norm",
    "tiny64_layer_norm/output_graph.pb": "tiny64_layer_norm",
}


def largest_difference(model_dir: Path, genuine: str, reference: str) -> float:
    """Returns the largest difference of the log-probabilities of five recordings."""
    model, expected = load(str(model_dir)), np.load(f"{genuine}/{reference}/reference.npz")
    names = [each for each in expected.files if each.endswith("/logits")]
    assert len(names) == 5
    differences = []
    for name in names:
        samples = read_audio(f"{genuine}/wavs/{name.removesuffix('/logits')}", 16000)
        found, logits = model.of_samples(samples), expected[name]
        wanted = log_softmax(logits.reshape(len(logits), -1).astype(np.float64), axis=1)
        assert found.shape == wanted.shape
        differences.append(np.abs(found - wanted).max())
    return float(max(differences))


@pytest.mark.parametrize("path", EXACT)
def test_an_imported_model_computes_what_the_real_one_did(
    path: str, genuine: str, tmp_path: Path
) -> None:
    alphabet = read_alphabet(f"{genuine}/alphabet.txt")
    config = import_model(f"{genuine}/{path}", alphabet, str(tmp_path))
    assert config.front_end == deepspeech()
    assert config.alphabet == alphabet
    assert config.network.layer_norm == ("layer_norm" in path)
    assert largest_difference(tmp_path, genuine, EXACT[path]) < 1e-4


def test_8_bits_are_imported_as_the_numbers_that_they_stand_for(
    genuine: str, tmp_path: Path
) -> None:
    """The real one rounds activations to 8 bits, too, so that they differ by what that costs."""
    config = import_model(f"{genuine}/tiny64/output_graph.tflite", None, str(tmp_path))
    assert config.alphabet == read_alphabet(f"{genuine}/alphabet.txt")
    assert 0.1 < largest_difference(tmp_path, genuine, "tiny64") < 5


def test_a_checkpoint_without_its_alphabet_is_refused(genuine: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"contains no alphabet: give .*--alphabet=alphabet\.txt"):
        import_model(f"{genuine}/tiny64", None, str(tmp_path))


def test_an_alphabet_of_another_size_is_refused(genuine: str, tmp_path: Path) -> None:
    shorter = type(ENGLISH)(ENGLISH.characters[:20])
    with pytest.raises(UserError, match="has 29 classes, but the alphabet gives 21"):
        import_model(f"{genuine}/tiny64", shorter, str(tmp_path))


def test_a_folder_with_a_model_is_left_alone(genuine: str, tmp_path: Path) -> None:
    path = f"{genuine}/tiny64/output_graph.pb"
    import_model(path, None, str(tmp_path))
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    with pytest.raises(UserError, match="has a model already"):
        import_model(path, None, str(tmp_path))
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_a_folder_of_checkpoints_is_no_place_for_the_model(genuine: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(f"{genuine}/tiny64", folder)
    before = sorted(each.name for each in folder.iterdir())
    for path in (folder, folder / "output_graph.pb"):
        with pytest.raises(UserError, match="has a model already"):
            import_model(str(path), read_alphabet(f"{genuine}/alphabet.txt"), str(folder))
    with pytest.raises(UserError, match="--model_dir= names no folder"):
        import_model(str(folder), read_alphabet(f"{genuine}/alphabet.txt"), "")
    assert sorted(each.name for each in folder.iterdir()) == before


def test_a_moved_folder_and_an_index_file_name_the_checkpoint(genuine: str, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(f"{genuine}/tiny64", folder, copy_function=shutil.copyfile)
    (folder / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/train-400"\n')
    for number, path in enumerate((folder, folder / "train-400.index")):
        config = import_model(
            str(path), read_alphabet(f"{genuine}/alphabet.txt"), f"{tmp_path}/{number}"
        )
        assert config.network.recurrent_unit_size == 64


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--relu_clip=", "flags.txt can't be read"),
        ('{"relu_clip": 20.0,', "flags.txt can't be read"),
        ("--relu_clip=6", "trained with --relu_clip=6: only 20"),
        ('{"relu_clip": 6, "audio_sample_rate": 16000}', "trained with --relu_clip=6: only 20"),
    ],
)
def test_flags_beside_a_checkpoint_are_read(
    flags: str, message: str, genuine: str, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(f"{genuine}/tiny64", folder, copy_function=shutil.copyfile)
    (folder / "flags.txt").unlink()
    (folder / "flags.txt").write_text(flags)
    with pytest.raises(UserError, match=message):
        import_model(str(folder), read_alphabet(f"{genuine}/alphabet.txt"), f"{tmp_path}/model")


def test_an_alphabet_beside_that_of_the_file_is_refused(genuine: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contains another alphabet than --alphabet"):
        import_model(f"{genuine}/tiny64/output_graph.pb", ENGLISH, str(tmp_path))


@pytest.mark.parametrize("suffix", [".pb", ".pbmm", ".tflite"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"no model" * 100, b"\xff" * 1000])
def test_other_files_are_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"other{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"other{suffix}"):
        import_model(str(path), None, str(tmp_path / "model"))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["absent.pb", "absent.tflite", "absent"])
def test_a_missing_model_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=name):
        import_model(str(tmp_path / name), None, str(tmp_path / "model"))


def test_a_damaged_graph_is_refused(genuine: str, tmp_path: Path) -> None:
    whole = Path(f"{genuine}/tiny64/output_graph.pbmm").read_bytes()
    for length in (100, len(whole) // 2, len(whole) - 1):
        path = tmp_path / "cut.pbmm"
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.pbmm"):
            import_model(str(path), None, str(tmp_path / "model"))
