"""Reads .tflite files of DeepSpeech and Coqui STT."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from speech.mozilla.conversion import LAYERS, LSTM_BIAS, LSTM_KERNEL
from speech.mozilla.foreign_model import ForeignModel, Frames, parse_alphabet
from speech.system import storage
from utils import UserError

INPUT, ALPHABET = "input_node", "metadata_alphabet"

# The products of the graph in the order of their operations; the LSTM's is there for each step.
_PRODUCTS = (
    *((f"{layer}/weights", f"{layer}/bias") for layer in list(LAYERS.values())[:3]),
    (LSTM_KERNEL, LSTM_BIAS),
    *((f"{layer}/weights", f"{layer}/bias") for layer in list(LAYERS.values())[3:]),
)


def read(path: str) -> ForeignModel:
    """Reads a local .tflite file; weights of 8 bits become float32.

    Raises:
        UserError: it can't be read, or has layers that aren't DeepSpeech's.
    """
    interpreter = load(path, storage.read_bytes(path))
    metadata = read_metadata(interpreter)
    operations = interpreter._get_ops_details()
    if any(each["op_name"] in ("MEAN", "RSQRT") for each in operations):
        raise UserError(
            f"{path} has layer normalisation, whose variables have no names in a .tflite file: "
            "import the .pb file or the checkpoint."
        )
    values: dict[str, np.ndarray] = {}
    products = list(dict.fromkeys(_products(operations)))
    if len(products) != len(_PRODUCTS):
        raise UserError(
            f"{path} has {len(products)} layers with weights, DeepSpeech's {len(_PRODUCTS)}: it is "
            "no model of DeepSpeech 0.6 to 0.9 or Coqui STT."
        )
    tensors = {each["index"]: each for each in interpreter.get_tensor_details()}
    for (kernel, bias), (weights_index, bias_index) in zip(_PRODUCTS, products, strict=True):
        values[kernel] = _dequantised(interpreter, tensors[weights_index]).T
        values[bias] = _dequantised(interpreter, tensors[bias_index])
    clips = {
        float(interpreter.get_tensor(each["inputs"][1]))
        for each in operations
        if each["op_name"] == "MINIMUM" and not tensors[each["inputs"][1]]["shape"].size
    }
    return ForeignModel(
        path,
        values,
        parse_alphabet(bytes(metadata[ALPHABET]), path),
        frames_of(metadata),
        relu_clip=max(clips, default=None),
        beam_width=int(metadata["metadata_beam_width"]),
    )


def is_deepspeechs(content: bytes) -> bool:
    """Returns whether the content of a file may be a .tflite file of DeepSpeech."""
    return ALPHABET.encode() in content


def frames_of(metadata: dict[str, Any]) -> Frames:
    """Returns the frames that the values of `read_metadata` state."""
    return Frames(
        int(metadata["metadata_sample_rate"]),
        int(metadata["metadata_feature_win_len"]),
        int(metadata["metadata_feature_win_step"]),
    )


def load(path: str, content: bytes) -> Any:
    """Returns an interpreter of the content of a .tflite file of DeepSpeech.

    Args:
        path: for messages.

    Raises:
        UserError: it can't be loaded, or is none of DeepSpeech.
    """
    try:
        # Without XNNPACK, whose products of 8 bits round otherwise than the clients' do.
        interpreter = Interpreter(
            model_content=content,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            num_threads=1,
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"{path} can't be loaded ({error}): it is damaged, copy it again."
        ) from None
    names = {each["name"] for each in interpreter.get_output_details()}
    if ALPHABET not in names:
        raise UserError(
            f"{path} is no model of DeepSpeech or Coqui STT: it has no output {ALPHABET}."
        )
    return interpreter


def read_metadata(interpreter: Any) -> dict[str, Any]:
    """Returns the values of the outputs metadata_*, which one call computes."""
    for each in interpreter.get_input_details():
        interpreter.set_tensor(each["index"], np.zeros(each["shape"], each["dtype"]))
    interpreter.invoke()
    return {
        each["name"]: interpreter.get_tensor(each["index"]).reshape(-1)[0]
        for each in interpreter.get_output_details()
        if each["name"].startswith("metadata_")
    }


def _products(operations: list[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    """Yields the tensors of weights and bias of each product."""
    for each in operations:
        if each["op_name"] == "FULLY_CONNECTED":
            _, weights, bias = (int(index) for index in each["inputs"])
            yield weights, bias


def _dequantised(interpreter: Any, tensor: dict[str, Any]) -> np.ndarray:
    """Returns a constant as float32."""
    value = interpreter.get_tensor(tensor["index"])
    if np.issubdtype(value.dtype, np.floating):
        return np.asarray(value, np.float32)
    found = tensor["quantization_parameters"]
    along = [1] * value.ndim
    if len(found["scales"]) > 1:
        along[found["quantized_dimension"]] = -1
    zeros, scales = found["zero_points"].reshape(along), found["scales"].reshape(along)
    return ((value.astype(np.float32) - zeros) * scales).astype(np.float32)
