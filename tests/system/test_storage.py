"""Tests of local files and of objects in a bucket."""

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from emulator import Emulator
from full_disk import full_disk

from speech.system import storage
from utils import UserError

ROOT = Path(__file__).resolve().parents[2]


def test_text_is_read_back(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "folder" / "a.txt")
    for text in ("naïve ж\n", "", "shorter\r\n"):
        storage.write_text(path, text)
        assert Path(path).read_bytes() == text.encode()
    storage.write_text(path, "naïve ж\n")
    assert storage.read_text(path) == "naïve ж\n"
    assert os.listdir(tmp_path / "new" / "folder") == ["a.txt"]


def test_a_path_without_a_folder_is_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage.write_text("a.txt", "here")
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failed_write_leaves_the_old_text_and_nothing_else(tmp_path: Path) -> None:
    path = str(tmp_path / "a.txt")
    storage.write_text(path, "old")
    message = rf"a\.txt can't be written: {os.strerror(errno.EFBIG)}"
    with full_disk(4096), pytest.raises(UserError, match=message):
        storage.write_text(path, "x" * 5000)
    assert storage.read_text(path) == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("place", ["local", "bucket"])
def test_names_with_brackets_come_before_sets_of_characters(
    request: pytest.FixtureRequest, tmp_path: Path, place: str
) -> None:
    folder = str(tmp_path)
    if place == "bucket":
        folder = request.getfixturevalue("own_bucket")
    for name in ("d[1]/t.00", "d[1]/t.01", "d1/t.00", "e1/t[0].00", "e1/t0.00", "f{1}/t.00"):
        storage.write_text(f"{folder}/{name}", "12")

    def found(pattern: str) -> list[str]:
        paths = storage.sizes(storage.resolve_pattern(f"{folder}/{pattern}"))
        return [path.removeprefix(f"{folder}/") for path in paths]

    assert found("d[1]/t.*") == ["d[1]/t.00", "d[1]/t.01"]
    assert found("d[1]/t.0[1-9]") == ["d[1]/t.01"]
    assert found("d[0-9]/t.*") == ["d1/t.00"]
    assert found("e[1]/t[0].*") == ["e1/t[0].00"]
    assert found("e[1]/t?.0[!1]") == ["e1/t0.00"]
    assert found("*/t.0[0]") == ["d1/t.00", "d[1]/t.00", "f{1}/t.00"]
    assert found("f{1}/*") == ["f{1}/t.00"]
    assert found("d[2]/t.*") == found("d[1/t.*") == []
    assert storage.resolve_pattern(f"{folder}/d[2]/t.*") == f"{folder}/d[2]/t.*"


def test_a_folder_instead_of_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(UserError, match=r"a\.txt can't be written: Is a directory"):
        storage.write_text(str(tmp_path / "a.txt"), "text")
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("folder", ["file/below", "/proc/self"])
def test_a_folder_that_can_not_be_written_is_reported(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    path = os.path.join(tmp_path, folder, "a.txt")
    with pytest.raises(UserError, match=r"a\.txt can't be written"):
        storage.write_text(path, "text")


def test_folders_are_made_and_may_exist(tmp_path: Path) -> None:
    for _ in range(2):
        storage.make_folder(str(tmp_path / "new" / "folder"))
    assert (tmp_path / "new" / "folder").is_dir()
    storage.make_folder("")
    storage.make_folder("gs://bucket/folder")  # makes no request


def test_a_folder_that_can_not_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/below can't be made: Not a directory"):
        storage.make_folder(str(tmp_path / "file/below"))


def test_a_read_only_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of os.access is faked, since root may write everywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(UserError, match=r"can't be written into: choose another"):
        storage.make_folder(str(tmp_path))


def test_a_file_that_can_not_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"\xe9")
    (tmp_path / "folder").mkdir()
    for name, why in {
        "missing.txt": "No such file or directory. Check that it is there",
        "latin.txt": "it is not UTF-8",
        "folder": "it is a folder. Remove it",
    }.items():
        path = str(tmp_path / name)
        with pytest.raises(UserError) as error:
            storage.read_text(path)
        assert str(error.value).startswith(f"{path} can't be read: {why}")
        assert str(error.value).count(path) == 1


