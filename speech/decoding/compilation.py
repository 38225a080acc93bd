"""Compilation of Python functions by numba, and the cache that keeps what was compiled.

The cache only saves time. So where it can't be read or written, or a crash has cut its files short,
the functions are compiled again and a warning says so, once.
"""

from collections.abc import Callable
from typing import Any

import numba
from absl import logging
from numba.core import caching, config

_reported: set[str] = set()  # messages of this process


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Returns a decorator that compiles a function, which then runs without the GIL.

    Args:
        options: of numba.njit.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(nogil=True, **options)(function)
        # numba.njit(cache=True) would refuse a function where no folder can be written.
        dispatcher._cache = _OptionalCache(function)
        return dispatcher

    return decorate


class _NamedFolder(caching.UserProvidedCacheLocator):
    """Locates the cache in the folder that NUMBA_CACHE_DIR names, though it may not be writable."""

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "_NamedFolder | None":
        return cls(py_func, py_file) if config.CACHE_DIR else None  # type: ignore[attr-defined]


class _FolderOfCode(caching.InTreeCacheLocator):
    """Locates the cache beside a function's file, though it may not be writable.

    An installation that others own may hold what it was compiled to; see decoding/precompile.py.
    """

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "_FolderOfCode":
        return cls(py_func, py_file)


_LOCATORS: list[type[object]] = [
    _NamedFolder,
    caching.InTreeCacheLocator,
    caching.UserWideCacheLocator,
    _FolderOfCode,
]


class _CacheFiles(caching.CompileResultCacheImpl):
    _locator_classes = _LOCATORS


class _OptionalCache(caching.FunctionCache):
    """Keeps what a function was compiled to, if it can."""

    _impl_class = _CacheFiles

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = None
        try:
            found = super().load_overload(sig, target_context)
        except Exception as error:
            self._replace_damaged(error)
        if found is None:
            _report(
                logging.info,
                "Compiling the decoder, as at the first start on every kind of processor: this "
                "takes ten seconds or more.",
            )
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            self._do_without(error)

    def _replace_damaged(self, error: Exception) -> None:
        try:
            self.flush()
        except OSError as unwritable:
            self._do_without(unwritable)
        else:
            _report(
                logging.warning,
                f"Compiled code in {self.cache_path} is damaged ({type(error).__name__}) and is "
                "replaced.",
            )

    def _do_without(self, error: OSError) -> None:
        self.disable()
        _report(
            logging.warning,
            f"Compiled code can't be kept in {self.cache_path} ({error.strerror}): every start "
            "compiles the decoder again. Set NUMBA_CACHE_DIR to a folder that can be written.",
        )


def _report(log: Callable[..., None], message: str) -> None:
    if message not in _reported:
        _reported.add(message)
        log("%s", message)
