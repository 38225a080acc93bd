"""The microphone -> samples, by PortAudio."""

import queue
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from speech.audio.reader import AudioError
from utils import UserError

BLOCK_SECONDS = 0.05
# Blocks that may wait for a slow listener: ten seconds.
MOST_WAITING = 200

# Why it ended.
CTRL_C, TOO_FAST = "Ctrl-C", "too fast"


def blocks(sample_rate: int) -> Iterator[npt.NDArray[np.float32]]:
    """Samples of the default microphone in blocks, mono, until Ctrl-C.

    It is for the main thread, as signals are.

    Args:
        sample_rate: Hz.

    Yields:
        float32 [samples] at int16 scale.

    Raises:
        UserError: sounddevice or PortAudio isn't installed.
        AudioError: there is no microphone for this rate, or it was faster than its listener.
    """
    sounddevice = _sounddevice()
    waiting: queue.Queue[bytes] = queue.Queue(MOST_WAITING)
    ended: list[str] = []  # why

    def take(heard: Any, frames: int, time: Any, status: Any) -> None:
        try:
            waiting.put_nowait(bytes(heard))
        except queue.Full:
            ended.append(TOO_FAST)

    # Not KeyboardInterrupt, which would come wherever the listener is, and lose its last words.
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
        while not waiting.empty():  # what was said before it ended
            yield _samples(waiting.get())
    except sounddevice.PortAudioError as error:
        raise AudioError(
            f"The microphone can't be heard ({error}): connect one that other programs hear."
        ) from None
    finally:
        signal.signal(signal.SIGINT, before)
    if CTRL_C not in ended:
        raise AudioError(
            "This machine hears slower than the microphone speaks: take a smaller model or "
            "--beam_width."
        )


def _samples(heard: bytes) -> npt.NDArray[np.float32]:
    return np.frombuffer(heard, "<i2").astype(np.float32)


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
