"""Runs lowered programs on the cores of a TPU, or on what stands in for them, with jax.

jax compiles what TensorFlow has lowered and runs it through PJRT, the runtime of TPU v5e and later.
What jax doesn't promise to keep, jax.extend and jax.interpreters, is in this module alone.

A step of training is a run of its program. jax starts it and returns, so that the host prepares the
next batch while the cores compute. A loop of steps inside the program is no faster, and all of its
batches would be in the cores' memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.extend.core import Primitive
from jax.extend.mlir import hlo_to_stablehlo, ir
from jax.extend.mlir.dialects import func
from jax.interpreters import mlir

from speech.tpu.cores import SAME, SPLIT, Cores, State
from speech.tpu.hlo import Hlo
from utils import UserError


class Program:
    """A lowered program, compiled for cores, each of which runs it on its part of a batch.

    Variables are the same on all cores before and after: the program sums over them what it finds
    in its part of the batch. An output without axes is the same on all of them, too; of any other
    the first axis is the batch.
    """

    def __init__(self, hlo: Hlo, cores: Cores) -> None:
        self._hlo = hlo
        self._cores = cores
        mapped = jax.shard_map(
            self._on_core,
            mesh=cores.mesh,
            in_specs=(SAME, SAME, SPLIT),
            out_specs=([SPLIT if each.shape else SAME for each in hlo.outputs], SAME),
            check_vma=False,
        )
        # Donated: the new values take the old ones' memory.
        self._compiled = jax.jit(mapped, donate_argnums=0)

    def _on_core(self, written: State, read: State, batch: list[Any]) -> tuple[list[Any], State]:
        variables = {**written, **read}
        ordered = (variables[name] for name in self._hlo.variables)
        results = _run_lowered.bind(*batch, *ordered, hlo=self._hlo)
        outputs = len(self._hlo.outputs)
        return results[:outputs], dict(zip(self._hlo.written, results[outputs:], strict=True))

    def __call__(self, state: State, batch: Sequence[Any]) -> tuple[list[Any], State]:
        """Starts the program, and returns before it has run.

        Args:
            state: the program's variables, and any others. Those that the program assigns can't be
                used afterwards.
            batch: the program's arguments as Cores.split returns them.

        Returns:
            The program's outputs, as arrays of jax, which wait for the program when they are read,
            and the new state.
        """
        outputs, new = self._compiled(*self._parts(state), list(batch))
        return outputs, {**state, **new}

    def compile(self) -> Any:
        """Compiles the program without running it, also for cores that aren't here.

        Returns:
            A jax.stages.Compiled.
        """
        hlo = self._hlo
        state = {name: self._cores.describe(each, SAME) for name, each in hlo.variables.items()}
        batch = [self._cores.describe(each, SPLIT) for each in hlo.arguments]
        return self._compiled.lower(*self._parts(state), batch).compile()

    def _parts(self, state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the variables that the program assigns, and those that it only reads."""
        written = {name: state[name] for name in self._hlo.written}
        read = {name: state[name] for name in self._hlo.variables if name not in written}
        return written, read


@contextmanager
def explained_errors(remedy: str) -> Iterator[None]:
    """Turns an error for want of the cores' memory into a UserError with this remedy."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        message = str(error).partition("\n")[0].rstrip(".")
        if "RESOURCE_EXHAUSTED" not in message:
            raise
        raise UserError(f"A core's memory is too small: {message[:300]}. {remedy}.") from None


# --- What TensorFlow has lowered, as an operation of jax ------------------------------------------

_run_lowered = Primitive("run_lowered")
_run_lowered.multiple_results = True


@_run_lowered.def_abstract_eval
def _results(*arguments: Any, hlo: Hlo) -> list[Any]:
    return [jax.core.ShapedArray(each.shape, np.dtype(each.dtype)) for each in hlo.results]


def _insert(context: Any, *arguments: Any, hlo: Hlo) -> Any:
    """Adds the lowered operations to the module that jax compiles, and calls them."""
    outer = context.module_context
    with outer.module.context:
        module = ir.Module.parse(hlo_to_stablehlo(hlo.module))
        _remove_copies(module)
        _sum_over_mesh(module)
        _rename_functions(module)
        name = mlir.merge_mlir_modules(outer.module, "lowered", module, outer.symbol_table)
        results = outer.symbol_table[name].type.results
        return func.CallOp(results, ir.FlatSymbolRefAttr.get(name), list(arguments)).results


mlir.register_lowering(_run_lowered, _insert)


def _remove_copies(module: Any) -> None:
    """Removes HLO's `copy`, which TensorFlow puts on new values of variables.

    StableHLO, which jax compiles, has no such operation.
    """
    for operation in _operations(module, "mhlo.copy"):
        operation.results[0].replace_all_uses_with(operation.operands[0])
        operation.erase()


def _sum_over_mesh(module: Any) -> None:
    """Makes TensorFlow's sums over replicas sums over the mesh's devices, as jax writes them.

    To jax a program has one replica, which is divided among the devices.
    """
    channel = ir.Attribute.parse("#stablehlo.channel_handle<handle = 1, type = 1>")
    for operation in _operations(module, "stablehlo.all_reduce"):
        operation.attributes["channel_handle"] = channel
        operation.attributes["use_global_device_ids"] = ir.UnitAttr.get()


def _rename_functions(module: Any) -> None:
    """Numbers the functions that `main` calls.

    Their names from TensorFlow count what this process has traced before. Without that the same
    program is found in jax's cache of compiled programs, if there is one.
    """
    symbols = ir.SymbolTable(module.operation)
    for number, function in enumerate(module.body.operations):
        name = function.sym_name.value
        if name != "main":
            new = f"function_{number}"
            ir.SymbolTable.replace_all_symbol_uses(name, new, module.operation)
            symbols.set_symbol_name(function, new)


def _operations(module: Any, name: str) -> list[Any]:
    found = []

    def collect(operation: Any) -> Any:
        if operation.name == name:
            found.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    return found
