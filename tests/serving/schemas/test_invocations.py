"""SageMaker's request forms."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from speech.serving.errors import RequestError
from speech.serving.schemas import invocations
from speech.serving.schemas.invocations import Invocation, RecordingRequest

AUDIO = base64.b64encode(b"a sound").decode()


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("", {}),
        ("model=a", {"model": "a"}),
        ("model=a; beam_width = 7", {"model": "a", "beam_width": "7"}),
        ("hot_words=cat:7,dog:3,scorer=", {"hot_words": "cat:7,dog:3", "scorer": ""}),
    ],
)
def test_custom_attributes_are_options(header: str, wanted: dict[str, str]) -> None:
    assert invocations.attributes(header) == wanted


def test_custom_attributes_before_the_first_name_are_ignored() -> None:
    assert invocations.attributes("c000b4f9-df62-4c85") == {}
    assert invocations.attributes("c000b4f9-df62-4c85,model=a") == {"model": "a"}


def test_model_of_the_attributes_has_priority_over_the_headers() -> None:
    headers = {"x-amzn-sagemaker-target-model": "a"}
    assert invocations.options_in_headers(headers) == {"model": "a"}
    headers["x-amzn-sagemaker-custom-attributes"] = "model=b;candidates=2"
    assert invocations.options_in_headers(headers) == {"model": "b", "candidates": "2"}


@pytest.mark.parametrize(
    "name", ["jsonlines", "x-jsonlines", "jsonl", "x-jsonl", "json-lines", "ndjson", "x-ndjson"]
)
def test_json_lines_have_many_names(name: str) -> None:
    assert invocations.canonical_type(f"application/{name}") == "application/jsonlines"
    assert invocations.canonical_type(f"audio/{name}") == f"audio/{name}"


def recordings_of(read: Invocation) -> list[RecordingRequest]:
    found = [each for each in read.recordings if isinstance(each, RecordingRequest)]
    assert len(found) == len(read.recordings)
    return found


def test_options_of_a_recording_have_priority_over_the_attributes() -> None:
    content = json.dumps({"audio": AUDIO, "beam_width": 7}).encode()
    read = invocations.read_json(content, {"beam_width": "9", "model": "a"}, 100)
    assert not read.instances
    (one,) = recordings_of(read)
    assert (one.content, one.options.beam_width, one.options.model) == (b"a sound", 7, "a")


def test_options_of_instances_have_priority_over_the_bodys() -> None:
    instances = [{"audio": AUDIO}, {"audio": {"b64": AUDIO}, "candidates": 3}]
    content = json.dumps({"instances": instances, "candidates": 2}).encode()
    read = invocations.read_json(content, {}, 100)
    assert read.instances
    found = recordings_of(read)
    assert [each.options.candidates for each in found] == [2, 3]
    assert [each.content for each in found] == [b"a sound"] * 2
    assert [each.where for each in found] == ["instances[0]", "instances[1]"]


def test_lines_are_recordings() -> None:
    content = f"{json.dumps({'audio': AUDIO})}\r\n\n{json.dumps({'audio': AUDIO, 'model': 'b'})}\n"
    read = invocations.read_json_lines(content.encode(), {"model": "a"}, 100)
    assert [each.options.model for each in recordings_of(read)] == ["a", "b"]


def test_line_that_is_not_a_recording_is_an_error_in_its_place() -> None:
    good = json.dumps({"audio": AUDIO}).encode()
    lines = [good, b"{", b"7", b'{"audio": "?"}', good[:-1] + b', "x": 1}', good]
    found = invocations.read_json_lines(b"\n".join(lines), {}, 100).recordings
    assert isinstance(found[0], RecordingRequest) and isinstance(found[5], RecordingRequest)
    messages = [each.message for each in found if isinstance(each, RequestError)]
    for message, wanted in zip(
        messages,
        (
            "Line 2 is not JSON",
            "Line 3 has no audio",
            "Line 4's audio is not base64",
            "Line 5: x is",
        ),
        strict=True,
    ):
        assert message.startswith(wanted)
    for content in (b" \n", good + b"\n" + b"{}\n" * 64):
        with pytest.raises(RequestError, match="send 1 to 64 recordings"):
            invocations.read_json_lines(content, {}, 100)


@pytest.mark.parametrize(
    ("content", "status", "expected"),
    [
        (b"{", 400, "The body is not JSON"),
        (b"[" * 100_000, 400, "The body is not JSON"),
        (b"null", 400, "The body is a JSON null"),
        (b"{}", 400, "The body has no audio"),
        (b'{"instances": 7}', 400, "a list of 1 to 64 recordings"),
        (b'{"instances": [7]}', 400, r"instances\[0\] has no audio"),
        (b'{"instances": [{}], "audio": ""}', 400, "both audio and instances: send one"),
        (b'{"audio": "abc"}', 400, "The body's audio is not base64"),
        (b'{"audio": ["abc"]}', 400, "The body's audio is not base64"),
        (b'{"audio": "\xc3\xa4"}', 400, "The body's audio is not base64"),
        (json.dumps({"audio": "AAAA" * 40}).encode(), 413, "larger than the 0.0001 MB"),
        (json.dumps({"audio": AUDIO, "x": 1}).encode(), 400, "The body: x is not an option"),
        (
            json.dumps({"instances": [{"audio": AUDIO}, {"audio": AUDIO, "x": 1}]}).encode(),
            400,
            r"instances\[1\]: x is not an option",
        ),
    ],
)
def test_invalid_request_is_refused(content: bytes, status: int, expected: str) -> None:
    with pytest.raises(RequestError, match=expected) as raised:
        invocations.read_json(content, {}, 100)
    assert raised.value.status == status


# --- Arrays of numpy ------------------------------------------------------------------------------


def saved(array: npt.NDArray[Any]) -> bytes:
    """Returns the array as NumpySerializer of SageMaker's Python SDK sends it."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def samples_of(content: bytes) -> npt.NDArray[np.float64]:
    """Returns the samples that an array request is transcribed from."""
    (one,) = recordings_of(invocations.read_array(content, {"model": "a"}, 8000))
    assert one.options.model == "a"
    samples, rate = soundfile.read(io.BytesIO(one.content))
    assert rate == 8000
    return np.asarray(samples)


