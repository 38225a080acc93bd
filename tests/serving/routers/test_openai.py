"""OpenAI's audio API, as the client of the package openai and raw requests find it."""

import contextlib
import io
import json
import re
import socket
import time
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import openai
import pytest
import soundfile
from malformed import sound
from openai import OpenAI
from servers import Server, running
from tone_model import silence, tones, write_tone_model
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from utils import ENGLISH

KEY = "sk-second"
UPLOAD_MB, SECONDS = 3.0, 40
LETTER = 0.15  # seconds of a letter and the gap after it

SPOKEN = ("tac a bat", "cab")
# The long pause makes two segments.
SAMPLES = np.concatenate([tones(SPOKEN[0]), silence(3), tones(SPOKEN[1])])
TEXT = "tac a bat cab"


def wav_of(samples: np.ndarray, form: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format=form)
    return file.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("openai")
    write_tone_model(folder / "tones")
    write_tone_model(folder / "old" / "tones")
    (folder / "keys").write_text(f"# Two programs\n\nsk-first\n{KEY}\r\n")
    with running(
        folder / "temporary",
        f"--models={folder}/tones,{folder}/old/tones",
        f"--api_key_file={folder}/keys",
        f"--max_upload_mb={UPLOAD_MB}",
        f"--max_seconds={SECONDS}",
        "--max_waiting=1",
    ) as started:
        yield started


