"""Compilation of Python functions by numba, and the files that keep what was compiled.

numba is imported only to compile, as that takes half a second and 60 MB. What it compiled is kept
as an object file for LLVM, which llvmlite loads. The file only saves time. So where it can't be
read or written, or a crash has cut it short, the function is compiled again and a message says so,
once.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numpy as np
from absl import logging
from llvmlite import binding as llvm

# What a parameter of machine code may be, and its type in C.
_POINTER, _INTEGER, _FLOAT, _TRUTH = "pointer", "integer", "float", "truth"
_C_TYPES = {
    _POINTER: ctypes.c_void_p,
    _INTEGER: ctypes.c_int64,
    _FLOAT: ctypes.c_double,
    _TRUTH: ctypes.c_int64,
}

ENTRY = "entry"  # name of the function in an object file
DIGEST_BYTES = hashlib.sha256().digest_size

# Declarations of numba's own functions, for errors and memory. An object file's part that C
# calls refers to them, though compiled functions have neither.
_NUMBAS = re.compile(r"^declare (.* @(?:numba|NRT)_\w+\(.*?\)).*$", re.MULTILINE)

_lock = threading.Lock()
_reported: set[str] = set()  # messages of this process
_loaded: list[Any] = []  # engines of LLVM, which own the machine code


class Compiled:
    """A function that runs as machine code, without the GIL.

    Its arguments are numbers, contiguous arrays, and tuples of these. It allocates no arrays, and
    returns nothing or a number: its annotation says which. Other such functions can call it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._entries: dict[tuple[Any, ...], Callable[..., Any]] = {}  # by kinds of arguments

    def __call__(self, *arguments: Any) -> Any:
        kinds: list[Any] = []
        values: list[Any] = []
        for argument in arguments:
            _flatten(argument, kinds, values)
        entry = self._entries.get(key := tuple(kinds))
        if entry is None:
            with _lock:
                entry = self._entries.get(key) or self._prepare(arguments, key)
                self._entries[key] = entry
        return entry(*values)

    @property
    def _numba_type_(self) -> Any:
        """What numba asks for where it compiles a function that calls this one."""
        return self._dispatcher._numba_type_

    @functools.cached_property
    def _dispatcher(self) -> Any:
        import numba

        # Without counting references to arrays: counting each argument's at every call would take
        # longer than the work. Without exceptions: a division by 0 is infinite.
        options: dict[str, Any] = {"_nrt": False, "error_model": "numpy"}
        return numba.njit(**options)(self._function)

    def _prepare(self, arguments: tuple[Any, ...], kinds: tuple[Any, ...]) -> Callable[..., Any]:
        """Returns the machine code for arguments of some kinds."""
        parameters: list[str] = []
        constants: dict[str, Any] = {}
        values = [_expression(each, parameters, constants) for each in arguments]
        returned = self._function.__annotations__.get("return")
        kept = _Kept(self._function, repr(kinds))
        code = kept.read()
        if code is None:
            _report(
                logging.info,
                "Compiling the decoder, as at the first start on every kind of processor: this "
                "takes ten seconds or more.",
            )
            code = self._compile(", ".join(values), parameters, constants, returned)
            kept.write(code)
        of_c = {int: ctypes.c_int64, float: ctypes.c_double, None: None}[returned]
        return ctypes.CFUNCTYPE(of_c, *(_C_TYPES[each] for each in parameters))(_load(code))

    def _compile(
        self, values: str, parameters: list[str], constants: dict[str, Any], returned: type | None
    ) -> bytes:
        """Returns an object file in which ENTRY calls the function.

        Args:
            values: of the function, in Python, from the parameters p0, p1, ...
            parameters: the kinds of these.
        """
        import numba

        names = ", ".join(f"p{number}" for number in range(len(parameters)))
        space = {**constants, "carray": numba.carray, "function": self}
        exec(f"def {ENTRY}({names}):\n    return function({values})", space)
        types: dict[Any, Any] = {
            _POINTER: numba.types.voidptr,
            _INTEGER: numba.types.int64,
            _FLOAT: numba.types.float64,
            _TRUTH: numba.types.int64,
            int: numba.types.int64,
            float: numba.types.float64,
            None: numba.types.void,
        }
        signature = types[returned](*(types[each] for each in parameters))
        made = numba.cfunc(signature)(space[ENTRY])
        trap = r"define \1 {\n  call void @llvm.trap()\n  unreachable\n}"
        text = _NUMBAS.sub(trap, made.inspect_llvm())
        module = llvm.parse_assembly(f"{text}\ndeclare void @llvm.trap()\n")
        module.get_function(made.native_name).name = ENTRY
        return bytes(_machine().emit_object(module))


def compiled(function: Callable[..., Any]) -> Any:
    """Decorates a function that is to be compiled, see Compiled."""
    return Compiled(function)


