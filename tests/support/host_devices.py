"""Devices of this machine's CPU that stand in for the cores of a TPU, in jax.

Imported before anything that imports jax; without jax the tests that need it are skipped.
"""

import os
import tempfile
from typing import Any

import pytest

COUNT = 4

# jax would look for a TPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

jax = pytest.importorskip("jax", reason="jax is not installed")
jax.config.update("jax_num_cpu_devices", COUNT)
jax.config.update("jax_disable_most_optimizations", True)
# The same program is compiled once for all tests of this process.
_cache = tempfile.TemporaryDirectory(prefix="jax-")
jax.config.update("jax_compilation_cache_dir", _cache.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def cores(count: int) -> Any:
    """Returns cores that the CPU plays."""
    from speech.tpu.cores import host_cores

    return host_cores(count)
