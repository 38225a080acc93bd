"""Connections with slow, idle or disconnected clients."""

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import Response

from speech.serving import connections, server

LARGE = 2**24  # bytes: more than the buffers of both sides


class Served:
    """An application, its port, and a record of clients that disconnected."""

    def __init__(self) -> None:
        self.port = 0
        self.left: list[str] = []  # paths whose clients disconnected before the response
        self.app = FastAPI()

        @self.app.post("/slow")
        async def slow(request: Request) -> str:
            await request.body()
            for _ in range(20):
                await asyncio.sleep(0.05)
                if await request.is_disconnected():
                    self.left.append("/slow")
                    break
            return "done"

        @self.app.get("/large")
        async def large() -> Response:
            return Response(bytes(LARGE))

        @self.app.websocket("/socket")
        async def talk(websocket: WebSocket) -> None:
            await websocket.accept()
            with contextlib.suppress(WebSocketDisconnect):
                while True:
                    await websocket.send_text(await websocket.receive_text())

        @self.app.websocket("/refusing")
        async def refuse(websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.close()

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.settimeout(30)
        return connection


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    running = server.server_of(found.app)
    with server.bind("127.0.0.1", 0) as bound:
        found.port = bound.getsockname()[1]
        thread = threading.Thread(target=running.run, args=([bound],))
        thread.start()
        try:
            while not running.started:
                time.sleep(0.01)
            yield found
        finally:
            running.should_exit = True
            thread.join()


def everything(connection: socket.socket) -> bytes:
    """Returns everything that is received until the connection is closed."""
    content = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(2**16):
            content += part
    return content


def head(method: str, path: str, version: str = "1.1", size: int = 0) -> bytes:
    return f"{method} {path} HTTP/{version}\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()


UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: eHh4eHh4eHh4eHh4eHh4eA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HTTP", head("GET", "/x") + b"GET / HT", head("GET", "/x", size=10**6) + b"x"],
    ids=["nothing", "half a head", "half a second head", "a body that isn't wanted"],
)
def test_connection_without_a_request_is_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with served.connect() as connection:
        began = time.monotonic()
        connection.sendall(sent)
        received = everything(connection)
    assert received.startswith(b"HTTP/1.1 404" if sent.startswith(b"GET /x") else b"")
    assert 0.4 < time.monotonic() - began < 20


def test_slow_bytes_do_not_hold_a_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)
    connection = served.connect()
    connection.sendall(b"GET / HTTP/1.1\r\nX: ")

    def trickle() -> None:
        for _ in range(200):
            connection.sendall(b"x")
            time.sleep(0.1)

    with connection, pytest.raises(ConnectionError):
        trickle()


def test_request_and_websocket_may_take_longer_than_a_head(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    with served.connect() as connection, served.connect() as talking:
        talking.sendall(UPGRADE)
        connection.sendall(head("POST", "/slow"))
        assert b'"done"' in everything(connection)
        assert talking.recv(1000).startswith(b"HTTP/1.1 101")
        talking.sendall(b"\x81\x82\0\0\0\0hi")
        assert talking.recv(4) == b"\x81\x02hi"


def test_client_that_reads_nothing_is_disconnected(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SEND_SECONDS", 0.3)
    with served.connect() as connection:
        connection.sendall(head("GET", "/large"))
        time.sleep(2)
        assert len(everything(connection)) < LARGE
    with served.connect() as connection:  # but a slow client is served
        connection.sendall(head("GET", "/large"))
        received = 0
        while received < LARGE:
            received += len(connection.recv(LARGE // 64))
            time.sleep(0.01)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_client_that_closes_its_side_gets_its_response(served: Served, version: str) -> None:
    with served.connect() as connection:
        connection.sendall(head("POST", "/slow", version, 3) + b"abc")
        connection.shutdown(socket.SHUT_WR)
        received = everything(connection)
    assert received.endswith(b'"done"') and not served.left
    assert received.startswith(b"HTTP/1.1 " + (b"200" if version == "1.0" else b"100"))
    with served.connect() as connection:
        connection.sendall(head("POST", "/slow") * 2)
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection).count(b'"done"') == 2


def test_client_that_disconnects_is_noticed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PROBE_SECONDS", 0.05)
    with served.connect() as connection:
        connection.sendall(head("POST", "/slow"))
    until = time.monotonic() + 20
    while not served.left and time.monotonic() < until:
        time.sleep(0.02)
    assert served.left == ["/slow"]


def test_request_is_answered_although_all_connections_are_in_use(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 8)
    with contextlib.ExitStack() as opened, caplog.at_level(logging.WARNING):
        busy = [opened.enter_context(served.connect()) for _ in range(6)]
        for each in busy:
            each.sendall(head("POST", "/slow", size=1))
        begun = opened.enter_context(served.connect())
        begun.sendall(b"GET")
        time.sleep(0.3)
        silent = [opened.enter_context(served.connect()) for _ in range(20)]
        assert everything(silent[0]) == b""
        # Those that have sent something are the last to be closed.
        begun.sendall(head("GET", "/large")[3:])
        assert begun.recv(100).startswith(b"HTTP/1.1 200")
        for each in busy:
            each.sendall(b"x")
        for each in busy:
            assert each.recv(100).startswith(b"HTTP/1.1 200")
    assert sum("the most that this server allows" in each.message for each in caplog.records) <= 1


def test_refused_websockets_whose_clients_stay_make_room(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 8)
    with contextlib.ExitStack() as opened:
        talking = opened.enter_context(served.connect())
        talking.sendall(UPGRADE)
        assert talking.recv(1000).startswith(b"HTTP/1.1 101")
        refused = [opened.enter_context(served.connect()) for _ in range(7)]
        for each in refused:
            each.sendall(UPGRADE.replace(b"/socket", b"/refusing"))
            received = b""
            while not received.endswith(b"\x88\x02\x03\xe8"):  # closed normally
                received += each.recv(1000)
        with served.connect() as connection:
            connection.sendall(head("GET", "/x"))
            assert connection.recv(100).startswith(b"HTTP/1.1 404")
        assert everything(refused[0]) == b""
        talking.sendall(b"\x81\x82\0\0\0\0hi")
        assert talking.recv(4) == b"\x81\x02hi"


@pytest.mark.parametrize(
    "opening", [UPGRADE.replace(b"GET", b"POST"), UPGRADE[:-2] + b"X: " + b"x" * 9000 + b"\r\n\r\n"]
)
def test_websocket_that_can_not_be_opened_is_answered(served: Served, opening: bytes) -> None:
    with served.connect() as connection:
        connection.sendall(opening)
        assert everything(connection).startswith(b"HTTP/1.1 400")


def test_text_that_is_not_utf_8_ends_a_websocket_without_a_traceback(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with served.connect() as connection:
        connection.sendall(UPGRADE)
        assert connection.recv(1000).startswith(b"HTTP/1.1 101")
        connection.sendall(b"\x01\x81\0\0\0\0\xff" + b"\x80\x81\0\0\0\0\xff")  # in two frames
        received = everything(connection)
    assert received[:4] == b"\x88\x15\x03\xef" and received[4:] == b"Text must be UTF-8."
    assert not [each for each in caplog.records if each.exc_info]
