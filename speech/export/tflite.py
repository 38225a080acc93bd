"""Writes TensorFlow Lite files: only built-in operations, everything in one file.

A file has two signatures, so that only the network is quantised. `front_end` takes samples, float32
[1, samples] at int16 scale, and returns features, float32 [1, frames, bins]; `network` takes these
and returns log_probs, float32 [1, outputs, classes]. A network that carries a state has a third
one, `stream`, as a SavedModel has (speech/export/saved_model.py), for one utterance. Description
and alphabet are in the file's metadata (speech/export/tflite_metadata.py).
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from speech.export import saved_model
from speech.export.acoustic_graph import AcousticGraph
from speech.export.acoustic_model import FRONT_END, NETWORK, STREAM
from speech.export.description import Description
from speech.export.tflite_metadata import CHECKSUM_LINE, DESCRIPTION_NAME, IDENTIFIER, with_checksum
from speech.features import graph as graph_features

# Precision of the weights. With int8, products are computed in int8 too, and activations are
# quantised at run time ("dynamic range").
FLOAT32, FLOAT16, INT8 = "float32", "float16", "int8"

# Kernels expect weights at multiples of so many bytes from the start of the file.
ALIGNMENT = 16


def convert(graph: AcousticGraph, description: Description, precision: str) -> bytes:
    """Returns the content of a file; precision: FLOAT32, FLOAT16 or INT8."""
    front_end = description.config.front_end

    @tf.function
    def features_of(samples: tf.Tensor) -> dict[str, tf.Tensor]:
        length = tf.shape(samples)[1:]
        return {"features": graph_features.extract(samples, length, front_end, tf.float32)[0]}

    @tf.function
    def log_probs_of(features: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"log_probs": graph.of_features(features, tf.shape(features)[1:2])[0]}

    features = tf.TensorSpec([1, None, front_end.bins], tf.float32, "features")
    samples = tf.TensorSpec([1, None], tf.float32, "samples")
    network = log_probs_of.get_concrete_function(features)
    model = _convert(network, NETWORK, graph, precision)
    # Always float32: rounding errors of the filters would be in every feature.
    filters = features_of.get_concrete_function(samples)
    _append(model, _convert(filters, FRONT_END, tf.Module(), FLOAT32))
    if graph.carries_state:
        piece = saved_model.streaming(graph, description, batch=1)
        _append(model, _convert(piece, STREAM, graph, precision))
    _share_equal_buffers(model)
    text = description.to_json().encode()
    _add_metadata(model, DESCRIPTION_NAME, text[:1] + CHECKSUM_LINE % 0 + text[1:])
    return with_checksum(_pack(model))


def _convert(
    function: tf.types.experimental.ConcreteFunction,
    signature: str,
    owner: tf.Module,
    precision: str,
) -> Any:
    """Converts a function to a schema's ModelT with one signature.

    Args:
        owner: of the function's variables.
    """
    owner.function = function  # the converter looks for it there
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], owner)
    del owner.function
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision != FLOAT32:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == FLOAT16:
        converter.target_spec.supported_types = [tf.float16]
    with _silence():
        content = converter.convert()
    model = schema.ModelT.InitFromPackedBuf(bytearray(content))
    (only,) = model.signatureDefs
    only.signatureKey = signature
    return model


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps the converter's statistics, written by C++, off standard error; errors are raised."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _append(model: Any, other: Any) -> None:
    """Appends another ModelT's graph, with its loops, and its signature."""
    first_code, first_buffer = len(model.operatorCodes), len(model.buffers)
    first_graph = len(model.subgraphs)
    (signature,) = other.signatureDefs
    other.subgraphs[signature.subgraphIndex].name = signature.signatureKey
    signature.subgraphIndex += first_graph
    for graph in other.subgraphs:
        for operator in graph.operators:
            operator.opcodeIndex += first_code
            if isinstance(operator.builtinOptions, schema.WhileOptionsT):
                operator.builtinOptions.condSubgraphIndex += first_graph
                operator.builtinOptions.bodySubgraphIndex += first_graph
        for tensor in graph.tensors:
            tensor.buffer += first_buffer
    model.operatorCodes += other.operatorCodes
    model.buffers += other.buffers
    model.subgraphs += other.subgraphs
    model.signatureDefs.append(signature)


def _share_equal_buffers(model: Any) -> None:
    """Makes tensors with equal bytes share them: the converter writes a loop's kernels twice."""
    first: dict[bytes, int] = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if data is not None and len(data):
                tensor.buffer = first.setdefault(bytes(data), tensor.buffer)
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or []}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None


def _add_metadata(model: Any, name: str, content: bytes) -> None:
    """Adds an entry to the file's metadata."""
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(content, np.uint8)
    entry.name, entry.buffer = name, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]


class _Builder(flatbuffers.Builder):
    """A builder that aligns buffers, which the schema requires and flatbuffers' Python omits."""

    def CreateNumpyVector(self, x: npt.NDArray[Any]) -> int:  # noqa: N802
        if x.dtype != np.uint8:
            return int(super().CreateNumpyVector(x))
        self.StartVector(1, len(x), ALIGNMENT)
        start = self.Head() - len(x)
        self.Bytes[start : self.Head()] = x.tobytes()
        self.head = start
        self.vectorNumElems = len(x)
        return int(self.EndVector())


def _pack(model: Any) -> bytes:
    builder = _Builder(1024)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())
