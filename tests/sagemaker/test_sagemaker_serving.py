"""SageMaker's serving contract: `serve` as a process, with SageMaker's requests.

SageMaker unpacks the archive of a training job to /opt/ml/model and starts the container with
`serve`. It is healthy when GET /ping returns 200, and gets InvokeEndpoint's body at POST
/invocations.
"""

import base64
import contextlib
import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sagemaker_folder import run, start
from sounds import write_sound
from tiny_models import write_model
from tiny_scorer import write_tiny_scorer


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the container: a model of `train` and a scorer."""
    root = tmp_path_factory.mktemp("ml")
    write_model(root / "model" / "model")
    write_tiny_scorer(root / "model" / "kenlm.scorer")
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[str]:
    """The address of a running server, which is healthy and stops at the end on request."""
    with start("serve", root, "--host=127.0.0.1", "--port=0") as process:
        try:
            url = address(process)
            wait_until_healthy(url)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0


def address(process: "subprocess.Popen[str]") -> str:
    output = []
    assert process.stderr
    for line in process.stderr:
        output.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return found[0]
    raise AssertionError("".join(output))


def wait_until_healthy(url: str) -> None:
    """As SageMaker does, which gives a container eight minutes."""
    until = time.monotonic() + 480
    while True:
        with contextlib.suppress(urllib.error.URLError):
            if request(f"{url}/ping")[0] == 200:
                return
        assert time.monotonic() < until
        time.sleep(0.05)


def request(url: str, content_type: str = "", body: bytes | None = None) -> tuple[int, str, bytes]:
    """Status, content type and body of an answer; of a GET without a body."""
    request = urllib.request.Request(url, body, {"Content-Type": content_type} if body else {})
    try:
        with urllib.request.urlopen(request, timeout=180) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_sound(tmp_path_factory.mktemp("sound") / "1.wav", 0.5).read_bytes()


def encoded(sound: bytes) -> str:
    return base64.b64encode(sound).decode()


@pytest.fixture(scope="module")
def recognised(server: str, sound: bytes) -> dict[str, Any]:
    """What the server makes of the recording itself."""
    status, kind, body = request(f"{server}/invocations", "audio/wav", sound)
    assert (status, kind) == (200, "application/json"), body
    found: dict[str, Any] = json.loads(body)
    return found


def test_it_is_healthy(server: str) -> None:
    assert request(f"{server}/ping")[0] == 200


def test_a_recording_is_transcribed_with_model_and_scorer_of_the_folder(
    recognised: dict[str, Any],
) -> None:
    assert recognised["seconds"] == pytest.approx(0.5)
    assert (recognised["model"], recognised["scorer"]) == ("model", "kenlm.scorer")


def test_json_has_the_same_transcript(
    server: str, sound: bytes, recognised: dict[str, Any]
) -> None:
    body = json.dumps({"audio": encoded(sound)}).encode()
    status, _, answer = request(f"{server}/invocations", "application/json", body)
    assert status == 200
    assert json.loads(answer)["text"] == recognised["text"]


def test_instances_are_predicted_in_their_order(
    server: str, sound: bytes, recognised: dict[str, Any], tmp_path: Path
) -> None:
    other = write_sound(tmp_path / "2.wav", 0.25).read_bytes()
    instances = [{"audio": encoded(each)} for each in (sound, other)]
    body = json.dumps({"instances": instances}).encode()
    status, _, answer = request(f"{server}/invocations", "application/json", body)
    assert status == 200
    first, second = json.loads(answer)["predictions"]
    assert first["text"] == recognised["text"]
    assert second["seconds"] == pytest.approx(0.25)


def test_a_batch_has_one_output_line_per_input_line(
    server: str, sound: bytes, recognised: dict[str, Any]
) -> None:
    line = json.dumps({"audio": encoded(sound)})
    body = f"{line}\n{line}\n".encode()
    status, _, answer = request(f"{server}/invocations", "application/jsonlines", body)
    assert status == 200
    assert [json.loads(each)["text"] for each in answer.splitlines()] == [recognised["text"]] * 2


def test_a_body_that_is_no_audio_is_a_client_error(server: str) -> None:
    status, _, answer = request(f"{server}/invocations", "audio/wav", b"RIFF but no more")
    assert status == 415
    assert json.loads(answer)["error"]


def test_a_missing_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    outcome = run("serve", tmp_path)
    assert outcome.returncode == 1
    assert re.search("^error: .*model contains no model", outcome.stderr, re.MULTILINE)


@pytest.mark.slow
def test_named_models_are_not_searched_for(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = tmp_path / "model" / name
        folder.mkdir(parents=True)
        (folder / "config.json").touch()
    with start("serve", tmp_path, "--port=0", "--models=nowhere,nothing") as process:
        errors = process.communicate(timeout=300)[1]
    assert process.returncode == 1
    assert re.search("^error: nowhere is not a model", errors, re.MULTILINE), errors
