"""A Python function of tensors and variables -> a program of XLA, lowered by TensorFlow."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.compiler.xla.service import hlo_pb2

from speech.tpu.hlo import Array, Hlo
from speech.tpu.random_numbers import with_own_generator


@dataclass(frozen=True)
class Lowered:
    """A function of tensors and variables, as a program of XLA.

    The program has the function's arguments and outputs in the order of tf.nest.flatten.

    Attributes:
        arguments: nests of tf.TensorSpec, one for each argument of the function.
        outputs: nest of tf.TensorSpec.
    """

    hlo: Hlo
    arguments: tuple[Any, ...]
    outputs: Any

    def flatten(self, *arguments: Any) -> list[Any]:
        """Returns the program's arguments for arguments like the function's."""
        tf.nest.assert_same_structure(self.arguments, arguments)
        return list(tf.nest.flatten(arguments))

    def pack(self, outputs: Sequence[Any]) -> Any:
        """Returns a nest like `outputs` of the program's outputs."""
        return tf.nest.pack_sequence_as(self.outputs, list(outputs))


def lower(
    function: Callable[..., Any],
    variables: Mapping[str, tf.Variable],
    specs: Sequence[Any],
    for_tpu: bool = False,
) -> Lowered:
    """Lowers a function for any device; nothing of it runs.

    TensorFlow lowers it for this machine's CPU, and its programs are those of a TPU but for the
    random numbers.

    Args:
        function: takes nests of tensors, reads and assigns variables, and returns a nest of
            tensors. Sums over the cores are XlaAllReduce's.
        variables: name -> variable, at least those that the function uses.
        specs: nests of tf.TensorSpec of full shapes, one for each argument.
        for_tpu: whether random numbers are drawn by a TPU's own generator, which no other device
            has.
    """
    arguments = tf.nest.flatten(tuple(specs))

    def flat_function(*flat: tf.Tensor) -> Any:
        return function(*tf.nest.pack_sequence_as(tuple(specs), list(flat)))

    compilable = tf.function(flat_function, jit_compile=True, autograph=False)
    traced = compilable.get_concrete_function(*arguments)
    by_handle = {id(each.handle): name for name, each in variables.items()}
    # KeyError: the function uses a variable that isn't given, or another tensor from outside.
    names = [by_handle[id(handle)] for handle in traced.captured_inputs]
    module = _module(compilable, arguments)
    outputs = tf.nest.map_structure(_spec, traced.structured_outputs)
    hlo = Hlo(
        module=with_own_generator(module) if for_tpu else module,
        arguments=tuple(_array(each) for each in arguments),
        outputs=tuple(_array(each) for each in tf.nest.flatten(outputs)),
        variables={name: _array(variables[name]) for name in names},
        written=tuple(names[number - len(arguments)] for number in _aliased_parameters(module)),
    )
    return Lowered(hlo, tuple(specs), outputs)


def lowers_sums() -> bool:
    """Returns whether this TensorFlow lowers sums over cores, which 2.15 doesn't."""
    return not hasattr(tf, "estimator")


def _module(compilable: Any, arguments: Sequence[tf.TensorSpec]) -> bytes:
    lowered = compilable.experimental_get_compiler_ir(*arguments)
    with warnings.catch_warnings():
        # `platform_name`, which newer versions of TensorFlow prefer, is unknown to 2.15.
        warnings.filterwarnings("ignore", "device_name is being deprecated")
        return bytes(lowered(stage="hlo_serialized", device_name="/device:CPU:0"))


def _spec(value: Any) -> tf.TensorSpec:
    return tf.TensorSpec(value.shape, value.dtype)


def _array(value: Any) -> Array:
    return Array(tuple(value.shape.as_list()), value.dtype.name)


def _aliased_parameters(module: bytes) -> list[int]:
    """Returns the parameters whose memory the program's last results take, in their order.

    They are the variables that are assigned: TensorFlow marks them alone.
    """
    entries = hlo_pb2.HloModuleProto.FromString(module).input_output_alias.entries
    by_result = sorted((list(each.output_shape_index), each.parameter_number) for each in entries)
    return [parameter for _, parameter in by_result]
