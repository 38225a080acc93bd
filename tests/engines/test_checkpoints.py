"""The latest checkpoint, the copy of the best one, and averages of several."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from full_disk import full_disk

from speech.engines import checkpoints
from speech.engines.checkpoints import CheckpointChoice
from utils import UserError


def save_session(folder: Path, *steps: int) -> None:
    """Checkpoints whose variable w is [step, 2 step]."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        step = tf.compat.v1.train.get_or_create_global_step()
        weights = tf.compat.v1.get_variable("w", [2], tf.float32)
        saver = tf.compat.v1.train.Saver()
        for number in steps:
            session.run([step.assign(number), weights.assign([number, 2.0 * number])])
            saver.save(session, str(folder / "model.ckpt"), global_step=step)


def weights_of(checkpoint: str) -> list[float]:
    return list(tf.train.load_variable(checkpoint, "w"))


def test_folder_without_checkpoint_has_none_and_no_steps(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        assert checkpoints.latest_checkpoint(str(folder)) is None
    assert checkpoints.steps_of(None) == 0


def test_latest_checkpoint_of_a_folder_knows_its_steps(tmp_path: Path) -> None:
    save_session(tmp_path, 3, 40)
    checkpoint = checkpoints.latest_checkpoint(str(tmp_path))
    assert checkpoint == str(tmp_path / "model.ckpt-40")
    assert checkpoints.steps_of(checkpoint) == 40
    assert checkpoints.steps_of(str(tmp_path / "model.ckpt-3")) == 3


def test_copy_of_the_best_one_replaces_the_one_before(tmp_path: Path) -> None:
    save_session(tmp_path, 3, 40)
    best = tmp_path / "best"
    for step in (3, 40, 40):
        checkpoints.replace_copy(str(tmp_path / f"model.ckpt-{step}"), str(best))
        names = {path.name.partition(".")[0] for path in best.iterdir()}
        assert names == {"checkpoint", "model"}
        assert {path.stem for path in best.glob("model.*")} == {f"model.ckpt-{step}"}
        assert checkpoints.latest_checkpoint(str(best)) == str(best / f"model.ckpt-{step}")
        assert weights_of(str(best / f"model.ckpt-{step}")) == [step, 2 * step]


def test_folders_may_be_named_from_here_and_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_session(tmp_path / "model", 3, 40)
    monkeypatch.chdir(tmp_path)
    for step in (3, 40):
        checkpoints.replace_copy(f"model/model.ckpt-{step}", "model/best")
        assert checkpoints.find_checkpoint("model", "best") == f"model/best/model.ckpt-{step}"
    assert checkpoints.average("model", [1, 1]) == "model/average/model.ckpt-40"
    (tmp_path / "model").rename(tmp_path / "moved")
    for which in ("best", "average"):
        found = checkpoints.find_checkpoint("moved", which)
        assert found == f"moved/{which}/model.ckpt-40"
        assert len(weights_of(found)) == 2
    assert len(list((tmp_path / "moved" / "best").iterdir())) == 4


def test_checkpoint_is_found_by_name_or_path(tmp_path: Path) -> None:
    save_session(tmp_path, 3, 40)
    folder = str(tmp_path)
    assert checkpoints.find_checkpoint(folder, None).endswith("/model.ckpt-40")
    checkpoints.replace_copy(str(tmp_path / "model.ckpt-3"), str(tmp_path / "best"))
    assert checkpoints.find_checkpoint(folder, None) == str(tmp_path / "best" / "model.ckpt-3")
    assert checkpoints.find_checkpoint(folder, "latest") == str(tmp_path / "model.ckpt-40")
    path = str(tmp_path / "model.ckpt-3")
    assert checkpoints.find_checkpoint(folder, path) == path
    with pytest.raises(UserError, match="--average_checkpoints=5 makes one"):
        checkpoints.find_checkpoint(folder, "average")
    with pytest.raises(UserError, match=r"no checkpoint .*ckpt-4: give best"):
        checkpoints.find_checkpoint(folder, str(tmp_path / "model.ckpt-4"))


def test_average_is_weighted_from_the_newest_on(tmp_path: Path) -> None:
    save_session(tmp_path, 10, 20, 40)
    path = checkpoints.average(str(tmp_path), [3, 1])
    assert path == str(tmp_path / "average" / "model.ckpt-40")
    np.testing.assert_allclose(weights_of(path), [35, 70])
    assert checkpoints.steps_of(path) == 40  # which isn't averaged
    assert checkpoints.find_checkpoint(str(tmp_path), "average") == path
    np.testing.assert_allclose(
        weights_of(checkpoints.average(str(tmp_path), [1, 1, 1])), [70 / 3, 140 / 3]
    )
    with pytest.raises(UserError, match=r"asks for 4 checkpoints, .* keeps 3"):
        checkpoints.average(str(tmp_path), [1] * 4)


def test_average_leaves_the_untrained_checkpoint_out(tmp_path: Path) -> None:
    save_session(tmp_path, 0, 10, 20)
    np.testing.assert_allclose(weights_of(checkpoints.average(str(tmp_path), [1, 1])), [15, 30])
    with pytest.raises(UserError, match="keeps 2"):
        checkpoints.average(str(tmp_path), [1, 1, 1])


@pytest.mark.parametrize("how", ["cut short", "removed", "overwritten"])
def test_damaged_latest_checkpoint_gives_way_to_the_one_before(tmp_path: Path, how: str) -> None:
    save_session(tmp_path, 3, 4, 40)
    checkpoints.drop_damaged(str(tmp_path))
    assert checkpoints.steps_of(checkpoints.latest_checkpoint(str(tmp_path))) == 40
    data, index = (next(tmp_path.glob(f"model.ckpt-40.{kind}*")) for kind in ("data", "index"))
    if how == "cut short":
        data.write_bytes(data.read_bytes()[:-4])
    elif how == "removed":
        data.unlink()
        index.unlink()
    else:
        index.write_bytes(b"nonsense")
        with pytest.raises(UserError, match=r"model\.ckpt-40 can't be read"):
            checkpoints.steps_of(str(tmp_path / "model.ckpt-40"))
    checkpoints.drop_damaged(str(tmp_path))
    assert checkpoints.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt-4")
    kept = checkpoints.kept_checkpoints(str(tmp_path))
    assert [Path(path).name for path in kept] == ["model.ckpt-4", "model.ckpt-3"]


@pytest.mark.parametrize(
    "content",
    [b"", b"model_checkpoint_path: \xff", b'model_checkpoint_path: "model', b"\0", b'x: "y"'],
)
def test_names_that_cannot_be_read_start_no_new_training(tmp_path: Path, content: bytes) -> None:
    save_session(tmp_path, 3)
    path = tmp_path / "checkpoint"
    path.write_bytes(content)
    for use in (checkpoints.drop_damaged, checkpoints.latest_checkpoint):
        with pytest.raises(UserError, match=f"^{path} (doesn't name|can't be read)"):
            use(str(tmp_path))
    path.write_text('model_checkpoint_path: "model.ckpt-3"')  # what the message says
    assert checkpoints.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt-3")
    path.write_text('model_checkpoint_path: "model.ckpt-4"')
    assert checkpoints.latest_checkpoint(str(tmp_path)) is None


def test_folder_of_damaged_checkpoints_is_refused(tmp_path: Path) -> None:
    save_session(tmp_path, 3)
    (tmp_path / "model.ckpt-3.index").unlink()
    with pytest.raises(UserError, match=r"No checkpoint in .* can be read"):
        checkpoints.drop_damaged(str(tmp_path))
    checkpoints.drop_damaged(str(tmp_path / "missing"))  # where nothing can be damaged


def test_weights_are_a_number_or_one_each() -> None:
    assert checkpoints.parse_weights("3") == (1.0, 1.0, 1.0)
    assert checkpoints.parse_weights("3,2,0.5") == (3.0, 2.0, 0.5)
    for bad in ("", "0", "2.5", "-1,2", "0,0", "many", "1,inf", "nan,1", "1000000000", "9" * 20):
        with pytest.raises(UserError, match="newest first"):
            checkpoints.parse_weights(bad)


@pytest.mark.parametrize("name", ["data[1]", "what?", "a*"])
def test_a_folder_that_tensorflow_takes_for_a_pattern_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"has one of .* give the folder another name"):
        checkpoints.find_checkpoint(str(tmp_path / name), None)


