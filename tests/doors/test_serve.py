"""The door serve.py as a program, over HTTP and WebSocket."""

import base64
import contextlib
import io
import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import soundfile
from doors import assert_refused
from malformed import generated, kinds, sound
from servers import Server, running
from tiny_models import noise, write_model
from tiny_scorer import write_tiny_scorer
from tiny_shards import random_utterances, write_shards
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.connection import Connection

import serve
from speech.decoding.beam_search import BeamSettings
from speech.decoding.scorer import read_scorer
from speech.export import loading
from speech.transcription.live import LiveTranscriber, PartialTranscript
from speech.transcription.subtitles import join_words
from speech.transcription.transcriber import TranscribedSegment, Transcriber

UPLOAD_MB, SECONDS, BEAM_WIDTH = 0.3, 20, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, a scorer, a test set and its recordings."""
    folder = tmp_path_factory.mktemp("serve")
    write_model(folder / "model", "conv_gru")
    write_model(folder / "other" / "model", mel_filters=6)
    write_model(folder / "carried", "deep_speech_lstm", normalisation="none")
    write_tiny_scorer(folder / "tiny.scorer")
    write_shards(
        folder / "shards", random_utterances([60, 40, 50, 64, 30, 44, 38], 8), bins=8,
        name="test.tfrecords",
    )  # fmt: skip
    (folder / "audio").mkdir()
    soundfile.write(folder / "audio" / "utterance-0001.flac", noise(8000), 16000)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running(
        folder / "temporary",
        f"--models={folder}/model,{folder}/other/model,{folder}/carried",
        f"--scorers={folder}/tiny.scorer",
        f"--test_data={folder}/shards/test.tfrecords.*",
        f"--audio={folder}/audio",
        f"--max_upload_mb={UPLOAD_MB}",
        f"--max_seconds={SECONDS}",
        f"--beam_width={BEAM_WIDTH}",
        "--allowed_hosts=Speech.example.org,localbox",
    ) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def transcriber(folder: Path) -> Transcriber:
    """Returns a transcriber with the server's defaults."""
    scorer = read_scorer(str(folder / "tiny.scorer"))
    model = loading.load(str(folder / "model"))
    return Transcriber(model, BeamSettings(beam_width=BEAM_WIDTH), scorer)


def wav_of(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format="WAV")
    return file.getvalue()


