"""Limits the server's connections: their number, and how long an idle client may hold one.

uvicorn waits for ever for a request's head and for a client that doesn't read its response, and
limits connections only by the process's open files.
"""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Collection
from typing import Any, Protocol

import h11
from absl import logging
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from speech.serving.errors import OUT_OF_FILES

# Time for a request's head to arrive, from the connection or from the previous response.
HEAD_SECONDS = 10.0
# A client that reads no byte of its response for so long counts as gone.
SEND_SECONDS = 30.0

# Largest share of the process's open files that are connections: requests need others, for uploads,
# recordings and ffmpeg.
SHARE_OF_FILES = 0.5
MOST_CONNECTIONS = 2000
# Connections are accepted in groups of so many; before each, others are closed if there are too
# many.
ACCEPTED_AT_ONCE = 8

# Interval of the checks whether a client that has closed its side of the connection is still there.
PROBE_SECONDS = 0.5
# Time for the response if that can't be checked (HTTP/1.0).
UNSEEN_SECONDS = 10.0

LOG_SECONDS = 60  # between two lines about the same problem

INVALID_TEXT = 1007  # RFC 6455's code


def most_connections() -> int:
    """Returns the largest number of connections at once."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, int(files * SHARE_OF_FILES))


class Connection(Protocol):
    """A connection of any protocol, as the limit of their number sees it."""

    @property
    def waiting(self) -> tuple[bool, float] | None:
        """Whether the client has sent anything, and since when nothing of it is under way.

        None: something is under way, or the connection is closed already.
        """

    def abort(self) -> None:
        """Closes the connection at once."""


def make_room(connections: Collection[Any], newest: Connection) -> bool:
    """Closes the connection that has waited longest, if a new one makes them too many.

    Those whose clients sent nothing are closed first.

    Args:
        connections: uvicorn's, among them the new one; of the classes here, or like `Connection`.

    Returns:
        whether there is room: False if something is under way on all others.
    """
    if len(connections) <= most_connections():
        return True
    logging.log_every_n_seconds(
        logging.WARNING,
        "There are %d connections, the most that this server allows: those without a request "
        "are closed. Raise ulimit -n to allow more.",
        LOG_SECONDS,
        most_connections(),
    )
    others = [each for each in connections if each is not newest and each.waiting]
    if others:
        min(others, key=lambda each: each.waiting).abort()
    return bool(others)


class _Sending(asyncio.Protocol):
    """A connection that is closed if its client doesn't read what it is sent."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _send_timer: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_sending(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end_watching()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_watching()
        super().connection_lost(exc)

    def _watch_sending(self, unsent: int) -> None:
        self._send_timer = self.loop.call_later(SEND_SECONDS, self._check_sending, unsent)

    def _check_sending(self, unsent: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left >= unsent:
            self.transport.abort()
        else:
            self._watch_sending(left)

    def _end_watching(self) -> None:
        if self._send_timer:
            self._send_timer.cancel()
            self._send_timer = None


class HttpConnection(_Sending, H11Protocol):
    """A connection of HTTP, until it becomes a WebSocket."""

    _head_timer: asyncio.TimerHandle | None = None  # while a request's head is awaited
    _received = False  # whether the client has sent anything
    _half_closed = False  # whether the client has closed its side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()
        if not make_room(self.connections, self):
            self.abort()

    @property
    def waiting(self) -> tuple[bool, float] | None:
        if not self._head_timer:
            return None
        return self._received, self._head_timer.when() - HEAD_SECONDS

    def abort(self) -> None:
        self.transport.abort()
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        self._received = True
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._half_closed and not self._busy:
            self.transport.close()
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._watch_head()

    @property
    def _busy(self) -> bool:
        """Whether a request is under way."""
        return self.cycle is not None and not self.cycle.response_complete

    def _watch_head(self) -> None:
        """Limits the time until the next request, if none is under way."""
        elsewhere = self.transport.is_closing() or self.transport.get_protocol() is not self
        if self._busy or elsewhere:
            if self._head_timer:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keeps the connection open for the response: nc -N closes its side after its request.

        A client that has gone closes its side as well. To find out, it is sent an interim response,
        which the operating system of a client that has gone rejects.
        """
        if not self._busy or self.cycle.more_body:
            return False
        if not self._half_closed:
            self._half_closed = True
            self.loop.call_later(PROBE_SECONDS, self._probe_client)
        return True

    def _probe_client(self) -> None:
        """Sends an interim response, if one is possible, and watches the connection for errors."""
        if not self._busy or self.transport.is_closing():
            return
        deadline = float("inf")
        if self.scope["http_version"] == "1.0":  # has no interim responses
            deadline = self.loop.time() + UNSEEN_SECONDS
        elif not self.cycle.response_started:
            interim = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
            self.transport.write(self.conn.send(interim) or b"")
        self._watch_client(deadline)

    def _watch_client(self, deadline: float) -> None:
        """Closes the connection once the client is known to be gone, or at the deadline."""
        if self.transport.is_closing():
            return
        connection = self.transport.get_extra_info("socket")
        gone = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if gone or self.loop.time() > deadline:
            self.transport.abort()
        else:
            self.loop.call_later(PROBE_SECONDS, self._watch_client, deadline)


class WebSocketConnection(_Sending, WebSocketsSansIOProtocol):
    """A connection of a WebSocket."""

    @property
    def waiting(self) -> tuple[bool, float] | None:
        """See `Connection`: once it is closed, until the client has closed its side."""
        if not self.close_timer or self.transport.is_closing():
            return None
        return True, self.close_timer.when() - self.close_timeout

    def abort(self) -> None:
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc and not self.handshake_initiated:
            # h11 accepts what websockets may not: another method, or longer lines. uvicorn would
            # send nothing.
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            self.transport.close()

    def send_receive_event_to_app(self) -> None:
        is_text = self.curr_msg_data_type == "text" and not self.close_sent
        if is_text and not _is_utf8(b"".join(self.frames)):
            self.frames = []
            self.conn.fail(INVALID_TEXT, "Text must be UTF-8.")
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()


def _is_utf8(content: bytes) -> bool:
    with contextlib.suppress(UnicodeDecodeError):
        content.decode()
        return True
    return False


def handle_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Handles an event loop's errors; logs that no more files can be opened once a minute.

    asyncio would log it for every connection that waits.
    """
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in OUT_OF_FILES:
        logging.log_every_n_seconds(
            logging.ERROR,
            "No more connections can be accepted: %s. Raise ulimit -n to allow more.",
            LOG_SECONDS,
            error.strerror,
        )
    else:
        loop.default_exception_handler(context)