def test_saved_values_are_the_latest_checkpoint_and_the_oldest_ones_go(tmp_path: Path) -> None:
    folder = str(tmp_path / "model")
    for step in (0, 3, 6):
        values = {"global_step": np.int64(step), "w": np.array([step, 2 * step], np.float32)}
        path = checkpoints.save(folder, values, keep=2)
        assert checkpoints.latest_step(folder) == checkpoints.steps_of(path) == step
    assert weights_of(path) == [6, 12]
    kept = [Path(each).name for each in checkpoints.kept_checkpoints(folder)]
    assert kept == ["model.ckpt-6", "model.ckpt-3"]
    assert not list(tmp_path.glob("model/model.ckpt-0.*"))
    checkpoints.save(folder, values, keep=2)  # the same step again
    assert len(checkpoints.kept_checkpoints(folder)) == 2


def test_choice_is_a_checkpoint_or_an_average_that_is_made(tmp_path: Path) -> None:
    save_session(tmp_path, 3, 40)
    assert CheckpointChoice("latest").find(str(tmp_path)) == str(tmp_path / "model.ckpt-40")
    averaged = CheckpointChoice(average_weights=(1, 1)).find(str(tmp_path))
    assert averaged == str(tmp_path / "average" / "model.ckpt-40")


# --- The model's folder ---------------------------------------------------------------------------


def test_folder_that_can_be_written_is_made_and_left_empty(tmp_path: Path) -> None:
    for _ in range(2):
        checkpoints.check_writable(str(tmp_path / "new" / "model"))
        assert list((tmp_path / "new" / "model").iterdir()) == []


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/self/model"])
def test_folder_that_cannot_be_made_is_named(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("no folder")
    model_dir = str(tmp_path / folder)
    with pytest.raises(UserError) as error:
        checkpoints.check_writable(model_dir)
    assert f"can't write into --model_dir={model_dir}: " in str(error.value)
    assert "Choose another folder" in str(error.value) and "\n" not in str(error.value)


def test_full_disk_is_named(tmp_path: Path) -> None:
    with full_disk(0), pytest.raises(UserError, match=r"model_dir=.*File too large.*make room"):
        checkpoints.check_writable(str(tmp_path))
