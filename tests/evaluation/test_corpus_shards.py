"""Test sets without shards: what is prepared, skipped and counted."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_models import noise, tiny_config

from speech.corpora.formats.reading import Reading
from speech.evaluation import corpus_shards
from speech.features import front_end
from speech.input_pipeline.parsing import stored_features, transcripts
from speech.preparation.sets import CorpusSettings, Source
from speech.shards.shard_set import find_shards
from speech.text.transcripts import AS_IT_IS
from utils import UserError

CONFIG = tiny_config()


def corpus_of(path: Path, limit: int = 0) -> CorpusSettings:
    source = Source("mine", "--test_files", [str(path)])
    limits = {"mine": limit} if limit else {}
    return CorpusSettings((source,), None, Reading(), AS_IT_IS, None, "", "", limits)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two good utterances, one of them at another rate, and two that can't be used."""
    soundfile.write(tmp_path / "a.wav", noise(16000), 16000)
    soundfile.write(tmp_path / "b.wav", noise(8000), 8000)
    path = tmp_path / "test.csv"
    rows = ["a.wav,1,ab", "b.wav,1,ba", "c.wav,1,missing", "a.wav,1,na\u00efve"]
    path.write_text("\n".join(["wav_filename,wav_filesize,transcript", *rows]), "utf-8")
    return path


def test_utterances_get_the_models_features_and_are_removed_afterwards(
    table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with corpus_shards.prepared(corpus_of(table), CONFIG) as patterns:
        shards = find_shards(patterns[0])
        assert shards.name == "mine" and shards.index.settings.stride == CONFIG.network.stride_size
        assert [text for _, text in transcripts(shards)] == ["ab", "ba"]
        first, second = stored_features(shards)
        expected = front_end.extract(noise(16000), CONFIG.front_end)
        np.testing.assert_allclose(first, expected, rtol=0, atol=1e-5)
        assert len(second) == len(first)  # a second each
        folder = os.path.dirname(patterns[0])
        assert folder.startswith(tempfile.gettempdir())
    assert not os.path.exists(folder)
    (warning,) = (each.getMessage() for each in caplog.records if "skipped" in each.getMessage())
    assert "mine: 2 utterances are skipped, 1 " in warning
    for part in ("1 no audio", "1 unknown character", "--language", "test.csv:4", "test.csv:5"):
        assert part in warning


def test_recordings_that_are_cut_short_are_evaluated_and_named(
    table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut = table.parent / "a.wav"
    cut.write_bytes(cut.read_bytes()[:16044])
    with corpus_shards.prepared(corpus_of(table), CONFIG) as patterns:
        assert find_shards(patterns[0]).index.records == 2
    (warning,) = (each.getMessage() for each in caplog.records if "cut short" in each.getMessage())
    assert warning == (
        "mine: 1 recordings are cut short, and evaluated as far as they go: "
        f"{cut}: the wav's header promises 32044 bytes, the file has 16044."
    )


def test_a_limit_takes_the_first_utterances(table: Path) -> None:
    with corpus_shards.prepared(corpus_of(table, 1), CONFIG) as patterns:
        assert find_shards(patterns[0]).index.corpus_utterances == 1


def test_a_set_without_a_usable_utterance_is_an_error(table: Path) -> None:
    table.write_text("wav_filename,wav_filesize,transcript\nc.wav,1,missing\n")
    with (
        pytest.raises(UserError, match=r"No utterance can be used.*1 no audio: .*test\.csv:2"),
        corpus_shards.prepared(corpus_of(table), CONFIG),
    ):
        pass


def test_an_empty_table_is_an_error(table: Path) -> None:
    table.write_text("wav_filename,wav_filesize,transcript\n")
    with (
        pytest.raises(UserError, match=r"test\.csv contains no utterances.*--test_files"),
        corpus_shards.prepared(corpus_of(table), CONFIG),
    ):
        pass
