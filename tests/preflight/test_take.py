"""The checks of a take: what a person is told right after speaking."""

import numpy as np
import numpy.typing as npt
import pytest

from speech.audio.reader import read_audio
from speech.audio.types import RecordedSamples
from speech.corpora.formats import registry
from speech.preflight import take
from speech.preflight.take import check_take
from speech.recordings.store import Check

Int16 = npt.NDArray[np.int16]

RATE = 16000
TEXT = "turn on the light in the kitchen"


def speech(
    seconds: float = 2.5, before: float = 0.5, after: float = 0.5, level: float = 0.2
) -> Int16:
    """Returns noise that rises and falls as syllables do, between near silence."""
    random = np.random.default_rng(1)
    time = np.arange(round(seconds * RATE)) / RATE
    voice = random.normal(0, 1, len(time)) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time)) * level
    whole = np.concatenate([np.zeros(round(before * RATE)), voice, np.zeros(round(after * RATE))])
    return (32768 * (whole + random.normal(0, 2e-4, len(whole)))).clip(-32768, 32767).astype("i2")


def test_good_take_has_no_problem() -> None:
    assert check_take(speech(), RATE, TEXT) == Check()


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        (np.zeros(0, np.int16), take.NOTHING),
        (np.zeros(RATE, np.int16), take.NOTHING),
        (np.random.default_rng(0).normal(0, 500, 2 * RATE).astype("i2"), take.NOISE),
        (speech(level=3.0), take.TOO_LOUD),
        (speech(before=0), take.BEGINNING),
        (speech(after=0), take.END),
        (speech(seconds=0.7), take.INCOMPLETE),
        (speech(seconds=40.0), take.PAUSES),
    ],
)
def test_bad_take_is_not_usable_and_says_what_to_do(samples: RecordedSamples, problem: str) -> None:
    assert check_take(samples, RATE, TEXT) == Check(problem, usable=False)


def test_quiet_or_fast_take_is_usable_with_advice() -> None:
    assert check_take(speech(level=0.008), RATE, TEXT) == Check(take.QUIET)
    assert check_take(speech(seconds=1.1), RATE, TEXT) == Check(take.HASTY)


def test_genuine_recordings_pass(librispeech_mini: str) -> None:
    found = registry.read([f"{librispeech_mini}/dev"], None, registry.Reading())
    checks = [
        check_take(read_audio(str(each.audio_path), RATE), RATE, str(each.transcript))
        for each in found
    ]
    assert len(found) > 10
    assert np.mean([not each.usable for each in checks]) < 0.1
