"""Holds the rooms, one package for each part of the work, which the top-level scripts call."""

import sys

if sys.version_info[:2] not in ((3, 10), (3, 11), (3, 12), (3, 13)):
    raise SystemExit(
        "This project runs on Python 3.10 and 3.11, the versions TensorFlow 2.15 has wheels for; "
        f"this is Python {sys.version_info.major}.{sys.version_info.minor}. "
        "Make the environment with python3.11 -m venv .venv."
    )

import constants  # noqa: F401 - sets what TensorFlow reads when it is imported
