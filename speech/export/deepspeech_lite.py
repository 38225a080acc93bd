"""DeepSpeech's and Coqui STT's own .tflite files, used as they are."""

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from speech.export.acoustic_model import Floats, Samples, State
from speech.export.description import Description, Naming
from speech.features import front_end
from speech.layers.windows import centred
from speech.mozilla import lite_file
from speech.mozilla.conversion import CONTEXT_SIZE, IMPOSSIBLE, config
from speech.mozilla.foreign_model import parse_alphabet
from utils import UTF_8, UserError

INPUT, OUTPUT = "input_node", "logits"  # which are probabilities
STATE_INPUTS = ("previous_state_c", "previous_state_h")
STATE_OUTPUTS = ("new_state_c", "new_state_h")

SMALLEST = np.float32(1e-37)  # a probability, before the logarithm


class DeepSpeechLiteModel:
    """A .tflite file of DeepSpeech 0.6 to 0.9 or Coqui STT.

    Its graph computes a fixed number of outputs at a time, and returns the state after the last of
    them. So a piece with fewer is computed again, with the outputs that follow, from the last state
    that belongs to all of its outputs.
    """

    carries_state = True

    def __init__(self, path: str, content: bytes) -> None:
        """
        Args:
            path: for messages.

        Raises:
            UserError: it can't be loaded, or has other sizes than DeepSpeech's.
        """
        self._interpreter = interpreter = lite_file.load(path, content)
        self._lock = threading.Lock()  # an interpreter has one set of tensors
        metadata = lite_file.read_metadata(interpreter)
        inputs = {each["name"]: each for each in interpreter.get_input_details()}
        self._inputs = {name: each["index"] for name, each in inputs.items()}
        self._outputs = {each["name"]: each["index"] for each in interpreter.get_output_details()}
        alphabet = parse_alphabet(bytes(metadata[lite_file.ALPHABET]), path)
        _, self._steps, width, bins = inputs[INPUT]["shape"].tolist()
        self._units = int(inputs[STATE_INPUTS[0]]["shape"][1])
        # The dense layers' size isn't known; by default it is the LSTM's.
        described = config(lite_file.frames_of(metadata), alphabet, self._units, self._units)
        if (width, bins) != (CONTEXT_SIZE, described.front_end.bins):
            raise UserError(
                f"{path} reads windows of {width} frames of {bins} values, DeepSpeech's models "
                f"{CONTEXT_SIZE} of {described.front_end.bins}."
            )
        language = bytes(metadata["metadata_language"]).decode(errors="replace")
        self.description = Description(described, 0, Naming(language=language))
        self.beam_width = int(metadata["metadata_beam_width"])  # that its clients use by default

    def of_features(self, features: Floats) -> Floats:
        before, after = centred(CONTEXT_SIZE)
        return self.stream(features, (before, after), None)[0]

    def of_samples(self, samples: Samples) -> Floats:
        return self.of_features(front_end.extract(samples, self.description.config.front_end))

    def of_batch(self, batch: Sequence[Floats]) -> list[Floats]:
        return [self.of_features(each) for each in batch]

    def stream(
        self, features: Floats, padding: tuple[int, int], state: State | None
    ) -> tuple[Floats, State]:
        padded = np.pad(features, (padding, (0, 0)))  # [frames, bins]
        fresh = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT_SIZE, axis=0)
        fresh = fresh.transpose(0, 2, 1)  # [outputs, window, bins]
        zeros = np.zeros((1, self._units), np.float32)
        cell, hidden, waiting = state or (zeros, zeros, fresh[:0])
        windows = np.concatenate([waiting, fresh])
        computed = []
        for start in range(0, len(windows), self._steps):
            block = windows[start : start + self._steps]
            probabilities, new_state = self._run(block, (cell, hidden))
            computed.append(probabilities)
            if len(block) == self._steps:
                (cell, hidden), block = new_state, block[:0]
            waiting_next = block
        log_probs = np.log(np.maximum(np.concatenate(computed)[len(waiting) :], SMALLEST))
        if self.description.config.alphabet == UTF_8:  # there is no label of byte 0
            log_probs = np.pad(log_probs, ((0, 0), (1, 0)), constant_values=IMPOSSIBLE)
        return log_probs, (cell, hidden, waiting_next)

    def _run(
        self, windows: npt.NDArray[np.float32], state: tuple[Floats, Floats]
    ) -> tuple[Floats, tuple[Floats, Floats]]:
        """Returns the probabilities of up to `_steps` windows, and the state after `_steps`."""
        missing = self._steps - len(windows)
        block = np.pad(windows, ((0, missing), (0, 0), (0, 0)))[np.newaxis]
        with self._lock:
            for name, value in ((INPUT, block), *zip(STATE_INPUTS, state, strict=True)):
                self._interpreter.set_tensor(self._inputs[name], value)
            self._interpreter.invoke()
            cell, hidden = (
                self._interpreter.get_tensor(self._outputs[name]) for name in STATE_OUTPUTS
            )
            probabilities = self._interpreter.get_tensor(self._outputs[OUTPUT])
        return probabilities[: len(windows)], (cell, hidden)
