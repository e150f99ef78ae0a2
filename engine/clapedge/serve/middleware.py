"""Around all routes: keys, the size and pace of bodies, security headers, metrics of requests."""

import base64
import binascii
import hmac
import ipaddress
import time
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clapedge.serve.errors import ForbiddenError, KeyRefusedError, ServiceError, StalledError, TooLargeError
from clapedge.serve.responses import error_response
from clapedge.serve.service import Service
from clapedge.serve.settings import Settings

Header: TypeAlias = tuple[str, str]

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""Served without a key: probes have none."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

UPLOAD_PATHS = frozenset({"/v1/score", "/v1/timeline", "/v1/embed/audio", "/page/picture", "/page/timeline"})
"""Paths that take recordings."""

FORM_BYTES = 1_000_000
"""Bytes of a form besides the recording, and of any other body."""

SECURITY_HEADERS: tuple[Header, ...] = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Permissions-Policy", "microphone=(self), camera=(), geolocation=()"),
)

API_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""Responses for programs load nothing."""

PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Gradio's page has inline scripts and styles; all that it loads comes from the service."""

SHORTEST_WAIT = 0.01
"""Seconds in which bytes that have arrived are received even after the deadline."""

LOOK_SECONDS = 1.0
"""Seconds after which a response checks again whether the service has ended."""

API_PREFIXES = ("/v1/", "/healthz", "/readyz", "/metrics", "/openapi.json")


class BodyLimit(NamedTuple):
    """How large a body may be.

    Attributes:
        bytes: bytes of the recording, the limit that clients know.
        fields: bytes of the other fields of a form.
    """

    bytes: int
    fields: int


class LimitsMiddleware:
    """ASGI middleware that enforces keys and limits, and sets headers."""

    def __init__(self, app: ASGIApp, *, service: Service) -> None:
        """Wrap an application."""
        self._app, self._service, self._settings, self._metrics = app, service, service.settings, service.metrics
        self._keys = [key.encode() for key in service.settings.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, and serve it within the limits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = Headers(scope=scope)
        limit = body_limit(scope["path"], headers, self._settings)
        receiver = _LimitedReceiver(receive, self._service, limit)
        sender = _HeaderSender(send, scope["path"], self._service)
        try:
            self._check_head(scope, headers, limit)
            await self._app(scope, receiver, sender)
        except ServiceError as error:
            if sender.status:
                raise
            await error_response(error)(scope, receiver, sender)
        finally:
            route = getattr(scope.get("route"), "path", None) or "other"
            self._metrics.requests.labels(route, str(sender.status)).inc()
            self._metrics.latency.labels(route).observe(time.perf_counter() - began)

    def _check_head(self, scope: Scope, headers: Headers, limit: BodyLimit) -> None:
        """Raise `ServiceError` if the head of a request shows that it must be rejected."""
        if scope["method"] not in SAFE_METHODS and headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            raise ForbiddenError("a page of another site sent this; use the service's own page, or a program")
        if not self._keys and is_rebound(scope, headers):
            raise ForbiddenError(
                f"a request from this machine itself calls it {headers['host']:.80}, as a page of another site would; "
                "call it localhost or by its address, or serve with --api-key-file"
            )
        if self._keys and scope["path"] not in OPEN_PATHS and not self._is_valid(given_keys(headers)):
            raise KeyRefusedError("the request has no key of this service; send the header Authorization: Bearer KEY")
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > sum(limit):
            raise TooLargeError(limit.bytes)

    def _is_valid(self, given: Iterable[bytes]) -> bool:
        """Return whether one of the keys is valid, in constant time."""
        return sum(hmac.compare_digest(one, key) for one in given for key in self._keys) > 0


def is_rebound(scope: Scope, headers: Headers) -> bool:
    """Return whether a request over the loopback names a host other than this machine (DNS rebinding).

    The owner of a domain may point it to 127.0.0.1: a browser then takes a page of that domain for the service's own.
    """
    client, host = scope.get("client"), headers.get("host", "").lower()
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return bool(client and name and is_loopback(client[0]) and name != "localhost" and not is_address(name))


def is_loopback(host: str) -> bool:
    """Return whether an address, or `localhost`, is reachable from this machine only."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_address(name: str) -> bool:
    """Return whether a host is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def given_keys(headers: Headers) -> list[bytes]:
    """Return the keys that a request carries: a bearer token, the password of Basic, or `X-API-Key`."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    keys = [headers.get("x-api-key", "")]
    if scheme.lower() == "bearer":
        keys.append(value.strip())
    elif scheme.lower() == "basic":
        try:
            keys.append(base64.b64decode(value, validate=True).decode().partition(":")[2])
        except (binascii.Error, ValueError):
            keys.append("")
    return [key.encode() for key in keys if key]


def body_limit(path: str, headers: Headers, settings: Settings) -> BodyLimit:
    """Return how large a body may be: a recording, a form with a recording, or any other body."""
    if path not in UPLOAD_PATHS:
        return BodyLimit(FORM_BYTES, 0)
    is_form = headers.get("content-type", "").lower().startswith("multipart/")
    return BodyLimit(settings.max_upload, FORM_BYTES if is_form else 0)


class _LimitedReceiver:
    """Receives the body of a request, within limits of size and pace."""

    def __init__(self, receive: Receive, service: Service, limit: BodyLimit) -> None:
        """Wrap the receiving end of a request."""
        self._receive, self._service, self._settings, self._limit = receive, service, service.settings, limit
        self._size = self._since = 0
        self._until: float | None = None
        self._last: float | None = None
        self._complete = False

    async def __call__(self) -> Message:
        """Receive the next message.

        Raises:
            TooLargeError: the body exceeds its limit.
            StalledError: it arrives too slowly.
        """
        if self._complete:
            return await self._disconnect()
        now = time.monotonic()
        if self._until is None:
            self._last = self._last or now + self._settings.body_seconds
            self._until = min(now + self._settings.stall_seconds, self._last)
        try:
            with anyio.fail_after(max(SHORTEST_WAIT, self._until - now)):
                message = await self._receive()
        except TimeoutError:
            raise StalledError("the body comes too slowly; send it over a better connection") from None
        size = len(message.get("body", b""))
        self._size += size
        self._since += size
        self._complete = not message.get("more_body", False)
        if self._since >= self._settings.stall_bytes:
            self._since, self._until = 0, None
        if self._size > sum(self._limit):
            raise TooLargeError(self._limit.bytes)
        return message

    async def _disconnect(self) -> Message:
        """Return when the client disconnects, or when the service has ended, so that streams end too."""
        while not self._service.ended:
            with anyio.move_on_after(LOOK_SECONDS):
                return await self._receive()
        return {"type": "http.disconnect"}


class _HeaderSender:
    """Sends a response, with the headers that every response has."""

    def __init__(self, send: Send, path: str, service: Service) -> None:
        """Wrap the sending end of a request."""
        self._send, self._service = send, service
        self._policy = API_POLICY if path.startswith(API_PREFIXES) else PAGE_POLICY
        self.status = 0

    async def __call__(self, message: Message) -> None:
        """Send a message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            for name, value in (*SECURITY_HEADERS, ("Content-Security-Policy", self._policy)):
                headers.setdefault(name, value)
            if self._service.draining:
                headers["Connection"] = "close"
            if self._policy is API_POLICY:
                headers.setdefault("Cache-Control", "no-store")
        await self._send(message)
