"""The bodies and headers of SageMaker's requests to POST /invocations.

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
from speech.serving.schemas.requests import TranscriptionOptions

JSON, JSON_LINES, ARRAY = "application/json", "application/jsonlines", "application/x-npy"
ATTRIBUTES_HEADER = "x-amzn-sagemaker-custom-attributes"
MODEL_HEADER = "x-amzn-sagemaker-target-model"

# The names of JSON lines that clients use, some with x- before it.
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
class RecordingRequest:
    """A recording in a request, and its options."""

    content: bytes  # of a sound file
    options: TranscriptionOptions
    where: str  # its place in the request, for messages; empty: it is the only recording


@dataclass(frozen=True)
class Invocation:
    """The recordings of a request whose body isn't a recording itself."""

    recordings: list[RecordingRequest | RequestError]  # an error: why a line is refused
    instances: bool = False  # whether the response is a list, as the request is


def canonical_type(media_type: str) -> str:
    """Returns a body's media type: JSON_LINES for each of its names, others as they are."""
    family, _, name = media_type.partition("/")
    lines = family == "application" and name.removeprefix("x-") in _NAMES_OF_LINES
    return JSON_LINES if lines else media_type


def options_in_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Returns the options in a request's headers; the attributes' model has priority."""
    model = headers.get(MODEL_HEADER, "")
    return {"model": model, **attributes(headers.get(ATTRIBUTES_HEADER, ""))}


def attributes(header: str) -> dict[str, str]:
    """Parses custom attributes: name=value, separated by semicolons or commas.

    A piece without = belongs to the one before, as in hot_words=cat:7,dog:3. Pieces before the
    first name are ignored: callers may put a trace id there.
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


def read_json(content: bytes, options: dict[str, str], most_bytes: int) -> Invocation:
    """Parses a request in application/json: one recording, or instances.

    Args:
        options: of the headers; those in the JSON have priority.
        most_bytes: of a recording.

    Raises:
        RequestError: it isn't such JSON (400), or a recording is too large (413).
    """
    body = _parse(content, "The body")
    if not isinstance(body, dict):
        raise RequestError(
            400,
            f'The body is a JSON {_kind(body)}: send {{"audio": "base64..."}} or instances.',
        )
    if "instances" not in body:
        only = replace(_recording(body, options, most_bytes, "The body"), where="")
        return Invocation([only])
    instances = body.pop("instances")
    if not isinstance(instances, list) or not 0 < len(instances) <= MOST_INSTANCES:
        raise RequestError(
            400, f"instances is not a list of 1 to {MOST_INSTANCES} recordings: send such a list."
        )
    if "audio" in body:
        raise RequestError(400, "The body has both audio and instances: send one of them.")
    common = {**options, **body}
    return Invocation(
        [
            _recording(each, common, most_bytes, f"instances[{number}]")
            for number, each in enumerate(instances)
        ],
        instances=True,
    )


def read_json_lines(content: bytes, options: dict[str, str], most_bytes: int) -> Invocation:
    """Parses a request in application/jsonlines: one recording per line.

    A line that is refused becomes an error in its place. Arguments as in `read_json`.

    Raises:
        RequestError: there are no lines, or too many (400).
    """
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not 0 < len(numbered) <= MOST_INSTANCES:
        raise RequestError(
            400, f"The body has {len(numbered)} lines: send 1 to {MOST_INSTANCES} recordings."
        )
    return Invocation(
        [_line(line, options, most_bytes, f"Line {number}") for number, line in numbered]
    )


def _line(
    line: bytes, options: dict[str, str], most_bytes: int, where: str
) -> RecordingRequest | RequestError:
    try:
        return _recording(_parse(line, where), options, most_bytes, where)
    except RequestError as error:
        return error


def read_array(content: bytes, options: dict[str, str], rate: int) -> Invocation:
    """Parses a request in application/x-npy: a recording's samples as numpy.save writes them.

    They are int16 [samples], or floats [samples] with full scale 1. Nothing is unpickled: only the
    header is parsed.

    Args:
        options: of the headers.
        rate: of the samples in Hz, the model's.

    Raises:
        RequestError: the body isn't such an array (415).
    """
    samples = _samples_in(content, rate)
    file = io.BytesIO()
    if samples.dtype.kind == "i":
        soundfile.write(file, samples.astype(np.int16), rate, "PCM_16", format="WAV")
    else:
        with np.errstate(over="ignore"):  # infinite samples are refused by the transcription
            floats = samples.astype(np.float32)
        soundfile.write(file, floats, rate, "FLOAT", format="WAV")
    return Invocation([RecordingRequest(file.getvalue(), requests.read(options), "")])


def _samples_in(content: bytes, rate: int) -> npt.NDArray[Any]:
    """Returns the samples of a .npy file, [samples], of its dtype."""
    file = io.BytesIO(content)
    try:
        shape, _, dtype = _READ_HEADER[np.lib.format.read_magic(file)](file)
    except Exception:  # numpy's parser raises what Python's does
        raise RequestError(
            415, f"The body is not an array in {ARRAY}: send what numpy.save writes."
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


def _recording(
    content: Any, options: dict[str, Any], most_bytes: int, where: str
) -> RecordingRequest:
    """Returns a recording and its options from parsed JSON; where: its place, for messages."""
    if not isinstance(content, dict) or "audio" not in content:
        raise RequestError(
            400, f'{where} has no audio: send {{"audio": "base64 of a sound file"}}.'
        )
    text = content["audio"]
    if isinstance(text, dict) and set(text) == {"b64"}:  # as in TensorFlow Serving
        text = text["b64"]
    try:
        sound = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise RequestError(
            400, f"{where}'s audio is not base64: encode the bytes of a sound file as base64."
        ) from None
    if len(sound) > most_bytes:
        raise RequestError(
            413,
            f"{where}'s audio is larger than the {most_bytes / 1e6:g} MB that this server allows: "
            "send less, or a compressed format such as flac or ogg.",
        )
    rest = {name: value for name, value in content.items() if name != "audio"}
    with prefix_refusals(where):
        return RecordingRequest(sound, requests.read(options, rest), where)


@contextmanager
def prefix_refusals(where: str) -> Iterator[None]:
    """Prefixes the messages of refusals in the block with a recording's place, if it has one."""
    try:
        yield
    except RequestError as error:
        message = f"{where}: {error.message}" if where else error.message
        raise RequestError(error.status, message, error.retry_after) from None


def _parse(content: bytes, where: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = "too deep" if isinstance(error, RecursionError) else str(error)
        raise RequestError(400, f"{where} is not JSON ({reason}): send JSON in UTF-8.") from None


def _kind(value: Any) -> str:
    """Returns the name of a JSON value's type."""
    kinds = {list: "list", str: "text", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")
