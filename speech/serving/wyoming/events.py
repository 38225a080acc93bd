"""Reads the events of clients.

An event is a line of JSON, {"type", "data", "data_length", "payload_length"}, then more data, also
JSON, and a payload, of these lengths.
"""

import asyncio
import contextlib
import json
from typing import Any

from wyoming.event import Event

from speech.serving.errors import RequestError
from speech.serving.schemas.requests import format_value
from speech.serving.services.arriving import PcmFormat

# Bounds of an event: of its line and of its data, and of its payload.
MOST_DATA_BYTES, MOST_PAYLOAD_BYTES = 2**16, 2**20
# Bounds of a format: Hz, bytes of a sample, and channels.
BOUNDS = {"rate": (4000, 384_000), "width": (1, 4), "channels": (1, 32)}


async def read_event(reader: asyncio.StreamReader) -> Event:
    """Reads an event. The package `wyoming` would read one of any size.

    Raises:
        RequestError: it is no event (400), or too large (413).
        IncompleteReadError: the client has disconnected.
    """
    try:
        head = _object_of(await reader.readuntil(b"\n"))
    except asyncio.LimitOverrunError:
        raise _too_large("line", MOST_DATA_BYTES) from None
    data = head.get("data") or {}
    if not isinstance(head.get("type"), str) or not isinstance(data, dict):
        raise _not_an_event()
    if length := _length_in(head, "data_length", MOST_DATA_BYTES):
        data = {**data, **_object_of(await reader.readexactly(length))}
    payload = await reader.readexactly(_length_in(head, "payload_length", MOST_PAYLOAD_BYTES))
    return Event(head["type"], data, payload)


def _object_of(content: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(content)
        if isinstance(found, dict):
            return found
    raise _not_an_event()


def _length_in(head: dict[str, Any], name: str, most: int) -> int:
    length = head.get(name) or 0
    if type(length) is not int or length < 0:
        raise _not_an_event()
    if length > most:
        raise _too_large(name, most)
    return length


def _not_an_event() -> RequestError:
    return RequestError(
        400, "This is no event of Wyoming: send a line of JSON with a type, then what it announces."
    )


def _too_large(what: str, most: int) -> RequestError:
    return RequestError(413, f"An event's {what} is beyond {most} bytes: send smaller chunks.")


def format_of(event: Event) -> PcmFormat:
    """Returns the format of audio-start or audio-chunk; raises RequestError (400)."""
    for name, (lowest, highest) in BOUNDS.items():
        value = event.data.get(name)
        if type(value) is not int or not lowest <= value <= highest:
            raise RequestError(
                400,
                f"The {name} of {event.type} is {format_value(value)}: send a whole number from "
                f"{lowest} to {highest}.",
            )
    return PcmFormat(**{name: event.data[name] for name in BOUNDS})
