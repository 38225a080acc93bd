"""Applies to every request: allowed hosts, origins and keys, headers, unread bodies, metrics."""

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

from speech.serving.errors import RequestError, sendable
from speech.serving.keys import CHALLENGE, ApiKeys
from speech.serving.metrics import Metrics
from speech.serving.schemas import openai
from speech.serving.schemas.requests import format_value

# The paths of the WebSockets: this server's own, and vosk-server's, whose clients open the root.
STREAM = "/api/stream"
VOSK = ("/vosk", "/")

# The page loads nothing from other servers, and no page of another site can embed it.
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

# A client that is refused while it sends may see a lost connection instead of the refusal: for so
# long what it still sends is read and dropped.
DRAIN_SECONDS = 10.0

# What SageMaker calls. Which Host it sends isn't documented (an address and model.aws.local have
# been seen), so any is allowed there, unless a browser asks: browsers send Origin with every POST.
ANY_HOST = ("/ping", "/invocations")

# What watches over servers asks without a key.
ANY_KEY = ("/ping", "/metrics")

# Methods that change something, or take time.
CHANGING = ("POST", "PUT", "DELETE")

CROSS_SITE = (
    "A page of another site may not use this server: open the server's own page, or send the "
    "request without Origin. A proxy has to pass Host on."
)
NO_KEY = (
    "The request has no key of this server, or a wrong one: send Authorization: Bearer KEY. In a "
    "browser enter the key as the password, with any name."
)
STOPPED = "The server is stopping: send the request again when it has been restarted."


class Front:
    """An ASGI application around another one."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, hosts: Collection[str], keys: ApiKeys
    ) -> None:
        """
        Args:
            hosts: names of this server, in lower case; IP addresses and localhost are always
                allowed.
        """
        self._app = app
        self._metrics = metrics
        self._hosts = frozenset(hosts)
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._respond(scope, receive, send)
        elif scope["type"] == "websocket":
            with contextlib.suppress(asyncio.CancelledError):  # the server is stopping
                await self._answer(scope)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(scope, receive)
        started, status, begun = time.monotonic(), 500, False

        async def respond(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status = message["status"]
                await body.drain()
                begun = True
                headers = [*message.get("headers", ()), *RAW_HEADERS]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._answer(scope)(scope, body.receive, respond)
        except asyncio.CancelledError:  # the server is stopping, and has waited long enough
            if not begun:
                body.over = True  # so that nothing more is read
                stopped = problem(scope, RequestError(503, STOPPED))
                await stopped(scope, body.receive, respond)
        finally:
            route = _route_of(scope)
            self._metrics.requests.labels(route, status).inc()
            self._metrics.latency.labels(route).observe(time.monotonic() - started)

    def _answer(self, scope: Scope) -> ASGIApp:
        """Returns what answers a request."""
        error = self._refusal(scope)
        return problem(scope, error) if error else self._app

    def _refusal(self, scope: Scope) -> RequestError | None:
        """Returns why a request isn't allowed; None if it is."""
        headers, path = Headers(scope=scope), scope["path"]
        host = headers.get("host")
        checked = path not in ANY_HOST or "origin" in headers
        if checked and host is not None and not is_own_host(host, self._hosts):
            return RequestError(
                403,
                f"{format_value(host)} is not a name of this server: use its IP address or "
                "localhost, or add the name to --allowed_hosts of serve.py.",
            )
        socket = scope["type"] == "websocket"
        if (socket or scope["method"] in CHANGING) and not same_origin(headers):
            return RequestError(403, CROSS_SITE)
        if path not in ANY_KEY and not self._keys.allow(headers.get("authorization", "")):
            return RequestError(401, NO_KEY, code="invalid_api_key")
        if socket and path not in (STREAM, *VOSK):
            return RequestError(404, f"{format_value(path)} is not a WebSocket: open {STREAM}.")
        return None


def problem(
    scope: Scope, error: RequestError, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Returns the response to a request that is refused, in the form of the API it belongs to.

    Args:
        headers: further ones.
    """
    headers = dict(headers or {})
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        headers["WWW-Authenticate"] = CHALLENGE
    content: dict[str, Any] = {"error": sendable(error.message)}
    if f"{scope['path']}/".startswith(openai.PREFIX):
        content = openai.problem(error).model_dump()
    return JSONResponse(content, error.status, headers)


class _Body:
    """A request's body, and whether it has been read to its end."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self.over = False
        # A client that sent "Expect: 100-continue" sends no body unless it is read.
        self._drains = all(name != b"expect" for name, _ in scope["headers"])

    async def receive(self) -> Message:
        message = await self._receive()
        self.over = message["type"] != "http.request" or not message.get("more_body", False)
        self._drains = True
        return message

    async def drain(self) -> None:
        """Reads and drops the rest of the body, for DRAIN_SECONDS at most."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while self._drains and not self.over and (left := deadline - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self.receive(), left)
            except TimeoutError:
                return


# A name or IPv4 address, or an IPv6 address in brackets, and optionally a port.
HOST_HEADER = re.compile(r"(\[(?P<address>[^]]+)\]|(?P<name>[^]:[]*))(:[0-9]*)?")


def is_own_host(header: str, names: Collection[str]) -> bool:
    """Returns whether a Host header names this server: localhost, an IP address, or one of `names`.

    A page of another site may have a host name that resolves to this machine (DNS rebinding). To
    the browser the server then belongs to that site; only this header shows it.
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
    """Returns whether a request comes from this server's own page, or from no page at all.

    Browsers let every page open a WebSocket to any server or send it a form, and name the page's
    origin.
    """
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc == headers.get("host")
    except ValueError:  # not a URL
        return False


def _route_of(scope: Scope) -> str:
    """Returns the pattern of a request's route, "other" if it has none."""
    route: Any = scope.get("route")
    path = getattr(route, "path", None)
    return str(path) if path else "other"
