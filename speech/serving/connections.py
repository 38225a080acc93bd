"""The server's connections: how many there may be, and how long a client may keep one waiting.

uvicorn waits for ever for a request's head and for a client that takes no answer, and has no bound
below that of the process's open files.
"""

import asyncio
import contextlib
import resource
import socket

import h11
from absl import logging
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from speech.serving.errors import OUT_OF_FILES

# A request's head has to be there so long after the connection, or the answer before it.
HEAD_SECONDS = 10.0
# A client that takes no byte of its answer for so long is gone.
SEND_SECONDS = 30.0

# Of the files that the process may open connections are this share at most: requests need others,
# for uploads, recordings and ffmpeg.
SHARE_OF_FILES = 0.5
MOST_CONNECTIONS = 2000
# Connections are accepted in parts of so many, before each of which others are closed if need be.
ACCEPTED_AT_ONCE = 8

# A client that has ended its side of the connection is looked for so often, ...
PROBE_SECONDS = 0.5
# ... and gets its answer within this if it can't be asked whether it is there (HTTP/1.0).
UNSEEN_SECONDS = 10.0

LOG_SECONDS = 60  # between two lines about the same trouble

INVALID_TEXT = 1007  # RFC 6455's code


def most_connections() -> int:
    """Returns how many connections there may be at once."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, int(files * SHARE_OF_FILES))


class _Sending(asyncio.Protocol):
    """A connection that is ended if its client takes nothing of what it is sent."""

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
    """One of HTTP, until it becomes a WebSocket."""

    _head_timer: asyncio.TimerHandle | None = None  # while a request's head is waited for
    _heard = False  # whether anything came
    _ended = False  # whether the client has said that nothing more comes

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()
        if len(self.connections) > most_connections():
            self._make_room()

    def _make_room(self) -> None:
        """Ends a connection: of the others that wait for a head the oldest, silent ones first.

        If all others have requests under way, it is this one.
        """
        waiting = [
            (each._heard, each._head_timer.when(), each)
            for each in self.connections
            if isinstance(each, HttpConnection) and each._head_timer and each is not self
        ]
        *_, ended = min(waiting, key=lambda each: each[:2], default=(self,))
        ended.transport.abort()
        ended._watch_head()
        logging.log_every_n_seconds(
            logging.WARNING,
            "There are %d connections, which is all that this server takes: those that have sent "
            "no request are closed. ulimit -n allows for more.",
            LOG_SECONDS,
            most_connections(),
        )

    def data_received(self, data: bytes) -> None:
        self._heard = True
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._ended and not self._busy:
            self.transport.close()
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._watch_head()

    @property
    def _busy(self) -> bool:
        """Says whether a request is under way."""
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
        """Keeps the connection open for an answer: nc -N ends its side once it has asked.

        A client that has left ends it as well. It is sent an interim answer, to which the system of
        one that has left says that nobody is there.
        """
        if not self._busy or self.cycle.more_body:
            return False
        if not self._ended:
            self._ended = True
            self.loop.call_later(PROBE_SECONDS, self._ask_for_client)
        return True

    def _ask_for_client(self) -> None:
        """Has the client's system say whether it is still there, if it still waits."""
        if not self._busy or self.transport.is_closing():
            return
        until = float("inf")
        if self.scope["http_version"] == "1.0":  # has no interim answers
            until = self.loop.time() + UNSEEN_SECONDS
        elif not self.cycle.response_started:
            interim = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
            self.transport.write(self.conn.send(interim) or b"")
        self._look_for_client(until)

    def _look_for_client(self, until: float) -> None:
        if self.transport.is_closing():
            return
        connection = self.transport.get_extra_info("socket")
        gone = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if gone or self.loop.time() > until:
            self.transport.abort()
        else:
            self.loop.call_later(PROBE_SECONDS, self._look_for_client, until)


class WebSocketConnection(_Sending, WebSocketsSansIOProtocol):
    """One that was HTTP."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc and not self.handshake_initiated:
            # What h11 takes websockets needn't: another method, or longer lines. uvicorn is silent.
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            self.transport.close()

    def send_receive_event_to_app(self) -> None:
        is_text = self.curr_msg_data_type == "text" and not self.close_sent
        if is_text and not _is_utf8(b"".join(self.frames)):
            self.frames = []
            self.conn.fail(INVALID_TEXT, "Text has to be UTF-8.")
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()


def _is_utf8(content: bytes) -> bool:
    with contextlib.suppress(UnicodeDecodeError):
        content.decode()
        return True
    return False


def log_seldom(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Handles an event loop's errors: that no more files can be opened is said once a minute.

    asyncio says it with every connection that waits.
    """
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in OUT_OF_FILES:
        logging.log_every_n_seconds(
            logging.ERROR,
            "No more connections can be accepted: %s. ulimit -n allows for more.",
            LOG_SECONDS,
            error.strerror,
        )
    else:
        loop.default_exception_handler(context)
