"""The latest checkpoint, the best one apart, and averages of several."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from speech.engines import checkpoints
from utils import UserError


def save(folder: Path, *steps: int) -> None:
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
    save(tmp_path, 3, 40)
    checkpoint = checkpoints.latest_checkpoint(str(tmp_path))
    assert checkpoint == str(tmp_path / "model.ckpt-40")
    assert checkpoints.steps_of(checkpoint) == 40
    assert checkpoints.steps_of(str(tmp_path / "model.ckpt-3")) == 3


def test_best_one_is_kept_apart_and_the_one_before_goes(tmp_path: Path) -> None:
    save(tmp_path, 3, 40)
    best = tmp_path / "best"
    for step in (3, 40, 40):
        checkpoints.keep_apart(str(tmp_path / f"model.ckpt-{step}"), str(best))
        names = {path.name.partition(".")[0] for path in best.iterdir()}
        assert names == {"checkpoint", "model"}
        assert {path.stem for path in best.glob("model.*")} == {f"model.ckpt-{step}"}
        assert checkpoints.latest_checkpoint(str(best)) == str(best / f"model.ckpt-{step}")
        assert weights_of(str(best / f"model.ckpt-{step}")) == [step, 2 * step]


def test_folders_may_be_named_from_here_and_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "model", 3, 40)
    monkeypatch.chdir(tmp_path)
    for step in (3, 40):
        checkpoints.keep_apart(f"model/model.ckpt-{step}", "model/best")
        assert checkpoints.find_checkpoint("model", "best") == f"model/best/model.ckpt-{step}"
    assert checkpoints.average("model", [1, 1]) == "model/average/model.ckpt-40"
    (tmp_path / "model").rename(tmp_path / "moved")
    for which in ("best", "average"):
        found = checkpoints.find_checkpoint("moved", which)
        assert found == f"moved/{which}/model.ckpt-40"
        assert len(weights_of(found)) == 2
    assert len(list((tmp_path / "moved" / "best").iterdir())) == 4


def test_found_is_what_is_asked_for(tmp_path: Path) -> None:
    save(tmp_path, 3, 40)
    folder = str(tmp_path)
    assert checkpoints.find_checkpoint(folder, None).endswith("/model.ckpt-40")
    checkpoints.keep_apart(str(tmp_path / "model.ckpt-3"), str(tmp_path / "best"))
    assert checkpoints.find_checkpoint(folder, None) == str(tmp_path / "best" / "model.ckpt-3")
    assert checkpoints.find_checkpoint(folder, "latest") == str(tmp_path / "model.ckpt-40")
    path = str(tmp_path / "model.ckpt-3")
    assert checkpoints.find_checkpoint(folder, path) == path
    with pytest.raises(UserError, match="--average_checkpoints=5 makes one"):
        checkpoints.find_checkpoint(folder, "average")
    with pytest.raises(UserError, match=r"no checkpoint .*ckpt-4: name best"):
        checkpoints.find_checkpoint(folder, str(tmp_path / "model.ckpt-4"))


def test_average_is_weighted_from_the_newest_on(tmp_path: Path) -> None:
    save(tmp_path, 10, 20, 40)
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
    save(tmp_path, 0, 10, 20)
    np.testing.assert_allclose(weights_of(checkpoints.average(str(tmp_path), [1, 1])), [15, 30])
    with pytest.raises(UserError, match="keeps 2"):
        checkpoints.average(str(tmp_path), [1, 1, 1])


@pytest.mark.parametrize("how", ["cut short", "removed", "overwritten"])
def test_damaged_latest_checkpoint_gives_way_to_the_one_before(tmp_path: Path, how: str) -> None:
    save(tmp_path, 3, 4, 40)
    checkpoints.give_up_damaged(str(tmp_path))
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
    checkpoints.give_up_damaged(str(tmp_path))
    assert checkpoints.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt-4")
    kept = checkpoints.kept_checkpoints(str(tmp_path))
    assert [Path(path).name for path in kept] == ["model.ckpt-4", "model.ckpt-3"]


@pytest.mark.parametrize(
    "content",
    [b"", b"model_checkpoint_path: \xff", b'model_checkpoint_path: "model', b"\0", b'x: "y"'],
)
def test_names_that_can_not_be_read_begin_no_new_training(tmp_path: Path, content: bytes) -> None:
    save(tmp_path, 3)
    path = tmp_path / "checkpoint"
    path.write_bytes(content)
    for use in (checkpoints.give_up_damaged, checkpoints.latest_checkpoint):
        with pytest.raises(UserError, match=f"^{path} (doesn't name|can't be read)"):
            use(str(tmp_path))
    path.write_text('model_checkpoint_path: "model.ckpt-3"')  # what the message says
    assert checkpoints.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt-3")
    path.write_text('model_checkpoint_path: "model.ckpt-4"')
    assert checkpoints.latest_checkpoint(str(tmp_path)) is None


def test_folder_of_damaged_checkpoints_is_told_of(tmp_path: Path) -> None:
    save(tmp_path, 3)
    (tmp_path / "model.ckpt-3.index").unlink()
    with pytest.raises(UserError, match=r"No checkpoint in .* can be read"):
        checkpoints.give_up_damaged(str(tmp_path))
    checkpoints.give_up_damaged(str(tmp_path / "missing"))  # where nothing can be damaged


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
