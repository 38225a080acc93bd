"""TensorFlow Lite files: operations, buffers, metadata."""

import subprocess
import sys
from pathlib import Path

import flatbuffers
import google_crc32c
import numpy as np
import pytest
import tensorflow as tf
from doors import ROOT
from tensorflow.lite.python import schema_py_generated as schema
from tiny_models import tiny_config

from speech.export import tflite, tflite_metadata
from speech.export.acoustic_graph import AcousticGraph
from speech.export.description import Description, Naming
from speech.export.tflite_metadata import DESCRIPTION_NAME, IDENTIFIER
from utils import UserError


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config("conv_gru", normalisation="corpus")
    description = Description(config, 3, Naming(name="Zoë's"))
    path = tmp_path_factory.mktemp("lite") / "model.tflite"
    path.write_bytes(tflite.convert(AcousticGraph(config), description, tflite.FLOAT32))
    return path


def test_description_is_read_without_tensorflow(file: Path) -> None:
    program = (
        "import sys; from speech.export.tflite_metadata import read_description as read; "
        "found = read(sys.argv[1]); assert 'tensorflow' not in sys.modules; "
        "print(found.naming.name, found.checkpoint_step, found.config.alphabet, "
        "found.config.front_end.mel_filters, len(found.config.statistics.mean))"
    )
    command = [sys.executable, "-c", program, str(file)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stdout == "Zoë's 3 abcdefghijklmnopqrstuvwxyz ' 8 8\n", result.stderr


def buffer_spans(file: Path) -> list[tuple[int, int]]:
    """Returns the spans of the file's buffers with data: from, to, in bytes."""
    model = tflite_metadata._model(file.read_bytes())
    buffers = model.tables(tflite_metadata._MODEL_BUFFERS)
    spans = [buffer.span(tflite_metadata._BUFFER_DATA) for buffer in buffers]
    return [(start, end) for start, end in spans if end > start]


def test_buffers_are_aligned_for_kernels(file: Path) -> None:
    spans = buffer_spans(file)
    assert len(spans) > 10
    assert [start for start, _ in spans if start % tflite.ALIGNMENT] == []


def test_no_two_buffers_are_equal(file: Path) -> None:
    content = file.read_bytes()
    parts = [content[start:end] for start, end in buffer_spans(file)]
    assert len(set(parts)) == len(parts)


def test_operations_are_all_built_in(file: Path) -> None:
    model = schema.ModelT.InitFromPackedBuf(bytearray(file.read_bytes()))
    codes = {code.builtinCode for code in model.operatorCodes}
    assert schema.BuiltinOperator.WHILE in codes and schema.BuiltinOperator.RFFT2D in codes
    assert schema.BuiltinOperator.CUSTOM not in codes
    assert {code.customCode for code in model.operatorCodes} == {None}


def test_file_without_a_description_is_refused(tmp_path: Path) -> None:
    module = tf.Module()
    module.double = tf.function(lambda values: 2.0 * values)
    concrete = module.double.get_concrete_function(tf.TensorSpec([2], tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    path = tmp_path / "double.tflite"
    path.write_bytes(converter.convert())
    with pytest.raises(UserError, match="doesn't contain alphabet and front end"):
        tflite_metadata.read_description(str(path))


def test_truncated_file_is_refused(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.tflite"
    path.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="is not a TensorFlow Lite model"):
        tflite_metadata.read_description(str(path))


def test_file_with_a_wrong_offset_is_refused(file: Path, tmp_path: Path) -> None:
    """The description's entry points to a buffer after the last one."""
    content = file.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(bytearray(content))
    (entry,) = [each for each in model.metadata if each.name == DESCRIPTION_NAME.encode()]
    entry.buffer = len(model.buffers)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), IDENTIFIER)
    path = tmp_path / "astray.tflite"
    path.write_bytes(bytes(builder.Output()))
    with pytest.raises(UserError, match=r"astray\.tflite is not a TensorFlow Lite model"):
        tflite_metadata.read_description(str(path))


def test_checksum_covers_the_whole_file(file: Path, tmp_path: Path) -> None:
    """Every byte except its own digits, which it is compared with."""
    whole = file.read_bytes()
    at = whole.index(b'"crc32c": "') + 11
    rest = whole[:at] + whole[at + 8 :]
    assert whole[at : at + 8] == f"{google_crc32c.value(rest):08x}".encode()
    path = tmp_path / "damaged.tflite"
    places = (*range(0, 64), *range(at - 20, at + 20), *range(64, len(whole), 997))
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(UserError, match=r"damaged\.tflite"):
            tflite_metadata.read_description(str(path))
    for end in range(0, len(whole), 9973):
        path.write_bytes(whole[:end])
        with pytest.raises(UserError, match=r"damaged\.tflite"):
            tflite_metadata.read_description(str(path))


def test_older_file_without_a_checksum_is_read(file: Path, tmp_path: Path) -> None:
    model = schema.ModelT.InitFromPackedBuf(bytearray(file.read_bytes()))
    (entry,) = [each for each in model.metadata if each.name == DESCRIPTION_NAME.encode()]
    text = bytes(model.buffers[entry.buffer].data)
    line = text[text.index(b'\n "crc32c"') :].partition(b",")[0] + b","
    model.buffers[entry.buffer].data = np.frombuffer(text.replace(line, b""), np.uint8)
    path = tmp_path / "older.tflite"
    path.write_bytes(tflite._pack(model))
    assert b"crc32c" not in path.read_bytes()
    found = tflite_metadata.read_description(str(path))
    assert found == tflite_metadata.read_description(str(file))
