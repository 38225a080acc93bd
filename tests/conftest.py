"""Shared by the tests: the repository's modules on the path, and the real speech if it is there."""

import os

import pytest

# Real speech lies beside the repository where there is any; tests that want it skip without.
CORPORA = os.environ.get(
    "SPEECH_CORPORA",
    os.path.join(os.path.dirname(__file__), os.pardir, os.pardir, "shared", "corpora"),
)


@pytest.fixture
def librispeech_mini() -> str:
    folder = os.path.join(CORPORA, "librispeech-mini")
    if not os.path.isdir(folder):
        pytest.skip(f"no real speech at {folder}")
    return folder
