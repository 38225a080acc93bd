"""Checks that the packages of the extra `serve` are installed."""

import importlib.util

from utils import UserError

# The packages that setup.cfg's extra adds to the base.
NEEDED = ("fastapi", "prometheus_client", "python_multipart", "uvicorn", "websockets", "wyoming")


def check() -> None:
    """Raises UserError if a package of the extra `serve` is missing."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise UserError(
            f"serve.py needs {', '.join(missing)}: pip install -e '.[serve]' (beside the extra "
            "cpu or gpu, which brings TensorFlow, or recognise, for .tflite models alone)."
        )
