"""TensorFlow's errors, as users see them."""

import pytest
import tensorflow as tf

from speech.engines.errors import explain_errors, first_line
from utils import UserError


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (tf.errors.DataLossError(None, None, "truncated at 7"), ["is damaged", "truncated at 7"]),
        (
            tf.errors.NotFoundError(None, None, "Key rnn/bias not found in checkpoint\n\tnode"),
            ["no value for a variable", "Key rnn/bias", "another --model_dir"],
        ),
        (
            tf.errors.NotFoundError(None, None, "gs://b/x with body {json}"),
            ["can't be reached: gs://b/x.", "the same command again"],
        ),
        (tf.errors.PermissionDeniedError(None, None, "no"), ["can't be reached: no."]),
        (tf.errors.UnavailableError(None, None, "away"), ["can't be reached: away."]),
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"),
            ["Out of memory or disk: OOM", "--train_batch_size"],
        ),
    ],
    ids=["damaged", "variable", "missing", "permission", "unavailable", "memory"],
)
def test_an_error_that_a_user_can_correct_is_explained(
    error: tf.errors.OpError, parts: list[str]
) -> None:
    with pytest.raises(UserError) as explained, explain_errors("my/model"):
        raise error
    assert "\n" not in str(explained.value)
    for part in parts:
        assert part in str(explained.value)


def test_other_errors_pass() -> None:
    with pytest.raises(tf.errors.InternalError), explain_errors("my/model"):
        raise tf.errors.InternalError(None, None, "a defect")


def test_message_is_cut_before_the_answer_of_a_bucket_and_the_nodes() -> None:
    assert first_line("Error executing request. with body {}\n\t[[node]]") == (
        "Error executing request"
    )
