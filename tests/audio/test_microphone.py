"""The microphone, without one: a thread calls what PortAudio would call."""

import signal
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from speech.audio import microphone
from speech.audio.reader import AudioError
from utils import UserError


class MissingError(Exception):
    """sounddevice.PortAudioError"""


class Stream:
    """sounddevice.RawInputStream, which records `blocks` blocks at once and then is interrupted."""

    blocks = 3

    def __init__(self, rate: int, size: int, callback: Any, **others: Any) -> None:
        self._size, self._callback = size, callback

    def __enter__(self) -> None:
        def speak() -> None:
            for number in range(self.blocks):
                self._callback(np.full(self._size, number, np.int16), self._size, None, None)
            time.sleep(0.1)
            signal.raise_signal(signal.SIGINT)

        self._thread = threading.Thread(target=speak)
        self._thread.start()

    def __exit__(self, *error: Any) -> None:
        self._thread.join()


def installed(monkeypatch: pytest.MonkeyPatch, stream: Any) -> None:
    module = SimpleNamespace(RawInputStream=stream, PortAudioError=MissingError)
    monkeypatch.setitem(sys.modules, "sounddevice", module)


def test_everything_before_ctrl_c_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, Stream)
    before = signal.getsignal(signal.SIGINT)
    recorded = []
    for block in microphone.blocks(16000):
        recorded.append(block)
        time.sleep(0.2)  # the second and third wait when Ctrl-C comes
    assert [block[0] for block in recorded] == [0, 1, 2]
    assert {len(block) for block in recorded} == {800}
    assert signal.getsignal(signal.SIGINT) == before


def test_a_reader_that_is_too_slow_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, type("Fast", (Stream,), {"blocks": microphone.MOST_WAITING + 50}))
    monkeypatch.setattr(signal, "raise_signal", lambda number: None)
    blocks = microphone.blocks(16000)
    next(blocks)
    time.sleep(0.1)
    with pytest.raises(AudioError, match="recognises speech slower than it is spoken"):
        list(blocks)


def test_a_missing_microphone_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*given: Any, **named: Any) -> None:
        raise MissingError("Error querying device -1")

    installed(monkeypatch, missing)
    with pytest.raises(AudioError, match=r"Error querying device -1.*connect one"):
        next(microphone.blocks(16000))


def test_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[microphone\]'"):
        next(microphone.blocks(16000))
