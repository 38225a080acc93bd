"""The server's socket."""

import contextlib
import socket
import subprocess
import sys
import time

import pytest
from doors import ROOT

from speech.serving import server
from utils import UserError


def test_port_in_use_is_refused() -> None:
    with server.bind("127.0.0.1", 0) as bound:
        bound.listen()
        port = bound.getsockname()[1]
        with pytest.raises(UserError, match=f"--port={port} can't be used: Address already in"):
            server.bind("127.0.0.1", port)


def test_address_of_another_machine_is_refused() -> None:
    with pytest.raises(UserError, match=r"--host=192\.0\.2\.1 --port=0 can.t be used"):
        server.bind("192.0.2.1", 0)


@pytest.mark.parametrize("host", ["x" * 70, "ä..b"])
def test_invalid_host_is_refused(host: str) -> None:
    with pytest.raises(UserError, match=f"--host={host} --port=0 can't be used"):
        server.bind(host, 0)


STUCK = """
import asyncio, sys, time
from speech.serving import server

server.STOP_SECONDS, server.LONGEST_STOP_SECONDS = 1, 2.0

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    print("stuck", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)

bound = server.bind("127.0.0.1", 0)
print(bound.getsockname()[1], flush=True)
server.serve(app, bound)
"""


def test_stuck_thread_does_not_delay_the_end_of_the_server() -> None:
    command = [sys.executable, "-c", STUCK]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            port = int(process.stdout.readline())
            with connected(port) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert process.stdout.readline() == "stuck\n"
                process.terminate()
                assert process.wait(60) == 0
        finally:
            process.kill()


def connected(port: int) -> socket.socket:
    until = time.monotonic() + 60
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port))
        assert time.monotonic() < until
        time.sleep(0.05)
