"""Models in TensorFlow Lite files of export.py, which need no TensorFlow."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from speech.export import tflite_metadata
from speech.export.acoustic_model import (
    FRONT_END,
    NETWORK,
    STREAM,
    Floats,
    Samples,
    State,
    StreamSignature,
)
from speech.system.tensorflow_import import without_notes
from utils import UserError


class LiteModel:
    """The content of a file that speech/export/tflite.py has written."""

    def __init__(self, path: str, content: bytes) -> None:
        """
        Args:
            path: for messages.

        Raises:
            UserError: it can't be loaded, or export.py hasn't written it.
        """
        self.description = tflite_metadata.description_in(content, path)
        self._lock = threading.Lock()  # an interpreter has one set of tensors
        try:
            interpreter = Interpreter(model_content=content)
            with without_notes():
                interpreter.allocate_tensors()
            self._front_end = interpreter.get_signature_runner(FRONT_END)
            self._network = interpreter.get_signature_runner(NETWORK)
            self._stream: StreamSignature | None = None
            if STREAM in interpreter.get_signature_list():
                runner = interpreter.get_signature_runner(STREAM)
                shapes = {name: each["shape"] for name, each in runner.get_input_details().items()}
                self._stream = StreamSignature(partial(self._run, runner), shapes)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path} can't be loaded: {error}. Export it again.") from None

    def _run(self, runner: Callable[..., dict[str, Any]], **inputs: Any) -> dict[str, Any]:
        with self._lock:
            return runner(**inputs)

    def of_features(self, features: Floats) -> Floats:
        outputs = self._run(self._network, features=features[np.newaxis])
        return outputs["log_probs"][0]

    def of_samples(self, samples: Samples) -> Floats:
        outputs = self._run(self._front_end, samples=samples[np.newaxis].astype(np.float32))
        return self.of_features(outputs["features"][0])

    def of_batch(self, batch: Sequence[Floats]) -> list[Floats]:
        return [self.of_features(each) for each in batch]

    @property
    def carries_state(self) -> bool:
        return self._stream is not None

    def stream(
        self, features: Floats, padding: tuple[int, int], state: State | None
    ) -> tuple[Floats, State]:
        assert self._stream is not None
        return self._stream(features, padding, state)
