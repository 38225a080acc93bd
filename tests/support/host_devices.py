"""Devices of this machine's CPU that stand in for the cores of a TPU, in jax.

Imported before anything that imports jax; without jax the tests that need it are skipped.
"""

import os
import tempfile

import pytest

COUNT = 4

# jax would look for a TPU, and its programs would take a while to compile.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

jax = pytest.importorskip("jax", reason="jax is not installed")
jax.config.update("jax_num_cpu_devices", COUNT)
# The same program, compiled for one test after another.
_cache = tempfile.TemporaryDirectory(prefix="jax-")
jax.config.update("jax_compilation_cache_dir", _cache.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
