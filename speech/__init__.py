"""Holds the rooms, one package for each part of the work, which the top-level scripts call."""

import sys

_PYTHON = sys.version_info[:2]
_REMEDY = "Make the environment with python3.13 -m venv .venv."
if _PYTHON < (3, 11):
    raise SystemExit(
        f"This project runs on Python 3.11 to 3.13; this is {_PYTHON[0]}.{_PYTHON[1]}. {_REMEDY}"
    )
if _PYTHON > (3, 13):
    print(
        "This project was tested on Python 3.11 to 3.13, for which TensorFlow has wheels; "
        f"this is {_PYTHON[0]}.{_PYTHON[1]}. If anything fails: {_REMEDY}",
        file=sys.stderr,
    )

import constants  # noqa: E402, F401 - sets what TensorFlow reads when it is imported
from speech.system import tensorflow_import  # noqa: E402

tensorflow_import.hide_notes()
