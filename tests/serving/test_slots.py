"""Slots for requests."""

import pytest

from speech.serving.errors import RequestError
from speech.serving.slots import Slots


def test_requests_without_a_slot_are_asked_to_retry() -> None:
    taken: list[int] = []
    slots = Slots(2, "requests wait", taken.append)
    with slots.one(), slots.one():
        with pytest.raises(RequestError, match=r"2 requests wait.*try again in 5 s") as raised:
            slots.check()
        assert (raised.value.status, raised.value.retry_after) == (503, 5)
    with pytest.raises(ZeroDivisionError), slots.one():
        raise ZeroDivisionError
    slots.check()
    assert taken == [1, 2, 1, 0, 1, 0]
