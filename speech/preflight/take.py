"""Checks a recording right after a person made it, and says what that person should do."""

from speech.audio import levels
from speech.audio.levels import Sound
from speech.audio.types import RecordedSamples
from speech.preflight.examine import FASTEST_RATE, SLOWEST_RATE
from speech.preflight.utterance import CLIPPED_SHARE, SHORTEST_SECONDS, SILENCE_LEVEL, SPEECH_RANGE
from speech.recordings.store import Check

# Seconds of silence that there are at least before and after speech that isn't cut off.
LEAST_SILENCE = 0.06
# dBFS of the loudest 0.1 s. Genuine corpora (preflight/utterance.py) are above -24.
QUIET_LEVEL = -36.0
# Characters per second of speech. Readers speak 10 to 18: half a sentence seems to have twice that.
HASTY_RATE = 25.0

NOTHING = "Nothing was heard. Check that the right microphone is on, then record again."
NOISE = (
    "The voice hardly differs from the noise. Go to a quieter place or nearer to the microphone, "
    "then record again."
)
TOO_LOUD = (
    "The recording is too loud and distorted. Move away from the microphone or turn it down, then "
    "record again."
)
BEGINNING = "The beginning is cut off. Press Record, wait a moment, then speak."
END = "The end is cut off. Press Stop only when you have finished speaking."
INCOMPLETE = "This is too short for the sentence. Record it again, and read all of it."
PAUSES = "This is too long for the sentence. Record it again, without long pauses."
QUIET = "This is quiet. Move nearer to the microphone for the next one."
HASTY = "This is fast for the sentence. Listen whether all words are there."


def check_take(samples: RecordedSamples, sample_rate: int, text: str) -> Check:
    """Checks a take: silence, clipping, loudness, cut ends, and speed against the text.

    Args:
        samples: [samples] at int16 scale, possibly none.
        sample_rate: Hz.
        text: what was to be said.
    """
    if len(samples) < SHORTEST_SECONDS * sample_rate:
        return Check(NOTHING, usable=False)
    sound = levels.measure(samples, sample_rate)
    rate = len(text) / max(sound.speech_seconds, levels.LEVEL_SECONDS)
    if problem := _error(sound, sound.clipped / len(samples), rate):
        return Check(problem, usable=False)
    if sound.loudest < QUIET_LEVEL:
        return Check(QUIET)
    return Check(HASTY if rate > HASTY_RATE else "")


def _error(sound: Sound, clipped_share: float, rate: float) -> str:
    """Returns why a take isn't usable; empty if it is."""
    cases = (
        (sound.loudest < SILENCE_LEVEL, NOTHING),
        (sound.range < SPEECH_RANGE, NOISE),
        (clipped_share > CLIPPED_SHARE, TOO_LOUD),
        (sound.silent_start < LEAST_SILENCE, BEGINNING),
        (sound.silent_end < LEAST_SILENCE, END),
        (rate > FASTEST_RATE, INCOMPLETE),
        (rate < SLOWEST_RATE, PAUSES),
    )
    return next((problem for applies, problem in cases if applies), "")
