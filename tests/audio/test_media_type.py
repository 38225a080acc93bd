"""Media types of sound files."""

import base64
import io

import numpy as np
import pytest
import soundfile

from speech.audio.media_type import data_uri


@pytest.mark.parametrize(
    ("form", "subtype", "kind"),
    [
        ("FLAC", "PCM_16", "audio/flac"),
        ("WAV", "PCM_16", "audio/wav"),
        ("OGG", "VORBIS", "audio/ogg"),
        ("MP3", "MPEG_LAYER_III", "audio/mpeg"),
    ],
)
def test_address_holds_the_recording_and_its_type(form: str, subtype: str, kind: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(1600), 16000, format=form, subtype=subtype)
    head, content = data_uri(file.getvalue()).split(",")
    assert head == f"data:{kind};base64"
    assert base64.b64decode(content) == file.getvalue()
