"""Refuses to serve without the packages of the extra `serve`. Imported before them."""

import importlib.util

# The packages that setup.cfg's extra adds to the base.
NEEDED = ("fastapi", "prometheus_client", "python_multipart", "uvicorn", "websockets")

if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
    raise SystemExit(
        f"error: serve.py needs {', '.join(missing)}: pip install -e '.[serve]' (beside the extra "
        "cpu or gpu, which brings TensorFlow)."
    )
