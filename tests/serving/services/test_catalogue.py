"""Models and scorers by name."""

from pathlib import Path

import pytest
from tiny_models import write_model
from tiny_scorer import write_tiny_scorer

from speech.decoding.beam_search import BeamSettings
from speech.serving.errors import RequestError
from speech.serving.schemas import requests
from speech.serving.services.catalogue import Catalogue, open_catalogue, short_names
from utils import Alphabet, UserError


def test_names_are_the_shortest_endings_that_distinguish_paths() -> None:
    paths = ["/a/en/model/", "/a/es/model", "x/model.tflite", "model"]
    assert short_names(paths, "--models") == {
        "en/model": "/a/en/model/",
        "es/model": "/a/es/model",
        "model.tflite": "x/model.tflite",
        "model": "model",
    }
    for twice in (["a/b", "a/b"], ["a/b", "a/b/"]):
        with pytest.raises(UserError, match=r"--models names a/b/? twice"):
            short_names(twice, "--models")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalogue")
    write_model(folder / "model", "conv_gru")
    write_tiny_scorer(folder / "fits.scorer")
    write_tiny_scorer(folder / "other.scorer", {"ab": -1.0}, alphabet=Alphabet(("a", "b", " ")))
    return folder


@pytest.fixture(scope="module")
def catalogue(folder: Path) -> Catalogue:
    found = open_catalogue([f"{folder}/model"], [f"{folder}/fits.scorer"], BeamSettings(8), 4)
    return Catalogue(list(found.models.values()), ["fits.scorer", "other.scorer"], found.defaults)


def test_default_scorer_is_the_first_that_fits(catalogue: Catalogue) -> None:
    choice = catalogue.choose(requests.read({}))
    assert (choice.served.name, choice.scorer) == ("model", "fits.scorer")
    assert choice.transcriber.scorer is choice.served.scorers["fits.scorer"]
    none = catalogue.choose(requests.read({"scorer": ""}))
    assert (none.scorer, none.transcriber.scorer) == ("", None)
    assert catalogue.choose(requests.read({})).transcriber is choice.transcriber


@pytest.mark.parametrize(
    ("options", "status", "expected"),
    [
        ({"model": "x"}, 404, "There is no model 'x' here: choose among model."),
        ({"scorer": "x"}, 404, "There is no scorer 'x' here: choose among fits.scorer, other"),
        (
            {"scorer": "other.scorer"},
            400,
            "other.scorer has another alphabet, or other phones, than",
        ),
        ({"hot_words": "Ä:3"}, 400, "The hot word 'Ä' has"),
        ({"hot_words": "Cat:3"}, 400, "The hot word 'Cat' has ['C']: write it in lower case, cat"),
        ({"hot_words": "a:1e300"}, 400, "1e+300"),
    ],
)
def test_unknown_or_unfit_choices_are_refused(
    catalogue: Catalogue, folder: Path, options: dict[str, str], status: int, expected: str
) -> None:
    with pytest.raises(RequestError) as raised:
        catalogue.choose(requests.read(options))
    assert raised.value.status == status and expected in raised.value.message
    assert str(folder) not in raised.value.message


def test_scorer_that_fits_no_model_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"other\.scorer is of another alphabet than the model in"):
        open_catalogue([f"{folder}/model"], [f"{folder}/other.scorer"], BeamSettings(), 4)
    with pytest.raises(UserError, match="No model is named"):
        open_catalogue([], [], BeamSettings(), 4)
