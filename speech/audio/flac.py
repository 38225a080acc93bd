"""Encodes samples as flac, which every browser plays."""

import io

import numpy as np
import soundfile

from speech.audio.reader import INT16_SUBTYPE
from speech.audio.types import RecordedSamples


def encode(samples: RecordedSamples, rate: int) -> bytes:
    """Returns a flac file of 16 bits.

    Args:
        samples: [samples] at int16 scale.
        rate: Hz.
    """
    file = io.BytesIO()
    rounded = np.clip(np.rint(samples), -32768, 32767).astype(np.int16)
    soundfile.write(file, rounded, rate, INT16_SUBTYPE, format="FLAC")
    return file.getvalue()
