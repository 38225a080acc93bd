"""TensorFlow's errors and messages, as users are to see them."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from utils import UserError


@contextlib.contextmanager
def explain_errors(model_dir: str) -> Iterator[None]:
    """Turns TensorFlow's errors that a user can correct into a UserError."""
    try:
        yield
    except tf.errors.DataLossError as error:
        raise UserError(
            f"A file is damaged: {error.message} Prepare or copy the shards again; if it is a "
            f"checkpoint in {model_dir}, remove it."
        ) from None
    except tf.errors.NotFoundError as error:
        if "not found in checkpoint" in error.message:
            raise UserError(
                f"A checkpoint in {model_dir} has no value for a variable of this network: "
                f"{first_line(error.message)}. It was imported, is of another network, or another "
                "version of this program saved it: train in another --model_dir, with this one as "
                "--init_checkpoint."
            ) from None
        raise _unreachable(error, model_dir) from None
    except (
        tf.errors.PermissionDeniedError,
        tf.errors.UnavailableError,
    ) as error:
        raise _unreachable(error, model_dir) from None
    except tf.errors.ResourceExhaustedError as error:
        raise UserError(
            f"Out of memory or disk: {error.message[:300]} Lower --train_batch_size or "
            "--eval_batch_size, or make room."
        ) from None


def _unreachable(error: tf.errors.OpError, model_dir: str) -> UserError:
    return UserError(
        f"A file can't be reached: {first_line(error.message)}. Check that the bucket or folder "
        "exists and that you may use it, then run the same command again: it continues from the "
        f"last checkpoint in {model_dir}."
    )


def first_line(message: str) -> str:
    """Returns TensorFlow's message without a bucket's whole answer and the graph's nodes."""
    return message.partition("\n")[0].partition(" with body")[0].strip().rstrip(".")
