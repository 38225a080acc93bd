"""What holds for every answer: whom it is for, its headers, the body's end, and the metrics."""

import asyncio
import contextlib
import ipaddress
import re
import time
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from speech.serving.metrics import Metrics
from speech.serving.schemas.requests import shown

# The only WebSocket.
STREAM = "/api/stream"

# Nothing is fetched from elsewhere, and no page of another site can show this one.
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; media-src 'self' blob:; img-src 'self' blob: data:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cross-origin-resource-policy": "same-origin",
}
RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

# A client that is refused while it sends may see a lost connection instead of the refusal: what it
# still sends is read and dropped for so long.
DRAIN_SECONDS = 10.0

# What SageMaker calls. Which Host it sends isn't documented (an address or model.aws.local was
# seen), so that any passes there, unless a browser asks: those send Origin with every POST.
ANY_HOST = ("/ping", "/invocations")

CROSS_SITE = (
    "A page of another site may not use this server: open the server's own page, or send the "
    "request without Origin. A proxy has to pass Host on."
)
STOPPED = "The server is being stopped: send the request again when it has been started anew."


class Front:
    """Around an ASGI application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, hosts: Collection[str]) -> None:
        """
        Args:
            hosts: names of this server, in lower case; addresses and localhost needn't be named.
        """
        self._app = app
        self._metrics = metrics
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            with contextlib.suppress(asyncio.CancelledError):  # the server is being stopped
                await (self._refused(scope) or self._app)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(scope, receive)
        started, status, begun = time.monotonic(), 500, False

        async def answer(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status = message["status"]
                await body.drain()
                begun = True
                headers = [*message.get("headers", ()), *RAW_HEADERS]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await (self._refused(scope) or self._app)(scope, body.receive, answer)
        except asyncio.CancelledError:  # the server is being stopped, and has waited long enough
            if not begun:
                body.over = True  # nothing more is read
                await _refusal(503, STOPPED)(scope, body.receive, answer)
        finally:
            route = _route_of(scope)
            self._metrics.requests.labels(route, status).inc()
            self._metrics.latency.labels(route).observe(time.monotonic() - started)

    def _refused(self, scope: Scope) -> ASGIApp | None:
        """What answers instead of the application; None if the request is welcome."""
        headers, path = Headers(scope=scope), scope["path"]
        host = headers.get("host")
        checked = path not in ANY_HOST or "origin" in headers
        if checked and host is not None and not is_own_host(host, self._hosts):
            return _refusal(
                403,
                f"{shown(host)} is no name of this server: ask for it by its address or as "
                "localhost. If it is one, serve.py --allowed_hosts has to name it.",
            )
        socket = scope["type"] == "websocket"
        if (socket or scope["method"] == "POST") and not same_origin(headers):
            return _refusal(403, CROSS_SITE)
        if socket and path != STREAM:
            return _refusal(404, f"{shown(path)} is no WebSocket here: open {STREAM}.")
        return None


def _refusal(status: int, message: str) -> ASGIApp:
    return JSONResponse({"error": message}, status)


class _Body:
    """A request's body, and whether it is over."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self.over = False
        # A client that waits to be told to send needn't be.
        self._drains = all(name != b"expect" for name, _ in scope["headers"])

    async def receive(self) -> Message:
        message = await self._receive()
        self.over = message["type"] != "http.request" or not message.get("more_body", False)
        self._drains = True
        return message

    async def drain(self) -> None:
        """Reads what is left, for a while."""
        until = time.monotonic() + DRAIN_SECONDS
        while self._drains and not self.over and (left := until - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self.receive(), left)
            except asyncio.TimeoutError:
                return


# A name or IPv4 address, or an IPv6 address in brackets, and perhaps a port.
HOST_HEADER = re.compile(r"(\[(?P<address>[^]]+)\]|(?P<name>[^]:[]*))(:[0-9]*)?")


def is_own_host(header: str, names: Collection[str]) -> bool:
    """Says whether a Host header names this server: localhost, an address, or one of `names`.

    A page may have a name of its own that leads to this machine (DNS rebinding). To the browser the
    server is that page's then; only this header shows it.
    """
    found = HOST_HEADER.fullmatch(header.lower())
    if not found:
        return False
    name = found["address"] or found["name"].removesuffix(".")
    if not found["address"] and (name == "localhost" or name in names):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def same_origin(headers: Mapping[str, str]) -> bool:
    """Whether it is this server's own page that asks, or no page at all.

    Browsers let every page open a WebSocket to any server or send it a form, and tell from where.
    """
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == headers.get("host")
    except ValueError:  # no address
        return False


def _route_of(scope: Scope) -> str:
    """The route's pattern, so that there are few."""
    route: Any = scope.get("route")
    path = getattr(route, "path", None)
    return str(path) if path else "other"
