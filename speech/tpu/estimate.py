"""The time of a compiled TPU program, from the compiler's own estimates.

The TPU compiler annotates every instruction with the cycles that it expects; those of a loop's body
count once for each turn. It has none for sums over the cores: their time is that of their bytes on
the links between the chips. Nothing of this is measured: the sum assumes that instructions run one
after the other, and that copies between memories run beside them and cost nothing.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass, field

from utils import UserError, lines_of


@dataclass(frozen=True)
class Topology:
    """What a program is compiled for: cores, as TensorFlow and jax count them.

    A core is half of a v2, v3 or TPU7x chip, and a whole chip of the others. Its peak and the links
    are those that Google publishes (cloud.google.com/tpu/docs/system-architecture). The clock
    follows from the peak and from the operations that the compiler expects of the matrix units in a
    cycle. The compiler reserves a part of the memory, which is 8, 16, 32 or 96 GiB.
    """

    name: str  # libtpu's
    cores: int  # that run the program together
    memory_bytes: int  # available to a program
    peak_flops: float  # operations in bfloat16 a second
    flops_a_cycle: int  # of all matrix units
    link_bytes: float = 0.0  # that one link to another chip carries in one direction a second

    @property
    def hertz(self) -> float:
        """Clock rate."""
        return self.peak_flops / self.flops_a_cycle

    def sum_seconds(self, size: int, cores: int) -> float:
        """Returns the time of a sum over cores of so many bytes, sent around one ring.

        Each of as many parts as there are cores goes around twice, but for one step each: to be
        added up, and to be passed on. Chips have several links; the ring takes one of each, in one
        direction.
        """
        return 2 * (cores - 1) / cores * size / self.link_bytes if cores > 1 else 0.0


_UNIT = 2 * 128 * 128  # operations a cycle of a matrix unit of 128 x 128


def _gib(size: float) -> int:
    return int(size * 2**30)


TOPOLOGIES = {
    # One core, as TPUEstimator divides the step among them.
    "v2": Topology("v2:2x2", 1, _gib(7.48), 22.5e12, 1 * _UNIT),
    "v3": Topology("v3:2x2", 1, _gib(15.48), 61.5e12, 2 * _UNIT),
    "v4": Topology("v4:2x2x1", 1, _gib(30.75), 275e12, 8 * _UNIT),
    # All cores, as the engine of jax runs the step.
    "v5e": Topology("v5e:2x2", 4, _gib(15.75), 197e12, 4 * _UNIT, 50e9),
    "v5p": Topology("v5p:2x2x1", 4, _gib(95.73), 459e12, 8 * _UNIT, 100e9),
    "v6e": Topology("v6e:2x2", 4, _gib(31.24), 918e12, 16 * _UNIT, 100e9),
    "tpu7x": Topology("tpu7x:2x2x1", 8, _gib(94.74), 2307e12 / 2, 16 * _UNIT, 100e9),
}

# Part of a training step -> pattern of the names of its operations; the first match counts. These
# names contain the scopes of networks and of the step, for gradients inside "gradients/".
PARTS = {
    "convolutions": re.compile(r"(^|[/;])convolutions/"),
    "recurrent": re.compile(r"(^|[/;])recurrent/"),
    "loss": re.compile(r"(^|[/;])loss/"),
    "optimizer": re.compile(r"Adam|global_norm"),
}
OTHER = "other"

# An enormous estimate is the compiler's way to say that it has none.
_NO_ESTIMATE = 2**40

# Instructions that take no time, or run beside others.
_FREE = {
    *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "while", "after-all"),
    *("copy-start", "copy-done", "slice-start", "slice-done", "all-reduce-done"),
}

# Sums over the cores.
_SUMS = {"all-reduce", "all-reduce-start"}

# Custom calls that only denote memory.
_FREE_CALL = re.compile(r'custom_call_target="(AllocateBuffer|ConcatBitcast|X64\w+)"')

_ELEMENT_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8}

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{\s*$")
_RESULT = re.compile(r" = \(?(\w+)\[([0-9,]*)\]")
_ARRAY = re.compile(r"(\w+)\[([0-9,]*)\]")
_OPERATION = re.compile(r"[\s)}]([a-z][\w\-]*)\(")
_CYCLES = re.compile(r'"estimated_cycles":"?([0-9]+)')
_NAME = re.compile(r'op_name="([^"]*)"')
_LOOP = re.compile(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_CONSTANT = re.compile(r"constant\(([0-9]+)\)")
_KNOWN_TURNS = re.compile(r"known_trip_count[^0-9]*([0-9]+)")


@dataclass
class Estimate:
    """Estimated cycles of a program.

    Attributes:
        cycles: part -> its cycles.
        summed_bytes: size of what is summed over the cores.
        unpriced_bytes: size of the results of instructions for which there is no estimate.
        endless_loops: loops whose number of turns is unknown; they count as one turn.
    """

    cycles: Counter[str] = field(default_factory=Counter)
    summed_bytes: int = 0
    unpriced_bytes: int = 0
    endless_loops: int = 0

    def milliseconds(self, topology: Topology) -> dict[str, float]:
        """Returns part -> its time, for all parts."""
        parts = (*PARTS, OTHER)
        return {part: 1000 * self.cycles[part] / topology.hertz for part in parts}


def estimate(text: str) -> Estimate:
    """Adds up the estimates in the text of a compiled program.

    Raises:
        UserError: there are none.
    """
    computations, entry = _computations(text)
    result = Estimate()
    _add(result, computations, entry, turns=1, part=None)
    if not result.cycles.total():
        raise UserError(
            "The compiled program has no estimates of its time: it is from another version of "
            "libtpu than this program reads. Leave out --compiler_python, or install the version "
            "that speech/tpu/compiler.py names."
        )
    return result


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Returns computation -> its instructions, and the name of the entry computation."""
    computations: dict[str, list[str]] = {}
    entry, current = "", None
    for line in lines_of(text):
        header = _COMPUTATION.match(line)
        if header and not line.startswith(" "):
            current = computations.setdefault(header.group(2), [])
            entry = header.group(2) if header.group(1) else entry
        elif current is not None and " = " in line:
            current.append(line)
    return computations, entry


