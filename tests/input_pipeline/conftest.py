"""Shards of utterances of many lengths."""

import pytest
from input_batches import FRAMES
from tiny_shards import random_utterances, write_shards

from speech.shards.shard_set import ShardSet


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_shards(tmp_path_factory.mktemp("shards"), random_utterances(FRAMES, 4))