def test_matches_are_sorted_and_exclude_incomplete_files(
    tmp_path: Path,
) -> None:
    for name in ("b.10", "b.2", "a.1", "c", ".b.3.partial"):
        (tmp_path / name).write_text(name)
    sizes = storage.sizes(str(tmp_path / "*.*"))
    assert list(sizes.items()) == [
        (str(tmp_path / name), len(name)) for name in ("a.1", "b.10", "b.2")
    ]
    assert storage.sizes(str(tmp_path / "d*")) == {}
    partial = storage.partial_path(str(tmp_path / "b.3"))
    assert partial == str(tmp_path / ".b.3.partial")


def test_files_below_a_folder_have_their_sizes_and_links_are_followed(tmp_path: Path) -> None:
    for name in ("a", "b/c", "b/.d"):
        storage.write_text(str(tmp_path / "all" / name), name)
    (tmp_path / "all" / "nowhere").symlink_to(tmp_path / "missing")
    (tmp_path / "linked").symlink_to(tmp_path / "all")
    for root in ("all", "linked"):
        folder = tmp_path / root
        assert dict(storage.files_below(str(folder))) == {
            str(folder / "a"): 1,
            str(folder / "b/c"): 3,
            str(folder / "b/.d"): 4,
            str(folder / "nowhere"): None,
        }
    assert list(storage.files_below(str(tmp_path / "missing"))) == []


def test_a_file_instead_of_a_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file can't be read: Not a directory"):
        list(storage.files_below(str(tmp_path / "file")))
    with pytest.raises(UserError, match=r"file can't be removed: Not a directory"):
        storage.remove_folder(str(tmp_path / "file"))


def test_a_folder_is_removed_with_all_below_it(tmp_path: Path) -> None:
    storage.write_text(str(tmp_path / "all/b/c"), "")
    for _ in range(2):  # the second time there is none
        storage.remove_folder(str(tmp_path / "all"))
        assert not list(tmp_path.iterdir())


def test_a_folder_in_a_bucket_is_listed_and_removed_alone(
    emulator: Emulator, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    root = bucket.removeprefix(f"gs://{emulator.bucket}/")
    for name in ("all/", "all/a", "all/b/c", "all2/d"):
        emulator.put(f"{root}/{name}", name.encode())
    for folder in (f"{bucket}/all", f"{bucket}/all/"):
        assert dict(storage.files_below(folder)) == {f"{bucket}/all/a": 5, f"{bucket}/all/b/c": 7}
    assert f"{bucket}/all2/d" in dict(storage.files_below(f"gs://{emulator.bucket}"))
    storage.remove_folder(f"{bucket}/all")
    assert list(storage.files_below(f"{bucket}/all")) == []
    assert dict(storage.files_below(bucket)) == {f"{bucket}/all2/d": 6}


def test_size_and_existence(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert storage.size(str(tmp_path / "a")) == 5
    assert storage.size(str(tmp_path / "b")) is None
    assert storage.exists(str(tmp_path / "a")) and not storage.exists(str(tmp_path / "b"))


def test_names_in_a_bucket_join_with_a_slash(tmp_path: Path) -> None:
    assert storage.join("gs://bucket/data/", "a") == "gs://bucket/data/a"
    assert storage.join("gs://bucket", "a") == storage.join("gs://bucket//", "a") == "gs://bucket/a"
    assert storage.join("data", "a") == os.path.join("data", "a")
    assert storage.join("", "a") == "a"
    assert storage.in_bucket("gs://bucket/a") and not storage.in_bucket("data/gs://a")


def test_hidden_paths_are_beside_their_file() -> None:
    for path, hidden in {
        "t": ".t.lock",
        "data/t": "data/.t.lock",
        "/t": "/.t.lock",
        "gs://bucket/t": "gs://bucket/.t.lock",
        "gs://bucket/data/t": "gs://bucket/data/.t.lock",
    }.items():
        assert storage.hidden_path(path, ".lock") == hidden


def test_a_bucket_without_a_name_is_reported_by_every_function() -> None:
    path = storage.join("gs://", "t")
    for action in (storage.exists, storage.size, storage.sizes, storage.read_text):
        with pytest.raises(UserError, match="give it as gs://BUCKET/PATH"):
            action(path)


def test_local_files_need_no_tensorflow(tmp_path: Path) -> None:
    program = (
        "import sys; from speech.system import storage; path = sys.argv[1]; "
        "storage.write_text(path, ''); storage.read_text(path); storage.sizes(path); "
        "storage.exists(path); storage.size(path); sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")], cwd=ROOT, check=True)


