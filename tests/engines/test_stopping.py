"""Requests to stop."""

import signal

import pytest

from speech.engines.stopping import Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_is_noted_and_the_second_interrupts(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    stopping = Stopping()
    with stopping.listening():
        assert not stopping.requested
        signal.raise_signal(number)
        assert stopping.requested and stopping.signal == number
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) == before
