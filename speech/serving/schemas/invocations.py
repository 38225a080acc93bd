"""SageMaker's contract: the forms of its requests to POST /invocations.

Source: "Custom Inference Code with Hosting Services" and InvokeEndpoint in Amazon SageMaker's
documentation. A request has up to 25 MB and a minute.
"""

import base64
import binascii
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from speech.serving.errors import RequestError
from speech.serving.schemas import requests
from speech.serving.schemas.requests import Asked

JSON, JSON_LINES, ARRAY = "application/json", "application/jsonlines", "application/x-npy"
ATTRIBUTES_HEADER = "x-amzn-sagemaker-custom-attributes"
MODEL_HEADER = "x-amzn-sagemaker-target-model"

# What clients call JSON lines, some with x- before it.
_NAMES_OF_LINES = ("jsonlines", "jsonl", "json-lines", "ndjson")

# JSON and arrays are read into memory.
MOST_BYTES = 32 * 2**20
MOST_INSTANCES = 64

# Of the versions of .npy that plain arrays have.
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class Recording:
    """A recording of a request, and how it is to be heard."""

    content: bytes
    asked: Asked
    where: str  # it stands in the request, for messages; empty: it is the only one


@dataclass(frozen=True)
class Invocation:
    """A request that isn't a recording itself."""

    recordings: list[Recording | RequestError]  # an error: the line can't be one
    instances: bool = False  # whether it has a list of them, so that the answer has one as well


def form_of(media_type: str) -> str:
    """Returns a body's media type, JSON_LINES for each of its names."""
    family, _, name = media_type.partition("/")
    lines = family == "application" and name.removeprefix("x-") in _NAMES_OF_LINES
    return JSON_LINES if lines else media_type


def asked_for(headers: Mapping[str, str]) -> dict[str, str]:
    """Returns the options in a request's headers; the attributes' model is the one that counts."""
    model = headers.get(MODEL_HEADER, "")
    return {"model": model, **attributes(headers.get(ATTRIBUTES_HEADER, ""))}


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
        return Invocation([only])
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
        instances=True,
    )


def read_json_lines(content: bytes, asked: dict[str, str], most_bytes: int) -> Invocation:
    """Reads a request in application/jsonlines: a recording a line; arguments as of `read_json`.

    A line that can't be read is an error at its place.
    """
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not 0 < len(numbered) <= MOST_INSTANCES:
        raise RequestError(
            400, f"The body has {len(numbered)} lines: send 1 to {MOST_INSTANCES} recordings."
        )
    return Invocation(
        [_line(line, asked, most_bytes, f"Line {number}") for number, line in numbered]
    )


def _line(
    line: bytes, asked: dict[str, str], most_bytes: int, where: str
) -> Recording | RequestError:
    try:
        return _recording(_parsed(line, where), asked, most_bytes, where)
    except RequestError as error:
        return error


def read_array(content: bytes, asked: dict[str, str], rate: int) -> Invocation:
    """Reads a request in application/x-npy: a recording's samples as numpy.save writes them.

    They are int16 [samples], or floats [samples] with full scale 1. Only the header is parsed, so
    that nothing is unpickled.

    Args:
        rate: Hz, of the samples: the model's.

    Raises:
        RequestError: it is no such array (415).
    """
    samples = _samples_in(content, rate)
    file = io.BytesIO()
    if samples.dtype.kind == "i":
        soundfile.write(file, samples.astype(np.int16), rate, "PCM_16", format="WAV")
    else:
        with np.errstate(over="ignore"):  # infinite samples are refused where they are heard
            floats = samples.astype(np.float32)
        soundfile.write(file, floats, rate, "FLOAT", format="WAV")
    return Invocation([Recording(file.getvalue(), requests.read(asked), "")])


def _samples_in(content: bytes, rate: int) -> npt.NDArray[Any]:
    """Returns the samples of a .npy file, [samples], of its dtype."""
    file = io.BytesIO(content)
    try:
        shape, _, dtype = _READ_HEADER[np.lib.format.read_magic(file)](file)
    except Exception:  # numpy's parser raises what Python's does
        raise RequestError(
            415, f"The body is no array in {ARRAY}: send what numpy.save writes."
        ) from None
    is_int16 = dtype.kind == "i" and dtype.itemsize == 2
    if len(shape) != 1 or not (is_int16 or dtype.kind == "f"):
        raise RequestError(
            415,
            f"The array is {dtype} {list(shape)}: send one channel's samples, [samples], at {rate} "
            "Hz, as int16, or as float32 with full scale 1.",
        )
    if len(content) - file.tell() != shape[0] * dtype.itemsize:
        raise RequestError(415, f"The array of {shape[0]} samples is cut off: send it whole.")
    return np.frombuffer(content, dtype, offset=file.tell())


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
        return Recording(sound, requests.read(asked, rest), where)


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
