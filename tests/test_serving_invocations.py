"""SageMaker's request forms."""

import base64
import json

import pytest

from speech.serving import invocations
from speech.serving.errors import RequestError

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


def test_custom_attributes_before_all_names_are_read_over() -> None:
    assert invocations.attributes("c000b4f9-df62-4c85") == {}
    assert invocations.attributes("c000b4f9-df62-4c85,model=a") == {"model": "a"}


def test_one_recording_has_its_own_options_before_the_attributes() -> None:
    content = json.dumps({"audio": AUDIO, "beam_width": 7}).encode()
    read = invocations.read_json(content, {"beam_width": "9", "model": "a"}, 100)
    assert not read.instances
    (one,) = read.recordings
    assert (one.content, one.asked.beam_width, one.asked.model) == (b"a sound", 7, "a")


def test_instances_have_their_own_options_before_the_body_s() -> None:
    instances = [{"audio": AUDIO}, {"audio": {"b64": AUDIO}, "candidates": 3}]
    content = json.dumps({"instances": instances, "candidates": 2}).encode()
    read = invocations.read_json(content, {}, 100)
    assert read.instances
    assert [each.asked.candidates for each in read.recordings] == [2, 3]
    assert [each.content for each in read.recordings] == [b"a sound"] * 2
    assert [each.where for each in read.recordings] == ["instances[0]", "instances[1]"]


def test_lines_are_recordings() -> None:
    content = f"{json.dumps({'audio': AUDIO})}\r\n\n{json.dumps({'audio': AUDIO, 'model': 'b'})}\n"
    read = invocations.read_json_lines(content.encode(), {"model": "a"}, 100)
    assert [each.asked.model for each in read.recordings] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "status", "told"),
    [
        (b"{", 400, "The body is no JSON"),
        (b"[" * 100_000, 400, "The body is no JSON"),
        (b"null", 400, "The body is a JSON null"),
        (b"{}", 400, "The body has no audio"),
        (b'{"instances": 7}', 400, "a list of 1 to 64 recordings"),
        (b'{"instances": [7]}', 400, r"instances\[0\] has no audio"),
        (b'{"instances": [{}], "audio": ""}', 400, "audio and instances: send one"),
        (b'{"audio": "abc"}', 400, "The body's audio is no base64"),
        (b'{"audio": ["abc"]}', 400, "The body's audio is no base64"),
        (b'{"audio": "\xc3\xa4"}', 400, "The body's audio is no base64"),
        (json.dumps({"audio": "AAAA" * 40}).encode(), 413, "larger than the 0.0001 MB"),
        (json.dumps({"audio": AUDIO, "x": 1}).encode(), 400, "The body: x is no option"),
        (
            json.dumps({"instances": [{"audio": AUDIO}, {"audio": AUDIO, "x": 1}]}).encode(),
            400,
            r"instances\[1\]: x is no option",
        ),
    ],
)
def test_what_is_no_request_is_refused(content: bytes, status: int, told: str) -> None:
    with pytest.raises(RequestError, match=told) as raised:
        invocations.read_json(content, {}, 100)
    assert raised.value.status == status
