"""Makes requests that a server has to refuse."""

import base64
import io
import json
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import numpy as np
import soundfile

TRANSCRIBE, INVOCATIONS = "/api/transcribe", "/invocations"
BOUNDARY = "x--x"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True)
class Bad:
    """One request."""

    name: str
    content: bytes = b""
    kind: str | None = "audio/wav"  # its Content-Type
    path: str = TRANSCRIBE
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False  # without a Content-Length

    def send(self, client: httpx.Client) -> httpx.Response:
        headers = dict(self.headers)
        if self.kind is not None:
            headers["content-type"] = self.kind
        content: bytes | Iterator[bytes] = self.content
        if self.chunked:
            content = (self.content[i : i + 9999] for i in range(0, len(self.content), 9999))
        return client.request(self.method, self.path, content=content, headers=headers)


def sound(seconds: float = 0.5, form: str = "WAV", rate: int = 16000) -> bytes:
    """Returns a sound file of noise."""
    file = io.BytesIO()
    noise = np.random.default_rng(7).normal(size=int(seconds * rate)) * 0.1
    soundfile.write(file, noise, rate, format=form)
    return file.getvalue()


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    """Returns a part of a form."""
    called = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{called}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def flac_of_a_year() -> bytes:
    """Returns a flac of a second whose header promises 2^36 - 1 samples."""
    content = bytearray(sound(1.0, "FLAC"))
    # After "fLaC", in the block's header: the last 36 bits of rate, channels and length.
    content[21] |= 0x0F
    content[22:26] = b"\xff\xff\xff\xff"
    return bytes(content)


def wav_head(rate: int, channels: int, bits: int, encoding: int = 1) -> bytes:
    """Returns a wav of a few bytes with these values in its header."""
    form = struct.pack(
        "<HHIIHH", encoding, channels, rate, rate * channels * bits // 8 & 0xFFFFFFFF, 2, bits
    )
    data = b"\1\2" * 50
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", 100) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def with_nan() -> bytes:
    file = io.BytesIO()
    samples = np.full(8000, np.nan, np.float32)
    soundfile.write(file, samples, 16000, format="WAV", subtype="FLOAT")
    return file.getvalue()


def far_too_loud() -> bytes:
    file = io.BytesIO()
    samples = np.full(8000, 3e38, np.float32)
    soundfile.write(file, samples, 16000, format="WAV", subtype="FLOAT")
    return file.getvalue()


def in_json(content: object) -> Bad:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Bad(f"JSON {text[:40]!r}", text, "application/json", INVOCATIONS)


