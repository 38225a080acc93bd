"""Progress bars on standard error."""

import sys
from typing import NoReturn

from tqdm import tqdm


def progress_bar(total: int, unit: str) -> "tqdm[NoReturn]":
    """Returns a bar on standard error; the unit "B" is shown as kB, MB or GB."""
    return tqdm(
        total=total,
        unit=unit,
        unit_scale=unit == "B",
        # In a log file every update is a line.
        mininterval=0.5 if sys.stderr.isatty() else 30,
    )
