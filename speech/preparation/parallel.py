"""Maps a function over utterances in several processes, in order."""

import signal
from collections.abc import Callable, Generator
from functools import partial
from typing import TypeVar

from speech.corpora.utterance import Utterance
from speech.system.workers import DeadWorkerError, map_in_order
from utils import UserError

Outcome = TypeVar("Outcome")


def map_utterances(
    work: Callable[[Utterance], Outcome], utterances: list[Utterance], workers: int
) -> Generator[Outcome, None, None]:
    """Yields `work(utterance)` for each utterance, in order.

    Args:
        work: function that other processes can import.
        workers: number of processes; 1: this process.

    Raises:
        UserError: raised by `work`, or a process died; the same command resumes.
    """
    attempt = partial(_outcome_or_error, work=work)
    try:
        for outcome in map_in_order(attempt, utterances, workers):
            if isinstance(outcome, UserError):
                raise outcome
            yield outcome
    except DeadWorkerError as death:
        utterance = utterances[death.position]
        raise UserError(
            f"A worker process died ({_cause(death.exit_code)}) at {utterance.utterance_id}, "
            f"{utterance.audio_path}. Run the same command again: it continues. If it happens "
            "again, use fewer --workers, or leave that recording out."
        ) from None


def _outcome_or_error(
    utterance: Utterance, work: Callable[[Utterance], Outcome]
) -> Outcome | UserError:
    """Returns a UserError instead of raising it: it must not end the process."""
    try:
        return work(utterance)
    except UserError as error:
        return error


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        if -exit_code not in {known.value for known in signal.Signals}:  # a real-time signal
            return f"signal {-exit_code}"
        name = signal.Signals(-exit_code).name
        return f"{name}, out of memory?" if name == "SIGKILL" else name
    return f"exit code {exit_code}, see above"