def upload(client: httpx.Client, content: bytes, **options: Any) -> Any:
    """Uploads a recording in a form, and returns the response's JSON."""
    answer = client.post("/api/transcribe", files={"audio": ("x", content)}, data=options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def test_page_and_its_assets_are_served_and_load_nothing_from_other_servers(
    client: httpx.Client,
) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert client.get("/static/index.html").text == page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "server" not in page.headers
    assert "access-control-allow-origin" not in page.headers
    assert client.get("/docs").status_code == 404
    for path in ("/", "/ping"):
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")


def test_models_and_scorers_are_listed_by_name(client: httpx.Client) -> None:
    models = client.get("/api/models").json()
    names = [each["name"] for each in models["models"]]
    assert [name.split("/")[-1] for name in names] == ["model", "model", "carried"]
    assert names[1:] == ["other/model", "carried"]
    assert [each["streams"] for each in models["models"]] == [False, False, True]
    assert models["scorers"] == [{"name": "tiny.scorer", "models": names}]
    assert models["defaults"] == {
        "model": names[0], "scorer": "tiny.scorer", "beam_width": BEAM_WIDTH
    }  # fmt: skip
    assert models["limits"] == {"upload_bytes": UPLOAD_MB * 1e6, "seconds": SECONDS}
    assert models["models"][0]["labels"][-3:] == [" ", "'", ""]
    assert models["models"][0]["sample_rate"] == 16000


def test_recording_has_the_transcript_of_a_transcriber(
    client: httpx.Client, transcriber: Transcriber
) -> None:
    # A long pause splits it into two segments.
    samples = np.concatenate([noise(16000 * 2), np.zeros(16000 * 3, np.int16), noise(20000)])
    found = upload(client, wav_of(samples), candidates=3)
    segments = list(transcriber.segments([samples], n=3))
    assert len(found["segments"]) == len(segments) == 2
    for segment, own in zip(found["segments"], segments, strict=True):
        assert segment["text"] == join_words(own.transcript.words)
        assert (segment["start"], segment["seconds"]) == pytest.approx((own.start, own.seconds))
        assert [each["text"] for each in segment["candidates"]] == [
            join_words(each.words) for each in own.candidates
        ]
        assert segment["confidence"] == pytest.approx(own.transcript.confidence, abs=1e-2)
        times = [(each["start_time"], each["duration"]) for each in segment["words"]]
        assert times == [
            pytest.approx((each.start, each.duration), abs=1e-4) for each in own.transcript.words
        ]
    assert found["text"] == " ".join(each["text"] for each in found["segments"])
    assert found["seconds"] == pytest.approx(len(samples) / 16000)
    assert found["scorer"] == "tiny.scorer"
    assert found["waveform"] is None and found["details"] is None
    raw = client.post(
        "/api/transcribe?candidates=3", content=wav_of(samples),
        headers={"content-type": "audio/wav"},
    )  # fmt: skip
    without_time = {"inference_seconds": 0}
    assert raw.json() | without_time == found | without_time


def test_options_choose_model_scorer_and_words(client: httpx.Client) -> None:
    content = wav_of(noise(16000))
    other = upload(client, content, model="other/model", scorer="")
    assert (other["model"], other["scorer"]) == ("other/model", "")
    plain = upload(client, content, scorer="")
    assert other["text"] != plain["text"]
    answer = client.post(
        "/api/transcribe?lm_alpha=&scorer=", content=content,
        headers={"content-type": "audio/wav", "origin": str(client.base_url)},
    )  # fmt: skip
    assert answer.json()["text"] == plain["text"]
    hot = upload(client, content, hot_words="x:99", scorer="")
    assert "x" in hot["text"].split() and "x" not in plain["text"].split()


def test_details_have_the_networks_inputs_and_outputs(client: httpx.Client) -> None:
    found = upload(client, sound(2.0, "FLAC"), details="true")
    (details,) = found["details"]
    shapes = {
        name: (details[name]["rows"], details[name]["columns"])
        for name in ("spectrogram", "features", "probabilities")
    }
    assert shapes == {"spectrogram": (128, 199), "features": (8, 199), "probabilities": (29, 100)}
    for name, (rows, columns) in shapes.items():
        assert len(base64.b64decode(details[name]["data"])) == rows * columns
    assert len(details["path"]) == 100
    assert details["highest_frequency"] == 8000
    assert len(found["waveform"]["lowest"]) == len(found["waveform"]["highest"]) == 400
    assert -1 <= min(found["waveform"]["lowest"]) < 0 < max(found["waveform"]["highest"]) <= 1


def test_simultaneous_requests_are_batched_and_have_the_same_texts(client: httpx.Client) -> None:
    contents = [wav_of(noise(16000 + 900 * number)) for number in range(12)]
    alone = [upload(client, content)["segments"] for content in contents]
    batches = metric(client, "speech_batch_size_count")
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda each: upload(client, each)["segments"], contents))
    assert metric(client, "speech_batch_size_count") - batches < len(contents)
    for one, other in zip(alone, together, strict=True):
        assert [each["text"] for each in one] == [each["text"] for each in other]


def test_test_set_is_recognised_page_by_page(
    client: httpx.Client, transcriber: Transcriber
) -> None:
    (found,) = client.get("/api/sets").json()["sets"]
    assert (found["name"], found["utterances"], found["audio"]) == ("test", 7, True)
    page = client.get("/api/sets/test?offset=4&limit=2").json()
    assert [row["id"] for row in page["rows"]] == ["utterance-0004", "utterance-0005"]
    features = [each.features for each in random_utterances([60, 40, 50, 64, 30, 44, 38], 8)]
    for row, number in zip(page["rows"], (4, 5), strict=True):
        log_probs = transcriber.model.of_features(features[number])
        assert row["hypothesis"] == transcriber.decoder.decode(log_probs)
        assert [word for _, word, _ in row["words"] if word] == row["reference"].split()
        assert row["seconds"] == pytest.approx(len(features[number]) * 0.01)
    assert page["rates"] == page["so_far"]
    whole = client.get("/api/sets/test?limit=100").json()
    assert (len(whole["rows"]), whole["so_far"]["utterances"]) == (7, 7)
    errors = sum(sign != "=" for row in whole["rows"] for sign, _, _ in row["words"])
    assert whole["rates"]["wer"] == pytest.approx(errors / whole["rates"]["words"])
    assert client.get("/api/sets/test?offset=7").json()["rows"] == []
    assert client.get("/api/sets/test?model=other/model").status_code == 400