def _add(
    result: Estimate, computations: dict[str, list[str]], name: str, turns: int, part: str | None
) -> None:
    """Adds a computation to the result.

    Args:
        result: what to add to.
        computations: all of the program.
        name: the computation to add.
        turns: how often it runs.
        part: part of the loop that it is the body of; None: it is in no loop.
    """
    for line in computations.get(name, ()):
        loop = _LOOP.search(line)
        if loop:
            condition, body = loop.groups()
            more = _turns(line, computations.get(condition, []))
            result.endless_loops += more is None
            _add(result, computations, body, turns * (more or 1), part or _part(line))
            continue
        operation = _OPERATION.findall(line)[:1]
        cycles = _CYCLES.search(line)
        if _SUMS.intersection(operation):
            result.summed_bytes += turns * _results_bytes(line)
        elif cycles and int(cycles.group(1)) < _NO_ESTIMATE:
            result.cycles[part or _part(line)] += turns * int(cycles.group(1))
        elif not (_FREE.intersection(operation) or _FREE_CALL.search(line)):
            result.unpriced_bytes += turns * _result_bytes(line)


def _part(line: str) -> str:
    name = _NAME.search(line)
    fitting = (part for part, pattern in PARTS.items() if name and pattern.search(name.group(1)))
    return next(fitting, OTHER)


def _turns(loop: str, condition: list[str]) -> int | None:
    """Returns a loop's number of turns, from its annotation or the bound in its condition."""
    known = _KNOWN_TURNS.search(loop)
    if known:
        return int(known.group(1))
    numbers = (int(number) for line in condition for number in _CONSTANT.findall(line))
    return max((number for number in numbers if number > 1), default=None)


def _result_bytes(line: str) -> int:
    shape = _RESULT.search(line)
    return _array_bytes(*shape.groups()) if shape else 0


def _results_bytes(line: str) -> int:
    """Returns the size of all results of an all-reduce."""
    results = line.partition(" = ")[2].partition(" all-reduce")[0]
    return sum(_array_bytes(*shape) for shape in _ARRAY.findall(results))


def _array_bytes(kind: str, shape: str) -> int:
    return _ELEMENT_BYTES.get(kind, 4) * math.prod(int(each or 1) for each in shape.split(","))
