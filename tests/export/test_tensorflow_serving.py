"""TensorFlow Serving's REST requests as docs/deployment.md shows them.

The server itself isn't at hand. What stands in for it takes a request by the rules of its REST API
(tensors by the signature's names, whole in "inputs" and stacked from "instances"), of exactly the
signature's types and shapes, and answers what the SavedModel computes.
"""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from doors import ROOT
from sounds import write_sound
from tiny_models import STEP, write_model

from speech.audio.reader import read_audio
from speech.decoding.beam_search import BeamSearchDecoder
from speech.export import loading, saved_model
from speech.export.acoustic_graph import restore
from speech.export.description import Description

pytestmark = pytest.mark.slow

DOCUMENT = (ROOT / "docs" / "deployment.md").read_text()


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a SavedModel."""
    folder = tmp_path_factory.mktemp("serving")
    config = write_model(folder / "model")
    graph = restore(config, str(folder / "model" / f"model.ckpt-{STEP}"))
    saved_model.save(graph, Description(config, STEP), str(folder / "saved_model"))
    return folder / "saved_model"


def predicted(loaded: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Returns the response to a request of :predict."""
    assert set(request) <= {"signature_name", "inputs", "instances"}
    signature = loaded.signatures[request.get("signature_name", "serving_default")]
    if "instances" in request:
        rows = request["instances"]
        values = {name: [row[name] for row in rows] for name in rows[0]}
    else:
        values = request["inputs"]
    specs = signature.structured_input_signature[1]
    assert set(values) == set(specs)
    tensors = {name: tf.constant(values[name], spec.dtype) for name, spec in specs.items()}
    for name, spec in specs.items():
        assert spec.shape.is_compatible_with(tensors[name].shape)
    outputs = {name: each.numpy().tolist() for name, each in signature(**tensors).items()}
    if "instances" not in request:
        return {"outputs": outputs}
    rows = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
    return {"predictions": rows}


@pytest.fixture(scope="module")
def server(export: Path) -> Iterator[str]:
    """Returns the address of the model in the stand-in."""
    loaded = tf.saved_model.load(str(export))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            answer = predicted(loaded, json.loads(self.rfile.read(length)))
            self.send_response(200 if self.path == "/v1/models/speech:predict" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/v1/models/speech"
        running.shutdown()


def test_requests_of_samples_match_the_signature(export: Path) -> None:
    requests = [json.loads(each) for each in re.findall(r"speech:predict -d '(.*)'", DOCUMENT)]
    assert [next(iter(each)) for each in requests] == ["inputs", "instances"]
    loaded = tf.saved_model.load(str(export))
    whole, rows = (predicted(loaded, each) for each in requests)
    # As documented: one output for so few samples.
    assert whole["outputs"]["output_length"] == [1, 1]
    assert [each["output_length"] for each in rows["predictions"]] == [1]
    np.testing.assert_allclose(
        rows["predictions"][0]["log_probs"], whole["outputs"]["log_probs"][0], atol=1e-5
    )


def test_client_prints_the_models_transcript(export: Path, server: str, tmp_path: Path) -> None:
    (client,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    sound = write_sound(tmp_path / "x.wav", 0.6)
    outcome = subprocess.run(
        [sys.executable, "-c", client, server, str(export), str(sound)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    model = loading.load(str(export))
    config = model.description.config
    samples = read_audio(str(sound), config.front_end.sample_rate)
    expected = BeamSearchDecoder(config.alphabet).decode(model.of_samples(samples))
    assert outcome.stdout == f"{expected}\n"