def client_of(server: Server, key: str = KEY) -> OpenAI:
    return OpenAI(api_key=key, base_url=f"{server.url}/v1", max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[OpenAI]:
    with client_of(server) as client:
        yield client


def transcribed(client: OpenAI, **options: Any) -> Any:
    given = {"file": ("x.wav", wav_of(SAMPLES)), "model": "whisper-1", **options}
    return client.audio.transcriptions.create(**given)


def test_json_and_text_have_the_text(client: OpenAI) -> None:
    assert transcribed(client).text == TEXT
    assert transcribed(client, response_format="json").text == TEXT
    assert transcribed(client, response_format="text") == f"{TEXT}\n"


def test_subtitles_have_the_formats_of_their_files(client: OpenAI) -> None:
    srt = transcribed(client, response_format="srt")
    pattern = r"1\n00:00:00,0\d\d --> 00:00:01,\d{3}\ntac a bat\n\n2\n00:00:04,\d{3} --> 00:00:05,"
    assert re.match(pattern, srt), srt
    vtt = transcribed(client, response_format="vtt")
    assert re.match(r"WEBVTT\n\n00:00:00\.0\d\d --> 00:00:01\.\d{3}\ntac a bat\n\n", vtt), vtt


def test_verbose_json_has_segments(client: OpenAI) -> None:
    found = transcribed(client, response_format="verbose_json", language="en", temperature=0.5)
    assert found.to_dict().keys() == {"task", "language", "duration", "text", "segments"}
    assert (found.text, found.duration) == (TEXT, pytest.approx(len(SAMPLES) / 16000, abs=1e-4))
    first, second = found.segments
    assert (first.id, second.id, first.text, second.text) == (0, 1, "tac a bat", " cab")
    assert (first.start, first.seek) == (0, 0)
    # Segments keep 0.4 s of silence before and after speech.
    spoken = 9 * LETTER
    assert first.end == pytest.approx(spoken + 0.4, abs=0.1)
    assert second.start == pytest.approx(spoken + 3 - 0.4, abs=0.1)
    assert second.seek == round(second.start * 100)
    assert second.end == pytest.approx(found.duration, abs=1e-4)
    assert first.tokens == ENGLISH.encode("tac a bat")
    assert -1 < first.avg_logprob < 0
    assert first.compression_ratio == pytest.approx(9 / len(zlib.compress(b"tac a bat")))
    assert (first.temperature, first.no_speech_prob) == (0, 0)


def test_verbose_json_has_the_words_where_they_were_spoken(client: OpenAI) -> None:
    both = transcribed(
        client, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    only = transcribed(client, response_format="verbose_json", timestamp_granularities=["word"])
    assert len(both.segments) == 2 and only.segments is None and both.words == only.words
    assert [each.word for each in only.words] == TEXT.split()
    starts = [0, 4 * LETTER, 6 * LETTER, 9 * LETTER + 3]
    for word, start in zip(only.words, starts, strict=True):
        assert word.start == pytest.approx(start, abs=0.05)
        end = start + len(word.word) * LETTER - 0.05
        assert word.end == pytest.approx(end, abs=0.05)


@pytest.mark.parametrize("name", ["timestamp_granularities", "timestamp_granularities[]"])
def test_granularities_are_a_list_with_and_without_brackets(server: Server, name: str) -> None:
    answer = httpx.post(
        f"{server.url}/v1/audio/transcriptions",
        auth=("", KEY),
        data={"response_format": "verbose_json", name: ["word", "segment"]},
        files={"file": ("x.wav", wav_of(SAMPLES))},
        timeout=60,
    )
    assert {"words", "segments"} <= answer.json().keys()


def test_stream_sends_the_text_segment_by_segment(client: OpenAI) -> None:
    *deltas, done = transcribed(client, stream=True)
    assert [each.type for each in deltas] == ["transcript.text.delta"] * 2
    assert [each.delta for each in deltas] == ["tac a bat", " cab"]
    assert (done.type, done.text) == ("transcript.text.done", TEXT)
    assert len(list(transcribed(client, stream=True, response_format="text"))) == 3


def test_stream_of_silence_has_no_text(client: OpenAI) -> None:
    (done,) = transcribed(client, stream=True, file=("x.wav", wav_of(silence(1))))
    assert (done.type, done.text) == ("transcript.text.done", "")
    quiet = transcribed(client, file=("x.wav", wav_of(silence(1))), response_format="verbose_json")
    assert (quiet.text, quiet.segments) == ("", [])


def test_first_text_is_sent_before_the_recording_has_been_read(client: OpenAI) -> None:
    pause = np.concatenate([SAMPLES[: len(SAMPLES) // 2], silence(3)])
    too_long = np.tile(pause, 1 + round(SECONDS * 16000 / len(pause)))
    events = iter(transcribed(client, stream=True, file=("x.wav", wav_of(too_long))))
    assert next(events).delta.startswith("tac")
    with pytest.raises(openai.APIError, match="longer than the 40 seconds") as raised:
        list(events)
    assert raised.value.type == "invalid_request_error"


def test_decoding_options_are_taken_and_unknown_ones_ignored(client: OpenAI) -> None:
    found = transcribed(
        client, prompt="x", chunking_strategy="auto", include=["logprobs"],
        extra_body={"beam_width": 1, "hot_words": "bat:5"},
    )  # fmt: skip
    assert found.text == TEXT
    with pytest.raises(openai.BadRequestError, match="beam_width is '0'") as raised:
        transcribed(client, extra_body={"beam_width": 0})
    assert raised.value.param == "beam_width"


def test_models_are_listed_and_found_by_their_names(client: OpenAI) -> None:
    names = [each.id for each in client.models.list()]
    assert len(names) == 2 and names[1] == "old/tones"
    listed = client.models.retrieve("old/tones")
    assert (listed.id, listed.object, listed.owned_by) == ("old/tones", "model", "deep-speech")
    assert time.time() - 600 < listed.created <= time.time() + 1
    assert transcribed(client, model="old/tones").text == TEXT


@pytest.mark.parametrize("name", ["whisper-1", "gpt-4o-mini-transcribe-2025-12-15"])
def test_openais_names_stand_for_the_default_model(client: OpenAI, name: str) -> None:
    assert client.models.retrieve(name).id == next(iter(client.models.list())).id
    assert transcribed(client, model=name).text == TEXT


def test_unknown_model_is_not_found(client: OpenAI) -> None:
    for ask in (
        lambda: transcribed(client, model="whisper-large"),
        lambda: transcribed(client, model="whisper-large", stream=True),
        lambda: client.models.retrieve("whisper-large"),
    ):
        with pytest.raises(openai.NotFoundError, match="no model 'whisper-large' here") as raised:
            ask()
        assert (raised.value.param, raised.value.code) == ("model", "model_not_found")
        assert raised.value.type == "invalid_request_error"


def test_unknown_path_is_not_found(server: Server, client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="'/v1/chat/completions' does not") as raised:
        client.chat.completions.create(model="whisper-1", messages=[])
    assert raised.value.type == "invalid_request_error"
    for path in ("/v1", "/v1/", "/v1/x"):
        answer = httpx.get(f"{server.url}{path}", auth=("", KEY))
        assert (answer.status_code, type(answer.json()["error"])) == (404, dict)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("content", "status", "expected"),
    [
        (b"", 415, "The upload can't be read"),
        (b"These are words, not sounds.\n" * 9, 415, "The upload can't be read"),
        (wav_of(silence(0)), 415, "contains no samples"),
        (bytes(round(UPLOAD_MB * 1e6) + 1), 413, "larger than the 3 MB"),
        (wav_of(silence(SECONDS + 1), "FLAC"), 413, "longer than the 40 seconds"),
    ],
    ids=["empty", "text", "no samples", "large", "long"],
)
def test_unusable_file_is_refused(
    client: OpenAI, content: bytes, status: int, expected: str, stream: bool
) -> None:
    with pytest.raises(openai.APIStatusError, match=expected) as raised:
        transcribed(client, file=("x.wav", content), stream=stream)
    assert raised.value.status_code == status
    assert raised.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("options", "param", "expected"),
    [
        ({"response_format": "diarized_json"}, "response_format", "input should be 'json', 'text'"),
        ({"temperature": 2}, "temperature", "less than or equal to 1"),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities", "need response_format"),
        ({"stream": True, "response_format": "srt"}, "stream", "A stream has the text only"),
    ],
)
def test_invalid_option_is_refused(
    client: OpenAI, options: dict[str, Any], param: str, expected: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=expected) as raised:
        transcribed(client, **options)
    assert raised.value.param == param


def test_wrong_key_is_refused(server: Server) -> None:
    with client_of(server, "sk-third") as stranger:
        for ask in (stranger.models.list, lambda: transcribed(stranger)):
            with pytest.raises(openai.AuthenticationError, match="no key") as raised:
                ask()
            assert raised.value.code == "invalid_api_key"
    with client_of(server, "sk-first") as other:
        assert transcribed(other).text == TEXT
    assert "sk-" not in "".join(server.log)


def test_key_is_needed_everywhere_but_for_health_and_metrics(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as anyone:
        for path in ("/", "/static/app.js", "/api/models", "/v1/models", "/openapi.json", "/x"):
            answer = anyone.get(path)
            assert answer.status_code == 401
            assert "Basic" in answer.headers["www-authenticate"]
            assert anyone.get(path, auth=("me", KEY)).status_code == (404 if path == "/x" else 200)
        for path in ("/ping", "/metrics"):
            assert anyone.get(path).status_code == 200
        for path in ("/api/transcribe", "/invocations"):
            refused = anyone.post(path, files={"audio": ("x", sound())})
            assert (refused.status_code, type(refused.json()["error"])) == (401, str)
    address = f"{server.url.replace('http', 'ws')}/api/stream"
    with pytest.raises(InvalidStatus, match="401"):
        connect(address)
    connect(address, additional_headers={"Authorization": f"Bearer {KEY}"}).close()


def test_refusals_of_all_kinds_have_openais_form(server: Server) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        answers = {
            404: client.post("/v1/audio/translations", files={"file": ("x", sound())}),
            405: client.get("/v1/audio/transcriptions"),
            415: client.post("/v1/audio/transcriptions", json={}),
            400: client.post("/v1/audio/transcriptions", files={"x": (None, "y")}),
            403: client.post("/v1/audio/transcriptions", headers={"origin": "http://x.example"}),
        }
        for status, answer in answers.items():
            assert answer.status_code == status
            error = answer.json()["error"]
            assert error.keys() == {"message", "type", "param", "code"}
            assert error["type"] == "invalid_request_error" and len(error["message"]) > 20


def test_busy_server_asks_to_retry(server: Server, client: OpenAI) -> None:
    address = urlsplit(server.url)
    head = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Type: audio/wav\r\nContent-Length: 9999\r\n\r\n"
    )
    with contextlib.ExitStack() as uploading:
        for _ in range(4):  # for each of --max_waiting
            pair = (str(address.hostname), int(address.port or 80))
            connection = uploading.enter_context(socket.create_connection(pair))
            connection.sendall(head.encode())
        until = time.monotonic() + 20
        while len(server.uploads) < 4:
            assert time.monotonic() < until
            time.sleep(0.02)
        with pytest.raises(openai.InternalServerError, match="try again in 5 sec") as raised:
            transcribed(client)
        assert (raised.value.status_code, raised.value.type) == (503, "server_error")
        assert raised.value.response.headers["retry-after"] == "5"
        metrics = httpx.get(f"{server.url}/metrics").text
        assert 'route="/v1/audio/transcriptions",status="503"' in metrics


def test_client_that_leaves_a_stream_frees_its_slot(server: Server, client: OpenAI) -> None:
    pause = np.concatenate([tones(SPOKEN[0]), silence(3)])
    long = np.tile(pause, round(SECONDS * 16000 / len(pause)) - 1)
    options = {"file": ("x.wav", wav_of(long)), "extra_body": {"beam_width": 1024}}
    with transcribed(client, stream=True, **options) as events:
        assert next(iter(events)).delta == SPOKEN[0]
    until = time.monotonic() + 20
    while server.uploads:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert transcribed(client).text == TEXT
    assert "Traceback" not in "".join(server.log)


def test_openapi_document_describes_the_form(server: Server) -> None:
    described = httpx.get(f"{server.url}/openapi.json", auth=("", KEY)).json()
    operation = described["paths"]["/v1/audio/transcriptions"]["post"]
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"file", "model", "stream", "timestamp_granularities[]"} <= form["properties"].keys()
    refusal = operation["responses"]["404"]["content"]["application/json"]["schema"]
    name = refusal["$ref"].rpartition("/")[2]
    assert "ProblemDetails" in json.dumps(described["components"]["schemas"][name])