def test_ranges_of_a_test_sets_recordings_can_be_requested(
    client: httpx.Client, folder: Path
) -> None:
    content = (folder / "audio" / "utterance-0001.flac").read_bytes()
    rows = client.get("/api/sets/test?limit=3&scorer=").json()["rows"]
    whole = client.get(rows[1]["audio"])
    assert (whole.content, whole.headers["content-type"]) == (content, "audio/flac")
    part = client.get(rows[1]["audio"], headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(content)}"
    last = client.get(rows[1]["audio"], headers={"range": "bytes=-5"})
    assert last.content == content[-5:]
    digits = client.get(rows[1]["audio"], headers={"range": f"bytes={'1' * 5000}-"})
    assert (digits.status_code, digits.content) == (200, content)
    beyond = client.get(rows[1]["audio"], headers={"range": f"bytes={len(content)}-"})
    assert beyond.status_code == 416
    assert client.get(rows[2]["audio"]).status_code == 404


def test_sagemakers_requests_are_answered(client: httpx.Client) -> None:
    ping = client.get("/ping")
    assert (ping.status_code, ping.content) == (200, b"")
    content = wav_of(noise(16000))
    wanted = upload(client, content)["text"]
    raw = client.post("/invocations", content=content, headers={"content-type": "audio/wav"})
    assert raw.json()["text"] == wanted
    attributes = {"x-amzn-sagemaker-custom-attributes": "model=other/model;candidates=2;scorer="}
    other = client.post(
        "/invocations", content=content, headers={"content-type": "audio/wav", **attributes}
    ).json()
    assert other["model"] == "other/model" and len(other["segments"][0]["candidates"]) == 2
    audio = base64.b64encode(content).decode()
    one = client.post("/invocations", json={"audio": audio, "beam_width": 4})
    assert one.json()["seconds"] == 1.0
    batch = client.post(
        "/invocations",
        json={"instances": [{"audio": audio}, {"audio": {"b64": audio}, "scorer": ""}]},
    ).json()
    assert [each["scorer"] for each in batch["predictions"]] == ["tiny.scorer", ""]
    assert batch["predictions"][0]["text"] == wanted
    lines = client.post(
        "/invocations", content=f'{json.dumps({"audio": audio})}\n' * 2,
        headers={"content-type": "application/jsonlines"},
    )  # fmt: skip
    assert lines.headers["content-type"] == "application/jsonlines"
    assert [json.loads(line)["text"] for line in lines.text.splitlines()] == [wanted] * 2
    bad = {"audio": base64.b64encode(b"no sound at all").decode()}
    few = [{"audio": audio}, bad, {"audio": audio, "hot_words": "\ud800"}, {"audio": audio}]
    answered = client.post(
        "/invocations", content="\n".join(map(json.dumps, few)),
        headers={"content-type": "Application/X-NDJSON; charset=utf-8"},
    )  # fmt: skip
    assert answered.status_code == 200
    first, *middle, last = map(json.loads, answered.text.splitlines())
    assert first["text"] == last["text"] == wanted
    assert [each["error"].partition(":")[0] for each in middle] == ["Line 2", "Line 3"]
    assert "The upload can't be read" in middle[0]["error"]
    refused = client.post("/invocations", json={"instances": [{"audio": audio}, bad]})
    assert refused.status_code == 415
    assert refused.json()["error"].startswith("instances[1]: The upload can't be read")
    assert metric(client, "speech_waiting_requests") == 0


