"""uvicorn, as it is run in production: no debugging, no reloading, one process."""

import asyncio
import os
import signal
import socket
import threading
import time
from logging import LogRecord, getLogger
from types import FrameType

from speech.serving import requirements  # noqa: F401  # isort: skip
import uvicorn
from absl import logging
from starlette.types import ASGIApp

from speech.serving import connections
from utils import UserError

# Requests under way may take so long when the server is stopped. A few seconds more are for ending
# those that aren't ready by then (app.py), the threads, and Python with TensorFlow in it.
STOP_SECONDS = 12
# After so long it ends whatever still runs: a thread's beam search can't be broken off. SageMaker
# kills after 30 seconds, Docker after 10 if it isn't told otherwise.
LONGEST_STOP_SECONDS = 19.0

# Connections that wait to be accepted.
WAITING = 1024


def bind(host: str, port: int) -> socket.socket:
    """A socket for the server, so that a port that is taken is told of before models are loaded.

    Raises:
        UserError: it can't be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, UnicodeError) as error:  # of a host that is no name
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UserError(
            f"--host={host} --port={port} can't be served: {reason}. Choose "
            "others; 0.0.0.0 is every address of this machine."
        ) from None
    return bound


class _Server(uvicorn.Server):
    """One that says when it answers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = threading.Event()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.stopping.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as error:  # another server, started at the same time, was first to listen
            raise UserError(
                f"The port can't be served: {error.strerror}. Choose another one with --port."
            ) from None
        asyncio.get_running_loop().set_exception_handler(connections.log_seldom)
        for each in sockets or ():
            each.listen(WAITING)  # uvicorn has set it to what asyncio accepts at once
            host, port = each.getsockname()[:2]
            logging.info("Serving at http://%s:%d", f"[{host}]" if ":" in host else host, port)


def without_query(record: LogRecord) -> bool:
    """Cuts the addresses in uvicorn's log at their ?: what is behind, as hot words, is a text."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            each.partition("?")[0] if isinstance(each, str) and each.startswith("/") else each
            for each in record.args
        )
    return True


def server_of(app: ASGIApp) -> _Server:
    """A server of an application, which `run` or `serve` starts."""
    config = uvicorn.Config(
        app,
        http=connections.HttpConnection,
        ws=connections.WebSocketConnection,
        backlog=connections.ACCEPTED_AT_ONCE,
        # One that is too large is told of by streams.py; what is far too large ends the connection.
        ws_max_size=2**22,
        ws_per_message_deflate=False,
        # While a client's samples wait to be heard nothing of it is read, its pongs neither;
        # streams.py has time limits of its own.
        ws_ping_timeout=None,
        lifespan="on",
        log_config=None,  # the doors' own
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    return _Server(config)


def serve(app: ASGIApp, bound: socket.socket) -> None:
    """Serves until SIGTERM or Ctrl-C; then takes no more, and finishes what is under way."""
    for name in ("uvicorn.access", "uvicorn.error"):  # the latter tells of WebSockets
        getLogger(name).addFilter(without_query)
    # uvicorn raises the signal again when it has stopped.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    server = server_of(app)
    threading.Thread(target=_end_late, args=(server.stopping,), daemon=True).start()
    server.run([bound])


def _end_late(stopping: threading.Event) -> None:
    """Ends the process some time after the server was told to stop."""
    stopping.wait()
    time.sleep(LONGEST_STOP_SECONDS)
    logging.warning("Work that can't be broken off is left: the server ends now.")
    os._exit(0)
