"""Speaks the sample recording of serve.py's page: python examples/page_sample.py

eSpeak NG computes the sound from rules and formants: it contains no person's voice, and the licence
of the program doesn't apply to it. The library comes with the wheel espeakng-loader:
pip install -e ".[demo]".
"""

from pathlib import Path

import numpy as np
import soundfile
from synthesizer import Synthesizer, to_corpus_rate

import constants

SENTENCE = "hey jetson turn on the light in the kitchen"  # of commands/input.txt
VOICE, RATE, PITCH = "en-us", 150, 45
PATH = Path(__file__).parents[1] / "speech" / "serving" / "web" / "sample.flac"


def speak() -> np.ndarray:
    """Speaks the sample: [samples] int16, at constants.SAMPLE_RATE."""
    return to_corpus_rate(Synthesizer().speak(SENTENCE, VOICE, RATE, PITCH))


if __name__ == "__main__":
    soundfile.write(PATH, speak(), constants.SAMPLE_RATE)
