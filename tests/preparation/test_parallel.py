"""Worker processes that die."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from small_sets import prepare_set

from speech.corpora.utterance import Utterance
from utils import UserError


class Deadly(Utterance):
    """Ends the process that unpickles it, as the out-of-memory killer would."""

    def __reduce__(self) -> tuple[Callable[[int], object], tuple[int]]:
        return signal.raise_signal, (signal.SIGKILL,)


class Signalled(Utterance):
    """The same by a signal that has no name."""

    def __reduce__(self) -> tuple[Callable[[int], object], tuple[int]]:
        return signal.raise_signal, (signal.SIGRTMIN + 3,)


class Raising(Utterance):
    """Brings the process down that unpickles it."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return int, ("no number",)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [(Deadly, "SIGKILL, out of memory"), (Signalled, r"signal \d\d"), (Raising, "1")],
)
def test_the_death_of_a_worker_names_the_utterance_and_a_remedy(
    corpus: list[Utterance], tmp_path: Path, kind: type[Utterance], cause: str
) -> None:
    utterances = [*corpus[:7], kind("1-1-0007", "x.flac", None, "1"), *corpus[8:]]
    message = rf"A worker process died \(.*{cause}.*\) at 1-1-0007, x\.flac.*--workers"
    with pytest.raises(UserError, match=message):
        prepare_set(utterances, tmp_path, workers=2)
    assert sorted(os.listdir(tmp_path)) == ["t.00000000", "t.00000003", "t.index.json"]
