"""Builds the graphs of TPUEstimator for a TPU, without a TPU and without running them.

TPUEstimator asks a TPU only for its number of cores before it opens a session. Both are faked here,
so that tests can check what would be compiled: the shapes of a core's batch, the variables, and
every op in the replicated computation.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import tensorflow as tf
from tensorflow.python.framework import kernels
from tensorflow.python.tpu import tpu_system_metadata
from tensorflow.python.training import evaluation, monitored_session

from speech.engines.devices import ESTIMATOR, Device, DeviceSettings, TpuSettings, find_device

CORES = 8

# Ops that the TPU's runtime removes before XLA compiles the computation.
RUNTIME_OPS = {
    "CrossReplicaSum",
    "InfeedDequeueTuple",
    "OutfeedEnqueueTuple",
    "TPUCompilationResult",
    "TPUReplicateMetadata",
    "TPUReplicatedInput",
    "TPUReplicatedOutput",
}

# Functions that open a session. Not dotted names, which Python 3.10's mock can't resolve, since
# `tensorflow.python` is no attribute of tensorflow.
_SESSIONS: tuple[tuple[Any, str], ...] = (
    (monitored_session, "MonitoredTrainingSession"),
    (monitored_session.MonitoredSession, "__init__"),
    (evaluation, "_evaluate_once"),
)


def settings(use_tpu: bool = True, cores: int = CORES, name: str = "local") -> TpuSettings:
    """Returns the settings of a TPU that needs neither zone nor project."""
    return TpuSettings(use_tpu, name, zone=None, project=None, cores=cores)


def device(cores: int = CORES) -> Device:
    """Returns the faked TPU as an estimator needs it; call it during `topology`."""
    return find_device(DeviceSettings(settings(cores=cores), ESTIMATOR))


class _NoSessionError(Exception):
    """Raised instead of opening a session."""


@contextmanager
def topology(cores: int = CORES, hosts: int = 1) -> Iterator[mock.Mock]:
    """Makes TensorFlow find a TPU with so many cores on so many hosts.

    Yields:
        the mock that TensorFlow calls for them.
    """
    metadata = tpu_system_metadata.TPUSystemMetadata(
        num_cores=cores,
        num_hosts=hosts,
        num_of_cores_per_host=cores // hosts,
        topology=None,
        devices=[],
    )

    def query(*unused: Any, **unused_too: Any) -> tpu_system_metadata.TPUSystemMetadata:
        # In eager mode, TensorFlow would list this machine's devices, whatever the TPU's address.
        assert not tf.executing_eagerly()
        return metadata

    with mock.patch.object(
        tpu_system_metadata, "_query_tpu_system_metadata", side_effect=query
    ) as queried:
        yield queried


def graph_of(run: Callable[[], Any], cores: int = CORES, hosts: int = 1) -> tf.Graph:
    """Returns the graph that an estimator's train, evaluate or predict, called by `run`, builds."""
    graphs = []

    def open_session(*unused: Any, **unused_too: Any) -> None:
        graphs.append(tf.compat.v1.get_default_graph())
        raise _NoSessionError

    with ExitStack() as stack:
        stack.enter_context(topology(cores, hosts))
        for session in _SESSIONS:
            stack.enter_context(mock.patch.object(*session, open_session))
        try:
            run()
        except _NoSessionError:
            return graphs[0]
    raise AssertionError("no session was opened")


def computation(graph: tf.Graph) -> list[Any]:
    """Returns every node of the replicated computation and of the functions that it calls."""
    definition = graph.as_graph_def()
    functions = {each.signature.name: each.node_def for each in definition.library.function}
    nodes: list[Any] = []
    seen = set()
    waiting = [node for node in definition.node if "_tpu_replicate" in node.attr]
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        for name in _called_by(node):
            if name in functions and name not in seen:
                seen.add(name)
                waiting += functions[name]
    return nodes


def _called_by(node: Any) -> Iterator[str]:
    for attribute in node.attr.values():
        yield attribute.func.name
        yield from (function.name for function in attribute.list.func)


def ops_without_xla_kernel(graph: tf.Graph) -> Counter[str]:
    """Counts the ops of the replicated computation that XLA can't compile."""
    # XLA registers its kernels at its first use.
    tf.function(lambda value: value + 1, jit_compile=True)(tf.ones([1]))
    counts = Counter(node.op for node in computation(graph))
    return Counter(
        {
            op: count
            for op, count in counts.items()
            if op not in RUNTIME_OPS and not _has_xla_kernel(op) and not _is_function(graph, op)
        }
    )


def _has_xla_kernel(op: str) -> bool:
    return any(
        "XLA" in kernel.device_type for kernel in kernels.get_registered_kernels_for_op(op).kernel
    )


def _is_function(graph: tf.Graph, name: str) -> bool:
    return any(name == each.signature.name for each in graph.as_graph_def().library.function)