def test_array_is_a_recording_at_the_models_rate() -> None:
    integers = np.array([0, 1, -32768, 32767], np.int16)
    for array in (integers, integers.astype(">i2")):
        assert (samples_of(saved(array)) * 32768 == integers).all()
    floats = np.array([0.0, 0.5, -1.0, 1.25])
    for dtype in (np.float16, np.float32, np.float64, ">f4", np.longdouble):
        assert (samples_of(saved(floats.astype(dtype))) == floats).all()
    assert np.isinf(samples_of(saved(np.array([1e300])))).all()
    assert samples_of(saved(np.zeros(0, np.int16))).shape == (0,)
    late = io.BytesIO()
    np.lib.format.write_array(late, integers, (2, 0))
    assert (samples_of(late.getvalue()) * 32768 == integers).all()


class Runs:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


def test_array_of_objects_is_refused_and_not_unpickled(tmp_path: Path) -> None:
    array = np.array([Runs(tmp_path / "ran")], object)
    with pytest.raises(
        RequestError, match=r"The array is object \[1\]: send one channel's samples"
    ):
        invocations.read_array(saved(array), {}, 8000)
    assert not list(tmp_path.iterdir())


HEAD = b"\x93NUMPY\x01\x00"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not an array in application/x-npy: send what numpy.save writes"),
        (b"RIFF", "not an array"),
        (HEAD, "not an array"),
        (HEAD + b"\xff\xff" + b"(" * 65535, "not an array"),
        (HEAD + b"\x04\x00{'a'", "not an array"),
        (b"\x93NUMPY\x09\x00" + saved(np.zeros(4))[8:], "not an array"),
        (saved(np.zeros(4, np.int16))[:-1], "The array of 4 samples is cut off"),
        (saved(np.zeros(4, np.int16)) + b"x", "is cut off"),
        (saved(np.zeros(40, np.int16)).replace(b"(40,)", b"(-4,)"), "is cut off"),
        (saved(np.zeros(40, np.int16)).replace(b"(40,), }  ", b"(9**9,), }"), "not an array"),
        (saved(np.zeros((1, 4), np.int16)), r"The array is int16 \[1, 4\]: send one channel's"),
        (saved(np.array(0.5)), r"The array is float64 \[\]"),
        (saved(np.zeros(4, int)), r"int64 \[4\]: .* at 8000 Hz, as int16, or as float32 with full"),
        (saved(np.zeros(4, np.uint16)), "uint16"),
        (saved(np.zeros(4, complex)), "complex128"),
        (saved(np.zeros(4, "i2,i2")), "send one channel's samples"),
    ],
)
def test_invalid_array_is_refused(content: bytes, expected: str) -> None:
    with pytest.raises(RequestError, match=expected) as raised:
        invocations.read_array(content, {}, 8000)
    assert raised.value.status == 415
