"""The flags of training, and the settings that they give."""

import pytest
from doors import parse_flags

import constants
from speech.flags.training import define_training_flags, training_from_flags
from speech.networks.config import TrainingConfig
from speech.training.early_stopping import EarlyStopping
from speech.training.settings import TrainingSettings
from utils import UserError


def settings(*given: str) -> TrainingSettings:
    return training_from_flags(parse_flags(define_training_flags, *given))


def test_defaults_are_those_of_the_settings() -> None:
    default = settings()
    assert default.optimisation == TrainingConfig()
    assert default.loop.early_stopping == EarlyStopping()
    assert default.data.train_data == constants.TRAIN_DATA
    assert default.run.train_batch_size == constants.TRAIN_BATCH_SIZE
    assert default.loop.average_weights == () and not default.describe_steps


def test_values_reach_their_settings() -> None:
    given = settings(
        "--model_dir=m",
        "--train_batch_size=6",
        "--learning_rate=0.5",
        "--early_stop",
        "--es_epochs=3",
        "--average_checkpoints=3,1",
        "--drop_layers=2",
        "--init_checkpoint=other",
        "--max_bad_steps=7",
        "--logging=debug",
        "--augment=a",
        "--augment=b",
    )
    assert given.run.model_dir == "m"
    assert given.optimisation.train_batch_size == given.run.train_batch_size == 6
    assert given.optimisation.learning_rate == 0.5 and given.optimisation.augment == ("a", "b")
    assert given.loop.early_stopping == EarlyStopping(early_stop=True, es_epochs=3)
    assert given.loop.average_weights == (3.0, 1.0) and given.loop.max_bad_steps == 7
    assert (given.start.init_checkpoint, given.start.drop_layers) == ("other", 2)
    assert given.describe_steps


def test_average_of_more_checkpoints_than_are_kept_is_refused() -> None:
    assert settings("--average_checkpoints=5").loop.average_weights == (1.0,) * 5
    with pytest.raises(UserError, match=r"--average_checkpoints=6 .*--keep_checkpoint_max=5"):
        settings("--average_checkpoints=6")


@pytest.mark.parametrize("flag", ["--early_stop", "--reduce_lr_on_plateau"])
def test_early_stopping_without_a_development_set_is_refused(flag: str) -> None:
    with pytest.raises(UserError, match="require a development set: give --dev_data"):
        settings("--dev_data=", flag)
