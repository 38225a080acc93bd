"""Sets of shards that a pattern matches."""

from pathlib import Path

import pytest
from shard_indexes import FULL, SETTINGS, shard_at, skipped_at

from speech.shards.index import Index, read_index
from speech.shards.paths import index_path, shard_path
from speech.shards.records import frame_record
from speech.shards.shard_set import find_shards
from utils import UserError


def write_set(
    folder: Path, name: str = "train.tfrecords", starts: tuple[int, ...] = (0, 10)
) -> str:
    """Writes shards of a few bytes and their index; returns the pattern that finds them."""
    tfrecords_file = str(folder / name)
    index = Index(SETTINGS, 10 * len(starts), "d1ce" * 16)
    for start in starts:
        record = b"".join(frame_record(bytes(start)))
        Path(shard_path(tfrecords_file, start)).write_bytes(record)
        index = index.with_shard(shard_at(start, name, len(record)), [skipped_at(start + 5)])
    Path(index_path(tfrecords_file)).write_text(index.to_json())
    return f"{tfrecords_file}.*"


def refusal(pattern: str) -> str:
    with pytest.raises(UserError) as error:
        find_shards(pattern)
    return str(error.value)


def test_shards_are_found_in_order_with_their_index(tmp_path: Path) -> None:
    pattern = write_set(tmp_path, starts=(20, 0, 10))
    found = find_shards(pattern)
    assert found.pattern == pattern
    assert [Path(path).name[-8:] for path in found.files] == ["00000000", "00000010", "00000020"]
    assert found.index == read_index(str(tmp_path / "train.tfrecords"))


def test_a_pattern_of_some_shards_gives_an_index_of_only_those(tmp_path: Path) -> None:
    write_set(tmp_path, starts=(0, 10, 20))
    for pattern, starts in {"*.000000[12]0": [10, 20], "*.00000000": [0]}.items():
        found = find_shards(str(tmp_path / pattern))
        assert [shard.start for shard in found.index.shards] == starts
        assert found.index.records == 9 * len(starts)
        assert len(found.files) == len(starts)


def test_a_folder_whose_name_is_a_pattern_is_that_folder(tmp_path: Path) -> None:
    for folder in (tmp_path / "d[1]", tmp_path / "d1"):
        folder.mkdir()
        pattern = write_set(folder, "t[0].tfrecords")
        found = find_shards(pattern)
        assert {Path(path).parent for path in found.files} == {folder}
        assert len(find_shards(f"{folder}/t[0].tfrecords.000000[01]0").files) == 2
    (tmp_path / "d[1]" / "t[0].tfrecords.00000010").unlink()
    assert "is missing" in refusal(f"{tmp_path}/d[1]/t[0].tfrecords.*")


def test_other_sets_beside_are_left_out(tmp_path: Path) -> None:
    write_set(tmp_path, "dev.tfrecords")
    assert len(find_shards(write_set(tmp_path)).files) == 2


def test_a_pattern_without_shards_names_the_command_that_prepares_them(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / ".train.tfrecords.00000020.partial").write_text("")
    for pattern in ("test.tfrecords.*", "*.index.json", ".train*"):
        message = refusal(str(tmp_path / pattern))
        assert f"No shards match {tmp_path / pattern}" in message
        assert "prepare_libri.py" in message
        assert "--download=train-clean-100" in message and "--files_path" in message


@pytest.mark.parametrize(
    ("pattern", "warned"), [("train.tfrecords.*", True), ("*.00000000", False)]
)
def test_an_incomplete_set_gives_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pattern: str, warned: bool
) -> None:
    """Whoever names only some of its shards knows what they leave out."""
    write_set(tmp_path, starts=(0, 10, 20))
    path = tmp_path / "train.tfrecords.index.json"
    index = Index.from_json(path.read_text(), "")
    path.write_text(index.without_shard(index.shards[2]).to_json())
    (tmp_path / "train.tfrecords.00000020").unlink()
    find_shards(str(tmp_path / pattern))
    assert (f"{tmp_path}/train.tfrecords is incomplete" in caplog.text) == warned


def test_a_complete_set_gives_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    find_shards(write_set(tmp_path))
    assert not caplog.text


def test_a_pattern_of_several_sets_names_them(tmp_path: Path) -> None:
    write_set(tmp_path)
    write_set(tmp_path, "dev.tfrecords")
    message = refusal(str(tmp_path / "*"))
    assert f"{tmp_path}/dev.tfrecords, {tmp_path}/train.tfrecords: name one" in message


def test_a_missing_index_is_named(tmp_path: Path) -> None:
    pattern = write_set(tmp_path)
    (tmp_path / "train.tfrecords.index.json").unlink()
    assert f"{tmp_path}/train.tfrecords.index.json is missing" in refusal(pattern)


def test_a_shard_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    pattern = write_set(tmp_path)
    with open(tmp_path / "train.tfrecords.00000010", "ab") as file:
        file.write(b"x")
    assert "train.tfrecords.00000010 has 27 bytes, its index says 26" in refusal(pattern)


def test_a_shard_that_the_index_does_not_know_is_named(tmp_path: Path) -> None:
    pattern = write_set(tmp_path)
    (tmp_path / "train.tfrecords.00000020").write_bytes(b"")
    message = refusal(pattern)
    assert "index.json doesn't list train.tfrecords.00000020" in message and "prepare" in message


@pytest.mark.parametrize("pattern", ["data/*", "data//train.tfrecords.*", "*/train*"])
def test_a_listed_shard_that_is_missing_is_named(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "data").mkdir()
    write_set(tmp_path / "data", starts=(0, 10, 20))
    (tmp_path / "data" / "train.tfrecords.00000010").unlink()
    message = refusal(f"{tmp_path}/{pattern}")
    assert "train.tfrecords.00000010, which" in message and "is missing" in message


def test_a_missing_shard_outside_the_pattern_is_no_matter(tmp_path: Path) -> None:
    write_set(tmp_path, starts=(0, 10, 20))
    (tmp_path / "train.tfrecords.00000010").unlink()
    assert len(find_shards(str(tmp_path / "*.000000[02]0")).files) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not an index of shards"),
        ("{", "is not an index of shards"),
        ("[]", "is not an index of shards"),
        ("{}", "is not an index of shards (index: format is missing)"),
        ('{"format": 1}', "is not an index of shards"),
        (
            '{"format": 2}',
            "is not an index of shards (it has format 2, this program reads format 1)",
        ),
        (FULL.to_json().replace('"crc32c"', '"md5"'), "is not an index of shards"),
        (FULL.to_json()[:-20], "is not an index of shards"),
    ],
)
def test_a_file_that_is_no_index_of_this_format_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    pattern = write_set(tmp_path)
    path = tmp_path / "train.tfrecords.index.json"
    path.write_text(text)
    assert f"{path} {message}" in refusal(pattern)
    assert "prepare the shards again" in refusal(pattern)
