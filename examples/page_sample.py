"""Speaks the sample recording of serve.py's page: python examples/page_sample.py

eSpeak NG computes the sound from rules and formants: no person's voice is in it, and the program's
licence doesn't extend to it. The library comes with the wheel espeakng-loader:
pip install -e ".[demo]".
"""

from pathlib import Path

import numpy as np
import soundfile
from synthesizer import Synthesizer, to_corpus_rate

import constants

SENTENCE = "hey jetson turn on the light in the kitchen"  # of commands/input.txt
VOICE, RATE, PITCH = "en-us", 150, 45
PATH = Path(__file__).parents[1] / "speech" / "web" / "sample.flac"


def spoken() -> np.ndarray:
    """Returns the sample, [samples] int16 at the corpus's rate."""
    return to_corpus_rate(Synthesizer().speak(SENTENCE, VOICE, RATE, PITCH))


if __name__ == "__main__":
    soundfile.write(PATH, spoken(), constants.SAMPLE_RATE)
