"""Records from the microphone, with PortAudio."""

import queue
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np

from speech.audio.reader import AudioError
from speech.audio.types import Samples
from utils import UserError

BLOCK_SECONDS = 0.05
# Maximum blocks that wait to be processed: ten seconds.
MOST_WAITING = 200

# Reasons why a recording ended.
CTRL_C, TOO_FAST = "Ctrl-C", "too fast"


def blocks(sample_rate: int) -> Iterator[Samples]:
    """Yields samples of the default microphone in blocks, mono, until Ctrl-C.

    Only the main thread may call it, because it handles a signal.

    Args:
        sample_rate: Hz.

    Yields:
        float32 [samples] at int16 scale.

    Raises:
        UserError: sounddevice or PortAudio isn't installed.
        AudioError: there is no microphone for this rate, or its samples were processed too slowly.
    """
    sounddevice = _sounddevice()
    waiting: queue.Queue[bytes] = queue.Queue(MOST_WAITING)
    ended: list[str] = []  # reasons

    def take(recorded: Any, frames: int, time: Any, status: Any) -> None:
        try:
            waiting.put_nowait(bytes(recorded))
        except queue.Full:
            ended.append(TOO_FAST)

    # Not KeyboardInterrupt, which would interrupt the processing and lose the last words.
    before = signal.signal(signal.SIGINT, lambda number, frame: ended.append(CTRL_C))
    try:
        size = round(BLOCK_SECONDS * sample_rate)
        with sounddevice.RawInputStream(
            sample_rate, size, channels=1, dtype="int16", callback=take
        ):
            while not ended:
                try:
                    yield _samples(waiting.get(timeout=BLOCK_SECONDS))
                except queue.Empty:
                    continue
        while not waiting.empty():  # samples from before the end
            yield _samples(waiting.get())
    except sounddevice.PortAudioError as error:
        raise AudioError(
            f"The microphone can't be used ({error}): connect one that works in other programs."
        ) from None
    finally:
        signal.signal(signal.SIGINT, before)
    if CTRL_C not in ended:
        raise AudioError(
            "This machine recognises speech slower than it is spoken: choose a smaller model or "
            "a smaller --beam_width."
        )


def _samples(recorded: bytes) -> Samples:
    return np.frombuffer(recorded, "<i2").astype(np.float32)


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise UserError("--microphone needs sounddevice: pip install -e '.[microphone]'") from None
    except OSError:
        raise UserError(
            "--microphone needs the library PortAudio: sudo apt-get install libportaudio2"
        ) from None
    return sounddevice
