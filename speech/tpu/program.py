"""Runs lowered programs on the cores of a TPU, or on what stands in for them, with jax.

jax compiles what TensorFlow has lowered and runs it through PJRT, the runtime of TPU v5e and later.
Nothing else in the project imports jax, and what jax doesn't promise to keep is all in here:
jax.extend and jax.interpreters.mlir.

A step is a program's run. jax starts it and returns, so that a host prepares the next batch while
the cores compute; a loop of steps inside the program, for which batches would have to wait in the
cores' memory, is no faster (docs/tpu.md).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from speech.tpu.lowering import Lowered
from utils import UserError

try:
    import jax
    from jax.experimental import topologies
    from jax.extend.core import Primitive
    from jax.extend.mlir import hlo_to_stablehlo, ir
    from jax.extend.mlir.dialects import func
    from jax.interpreters import mlir
except ImportError as error:
    raise UserError(
        f"jax, which drives TPU v5e and later, can't be imported: {error}. On Python 3.12 or newer "
        "install it with the TensorFlow that suits it: pip install -e '.[tpu]'."
    ) from None

jax.config.update("jax_enable_x64", True)  # the step is an int64

CORE = "core"  # the mesh's only axis

_SPLIT = jax.sharding.PartitionSpec(CORE)
_SAME = jax.sharding.PartitionSpec()

# Variable's name -> its value, the same on every core.
State: TypeAlias = dict[str, Any]

# Lets libtpu compile where there is no TPU, and doesn't ask a TPU VM's metadata server for one.
_WITHOUT_TPU = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


# --- Devices --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cores:
    """The devices that a program runs on, a replica on each."""

    mesh: Any  # jax.sharding.Mesh

    @classmethod
    def of(cls, devices: Sequence[Any]) -> "Cores":
        """Returns the cores that are these devices of jax."""
        return cls(jax.sharding.Mesh(np.asarray(devices), (CORE,)))

    @property
    def count(self) -> int:
        """Cores of all hosts."""
        return int(self.mesh.size)

    @property
    def hosts(self) -> int:
        """Processes that feed the cores, each those of its machine."""
        return len({each.process_index for each in self.mesh.devices.flat})

    @property
    def own(self) -> "Cores":
        """The cores that this process feeds."""
        return Cores.of(self.mesh.local_devices)

    @property
    def are_tpu(self) -> bool:
        return bool(self.mesh.devices.flat[0].platform == "tpu")

    def replicate(self, values: Mapping[str, npt.ArrayLike]) -> State:
        """Copies variables to every core; all hosts call it with the same values."""
        return {name: self._place(np.array(value), _SAME) for name, value in values.items()}

    def split(self, batch: Sequence[npt.NDArray[Any]]) -> list[Any]:
        """Starts to copy a batch to the cores, and returns before it is there.

        Args:
            batch: this host's rows of it, which are divided among the host's cores in order.

        Returns:
            Arrays over the cores of all hosts.
        """
        return [self._place(each, _SPLIT) for each in batch]

    def _place(self, values: npt.NDArray[Any], how: Any) -> Any:
        return jax.make_array_from_process_local_data(self._sharding(how), values)

    def _sharding(self, how: Any) -> Any:
        return jax.sharding.NamedSharding(self.mesh, how)

    def _describe(self, spec: Any, how: Any) -> Any:
        """Returns the array that parts of a tf.TensorSpec, one a core, are together."""
        shape = list(spec.shape)
        if how == _SPLIT:
            shape[0] *= self.count
        return jax.ShapeDtypeStruct(shape, spec.dtype.as_numpy_dtype, sharding=self._sharding(how))


def tpu_cores() -> Cores:
    """Finds the cores of this machine's TPU, or of the whole pod that it belongs to.

    Raises:
        UserError: there is no TPU, or jax can't use it.
    """
    # Before jax looks for devices. The CPU is there too, for what jax does on the host.
    jax.config.update("jax_platforms", "tpu,cpu")
    try:
        return Cores.of(jax.devices("tpu"))
    except RuntimeError as error:
        reason = str(error).partition("\n")[0].partition(" (set JAX_PLATFORMS")[0].rstrip(".")
        raise UserError(
            f"jax {jax.__version__} finds no TPU here: {reason}. Run this on a TPU VM with a v5e "
            "or a later TPU, where no other process uses it, with what pip install -e '.[tpu]' "
            "installs; or leave out --use_tpu to run on this machine's CPU or GPU."
        ) from None


def host_cores(count: int = 1) -> Cores:
    """Returns cores that this machine's CPU plays; several only if jax was set up for them.

    jax takes --xla_force_host_platform_device_count in XLA_FLAGS, or jax_num_cpu_devices.
    """
    jax.config.update("jax_platforms", "cpu")
    return Cores.of(jax.devices("cpu")[:count])


def described_cores(topology: str) -> Cores:
    """Returns the cores of a TPU that isn't here, for which a program can be compiled.

    Args:
        topology: libtpu's name, as v5e:2x2 or tpu7x:2x2x1.
    """
    for name, value in _WITHOUT_TPU.items():
        os.environ.setdefault(name, value)
    jax.config.update("jax_platforms", "cpu")
    found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    return Cores.of(found.devices)


def values_of(state: State) -> dict[str, npt.NDArray[Any]]:
    """Copies variables to this host; waits for the steps that compute them."""
    return dict(jax.device_get({name: each.addressable_data(0) for name, each in state.items()}))


# --- Programs -------------------------------------------------------------------------------------


class Program:
    """A lowered function, compiled for cores, each of which computes it for its part of a batch.

    Variables are the same on all cores before and after: the function sums over them what it finds
    in its part of the batch. An output without axes is the same on all of them, too; of any other
    the first axis is the batch.
    """

    def __init__(self, lowered: Lowered, cores: Cores) -> None:
        self.lowered = lowered
        self._cores = cores
        outputs = lowered.results[: len(lowered.results) - len(lowered.written)]
        mapped = jax.shard_map(
            self._on_core,
            mesh=cores.mesh,
            in_specs=(_SAME, _SAME, _SPLIT),
            out_specs=([_SPLIT if each.shape.rank else _SAME for each in outputs], _SAME),
            check_vma=False,
        )
        # Donated: the new values take the old ones' memory.
        self._compiled = jax.jit(mapped, donate_argnums=0)

    def _on_core(self, written: State, read: State, batch: list[Any]) -> tuple[list[Any], State]:
        variables = {**written, **read}
        ordered = (variables[name] for name in self.lowered.variables)
        results = _run_lowered.bind(*batch, *ordered, lowered=self.lowered)
        outputs = len(results) - len(self.lowered.written)
        return results[:outputs], dict(zip(self.lowered.written, results[outputs:], strict=True))

    def __call__(self, state: State, batch: Sequence[Any]) -> tuple[Any, State]:
        """Starts the program, and returns before it has run.

        Args:
            state: the function's variables, and any others. Those that the function assigns can't
                be used afterwards.
            batch: the function's arguments as Lowered.flatten and Cores.split return them.

        Returns:
            The function's outputs, as arrays of jax, which wait for the program when they are read,
            and the new state.
        """
        outputs, new = self._compiled(*self._parts(state), list(batch))
        return self.lowered.pack(outputs), {**state, **new}

    def compile(self) -> Any:
        """Compiles the program without running it, also for cores that aren't here.

        Returns:
            A jax.stages.Compiled.
        """
        lowered = self.lowered
        state = {
            name: self._cores._describe(each, _SAME) for name, each in lowered.variables.items()
        }
        batch = [
            self._cores._describe(each, _SPLIT) for each in lowered.flatten(*lowered.arguments)
        ]
        return self._compiled.lower(*self._parts(state), batch).compile()

    def _parts(self, state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the variables that the function assigns, and those that it only reads."""
        written = {name: state[name] for name in self.lowered.written}
        read = {name: state[name] for name in self.lowered.variables if name not in written}
        return written, read


# --- What TensorFlow has lowered, as an operation of jax ------------------------------------------

_run_lowered = Primitive("run_lowered")
_run_lowered.multiple_results = True


@_run_lowered.def_abstract_eval
def _results(*arguments: Any, lowered: Lowered) -> list[Any]:
    return [
        jax.core.ShapedArray(tuple(each.shape), each.dtype.as_numpy_dtype)
        for each in lowered.results
    ]


def _insert(context: Any, *arguments: Any, lowered: Lowered) -> Any:
    """Adds the lowered operations to the module that jax compiles, and calls them."""
    outer = context.module_context
    with outer.module.context:
        module = ir.Module.parse(hlo_to_stablehlo(lowered.hlo))
        _remove_copies(module)
        _sum_over_mesh(module)
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


def _operations(module: Any, name: str) -> list[Any]:
    found = []

    def collect(operation: Any) -> Any:
        if operation.name == name:
            found.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    return found
