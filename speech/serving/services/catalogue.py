"""The models and scorers that a server has, by names of their own."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from speech.decoding import scorer
from speech.decoding.beam_search import BeamSettings
from speech.decoding.scorer import Scorer
from speech.export import loading
from speech.export.loading import AcousticModel
from speech.serving.errors import RequestError
from speech.serving.schemas.requests import Asked, settings_of, shown
from speech.serving.services.batching import BatchedModel, Batcher
from speech.transcription.transcriber import Transcriber
from utils import UserError

# Decoders that are kept: one with hot words has the scorer's vocabulary anew.
KEPT_TRANSCRIBERS = 8


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model, its thread, and the scorers of its alphabet."""

    name: str
    path: str
    batcher: Batcher
    scorers: dict[str, Scorer]  # by their names, in the order of the flag

    @property
    def model(self) -> AcousticModel:
        return self.batcher.model


@dataclass(frozen=True, eq=False)
class Choice:
    """What a request is heard with."""

    served: ServedModel
    scorer: str  # its name; empty: none
    transcriber: Transcriber


class Catalogue:
    """All that requests may choose among."""

    def __init__(
        self, models: Sequence[ServedModel], scorers: Sequence[str], defaults: BeamSettings
    ) -> None:
        """
        Args:
            models: the first one is the default.
            scorers: all names.
            defaults: of the beam search.
        """
        self.models = {each.name: each for each in models}
        self.scorers = tuple(scorers)
        self.defaults = defaults
        # Without this object, so that what it holds is freed with it.
        self._transcriber = lru_cache(KEPT_TRANSCRIBERS)(partial(_new_transcriber, self.models))

    @property
    def default_model(self) -> ServedModel:
        return next(iter(self.models.values()))

    def served(self, name: str | None) -> ServedModel:
        """A model by its name, or the default one; RequestError (404) if there is none."""
        if name is None:
            return self.default_model
        if name not in self.models:
            raise RequestError(
                404, f"There is no model {shown(name)} here: choose among {_names(self.models)}."
            )
        return self.models[name]

    def scorer_of(self, served: ServedModel, name: str | None) -> str:
        """The name of a model's scorer, or of its default one, the first that fits; empty: none.

        Raises:
            RequestError: there is none of this name, or it is of another alphabet.
        """
        if name is None:
            return next(iter(served.scorers), "")
        if name and name not in self.scorers:
            raise RequestError(
                404,
                f"There is no scorer {shown(name)} here: choose among "
                f"{_names(self.scorers) or 'none'}, or give an empty name for none.",
            )
        if name and name not in served.scorers:
            raise RequestError(
                400,
                f"The scorer {name} is of another alphabet than the model {served.name}: choose "
                f"among {_names(served.scorers) or 'none'}, or give an empty name for none.",
            )
        return name

    def choose(self, asked: Asked) -> Choice:
        """What a request asks for; takes a while with hot words and a large vocabulary.

        Raises:
            RequestError: there is no such model or scorer, or the options don't fit them.
        """
        served = self.served(asked.model)
        name = self.scorer_of(served, asked.scorer)
        try:
            settings = settings_of(asked, self.defaults, bool(name))
            return Choice(served, name, self._transcriber(served.name, name, settings))
        except UserError as error:
            message = str(error)
            if name:  # where it lies is nobody's business
                message = message.replace(served.scorers[name].path, name)
            raise RequestError(400, message) from None

    def warm_up(self) -> None:
        """Has every model hear a second, so that no request waits for what is done only once."""
        for served in self.models.values():
            transcriber = self.choose(Asked.model_validate({"model": served.name})).transcriber
            transcriber.hear(np.zeros(transcriber.sample_rate, np.float32))

    @property
    def alive(self) -> bool:
        """Whether every model still hears."""
        return all(each.batcher.alive for each in self.models.values())

    def close(self) -> None:
        """Ends the models' threads."""
        for each in self.models.values():
            each.batcher.close()


def _new_transcriber(
    models: Mapping[str, ServedModel], model: str, name: str, settings: BeamSettings
) -> Transcriber:
    served = models[model]
    found = served.scorers[name] if name else None
    return Transcriber(BatchedModel(served.batcher), settings, found)


def open_catalogue(
    models: Sequence[str],
    scorers: Sequence[str],
    defaults: BeamSettings,
    batch_size: int,
    on_batch: Callable[[int], object] = lambda utterances: None,
) -> Catalogue:
    """Loads models and scorers.

    Args:
        models: paths as of exported.load.
        scorers: paths.
        batch_size: most utterances that a model hears at once.
        on_batch: hears of each batch's size.

    Raises:
        UserError: there is no model, something can't be loaded, is named twice, or a scorer fits no
            model.
    """
    if not models:
        raise UserError("No model is named: name a model directory, SavedModel or .tflite file.")
    paths = short_names(models, "--models")
    loaded = {name: loading.load(path) for name, path in paths.items()}
    names = short_names(scorers, "--scorers")
    read = {name: scorer.read_scorer(path) for name, path in names.items()}
    for found in read.values():
        if not any(_fits(found, each) for each in loaded.values()):
            first = next(iter(loaded.values()))
            scorer.check_alphabet(found, first.description.config.alphabet, models[0])
    served = [
        ServedModel(
            name,
            path,
            Batcher(loaded[name], batch_size, on_batch),
            {each: found for each, found in read.items() if _fits(found, loaded[name])},
        )
        for name, path in paths.items()
    ]
    return Catalogue(served, list(read), defaults)


def _fits(found: Scorer, model: AcousticModel) -> bool:
    return found.alphabet == model.description.config.alphabet


def short_names(paths: Sequence[str], flag: str) -> dict[str, str]:
    """Paths by the shortest ends of them that tell them apart."""
    whole = {path: [part for part in path.split(os.sep) if part not in ("", ".")] for path in paths}
    names: dict[str, str] = {}
    for path, parts in whole.items():
        others = [each for other, each in whole.items() if other != path]
        ends = ["/".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        name = next(
            (end for end in ends if not any(_ends_with(each, end) for each in others)),
            "/".join(parts),
        )
        if name in names or len(whole) < len(paths):
            raise UserError(f"{flag} names {path} twice: name each once.")
        names[name] = path
    return names


def _ends_with(parts: Sequence[str], end: str) -> bool:
    return "/".join(parts[-len(end.split("/")) :]) == end


def _names(names: Sequence[str] | dict[str, ServedModel] | dict[str, Scorer]) -> str:
    return ", ".join(names)
