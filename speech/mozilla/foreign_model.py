"""A model of Mozilla DeepSpeech 0.6 to 0.9 or Coqui STT, whatever file it came from."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from utils import UTF_8, Alphabet, UserError

GRAPH_SUFFIXES = (".pb", ".pbmm")

# Labels of --bytes_output_mode: the bytes from 1 on, since 0 ends a string in C++.
BYTES = [bytes([byte]) for byte in range(1, 256)]


@dataclass(frozen=True)
class Frames:
    """Frames of the features, which the files state in whole numbers."""

    sample_rate: int = 16000  # Hz
    window_milliseconds: int = 32
    step_milliseconds: int = 20


@dataclass(frozen=True)
class ForeignModel:
    """The variables of a model by DeepSpeech's names, and what else its file says.

    The names are those of deepspeech_training/train.py: layer_1/weights, layer_1/bias,
    layer_1/LayerNorm/gamma, and LSTM_KERNEL of speech/mozilla/conversion.py.
    """

    path: str
    values: Mapping[str, np.ndarray]
    alphabet: Alphabet | None = None  # None: the file has none
    frames: Frames = field(default_factory=Frames)
    relu_clip: float | None = None  # None: the file doesn't say
    layer_norm_epsilon: float | None = None  # None: the source's 1e-12
    beam_width: int | None = None  # that its clients use by default


def parse_alphabet(data: bytes, path: str) -> Alphabet:
    """Parses the alphabet that .pb, .pbmm and .tflite files contain.

    It is Alphabet::Serialize of native_client/alphabet.cc: a count, then for each label, in any
    order, its number, the length of its text, and the text in UTF-8; all numbers are uint16.

    Raises:
        UserError: it is damaged, or has a label of several characters.
    """
    try:
        (count,) = struct.unpack_from("<H", data)
        at, labels = 2, {}
        for _ in range(count):
            label, length = struct.unpack_from("<HH", data, at)
            labels[label] = data[at + 4 : at + 4 + length]
            at += 4 + length
        texts = [labels[label] for label in range(count)]
        if texts == BYTES:
            return UTF_8
        return Alphabet(tuple(text.decode() for text in texts))
    except (struct.error, KeyError, UnicodeDecodeError) as error:
        raise UserError(
            f"The alphabet in {path} can't be read ({error}): the file is damaged, copy it again."
        ) from None
    except UserError as error:
        raise UserError(f"The alphabet in {path} can't be used: {error}") from None
