"""What the server says before it serves."""

import logging

import pytest

from speech.serving import main, server
from speech.serving.keys import ApiKeys


@pytest.mark.parametrize(
    ("host", "keys", "warned"),
    [
        ("0.0.0.0", [], True),
        ("::", [], True),
        ("0.0.0.0", ["a"], False),
        ("127.0.0.1", [], False),
        ("localhost", [], False),
    ],
)
def test_server_without_keys_that_others_reach_warns(
    host: str, keys: list[str], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with server.bind(host, 0) as bound, caplog.at_level(logging.WARNING, "absl"):
        main._warn_if_open(bound, ApiKeys(keys))
    assert [each.levelname for each in caplog.records] == ["WARNING"] * warned
    assert ("--api_key_file" in caplog.text) == warned
