"""Speaks the sample recording of serve.py's page: python examples/page_sample.py

eSpeak NG makes the sound from rules and formants alone: no person's voice is in it, and what it
speaks is nobody's work. It comes with the wheel espeakng-loader: pip install -e ".[demo]".
"""

from pathlib import Path

import numpy as np
import soundfile
from synthesizer import Synthesizer, to_corpus_rate

import constants

SENTENCE = "turn on the light in the kitchen"
VOICE, RATE, PITCH = "en-us", 115, 45
PATH = Path(__file__).parents[1] / "speech" / "web" / "sample.flac"


def spoken() -> np.ndarray:
    """Returns the sample, [samples] int16 at the corpus's rate."""
    return to_corpus_rate(Synthesizer().speak(SENTENCE, VOICE, RATE, PITCH))


if __name__ == "__main__":
    soundfile.write(PATH, spoken(), constants.SAMPLE_RATE)
