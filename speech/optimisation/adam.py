"""Adam (arXiv 1412.6980), under the names that TensorFlow's AdamOptimizer has in a checkpoint."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


def state_variable(name: str, shape: Sequence[int], dtype: tf.DType, value: float = 0) -> Any:
    """Creates a variable of the optimiser or the training's state, of which all replicas hold one.

    The initial value is a function, because TPUEstimator creates variables inside a loop.
    """
    return tf.Variable(
        lambda: tf.fill(shape, tf.constant(value, dtype)),
        name=name,
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,  # all replicas hold the same
    )


def assign(variable: Any, value: tf.Tensor) -> tf.Operation:
    """Assigns a value to a replica's own copy of a variable.

    The variable's own method would have the replicas of a strategy ask the first one for it.
    """
    return tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)


def name_of(variable: Any) -> str:
    """Returns the name of a variable in a checkpoint."""
    return str(variable.name).removesuffix(":0")


class Adam(tf.Module):
    """Adam's moments of certain variables.

    Attributes:
        trained: the variables.
        saved: name in a checkpoint -> variable of the optimiser.
    """

    _TF_MODULE_IGNORED_PROPERTIES = frozenset({*tf.Module._TF_MODULE_IGNORED_PROPERTIES, "trained"})

    def __init__(self, trained: Sequence[Any]) -> None:
        super().__init__()
        self.trained = list(trained)
        self._powers = [
            state_variable(name, [], tf.float32, beta)
            for name, beta in (("beta1_power", BETA_1), ("beta2_power", BETA_2))
        ]
        self._moments = [
            [
                state_variable(f"{name_of(each)}/{slot}", each.shape.as_list(), tf.float32)
                for slot in ("Adam", "Adam_1")
            ]
            for each in self.trained
        ]

    @property
    def saved(self) -> dict[str, Any]:
        moments = (each for pair in self._moments for each in pair)
        return {name_of(each): each for each in (*self._powers, *moments)}

    def apply(self, gradients: Sequence[tf.Tensor], rate: tf.Tensor) -> list[tf.Operation]:
        """Moves the variables by a step; returns its operations.

        Args:
            gradients: one for each variable, the same on all replicas.
            rate: float32 scalar; with 0 no variable moves.
        """
        powers = [each.read_value() for each in self._powers]
        with tf.control_dependencies([*gradients, *powers]):
            updates = [
                tf.raw_ops.ResourceApplyAdam(
                    var=variable.handle,
                    m=first.handle,
                    v=second.handle,
                    beta1_power=powers[0],
                    beta2_power=powers[1],
                    lr=rate,
                    beta1=BETA_1,
                    beta2=BETA_2,
                    epsilon=EPSILON,
                    grad=gradient,
                    name="Adam",  # check_tpu.py distinguishes the step's parts by such names
                )
                for variable, (first, second), gradient in zip(
                    self.trained, self._moments, gradients, strict=True
                )
            ]
            new = (power * beta for power, beta in zip(powers, (BETA_1, BETA_2), strict=True))
            return updates + [assign(*pair) for pair in zip(self._powers, new, strict=True)]