# --- In a bucket ----------------------------------------------------------------------------------


def test_text_is_read_back_from_a_bucket(own_bucket: str) -> None:
    path = f"{own_bucket}/new/folder/a.txt"
    assert not storage.exists(path) and storage.size(path) is None
    for text in ("naïve ж\n", "", "shorter\r\n"):
        storage.write_text(path, text)
        assert storage.read_text(path) == text
        assert storage.exists(path) and storage.size(path) == len(text.encode())
    assert storage.sizes(f"{own_bucket}/new/folder/*") == {path: len("shorter\r\n")}


def test_a_failed_write_leaves_the_old_text_in_the_bucket(
    emulator: Emulator, own_bucket: str
) -> None:
    path = f"{own_bucket}/a.txt"
    storage.write_text(path, "old")
    emulator.refuse_uploads_after(requests=0)
    with pytest.raises(UserError, match=rf"{path} can't be reached"):
        storage.write_text(path, "new")
    assert storage.read_text(path) == "old"


def test_an_object_that_can_not_be_read_is_reported(emulator: Emulator, own_bucket: str) -> None:
    emulator.put(f"{own_bucket.rpartition('/')[2]}/latin.txt", b"\xe9")
    with pytest.raises(UserError, match=r"latin\.txt can't be read: it is not UTF-8"):
        storage.read_text(f"{own_bucket}/latin.txt")
    with pytest.raises(UserError, match=r"missing\.txt doesn't exist"):
        storage.read_text(f"{own_bucket}/missing.txt")
    for action in (storage.exists, storage.size, storage.sizes):
        with pytest.raises(UserError, match="gs://no-such-bucket/a doesn't exist"):
            action("gs://no-such-bucket/a")


def test_matches_in_a_bucket_are_sorted(own_bucket: str) -> None:
    for name in ("b.10", "b.2", "a.1", "c", "below/b.1"):
        storage.write_text(f"{own_bucket}/{name}", name)
    assert list(storage.sizes(f"{own_bucket}/*.*").items()) == [
        (f"{own_bucket}/{name}", len(name)) for name in ("a.1", "b.10", "b.2")
    ]
    assert storage.sizes(f"{own_bucket}/d*") == {}


def test_readers_and_writers_of_buckets_and_files_behave_alike(
    own_bucket: str, tmp_path: Path
) -> None:
    for path in (f"{own_bucket}/a", str(tmp_path / "a")):
        with contextlib.closing(storage.open_writer(path)) as writer:
            writer.write(b"given up")
        assert not storage.exists(path)
        with contextlib.closing(storage.open_writer(path)) as writer:
            writer.write(b"first, ")
            writer.write(b"second")
            assert not storage.exists(path)
            writer.commit()
        with storage.open_reader(path) as file:
            assert file.read(5) == b"first"
            assert file.read() == b", second"


def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(
        UserError, match="is not a regular file, and would be replaced by one: name a file"
    ):
        storage.write_text(str(path), "text")
    assert path.is_fifo() and list(tmp_path.iterdir()) == [path]