def _flatten(argument: Any, kinds: list[Any], values: list[Any]) -> None:
    """Appends an argument's kind, and its values as the parameters of machine code."""
    if isinstance(argument, np.ndarray):
        if not argument.flags.c_contiguous:
            raise TypeError("a compiled function needs contiguous arrays")
        kinds += [argument.dtype, argument.ndim]
        values += [argument.ctypes.data, *argument.shape]
    elif isinstance(argument, tuple):
        kinds += [type(argument).__name__, len(argument)]
        for each in argument:
            _flatten(each, kinds, values)
    else:
        kinds.append(_kind(argument))
        values.append(argument)


def _kind(number: Any) -> str:
    if isinstance(number, bool | np.bool_):
        return _TRUTH
    return _INTEGER if isinstance(number, int | np.integer) else _FLOAT


def _expression(argument: Any, parameters: list[str], constants: dict[str, Any]) -> str:
    """Returns an argument in Python, from parameters that are appended to their kinds.

    Args:
        constants: the names in the expression that aren't parameters; added to.
    """
    first = len(parameters)
    if isinstance(argument, np.ndarray):
        parameters += [_POINTER, *[_INTEGER] * argument.ndim]
        constants[f"dtype{first}"] = argument.dtype
        shape = "".join(f"p{first + 1 + axis}, " for axis in range(argument.ndim))
        return f"carray(p{first}, ({shape}), dtype{first})"
    if isinstance(argument, tuple):
        values = "".join(f"{_expression(each, parameters, constants)}, " for each in argument)
        if not hasattr(argument, "_fields"):
            return f"({values})"
        constants[type(argument).__name__] = type(argument)
        return f"{type(argument).__name__}({values})"
    parameters.append(_kind(argument))
    return f"p{first} != 0" if parameters[first] == _TRUTH else f"p{first}"


@functools.cache
def _machine() -> Any:
    """Returns LLVM's description of this processor."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        jit=True,
        codemodel="jitdefault",
    )


def _load(code: bytes) -> int:
    """Loads an object file; returns the address of ENTRY."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _loaded.append(engine)
    return int(engine.get_function_address(ENTRY))


class _Kept:
    """The file that keeps a function's machine code, in the first of the folders that has it.

    A digest of what follows it, a digest of what the code was compiled from, and the object file.
    """

    def __init__(self, function: Callable[..., Any], kinds: str) -> None:
        code = Path(function.__code__.co_filename).resolve()
        processor = f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
        kind = hashlib.sha256(f"{kinds} {platform.machine()} {processor}".encode()).hexdigest()
        name = f"{code.stem}.{function.__qualname__}-{kind[:16]}.o"
        self._paths = [folder / name for folder in _folders(code.parent)]
        self._sources = _sources(code.parent)

    def read(self) -> bytes | None:
        """Returns the object file; None if there is none, or one of other sources."""
        for path in self._paths:
            try:
                content = path.read_bytes()
            except OSError:
                continue
            head, rest = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
            if hashlib.sha256(rest).digest() != head:
                _report(
                    logging.warning,
                    f"Compiled code in {path.parent} is damaged and is replaced.",
                )
            elif rest.startswith(self._sources):
                return rest[DIGEST_BYTES:]
        return None

    def write(self, code: bytes) -> None:
        """Keeps an object file in the first folder that can be written."""
        rest = self._sources + code
        problem = None
        for path in self._paths:
            partial = path.with_name(f"{path.name}.{os.getpid()}")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                partial.write_bytes(hashlib.sha256(rest).digest() + rest)
                partial.replace(path)
                return
            except OSError as error:
                problem = problem or error
                with contextlib.suppress(OSError):  # of a folder that can't be written
                    partial.unlink()
        assert problem is not None
        _report(
            logging.warning,
            f"Compiled code can't be kept in {self._paths[0].parent} ({problem.strerror}): "
            "every start compiles the decoder again. Set NUMBA_CACHE_DIR to a folder that can be "
            "written.",
        )


def _folders(of_code: Path) -> Iterator[Path]:
    """Yields the folders for what is compiled of a folder of code.

    An installation that others own may hold what it was compiled to; see decoding/precompile.py.
    """
    place = hashlib.sha256(os.fsencode(of_code)).hexdigest()[:16]
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(named) / place
        return
    yield of_code / "__pycache__"
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    yield Path(caches) / "deep-speech-tpu" / place


@functools.cache
def _sources(folder: Path) -> bytes:
    """Returns a digest of all code in a folder and of the version of the compiler."""
    digest = hashlib.sha256(llvmlite.__version__.encode())
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


def _report(log: Callable[..., None], message: str) -> None:
    if message not in _reported:
        _reported.add(message)
        log("%s", message)
