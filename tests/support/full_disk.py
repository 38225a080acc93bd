"""Simulates a full disk."""

import contextlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def full_disk(free_bytes: int) -> Iterator[None]:
    """Lets no file grow beyond `free_bytes`: writes fail with EFBIG.

    Use it around the write alone, since pytest's output may be a file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
