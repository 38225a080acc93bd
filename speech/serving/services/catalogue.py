"""The models and scorers of a server, by name."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from speech.decoding import scorer
from speech.decoding.beam_search import BeamSettings
from speech.decoding.scorer import Scorer
from speech.export import loading
from speech.export.acoustic_model import AcousticModel
from speech.serving.errors import RequestError
from speech.serving.schemas.requests import TranscriptionOptions, format_value, settings_of
from speech.serving.services.batching import BatchedModel, Batcher
from speech.transcription.transcriber import Transcriber
from utils import Alphabet, UserError

# Transcribers that are kept: one with hot words takes a while to build from a large vocabulary.
KEPT_TRANSCRIBERS = 8


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model, its thread, and the scorers of its alphabet."""

    name: str
    path: str
    batcher: Batcher
    scorers: dict[str, Scorer]  # by name, in the order of the flag

    @property
    def model(self) -> AcousticModel:
        return self.batcher.model


@dataclass(frozen=True, eq=False)
class Choice:
    """The model and scorer of a request."""

    served: ServedModel
    scorer: str  # its name; empty: none
    transcriber: Transcriber


class Catalogue:
    """All models and scorers that requests may choose from."""

    def __init__(
        self, models: Sequence[ServedModel], scorers: Sequence[str], defaults: BeamSettings
    ) -> None:
        """
        Args:
            models: the first one is the default.
            scorers: names of all scorers.
            defaults: settings of the beam search.
        """
        self.models = {each.name: each for each in models}
        self.scorers = tuple(scorers)
        self.defaults = defaults
        # Not a method: the cache would keep this object alive.
        self._transcriber = lru_cache(KEPT_TRANSCRIBERS)(partial(_new_transcriber, self.models))

    @property
    def default_model(self) -> ServedModel:
        return next(iter(self.models.values()))

    def served(self, name: str | None) -> ServedModel:
        """Returns a model by its name, or the default one.

        Raises:
            RequestError: there is no such model (404).
        """
        if name is None:
            return self.default_model
        if name not in self.models:
            raise RequestError(
                404,
                f"There is no model {format_value(name)} here: choose among {_names(self.models)}.",
                param="model",
                code="model_not_found",
            )
        return self.models[name]

    def scorer_of(self, served: ServedModel, name: str | None) -> str:
        """Returns the name of a model's scorer; empty: none.

        Args:
            name: of a scorer; empty for none; None for the first one that fits the model.

        Raises:
            RequestError: there is no such scorer (404), or it has another alphabet (400).
        """
        if name is None:
            return next(iter(served.scorers), "")
        if name and name not in self.scorers:
            raise RequestError(
                404,
                f"There is no scorer {format_value(name)} here: choose among "
                f"{_names(self.scorers) or 'none'}, or give an empty name for none.",
            )
        if name and name not in served.scorers:
            raise RequestError(
                400,
                f"The scorer {name} has another alphabet, or other phones, than the model "
                f"{served.name}: choose among {_names(served.scorers) or 'none'}, or give an "
                "empty name for none.",
            )
        return name

    def choose(self, options: TranscriptionOptions) -> Choice:
        """Returns the model and scorer of a request.

        Takes a while with hot words and a large vocabulary.

        Raises:
            RequestError: there is no such model or scorer (404), or the options don't fit them
                (400).
        """
        served = self.served(options.model)
        name = self.scorer_of(served, options.scorer)
        try:
            settings = settings_of(options, self.defaults, bool(name))
            return Choice(served, name, self._transcriber(served.name, name, settings))
        except UserError as error:
            message = str(error)
            if name:  # clients mustn't learn paths of the server
                message = message.replace(served.scorers[name].path, name)
            raise RequestError(400, message) from None

    def warm_up(self) -> None:
        """Runs every model on a second of silence: the first call takes longer than others."""
        for served in self.models.values():
            options = TranscriptionOptions.model_validate({"model": served.name})
            transcriber = self.choose(options).transcriber
            transcriber.transcribe(np.zeros(transcriber.sample_rate, np.float32))

    @property
    def alive(self) -> bool:
        """Whether every model's thread still works."""
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
        models: paths, see loading.load; the first one is the default.
        scorers: paths.
        defaults: settings of the beam search.
        batch_size: most utterances that a model computes at once.
        on_batch: called with the size of each batch, on the model's thread.

    Raises:
        UserError: there is no model, something can't be loaded or is named twice, or a scorer fits
            no model.
    """
    if not models:
        raise UserError("No model is named: name a model directory, SavedModel or .tflite file.")
    paths = short_names(models, "--models")
    loaded = {name: loading.load(path) for name, path in paths.items()}
    names = short_names(scorers, "--scorers")
    alphabets = [each.description.config.alphabet for each in loaded.values()]
    read = {name: _read_scorer(path, alphabets) for name, path in names.items()}
    for versions in read.values():
        if not any(_fits(found, each) for found in versions for each in loaded.values()):
            first = next(iter(loaded.values()))
            config = first.description.config
            phones = config.phonetic_alphabet
            scorer.check_alphabet(versions[0], config.alphabet, models[0], phones)
    served = [
        ServedModel(
            name,
            path,
            Batcher(loaded[name], batch_size, on_batch),
            {
                each: found
                for each, versions in read.items()
                for found in versions
                if _fits(found, loaded[name])
            },
        )
        for name, path in paths.items()
    ]
    return Catalogue(served, list(read), defaults)


def _read_scorer(path: str, alphabets: Sequence[Alphabet]) -> list[Scorer]:
    """Reads a scorer; one of DeepSpeech, which has no alphabet, for each that it fits."""
    if not scorer.is_deepspeechs(path):
        return [scorer.read_scorer(path)]
    different = list(dict.fromkeys(alphabets))
    found = []
    for alphabet in different:
        try:
            found.append(scorer.read_scorer(path, alphabet))
        except UserError:
            if alphabet == different[-1] and not found:
                raise
    return found


def _fits(found: Scorer, model: AcousticModel) -> bool:
    config = model.description.config
    return found.alphabet == (config.phonetic_alphabet if found.texts else config.alphabet)


def short_names(paths: Sequence[str], flag: str) -> dict[str, str]:
    """Returns the paths by the shortest endings that distinguish them.

    Args:
        flag: that names the paths, for messages.

    Raises:
        UserError: a path is named twice.
    """
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
