"""The devices that lowered programs run on, as jax has them: the cores of a TPU, or stand-ins.

jax is imported here and in program.py alone.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from speech.tpu.hlo import Array
from utils import UserError

try:
    import jax
    from jax.experimental import multihost_utils, topologies
except ImportError as error:
    raise UserError(
        f"jax, which drives TPU v5e and later, can't be imported: {error}. On Python 3.12 or newer "
        "install it with the TensorFlow that suits it: pip install -e '.[tpu]'."
    ) from None

jax.config.update("jax_enable_x64", True)  # the step is an int64

CORE = "core"  # the mesh's only axis

# How an array is on the cores: its first axis divided among them, or the same on all.
SPLIT = jax.sharding.PartitionSpec(CORE)
SAME = jax.sharding.PartitionSpec()

# Variable's name -> its value, the same on every core.
State: TypeAlias = dict[str, Any]

# Lets libtpu compile where there is no TPU, and not ask a TPU VM's metadata server for one.
_WITHOUT_TPU = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


@dataclass(frozen=True)
class Cores:
    """The devices that a program runs on, a replica on each.

    Several hosts may feed them. Each runs the same program in a process, and gives it its part of
    a batch.
    """

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
        return len({each.process_index for each in self.mesh.devices.flat})

    @property
    def host(self) -> int:
        """This host's number."""
        return int(jax.process_index())

    @property
    def own(self) -> "Cores":
        """The cores that this host feeds."""
        return Cores.of(self.mesh.local_devices)

    @property
    def are_tpu(self) -> bool:
        return bool(self.mesh.devices.flat[0].platform == "tpu")

    def replicate(self, values: Mapping[str, npt.ArrayLike]) -> State:
        """Copies variables to every core; all hosts call it with the same values."""
        return {name: self._place(np.array(value), SAME) for name, value in values.items()}

    def split(self, batch: Sequence[npt.NDArray[Any]]) -> list[Any]:
        """Starts to copy a batch to the cores, and returns before it is there.

        Args:
            batch: this host's rows of it, which are divided among the host's cores in order. They
                must not change until they are copied.

        Returns:
            Arrays over the cores of all hosts.
        """
        return [self._place(each, SPLIT) for each in batch]

    def _place(self, values: npt.NDArray[Any], how: Any) -> Any:
        return jax.make_array_from_process_local_data(self._sharding(how), values)

    def _sharding(self, how: Any) -> Any:
        return jax.sharding.NamedSharding(self.mesh, how)

    def describe(self, array: Array, how: Any) -> Any:
        """Returns what jax is to know of an array over all cores.

        Args:
            array: one core's part.
            how: SPLIT or SAME.
        """
        shape = list(array.shape)
        if how == SPLIT:
            shape[0] *= self.count
        return jax.ShapeDtypeStruct(shape, np.dtype(array.dtype), sharding=self._sharding(how))


def tpu_cores() -> Cores:
    """Finds the cores of this machine's TPU, or of the whole pod that the machine belongs to.

    Raises:
        UserError: there is no TPU, or jax can't use it.
    """
    # Before jax looks for devices. The CPU is there too, for what jax does on the host.
    jax.config.update("jax_platforms", "tpu,cpu")
    try:
        # Finds the other hosts of a pod, in which every host runs this program, and waits for them.
        jax.distributed.initialize()
    except ValueError:
        pass  # this is no TPU VM of Google Cloud; its TPU, if there is one, is its own
    except RuntimeError as error:
        raise UserError(
            f"The hosts of this TPU don't find each other: {_first_line(error)}. Run the same "
            "command on all of them at the same time: gcloud compute tpus tpu-vm ssh NAME "
            "--worker=all --command=..."
        ) from None
    try:
        return Cores.of(jax.devices("tpu"))
    except RuntimeError as error:
        raise UserError(
            f"jax {jax.__version__} finds no TPU here: {_first_line(error)}. Run this on a TPU VM "
            "with a v5e or a later TPU, where no other process uses it, with what pip install -e "
            "'.[tpu]' installs; or leave out --use_tpu to run on this machine's CPU or GPU."
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].partition(" (set JAX_PLATFORMS")[0].rstrip(".")


def host_cores(count: int | None = None) -> Cores:
    """Returns cores that this machine's CPU plays, by default all that jax was set up for.

    That is one, or what --xla_force_host_platform_device_count in XLA_FLAGS says.
    """
    jax.config.update("jax_platforms", "cpu")
    return Cores.of(jax.devices("cpu")[:count])


def described_cores(topology: str, count: int | None = None) -> Cores:
    """Returns the cores of a TPU that isn't here, for which a program can be compiled.

    Args:
        topology: libtpu's name, as v5e:2x2 or tpu7x:2x2x1.
        count: number of cores; None: all of them.
    """
    for name, value in _WITHOUT_TPU.items():
        os.environ.setdefault(name, value)
    jax.config.update("jax_platforms", "cpu")
    # TensorFlow takes a v4 chip's two cores as one device: they share programs and memory.
    chip = "megacore" if topology.startswith("v4:") else "default"
    found = topologies.get_topology_desc(
        platform="tpu", topology_name=topology, chip_config_name=chip
    )
    return Cores.of(found.devices[:count])


def broadcast(message: bytes) -> bytes:
    """Returns host 0's message on all hosts, which call it together; the others' are not used."""
    (length,) = multihost_utils.broadcast_one_to_all(np.array([len(message)], np.int32))
    content = np.zeros(length, np.uint8)
    if jax.process_index() == 0:
        content[:] = np.frombuffer(message, np.uint8)
    return bytes(multihost_utils.broadcast_one_to_all(content))


def leave() -> None:
    """Tells the other hosts that this one ends without an error; waits for them."""
    if jax.process_count() > 1:
        jax.distributed.shutdown()


def fetch(arrays: Any) -> Any:
    """Copies arrays of this host's cores to the host; waits for the programs that compute them.

    Args:
        arrays: a nest.

    Returns:
        The same nest of numpy's arrays.
    """
    return jax.device_get(arrays)


def fetch_first(arrays: Any) -> Any:
    """Copies what this host's first core has of each array; see `fetch`."""
    return fetch(jax.tree_util.tree_map(lambda each: each.addressable_data(0), arrays))