def test_sagemakers_client_sends_files_and_arrays(client: httpx.Client) -> None:
    samples = noise(16000)
    wanted = upload(client, wav_of(samples))

    def invoked(content: bytes, kind: str, model: str = "") -> Any:
        headers = {"content-type": kind, "x-amzn-sagemaker-target-model": model}
        return client.post("/invocations", content=content, headers=headers)

    def saved(array: np.ndarray) -> bytes:
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()

    for content, kind in (
        (wav_of(samples), "file-path/raw-bytes"),  # DataSerializer
        (saved(samples), "application/x-npy"),  # NumpySerializer
        (saved(samples / 32768), "application/x-npy"),
    ):
        assert invoked(content, kind).json()["segments"] == wanted["segments"]
    other = upload(client, wav_of(samples), model="other/model")
    for content, kind in ((wav_of(samples), "audio/wav"), (saved(samples), "application/x-npy")):
        assert invoked(content, kind, "other/model").json()["segments"] == other["segments"]
    unknown = invoked(wav_of(samples), "audio/wav", "speech.tar.gz")
    assert unknown.status_code == 404
    assert "There is no model 'speech.tar.gz' here: choose among" in unknown.json()["error"]
    long = invoked(saved(np.zeros(16000 * (SECONDS + 1), np.float16)), "application/x-npy")
    assert (long.status_code, "MB" in long.json()["error"]) == (413, True)


def test_malformed_uploads_are_refused_with_a_message_and_leave_no_files(
    server: Server, client: httpx.Client
) -> None:
    for bad in kinds(round(UPLOAD_MB * 1e6), SECONDS):
        answer = bad.send(client)
        assert 400 <= answer.status_code < 500 and answer.status_code != 422, bad.name
        message = answer.json()["error"]
        assert len(message) > 20 and str(server.temporary) not in message, bad.name
    assert not server.uploads
    assert upload(client, sound())["seconds"] == 0.5


def test_upload_that_is_cut_off_leaves_no_file(server: Server, client: httpx.Client) -> None:
    address = urlsplit(server.url)
    head = (
        f"POST /api/transcribe HTTP/1.1\r\nHost: {address.netloc}\r\n"
        "Content-Type: audio/wav\r\nContent-Length: 100000\r\n\r\n"
    )
    with socket.create_connection((address.hostname, int(address.port or 80))) as connection:
        connection.sendall(head.encode() + sound()[:5000])
        wait_until(lambda: len(server.uploads) == 1)
        assert metric(client, "speech_uploading_requests") == 1
    wait_until(lambda: not server.uploads)
    assert metric(client, "speech_uploading_requests") == 0


def wait_until(holds: Any) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_metrics_count_requests_and_audio(client: httpx.Client) -> None:
    before = metric(client, "speech_audio_seconds_total")
    upload(client, sound(1.5))
    assert metric(client, "speech_audio_seconds_total") == pytest.approx(before + 1.5)
    assert metric(client, 'speech_requests_total{route="/api/transcribe",status="200"}') >= 1
    assert metric(client, "speech_waiting_requests") == 0


