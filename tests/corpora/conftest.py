"""Fixtures of the tests of corpora."""

from collections.abc import Callable
from pathlib import Path

import pytest
from small_split import SPOKEN

WriteSplit = Callable[[Path, dict[str, str]], None]


@pytest.fixture
def split(tmp_path: Path, write_split: WriteSplit) -> Path:
    """The split of `small_split`."""
    folder = tmp_path / "dev-clean"
    write_split(folder, SPOKEN)
    return folder
