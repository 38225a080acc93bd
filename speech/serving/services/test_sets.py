"""Recognises prepared test sets page by page, for the page's view of references and hypotheses.

Features are read from the shards. Results are kept per model and scorer, so that a page is
recognised once, and error rates cover all pages recognised so far.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from speech.corpora import recordings
from speech.corpora.recordings import Audio
from speech.evaluation import error_analysis
from speech.evaluation import results as report
from speech.evaluation.error_rates import Errors
from speech.evaluation.results import Result
from speech.networks.config import check_same_front_end
from speech.serving.errors import RequestError
from speech.serving.schemas.requests import format_value
from speech.serving.services.catalogue import Catalogue, Choice, ServedModel
from speech.serving.services.transcription import Share, TranscriptionWorkers
from speech.serving.types import Floats
from speech.shards.shard_set import ShardSet, find_shards
from utils import UserError

SIGNS = {"equal": "=", "substitute": "s", "insert": "i", "delete": "d"}


def _parsing() -> ModuleType:
    """Imports what reads shards, only where there are any: it imports TensorFlow."""
    try:
        from speech.input_pipeline import parsing
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        raise UserError(
            "--test_data needs TensorFlow, which isn't installed: pip install -e '.[cpu]', with an "
            "Nvidia GPU '.[gpu]', or leave the flag out."
        ) from None
    return parsing


@dataclass(frozen=True)
class SetUtterance:
    """An utterance of a test set."""

    utterance_id: str
    reference: str


@dataclass(frozen=True)
class RecognisedUtterance:
    """The result of an utterance."""

    result: Result
    seconds: float  # of audio


class TestSet:
    """A test set, and its results so far."""

    __test__ = False  # for pytest, which would take the class for a test

    def __init__(self, shards: ShardSet, audio: Audio | None) -> None:
        self.name = shards.name
        self.shards = shards
        self.audio = audio
        self.utterances = [SetUtterance(*each) for each in _parsing().transcripts(shards)]
        self._ids = {each.utterance_id for each in self.utterances}
        # (model, scorer) -> number of the utterance -> its result
        self._recognised: dict[tuple[str, str], dict[int, RecognisedUtterance]] = {}

    def check_model(self, served: ServedModel) -> None:
        """Raises UserError if a model can't take its features."""
        settings = self.shards.index.settings
        config = served.model.description.config
        names = (self.shards.pattern, served.path)
        check_same_front_end(config, settings.front_end, settings.alphabet, *names)

    def recording(self, utterance_id: str) -> bytes | None:
        """Returns an utterance's sound file; None if it has none, or isn't in this set."""
        known = self.audio is not None and utterance_id in self._ids
        return self.audio(utterance_id) if known and self.audio else None

    def kept(self, choice: Choice) -> dict[int, RecognisedUtterance]:
        """Returns the results so far, by the utterances' numbers."""
        return self._recognised.setdefault((choice.served.name, choice.scorer), {})

    async def page(
        self, choice: Choice, offset: int, limit: int, workers: TranscriptionWorkers, share: Share
    ) -> list[RecognisedUtterance]:
        """Returns the results of utterances from `offset` on, at most `limit`.

        Raises:
            RequestError: the model has another front end or alphabet (400).
        """
        try:
            self.check_model(choice.served)
        except UserError:
            raise RequestError(
                400,
                f"The set {self.name} was prepared with another front end or alphabet than the "
                f"model {choice.served.name} has: choose another model.",
            ) from None
        numbers = range(offset, min(offset + limit, len(self.utterances)))
        kept = self.kept(choice)
        if any(number not in kept for number in numbers):
            batch = await share.run(self._features, offset, len(numbers))
            outputs = await workers.log_probs(choice, batch)
            decode = choice.transcriber.decoder.decode
            texts = await asyncio.gather(*(share.run(decode, each) for each in outputs))
            for number, features, hypothesis in zip(numbers, batch, texts, strict=True):
                known = self.utterances[number]
                kept[number] = RecognisedUtterance(
                    report.compare(known.utterance_id, known.reference, hypothesis, None),
                    len(features) * choice.transcriber.config.front_end.step_seconds,
                )
        return [kept[number] for number in numbers]

    def _features(self, offset: int, count: int) -> list[Floats]:
        """Returns features as they are stored, [frames, bins]; models normalise them."""
        return list(_parsing().stored_features(self.shards, offset, count))


def rates(results: Sequence[RecognisedUtterance]) -> tuple[Errors, Errors]:
    """Returns the sums of the utterances' errors, in words and in characters."""
    return (
        sum((each.result.words for each in results), Errors()),
        sum((each.result.characters for each in results), Errors()),
    )


def signed_words(result: Result) -> list[tuple[str, str, str]]:
    """Returns an alignment: sign, word of the reference, word of the hypothesis."""
    edits = error_analysis.align_words(result.reference, result.hypothesis)
    return [(SIGNS[each.kind], each.reference, each.hypothesis) for each in edits]


class TestSets:
    """All test sets by name."""

    __test__ = False  # for pytest, which would take the class for a test

    def __init__(self, sets: Sequence[TestSet]) -> None:
        self.sets = {each.name: each for each in sets}

    def find(self, name: str) -> TestSet:
        """Returns a test set by its name.

        Raises:
            RequestError: there is no such set (404).
        """
        if name not in self.sets:
            raise RequestError(
                404,
                f"There is no test set {format_value(name)} here: choose among "
                f"{', '.join(self.sets) or 'none; serve.py --test_data names some'}.",
            )
        return self.sets[name]


def open_sets(patterns: Sequence[str], folders: Sequence[str], catalogue: Catalogue) -> TestSets:
    """Opens the test sets of --test_data.

    Args:
        patterns: globs of shards.
        folders: of the recordings that they were prepared from.

    Raises:
        UserError: there are no such shards or recordings, two sets have one name, or no model
            fits a set's features.
    """
    audio = recordings.find_audio(folders) if folders else None
    sets: list[TestSet] = []
    for pattern in patterns:
        found = TestSet(find_shards(pattern), audio)
        if found.name in (each.name for each in sets):
            raise UserError(
                f"--test_data has two sets with the name {found.name}: give one of them."
            )
        _check_any_model(found, catalogue)
        sets.append(found)
    return TestSets(sets)


def _check_any_model(found: TestSet, catalogue: Catalogue) -> None:
    """Raises UserError if no model can take the set's features."""
    refusals = []
    for served in catalogue.models.values():
        try:
            found.check_model(served)
            return
        except UserError as error:
            refusals.append(error)
    raise refusals[0]