def test_openapi_document_describes_the_api(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {
        "/api/models", "/api/transcribe", "/api/sets", "/api/sets/{name}",
        "/api/sets/{name}/audio/{utterance_id}", "/ping", "/invocations", "/metrics",
        "/v1/models", "/v1/models/{name}", "/v1/audio/transcriptions",
    }  # fmt: skip
    operation = described["paths"]["/api/transcribe"]["post"]
    names = {each["name"] for each in operation["parameters"]}
    assert {"model", "scorer", "beam_width", "hot_words", "candidates", "details"} <= names
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["anyOf"] == [{"required": ["audio"]}, {"required": ["file"]}]
    assert names | {"audio", "file"} <= set(form["properties"])
    statuses = {"200", "400", "404", "408", "413", "415", "503", "507"}
    assert set(operation["responses"]) == statuses
    refusal = operation["responses"]["400"]["content"]["application/json"]["schema"]
    assert refusal == {"$ref": "#/components/schemas/Problem"}


def test_requests_are_logged_without_their_content(server: Server, client: httpx.Client) -> None:
    content = form_with_secret = b"secret-of-a-caller" * 10
    client.post(
        "/api/transcribe?hot_words=secret-of:5", content=content,
        headers={"content-type": "audio/wav"},
    )  # fmt: skip
    opened(server, "?hot_words=secret-of:5").close()
    wait_until(lambda: any('"WebSocket /api/stream" [accepted]' in line for line in server.log))
    wait_until(lambda: any('"POST /api/transcribe HTTP/1.1" 415' in line for line in server.log))
    assert form_with_secret[:9].decode() not in "".join(server.log)


def opened(server: Server, options: str = "", **headers: str) -> ClientConnection:
    address = f"{server.url.replace('http', 'ws')}/api/stream{options}"
    return connect(address, additional_headers=headers)


def spoken(connection: Connection, samples: np.ndarray, rate: int, block: int) -> list[Any]:
    """Sends samples, int16 [samples], and returns all messages of the server."""
    connection.send(json.dumps({"sample_rate": rate}))
    for start in range(0, len(samples), block):
        connection.send(samples[start : start + block].tobytes())
    connection.send(json.dumps({"end": True}))
    return [json.loads(each) for each in connection]


@pytest.mark.parametrize("model", ["carried", "model"])
def test_stream_has_the_texts_of_a_live_transcriber(
    server: Server, folder: Path, model: str
) -> None:
    samples = noise(16000 * 4)
    options = f"?scorer=&candidates=3{'&model=carried' if model == 'carried' else ''}"
    with opened(server, options) as connection:
        ready, *texts, done = spoken(connection, samples, 16000, 1600)
    transcriber = Transcriber(loading.load(str(folder / model)), BeamSettings(beam_width=8))
    live = LiveTranscriber(transcriber, 3)
    events: list[PartialTranscript | TranscribedSegment] = []
    for start in range(0, len(samples), 1600):
        events += live.feed(samples[start : start + 1600])
    events += live.finish()
    assert ready == {"type": "ready", "exact": live.exact} and live.exact == (model == "carried")
    assert done == {"type": "done", "seconds": 4.0}
    assert len(texts) == len(events) > 1
    for message, event in zip(texts, events, strict=True):
        if isinstance(event, PartialTranscript):
            assert (message["type"], message["text"]) == ("partial", event.text)
        else:
            assert message["type"] == "final"
            assert message["text"] == join_words(event.transcript.words)
            assert len(message["words"]) == len(event.transcript.words)
            assert [each["text"] for each in message["candidates"]] == [
                join_words(each.words) for each in event.candidates
            ]
        assert message["start"] == pytest.approx(event.start, abs=1e-4)


def test_other_rates_are_resampled(server: Server) -> None:
    with opened(server, "") as connection:
        *_, done = spoken(connection, noise(48000 * 2), 48000, 4096)
    assert done == {"type": "done", "seconds": 2.0}


def refusal(connection: Connection) -> tuple[str, int]:
    """Returns the message of the error that ends a stream, and the close code."""
    *_, last = list(read_to_the_end(connection))
    error = json.loads(last)
    assert error["type"] == "error"
    assert connection.protocol.close_code is not None
    return error["error"], connection.protocol.close_code


def read_to_the_end(connection: Connection) -> Iterator[str]:
    while True:
        try:
            yield str(connection.recv(timeout=30))
        except ConnectionClosed:
            return


@pytest.mark.parametrize("path", ["", "vosk"])
def test_client_of_vosk_server_is_answered(server: Server, folder: Path, path: str) -> None:
    samples = np.concatenate([noise(16000 * 3), np.zeros(16000 * 4, np.int16), noise(16000)])
    answers = []
    with connect(f"{server.url.replace('http', 'ws')}/{path}?model=carried&scorer=") as connection:
        connection.send('{ "config" : { "sample_rate" : 16000 } }')
        for start in range(0, len(samples), 3200):
            connection.send(samples[start : start + 3200].tobytes())
            answers.append(json.loads(connection.recv(timeout=30)))
        connection.send('{"eof" : 1}')
        answers.append(json.loads(connection.recv(timeout=30)))
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=30)
    live = LiveTranscriber(Transcriber(loading.load(str(folder / "carried")), BeamSettings(8)))
    wanted = [*live.feed(samples), *live.finish()]
    ended = [each for each in wanted if isinstance(each, TranscribedSegment)]
    results = [each for each in answers if "result" in each]
    assert [each["text"] for each in results] == [join_words(e.transcript.words) for e in ended]
    words = [word for each in ended for word in each.transcript.words]
    found = [(word["word"], word["start"]) for each in results for word in each["result"]]
    assert found == [(word.text, pytest.approx(word.start, abs=1e-4)) for word in words]
    assert any(each.get("partial") for each in answers)


@pytest.mark.parametrize(
    "messages", [["[]"], ['{"config": 1}'], ['{"config": {"sample_rate": 1}}'], [b"\0\0", "{}"]]
)
def test_malformed_stream_of_vosk_is_refused(server: Server, messages: list[str | bytes]) -> None:
    with connect(f"{server.url.replace('http', 'ws')}/vosk") as connection:
        for each in messages:
            connection.send(each)
        message, code = refusal(connection)
    assert "send" in message and code == 1008


