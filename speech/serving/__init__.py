"""The server behind serve.py: its routes, what they answer, and the models' threads."""

import importlib.util

# What setup.cfg's extra brings that the base hasn't.
NEEDED = ("fastapi", "prometheus_client", "python_multipart", "uvicorn", "websockets")

if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
    raise SystemExit(
        f"error: serve.py needs {', '.join(missing)}: pip install -e '.[serve]' (beside the extra "
        "cpu or gpu, which brings TensorFlow)."
    )
