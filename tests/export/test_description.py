"""Descriptions of exported models."""

import json

import pytest
from tiny_models import tiny_config

from speech.export.description import Description, Naming
from utils import UserError


def test_description_is_read_as_it_was_written() -> None:
    naming = Naming("name", "1.2", "someone", "el-GR", "CC0-1.0", "μία πρόταση")
    description = Description(tiny_config(normalisation="corpus"), 12, naming)
    assert Description.from_json(description.to_json(), "x") == description


def test_description_of_another_format_is_refused() -> None:
    content = json.loads(Description(tiny_config(), 1).to_json())
    with pytest.raises(UserError, match="it has format 9, this program reads format 1"):
        Description.from_json(json.dumps({**content, "format": 9}), "x")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}'])
def test_invalid_description_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="x is not an exported model's description"):
        Description.from_json(text, "x")
