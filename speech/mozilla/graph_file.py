"""Reads frozen graphs of DeepSpeech: output_graph.pb, and output_graph.pbmm, which is mapped."""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.util import memmapped_file_system_pb2

from speech.mozilla.foreign_model import ForeignModel, Frames, parse_alphabet
from speech.system import storage
from utils import UserError

# Prefix of the names of a mapped file's regions, and the name of its graph.
PACKAGE = "memmapped_package://"
GRAPH = f"{PACKAGE}."

METADATA_ALPHABET = "metadata_alphabet"


def read(path: str) -> ForeignModel:
    """Reads a .pb or .pbmm file, local or gs://.

    Raises:
        UserError: it can't be read, or is no graph of DeepSpeech 0.6 or later.
    """
    content = storage.read_bytes(path)
    graph, regions = _parse(content, path)
    constants = {
        node.name: _constant(node, regions)
        for node in graph.node
        if node.op in ("Const", "ImmutableConst")
    }
    if METADATA_ALPHABET not in constants:
        raise UserError(
            f"{path} is a graph without {METADATA_ALPHABET}: DeepSpeech writes it from version "
            "0.6 on. Import the checkpoint, with --alphabet."
        )
    clips = {
        float(constants[each.input[1]])
        for each in graph.node
        if each.op == "Minimum" and each.input[1] in constants
    }
    epsilons = [
        float(value)
        for name, value in constants.items()
        if name.endswith("LayerNorm/batchnorm/add/y")
    ]
    return ForeignModel(
        path,
        constants,
        parse_alphabet(constants[METADATA_ALPHABET].item(), path),
        Frames(
            *(
                int(constants[f"metadata_{name}"].item())
                for name in ("sample_rate", "feature_win_len", "feature_win_step")
            )
        ),
        relu_clip=max(clips, default=None),
        layer_norm_epsilon=max(epsilons, default=None),
        beam_width=int(constants["metadata_beam_width"].item()),
    )


def _parse(content: bytes, path: str) -> tuple[Any, Mapping[str, bytes]]:
    """Returns the graph and, of a mapped file, its regions by their names."""
    graph = tf.compat.v1.GraphDef()
    try:
        regions = _regions(content)
        graph.ParseFromString(regions.get(GRAPH, content))
    except DecodeError:
        raise UserError(
            f"{path} is no graph of TensorFlow, or damaged: copy it again. A checkpoint is named "
            "by its folder."
        ) from None
    return graph, regions


def _regions(content: bytes) -> dict[str, bytes]:
    """Returns the regions of a mapped file; none of another one.

    As written by TensorFlow's convert_graphdef_memmapped_format: regions, their directory, and the
    directory's offset in the last 8 bytes.
    """
    if len(content) < 8:
        return {}
    (offset,) = struct.unpack("<Q", content[-8:])
    if not offset < len(content) - 8:
        return {}
    directory = memmapped_file_system_pb2.MemmappedFileSystemDirectory()
    try:
        directory.ParseFromString(content[offset:-8])
    except DecodeError:
        return {}
    return {
        each.name: content[each.offset : each.offset + each.length] for each in directory.element
    }


def _constant(node: Any, regions: Mapping[str, bytes]) -> np.ndarray:
    if node.op == "Const":
        value: np.ndarray = tf.make_ndarray(node.attr["value"].tensor)
        return value
    region = regions[node.attr["memory_region_name"].s.decode()]
    shape = [each.size for each in node.attr["shape"].shape.dim]
    kind = tf.as_dtype(node.attr["dtype"].type).as_numpy_dtype
    return np.frombuffer(region, kind, int(np.prod(shape))).reshape(shape)