def kinds(upload_bytes: int, seconds: float) -> list[Bad]:
    """Returns one request of each kind, for a server with these limits."""
    wav, audio = sound(), base64.b64encode(sound()).decode()
    huge = b"\0" * (upload_bytes + 100_000)
    return [
        Bad("empty body"),
        Bad("text", b"not a sound at all " * 50),
        Bad("no content type", wav, None),
        Bad("a type that is no sound", wav, "text/plain"),
        Bad("a type that is no type", wav, "\x7f;;;=,"),
        Bad("too many bytes", huge),
        Bad("too many bytes, chunked", huge, chunked=True),
        Bad("too many bytes in a form", form(part("audio", huge, "x.wav")), FORM, chunked=True),
        Bad("too many seconds", sound(seconds + 1, "FLAC"), "audio/flac"),
        Bad("cut off flac", sound(1.0, "FLAC")[:6000], "audio/flac"),
        Bad("flac of 50 days", flac_of_a_year(), "audio/flac"),
        Bad("head of a wav alone", wav[:30]),
        Bad("samples that are no numbers", with_nan()),
        Bad("wav without samples", sound(0)),
        Bad("samples far beyond full scale", far_too_loud()),
        Bad("zip", b"PK\3\4" + bytes(2000), "application/octet-stream"),
        Bad("playlist", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "audio/x-mpegurl"),
        Bad("concat script", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        Bad("form without a boundary", form(part("audio", wav)), "multipart/form-data"),
        Bad("form without the field", form(part("sound", wav, "x.wav")), FORM),
        Bad("form that is cut off", form(part("audio", wav))[:-40], FORM),
        Bad("form that is none", wav, FORM),
        Bad("form with a path as name", form(part("audio", b"?", "../../etc/passwd")), FORM),
        Bad("form with two recordings", form(part("audio", wav), part("audio", wav)), FORM),
        Bad("form of many fields", form(*(part(f"a{i}", b"") for i in range(99))), FORM),
        Bad("form of one field often", form(*[part("a", b"")] * 99), FORM),
        Bad("form with a huge field", form(part("model", bytes(200_000))), FORM),
        Bad("unknown model", wav, path=f"{TRANSCRIBE}?model=../../etc/passwd"),
        Bad("unknown scorer", wav, path=f"{TRANSCRIBE}?scorer=%00"),
        Bad("beam of NaN", wav, path=f"{TRANSCRIBE}?beam_width=nan"),
        Bad("huge beam", wav, path=f"{TRANSCRIBE}?beam_width=100000000"),
        Bad("weight of NaN", wav, path=f"{TRANSCRIBE}?lm_alpha=nan"),
        Bad("hot words without weight", wav, path=f"{TRANSCRIBE}?hot_words=cat"),
        Bad("hot words of infinity", wav, path=f"{TRANSCRIBE}?hot_words=cat:inf"),
        Bad("hot words of very much", wav, path=f"{TRANSCRIBE}?hot_words=a:1e300"),
        Bad("page of another site", wav, headers={"origin": "https://elsewhere.example"}),
        Bad("origin that is no address", wav, headers={"origin": "http://["}),
        Bad("unknown option", form(part("audio", wav), part("colour", b"red")), FORM),
        Bad("no method of it", method="DELETE"),
        Bad("path out of the assets", path="/static/..%2f..%2fetc/passwd", method="GET"),
        Bad("path with a zero", path="/static/%00", method="GET"),
        Bad("long path", path="/static/" + "x" * 5000, method="GET"),
        Bad("unknown set", path="/api/sets/%2e%2e%2fetc", method="GET"),
        Bad(
            "bad attributes",
            wav,
            path=INVOCATIONS,
            headers={"x-amzn-sagemaker-custom-attributes": "?=1"},
        ),
        in_json(b"\xff\xfe not JSON"),
        in_json(b"[" * 100_000),
        in_json([1, 2]),
        in_json({"audio": "no base64!"}),
        in_json({"audio": 7}),
        in_json({"instances": []}),
        in_json({"instances": [{"audio": audio}, {"sound": audio}]}),
        in_json({"audio": audio, "model": "\ud800"}),
        Bad("no line", b"\n\n", "application/jsonlines", INVOCATIONS),
        Bad("no array", wav, "application/x-npy", INVOCATIONS),
        Bad(
            "lines for an unknown model",
            json.dumps({"audio": audio}).encode(),
            "application/jsonlines",
            INVOCATIONS,
            headers={"x-amzn-sagemaker-target-model": "x"},
        ),
    ]


def generated(count: int, seed: int) -> Iterator[Bad]:
    """Yields `count` damaged uploads of all kinds."""
    rng = random.Random(seed)
    originals = {
        "wav": sound(),
        "flac": sound(form="FLAC"),
        "ogg": sound(form="OGG"),
        "mp3": sound(form="MP3"),
    }
    for number in range(count):
        name = rng.choice(list(originals))
        content = originals[name]
        match number % 8:
            case 0:  # too short for any format
                yield Bad(f"{number}: start of {name}", content[: rng.randrange(20)])
            case 1:
                noise = rng.randbytes(rng.randrange(1, 5000))
                yield Bad(f"{number}: noise", b"\1" + noise, f"audio/{name}")
            case 2:
                cut = form(part("audio", content, "x"))
                yield Bad(f"{number}: cut form", cut[: rng.randrange(len(cut) - 10)], FORM)
            case 3:
                option = rng.choice(["beam_width", "lm_alpha", "lm_beta", "candidates", "details"])
                value = rng.choice(
                    ["nan", "inf", "-inf", "1e999", "[]", "%ff", "0x10", "½", "-1e9"]
                )
                yield Bad(
                    f"{number}: {option}={value}", content, path=f"{TRANSCRIBE}?{option}={value}"
                )
            case 4:
                rate, channels = rng.choice([0, 1, 2**31]), rng.choice([0, 2**16 - 1])
                bits, encoding = rng.choice([0, 7, 99]), rng.choice([0, 0x55, 0xFFFF])
                yield Bad(f"{number}: head", wav_head(rate, channels, bits, encoding))
            case 5:
                text = base64.b64encode(content).decode()
                broken = json.dumps({"audio": text})[: rng.randrange(10, len(text))]
                yield in_json(broken.encode())
            case 6:
                kind = rng.choice(["text/html", "application/zip", "image/png", "", "a" * 3000])
                yield Bad(f"{number}: type {kind[:20]}", content, kind)
            case _:
                filename = rng.choice(
                    ["../../x", "/etc/passwd", "\\\\x\\y", "x" * 4000, "\r\n\r\n"]
                )
                bad = form(part("audio", rng.randbytes(99), filename))
                yield Bad(f"{number}: named {filename[:20]!r}", bad, FORM)
