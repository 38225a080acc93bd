"""SageMaker's contract: the forms of its requests to POST /invocations.

Source: "Custom Inference Code with Hosting Services" and InvokeEndpoint in Amazon SageMaker's
documentation. A request has up to 25 MB and a minute.
"""

import base64
import binascii
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from speech.serving import options
from speech.serving.errors import RequestError
from speech.serving.options import Asked

JSON, JSON_LINES = "application/json", "application/jsonlines"
ATTRIBUTES_HEADER = "x-amzn-sagemaker-custom-attributes"

# JSON is read into memory.
MOST_JSON_BYTES = 32 * 2**20
MOST_INSTANCES = 64


@dataclass(frozen=True)
class Recording:
    """A recording of a request, and how it is to be heard."""

    content: bytes
    asked: Asked
    where: str  # it stands in the request, for messages; empty: it is the only one


@dataclass(frozen=True)
class Invocation:
    """A request in JSON."""

    recordings: list[Recording]
    instances: bool  # whether it has a list of them, so that the answer has one as well


def attributes(header: str) -> dict[str, str]:
    """Options of a request's custom attributes: name=value, by semicolons or commas.

    A piece without a = belongs to the one before, as in hot_words=cat:7,dog:3. What stands before
    all names is read over: it is the callers', who may have put a trace's id there.
    """
    found: dict[str, str] = {}
    last = None
    for piece in header.replace(";", ",").split(","):
        name, equals, value = piece.partition("=")
        if equals:
            last = name.strip()
            found[last] = value.strip()
        elif last:
            found[last] += f",{piece.strip()}"
    return found


def read_json(content: bytes, asked: dict[str, str], most_bytes: int) -> Invocation:
    """A request in application/json: one recording, or instances.

    Args:
        asked: options of the custom attributes, which those in the JSON come before.
        most_bytes: of a recording.

    Raises:
        RequestError: it isn't such JSON.
    """
    body = _parsed(content, "The body")
    if not isinstance(body, dict):
        raise RequestError(
            400, f'The body is a JSON {_kind(body)}: send {{"audio": "base64..."}} or instances.'
        )
    if "instances" not in body:
        only = replace(_recording(body, asked, most_bytes, "The body"), where="")
        return Invocation([only], False)
    instances = body.pop("instances")
    if not isinstance(instances, list) or not 0 < len(instances) <= MOST_INSTANCES:
        raise RequestError(
            400, f"instances must be a list of 1 to {MOST_INSTANCES} recordings, and isn't."
        )
    if "audio" in body:
        raise RequestError(400, "The body has audio and instances: send one of them.")
    common = {**asked, **body}
    return Invocation(
        [
            _recording(each, common, most_bytes, f"instances[{number}]")
            for number, each in enumerate(instances)
        ],
        True,
    )


def read_json_lines(content: bytes, asked: dict[str, str], most_bytes: int) -> Invocation:
    """A request in application/jsonlines: a recording a line; arguments as of `read_json`."""
    lines = [line for line in content.replace(b"\r", b"\n").split(b"\n") if line.strip()]
    if not 0 < len(lines) <= MOST_INSTANCES:
        raise RequestError(
            400, f"The body has {len(lines)} lines: send 1 to {MOST_INSTANCES} recordings."
        )
    return Invocation(
        [
            _recording(_parsed(line, f"Line {number}"), asked, most_bytes, f"Line {number}")
            for number, line in enumerate(lines, start=1)
        ],
        True,
    )


def _recording(content: Any, asked: dict[str, Any], most_bytes: int, where: str) -> Recording:
    """A recording and its options in JSON; where: for messages."""
    if not isinstance(content, dict) or "audio" not in content:
        raise RequestError(
            400, f'{where} has no audio: send {{"audio": "base64 of a sound file"}}.'
        )
    text = content["audio"]
    if isinstance(text, dict) and set(text) == {"b64"}:  # as TensorFlow Serving has it
        text = text["b64"]
    try:
        sound = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise RequestError(
            400, f"{where}'s audio is no base64: encode the bytes of a sound file so."
        ) from None
    if len(sound) > most_bytes:
        raise RequestError(
            413, f"{where}'s audio is larger than the {most_bytes / 1e6:g} MB that may be."
        )
    rest = {name: value for name, value in content.items() if name != "audio"}
    with told_where(where):
        return Recording(sound, options.read(asked, rest), where)


@contextmanager
def told_where(where: str) -> Iterator[None]:
    """Has refusals in the block begin with the place that they are of, if there is one."""
    try:
        yield
    except RequestError as error:
        message = f"{where}: {error.message}" if where else error.message
        raise RequestError(error.status, message, error.retry_after) from None


def _parsed(content: bytes, where: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = "too deep" if isinstance(error, RecursionError) else str(error)
        raise RequestError(400, f"{where} is no JSON ({reason}): send JSON in UTF-8.") from None


def _kind(value: Any) -> str:
    kinds = {list: "list", str: "text", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")
