"""The server's socket."""

import pytest

from speech.serving import server
from utils import UserError


def test_port_that_is_taken_is_told_of() -> None:
    with server.bind("127.0.0.1", 0) as bound:
        bound.listen()
        port = bound.getsockname()[1]
        with pytest.raises(UserError, match=f"--port={port} can't be served: Address already in"):
            server.bind("127.0.0.1", port)


def test_address_of_another_machine_is_told_of() -> None:
    with pytest.raises(UserError, match=r"--host=192\.0\.2\.1 --port=0 can.t be served"):
        server.bind("192.0.2.1", 0)


@pytest.mark.parametrize("host", ["x" * 70, "ä..b"])
def test_host_that_is_no_name_is_told_of(host: str) -> None:
    with pytest.raises(UserError, match=f"--host={host} --port=0 can't be served"):
        server.bind(host, 0)
