"""Compiles one HLO program for one TPU topology. Runs by itself in an environment with libtpu.

  python libtpu_worker.py PROGRAM.hlo v5e:2x2 COMPILED.txt

The last line on standard output is JSON: the program's memory in bytes, or `error` and the
compiler's reason. The text of the compiled program, with the compiler's estimates, is written to
the last path. No TPU is needed: libtpu compiles for any topology.
"""

import json
import os
import sys
from pathlib import Path

# Otherwise libtpu would ask a TPU VM's metadata server for the TPU.
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
os.environ["JAX_PLATFORMS"] = "cpu"

from jax.experimental import topologies
from jax.extend import mlir
from jax.interpreters.mlir import make_ir_context
from jaxlib import xla_client
from jaxlib.mlir import ir


def compile_hlo(hlo: bytes, topology: str) -> object:
    """Returns an executable for one core of the topology."""
    # TensorFlow takes a v4 chip's two cores as one device: they share programs and memory.
    chip = "megacore" if topology.startswith("v4:") else "default"
    description = topologies.get_topology_desc(
        platform="tpu", topology_name=topology, chip_config_name=chip
    )
    device = description.devices[0]
    with make_ir_context():
        module = ir.Module.parse(mlir.hlo_to_stablehlo(hlo))
        remove_copies(module)
        devices = xla_client.DeviceList((device,))
        return device.client.compile(module, devices, xla_client.CompileOptions())


def remove_copies(module: ir.Module) -> None:
    """Removes HLO's `copy`, which TensorFlow puts on new values of variables.

    StableHLO, which the compiler reads, has no such operation.
    """
    copies = []

    def collect(operation: ir.Operation) -> ir.WalkResult:
        if operation.name == "mhlo.copy":
            copies.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    for operation in copies:
        operation.results[0].replace_all_uses_with(operation.operands[0])
        operation.erase()


def main(program: str, topology: str, text_path: str) -> None:
    try:
        executable = compile_hlo(Path(program).read_bytes(), topology)
    except Exception as error:  # the compiler raises errors of many classes
        print(json.dumps({"error": str(error) or repr(error)}))
        return
    memory = executable.get_compiled_memory_stats()  # type: ignore[attr-defined]
    text = executable.hlo_modules()[0].to_string()  # type: ignore[attr-defined]
    Path(text_path).write_text(text, encoding="utf-8")
    report = {
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