@pytest.mark.parametrize(
    ("options", "messages", "expected", "code"),
    [
        ("?model=x", [], "There is no model 'x' here", 1008),
        ("?beam_width=nan", [], "beam_width is 'nan'", 1008),
        ("?hot_words=a:1e300", [], "1e+300", 1008),
        ("?details=true", [], "A stream has no details", 1008),
        ("", ["{}"], "A stream begins with", 1008),
        ("", [b"\0\0"], "A stream begins with", 1008),
        ("", ['{"sample_rate": 1}'], "a whole number from 4000", 1008),
        ("", ['{"sample_rate": 1e999}'], "a whole number from 4000", 1008),
        ("", ['{"sample_rate": 16000}', "[[["], "is unknown", 1008),
        ("", ['{"sample_rate": 16000}', b"\0"], "send whole 16-bit samples", 1008),
        ("", ['{"sample_rate": 16000}', bytes(2**20 + 2)], "send at most 1048576", 1009),
        ("", ['{"sample_rate": 4000}', bytes(SECONDS * 8002)], "longer than the 20 sec", 1009),
    ],
)
def test_malformed_streams_are_refused_with_a_message(
    server: Server, options: str, messages: list[str | bytes], expected: str, code: int
) -> None:
    with opened(server, options) as connection:
        with contextlib.suppress(ConnectionClosed):  # refused before all is sent
            for each in messages:
                connection.send(each)
        message, closed = refusal(connection)
    assert expected in message and closed == code


def test_page_of_another_site_is_refused(server: Server) -> None:
    with pytest.raises(InvalidStatus) as raised:
        opened(server, Origin="https://elsewhere.example")
    assert raised.value.response.status_code == 403
    with pytest.raises(InvalidStatus, match="403"):
        opened(server, Origin="http://[")
    opened(server, Origin=server.url).close()


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8080",
        "127.0.0.1:1",
        "[::1]:8080",
        "speech.example.org",
        "localbox:1",
    ],
)
def test_server_answers_to_its_own_names(client: httpx.Client, server: Server, host: str) -> None:
    assert client.get("/api/models", headers={"host": host}).status_code == 200
    assert handshake(server, "/api/stream", Host=host)[0] == 101


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example:8080", "x.localbox", "localhost.evil.example", ""),
        *("[::1]evil.example", "[localhost]", "localhost:evil.example"),
    ],
)
def test_host_name_of_another_site_that_resolves_here_is_refused(
    client: httpx.Client, server: Server, host: str
) -> None:
    from_page = {"host": host, "origin": f"http://{host}"}
    expected = f"{host!r} is not a name of this server"
    for path in ("/", "/api/models", "/api/sets/test", "/metrics", "/static/page.js"):
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == 403
        assert expected in answer.json()["error"] and "--allowed_hosts" in answer.json()["error"]
    for path in ("/api/transcribe", "/invocations"):
        answer = client.post(path, files={"audio": ("x", sound())}, headers=from_page)
        assert answer.status_code == 403 and expected in answer.json()["error"]
    assert handshake(server, "/api/stream", Host=host, Origin=f"http://{host}")[0] == 403


def test_sagemaker_may_use_any_host_name(client: httpx.Client) -> None:
    name = {"host": "model.aws.local:8080"}
    assert client.get("/ping", headers=name).status_code == 200
    answer = client.post(
        "/invocations", content=sound(), headers={"content-type": "audio/wav", **name}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/api/streams", "/api/models", "/static/page.js"])
def test_unknown_websocket_is_not_found(server: Server, path: str) -> None:
    status, answer = handshake(server, path)
    assert (status, answer) == (
        404,
        {"error": f"{path!r} is not a WebSocket: open /api/stream."},
    )
    assert "Traceback" not in "".join(server.log)


def handshake(server: Server, path: str, **headers: str) -> tuple[int, Any]:
    """Sends a WebSocket's handshake with given headers, and returns status and JSON."""
    given = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "eHh4eHh4eHh4eHh4eHh4eA==", **headers,
    }  # fmt: skip
    address = urlsplit(server.url)
    connection = HTTPConnection(str(address.hostname), int(address.port or 80), timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=given)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")


