"""Runs uvicorn for production: no debugging, no reloading, one process."""

import asyncio
import os
import signal
import socket
import threading
import time
from logging import LogRecord, getLogger
from types import FrameType

import uvicorn
from absl import logging
from starlette.types import ASGIApp

from speech.serving import connections
from speech.serving.wyoming.server import WyomingServer
from utils import UserError

# Time to finish for requests under way when the server stops. A few seconds more are for cancelling
# the rest (service.py), the threads, and Python with TensorFlow in it.
STOP_SECONDS = 12
# After so long the process exits, whatever still runs: a thread's beam search can't be cancelled.
# SageMaker kills after 30 seconds, Docker by default after 10.
LONGEST_STOP_SECONDS = 19.0

# Most connections that wait to be accepted.
BACKLOG = 1024


def bind(host: str, port: int, flag: str = "--port") -> socket.socket:
    """Returns a socket that is bound to an address.

    Args:
        flag: that names the port, for messages.

    Raises:
        UserError: the address can't be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, UnicodeError) as error:  # UnicodeError: the host can't be a name
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UserError(
            f"--host={host} {flag}={port} can't be used: {reason}. Choose others; 0.0.0.0 is "
            "every address of this machine."
        ) from None
    return bound


class _Server(uvicorn.Server):
    """A uvicorn server that logs its address once it accepts requests."""

    def __init__(self, config: uvicorn.Config, also: WyomingServer | None) -> None:
        super().__init__(config)
        self._also = also
        self.stopping = threading.Event()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.stopping.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
            if self._also:
                self.servers.append(await self._also.start(self.server_state))
        except OSError as error:  # another server, started at the same time, was first to listen
            raise UserError(
                f"The port can't be used: {error.strerror}. Choose another one with --port or "
                "--wyoming_port."
            ) from None
        asyncio.get_running_loop().set_exception_handler(connections.handle_loop_error)
        for each in sockets or ():
            each.listen(BACKLOG)  # uvicorn has set it to what asyncio accepts at once
            host, port = each.getsockname()[:2]
            logging.info("Serving at http://%s:%d", f"[{host}]" if ":" in host else host, port)


def remove_queries(record: LogRecord) -> bool:
    """Removes the queries of addresses from uvicorn's log: hot words may be private."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            each.partition("?")[0] if isinstance(each, str) and each.startswith("/") else each
            for each in record.args
        )
    return True


def server_of(app: ASGIApp, also: WyomingServer | None = None) -> _Server:
    """Returns a server of an application; its `run` or `serve` starts it.

    Args:
        also: served in the same event loop.
    """
    config = uvicorn.Config(
        app,
        http=connections.HttpConnection,
        ws=connections.WebSocketConnection,
        backlog=connections.ACCEPTED_AT_ONCE,
        # streams.py refuses messages that are too large; far larger ones close the connection.
        ws_max_size=2**22,
        ws_per_message_deflate=False,
        # While a client's samples wait for a thread, its messages aren't read, nor its pongs;
        # streams.py has its own time limits.
        ws_ping_timeout=None,
        lifespan="on",
        log_config=None,  # logging is set up by command_line.run
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    return _Server(config, also)


def serve(app: ASGIApp, bound: socket.socket, also: WyomingServer | None = None) -> None:
    """Serves until SIGTERM or Ctrl-C; then refuses new requests, and finishes those under way.

    Args:
        also: served in the same event loop.
    """
    for name in ("uvicorn.access", "uvicorn.error"):  # the latter logs WebSockets
        getLogger(name).addFilter(remove_queries)
    # uvicorn raises the signal again when it has stopped.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    server = server_of(app, also)
    threading.Thread(target=_exit_late, args=(server.stopping,), daemon=True).start()
    server.run([bound])


def _exit_late(stopping: threading.Event) -> None:
    """Exits the process LONGEST_STOP_SECONDS after the server began to stop."""
    stopping.wait()
    time.sleep(LONGEST_STOP_SECONDS)
    logging.warning("Some work can't be cancelled: the server exits now.")
    os._exit(0)
