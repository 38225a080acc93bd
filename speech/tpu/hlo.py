"""A program in the form that XLA compiles, as plain data.

TensorFlow lowers it and jax compiles it, perhaps in different environments: this module needs
neither of them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Array:
    """The shape and the type of an array."""

    shape: tuple[int, ...]
    dtype: str  # numpy's name


@dataclass(frozen=True, eq=False)  # compared by identity, which compiled programs are kept by
class Hlo:
    """A program of one core, and what it takes and returns.

    Its parameters are the arguments, then the variables. Its results are the outputs, then the new
    values of the written variables.

    Attributes:
        module: a serialized HLO module.
        variables: by their names, in the order of the parameters.
        written: names of the variables that the program assigns, in the order of the results.
    """

    module: bytes
    arguments: tuple[Array, ...]
    outputs: tuple[Array, ...]
    variables: dict[str, Array]
    written: tuple[str, ...]

    @property
    def results(self) -> list[Array]:
        return [*self.outputs, *(self.variables[name] for name in self.written)]