def test_client_that_disconnects_frees_its_slot(server: Server, client: httpx.Client) -> None:
    before = metric(client, "speech_audio_seconds_total")
    connection = opened(server)
    connection.send('{"sample_rate": 16000}')
    assert json.loads(connection.recv(timeout=30))["type"] == "ready"
    assert metric(client, "speech_streams ") == 1
    connection.send(noise(16000 * 4).tobytes())
    connection.socket.close()  # the client is gone when its text is ready
    wait_until(lambda: metric(client, "speech_streams ") == 0)
    assert metric(client, "speech_audio_seconds_total") == pytest.approx(before + 4)
    assert "Traceback" not in "".join(server.log)


@pytest.mark.slow
def test_200_malformed_uploads_are_refused_and_leave_no_files(
    server: Server, client: httpx.Client
) -> None:
    statuses = []
    for bad in [*kinds(round(UPLOAD_MB * 1e6), SECONDS), *generated(200, seed=8)]:
        answer = bad.send(client)
        assert 400 <= answer.status_code < 500, (bad.name, answer.text)
        assert answer.json()["error"], bad.name
        statuses.append(answer.status_code)
    assert len(statuses) >= 200
    assert not server.uploads
    assert upload(client, sound())["seconds"] == 0.5
    assert metric(client, "speech_waiting_requests") == 0


