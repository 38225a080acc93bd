"""Compiles one program for one TPU topology. Runs by itself in an environment with libtpu.

  python libtpu_worker.py PROGRAM.pickle v5e:2x2 4 COMPILED.txt

The program is a pickled hlo.Hlo, for that number of cores. The last line on standard output is
JSON: the program's memory in bytes, or `error` and the compiler's reason. The text of the compiled
program, with the compiler's estimates, is written to the last path. No TPU is needed: libtpu
compiles for any topology. Neither is TensorFlow.
"""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from speech.tpu.cores import described_cores
from speech.tpu.program import Program


def compile_program(program: str, topology: str, cores: int) -> Any:
    """Returns a jax.stages.Compiled of a program in a file, for cores of the topology."""
    hlo = pickle.loads(Path(program).read_bytes())
    return Program(hlo, described_cores(topology, cores)).compile()


def main(program: str, topology: str, cores: str, text_path: str) -> None:
    try:
        compiled = compile_program(program, topology, int(cores))
    except Exception as error:  # the compiler raises errors of many classes
        print(json.dumps({"error": str(error) or repr(error)}))
        return
    memory = compiled.memory_analysis()
    Path(text_path).write_text(compiled.as_text(), encoding="utf-8")
    report = {
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
