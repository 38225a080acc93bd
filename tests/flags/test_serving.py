"""Settings of the server from flags."""

import functools

import pytest
from doors import parse_flags

from speech.decoding.beam_search import BeamSettings
from speech.flags import serving as serving_flags
from speech.serving.settings import RequestLimits
from utils import UserError

parse = functools.partial(parse_flags, serving_flags.define_serving_flags)


def test_flags_become_settings() -> None:
    found = serving_flags.server_settings_from_flags(
        parse(
            "--models=a,b.tflite",
            "--host=Box",
            "--allowed_hosts=Speech.example.org,bücher.example",
            "--max_upload_mb=0.5",
            "--max_seconds=20",
            "--max_waiting=7",
            "--beam_width=8",
        )
    )
    assert (found.models, found.scorers, found.port) == (("a", "b.tflite"), (), 8080)
    assert found.host_names == {"box", "speech.example.org", "xn--bcher-kva.example"}
    assert found.limits == RequestLimits(500_000, 20, 7)
    assert found.search == BeamSettings(beam_width=8)


def test_invalid_host_name_is_refused() -> None:
    with pytest.raises(UserError, match="--allowed_hosts=http://x is not a host name"):
        serving_flags.server_settings_from_flags(parse("--allowed_hosts=http://x"))