@pytest.mark.slow
def test_request_under_way_is_finished_when_the_server_is_stopped(
    tmp_path: Path, folder: Path
) -> None:
    with (
        running(tmp_path / "temporary", f"--models={folder}/model", "--batch_size=1") as own,
        httpx.Client(base_url=own.url, timeout=60) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(upload, client, wav_of(noise(16000 * 300)))
        wait_until(lambda: own.uploads)
        time.sleep(1)
        assert not answer.done()
        own.process.terminate()
        assert answer.result()["seconds"] == 300
        assert own.process.wait(30) == 0
        assert not list(own.temporary.rglob("*upload*"))


@pytest.mark.slow
def test_slow_upload_does_not_delay_the_end_of_the_server(tmp_path: Path, folder: Path) -> None:
    with running(tmp_path / "temporary", f"--models={folder}/model") as own:
        with trickling(own.url) as connection:
            wait_until(lambda: own.uploads)
            began = time.monotonic()
            own.process.terminate()
            assert own.process.wait(60) == 0
            assert time.monotonic() - began < 20
            assert connection.recv(10_000).startswith(b"HTTP/1.1 503")
        assert not list(own.temporary.rglob("*upload*"))
    assert "Traceback" not in "".join(own.log)


@pytest.mark.slow
def test_more_idle_connections_than_files_do_not_block_others(tmp_path: Path, folder: Path) -> None:
    silent, files = 1100, 1024
    mine = resource.getrlimit(resource.RLIMIT_NOFILE)
    if mine[1] != resource.RLIM_INFINITY and mine[1] < 2 * silent:
        pytest.skip("too few files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(mine[0], 2 * silent), mine[1]))
    try:
        with (
            running(tmp_path / "temporary", f"--models={folder}/model") as own,
            contextlib.ExitStack() as opened,
        ):
            resource.prlimit(own.process.pid, resource.RLIMIT_NOFILE, (files, files))
            lines = len(own.log)
            address = urlsplit(own.url)
            for _ in range(silent):
                pair = (str(address.hostname), int(address.port or 80))
                opened.enter_context(socket.create_connection(pair, timeout=30))
            with httpx.Client(base_url=own.url, timeout=30) as client:
                began = time.monotonic()
                assert upload(client, sound())["seconds"] == 0.5
                print(f"answered after {time.monotonic() - began:.2f} s")
            time.sleep(15)  # longer than HEAD_SECONDS
            with httpx.Client(base_url=own.url, timeout=30) as client:
                assert metric(client, "process_open_fds") < 100
            assert len(own.log) - lines < 24, "".join(own.log)
            print(f"{len(own.log) - lines} lines in the log")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, mine)


def silence(path: Path, seconds: int) -> bytes:
    """Returns a flac with 6 kB/s that decodes to 5 million samples per second."""
    with soundfile.SoundFile(path, "w", 655_350, 8, "PCM_16", format="FLAC") as file:
        second = np.zeros((655_350, 8), np.int16)
        for _ in range(seconds):
            file.write(second)
    return path.read_bytes()


def test_recording_with_too_many_samples_is_refused(client: httpx.Client, tmp_path: Path) -> None:
    content = silence(tmp_path / "x.flac", 2)
    expected = "this server decodes 384000 a second, of all channels together, for 20 seconds"
    for path in ("/api/transcribe", "/invocations"):
        answer = client.post(path, content=content, headers={"content-type": "audio/flac"})
        assert answer.status_code == 413 and expected in answer.json()["error"]


@pytest.mark.slow
def test_long_recordings_do_not_delay_others_nor_the_end_of_the_server(
    tmp_path: Path, folder: Path
) -> None:
    content = silence(tmp_path / "x.flac", 240)
    short = wav_of(noise(32000))
    with (
        running(tmp_path / "temporary", f"--models={folder}/model") as own,
        httpx.Client(base_url=own.url, timeout=300) as client,
        ThreadPoolExecutor(5) as pool,
    ):

        def seconds_of_short() -> float:
            began = time.monotonic()
            assert upload(client, short)["seconds"] == 2
            return time.monotonic() - began

        def send_long(number: int) -> int:
            kind = {"content-type": "audio/flac"}
            with httpx.Client(base_url=own.url, timeout=300) as other:
                return other.post("/api/transcribe", content=content, headers=kind).status_code

        with contextlib.suppress(httpx.ReadTimeout), httpx.Client(timeout=3) as leaving:
            leaving.post(f"{own.url}/api/transcribe", files={"audio": ("x", content)})
        wait_until(lambda: metric(client, "speech_waiting_requests ") == 0)
        alone = min(seconds_of_short() for _ in range(3))
        answers = [pool.submit(send_long, number) for number in range(5)]
        wait_until(lambda: metric(client, "speech_waiting_requests ") == 5)
        beside = sorted(seconds_of_short() for _ in range(5))
        print(f"{alone:.2f} s alone, {beside} beside")
        assert beside[-1] - alone < 2
        assert not any(each.done() for each in answers)
        began = time.monotonic()
        own.process.terminate()
        assert own.process.wait(60) == 0
        print(f"ended after {time.monotonic() - began:.1f} s")
        assert time.monotonic() - began < 20
        assert {each.result() for each in answers} <= {200, 503}
        assert not list(own.temporary.rglob("*upload*"))
    assert "Traceback" not in "".join(own.log)


@contextlib.contextmanager
def trickling(url: str) -> Iterator[socket.socket]:
    """Opens a connection that uploads 400 kB, and then a byte ten times a second."""
    address = urlsplit(url)
    head = (
        f"POST /api/transcribe HTTP/1.1\r\nHost: {address.netloc}\r\n"
        "Content-Type: audio/wav\r\nContent-Length: 10000000\r\n\r\n"
    )
    with socket.create_connection((address.hostname, int(address.port or 80))) as connection:
        connection.sendall(head.encode() + bytes(400_000))
        over = threading.Event()

        def trickle() -> None:
            with contextlib.suppress(OSError):
                while not over.wait(0.1):
                    connection.sendall(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            yield connection
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("given", ["http://x.example", "x.example:80", "x.example/y", "*", "ä..b"])
def test_invalid_host_name_is_refused(given: str) -> None:
    expected = f"--allowed_hosts={given} is not a host name"
    assert_refused(serve, f"--allowed_hosts={given}", parts=[expected])


@pytest.mark.slow
def test_more_requests_than_may_wait_are_asked_to_retry(tmp_path: Path, folder: Path) -> None:
    flags = (f"--models={folder}/model", "--max_waiting=2")
    with (
        running(tmp_path / "temporary", *flags) as own,
        httpx.Client(base_url=own.url, timeout=60) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        content = wav_of(noise(16000 * 60))

        def send(number: int) -> httpx.Response:
            return client.post(
                "/api/transcribe", content=content, headers={"content-type": "audio/wav"}
            )

        found = list(pool.map(send, range(8)))
        assert {each.status_code for each in found} == {200, 503}
        refused = next(each for each in found if each.status_code == 503)
        assert int(refused.headers["retry-after"]) > 0
        assert "try again in" in refused.json()["error"]
        assert upload(client, content)["seconds"] == 60
