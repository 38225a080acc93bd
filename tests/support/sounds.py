"""Writes small recordings."""

import zlib
from pathlib import Path

import numpy as np
import soundfile


def write_sound(path: Path, seconds: float = 0.05, sample_rate: int = 16000) -> Path:
    """Writes noise, seeded by the name, in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    soundfile.write(path, rng.normal(size=round(seconds * sample_rate)) * 0.1, sample_rate)
    return path
