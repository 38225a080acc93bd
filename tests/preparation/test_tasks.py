"""Tasks of the doors that prepare sets."""

from pathlib import Path

import pytest
from sounds import write_sound

from speech.corpora.utterance import Utterance
from speech.features.front_end import FrontEnd
from speech.preparation import tasks
from speech.preparation.tasks import ExecutionSettings
from speech.shards.index import ShardSettings
from utils import ENGLISH, UserError

SETTINGS = ShardSettings(FrontEnd(), ENGLISH, 10, 200, 50, False, 2)
EXECUTION = ExecutionSettings(0, 1, None, False)


def utterances(folder: Path, transcript: str) -> list[Utterance]:
    return [Utterance("1", str(write_sound(folder / "1.flac", 0.5)), transcript, "")]


def test_a_set_is_written_and_its_table_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks.prepare_set(utterances(tmp_path, "yes"), f"{tmp_path}/t", SETTINGS, EXECUTION)
    assert "1 of 1" in capsys.readouterr().out
    tasks.verify_and_upload([f"{tmp_path}/t"], verified=True, folder=None)
    assert "1 records" in capsys.readouterr().out


def test_a_set_without_a_usable_utterance_is_an_error_after_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"None of the 1 utterances could be used"):
        tasks.prepare_set(utterances(tmp_path, "да"), f"{tmp_path}/t", SETTINGS, EXECUTION)
    assert "unknown character" in capsys.readouterr().out


def test_damaged_shards_are_named_and_not_uploaded(tmp_path: Path) -> None:
    tasks.prepare_set(utterances(tmp_path, "yes"), f"{tmp_path}/t", SETTINGS, EXECUTION)
    shard = tmp_path / "t.00000000"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"1 damaged shards:"):
        tasks.verify_and_upload([f"{tmp_path}/t"], verified=True, folder="gs://b/data")


@pytest.mark.parametrize(("name", "folder"), [("t", "elsewhere"), ("gs://b/t", "gs://b/data")])
def test_only_local_shards_are_uploaded_and_only_to_a_bucket(name: str, folder: str) -> None:
    with pytest.raises(UserError, match=r"in a bucket"):
        tasks.verify_and_upload([name], verified=False, folder=folder)
