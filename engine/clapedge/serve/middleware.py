"""Before any route: keys, the size and pace of bodies, security headers, and the count of requests."""

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
from clapedge.serve.responses import answer
from clapedge.serve.service import Service
from clapedge.serve.settings import Settings

Header: TypeAlias = tuple[str, str]

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""Answered without a key: what watches over a service has none."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

UPLOAD_PATHS = frozenset({"/v1/score", "/v1/timeline", "/v1/embed/audio", "/page/picture", "/page/timeline"})
"""Where recordings are sent."""

FORM_BYTES = 1_000_000
"""What a form may hold beside the recording, and any other body."""

SECURITY_HEADERS: tuple[Header, ...] = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Permissions-Policy", "microphone=(self), camera=(), geolocation=()"),
)

API_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""Answers for programs load nothing."""

PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Gradio's page has scripts and styles within itself; all that it loads comes from the service."""

SHORTEST_WAIT = 0.01
"""Seconds for what has come already to be received, however late it is looked at."""

LOOK_SECONDS = 1.0
"""How often a stream looks whether the service has ended."""

API_PREFIXES = ("/v1/", "/healthz", "/readyz", "/metrics", "/openapi.json")


class BodyLimit(NamedTuple):
    """How large a body may be.

    Attributes:
        bytes: what a client is told.
        beside: bytes more, for the fields of a form.
    """

    bytes: int
    beside: int


class LimitsMiddleware:
    """An ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, service: Service) -> None:
        """Stand around an application."""
        self._app, self._service, self._settings, self._metrics = app, service, service.settings, service.metrics
        self._keys = [key.encode() for key in service.settings.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, and serve it within the limits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = Headers(scope=scope)
        most = body_limit_of(scope["path"], headers, self._settings)
        body = _Body(receive, self._service, most)
        sent = _Sent(send, scope["path"], self._service)
        try:
            fault = self._fault(scope, headers, most)
            if fault:
                raise fault
            await self._app(scope, body, sent)
        except ServiceError as error:
            if sent.status:
                raise
            await answer(error)(scope, body, sent)
        finally:
            route = getattr(scope.get("route"), "path", None) or "other"
            self._metrics.requests.labels(route, str(sent.status)).inc()
            self._metrics.latency.labels(route).observe(time.perf_counter() - began)

    def _fault(self, scope: Scope, headers: Headers, most: BodyLimit) -> ServiceError | None:
        """Return what stands against a request, judged by its head."""
        if scope["method"] not in SAFE_METHODS and headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return ForbiddenError("a page of another site sent this; use the service's own page, or a program")
        if not self._keys and is_rebound(scope, headers):
            return ForbiddenError(
                f"a request from this machine itself calls it {headers['host']:.80}, as a page of another site would; "
                "call it localhost or by its address, or serve with --api-key-file"
            )
        if self._keys and scope["path"] not in OPEN_PATHS and not self._opens(given_keys(headers)):
            return KeyRefusedError("no key of this service came along; send the header Authorization: Bearer KEY")
        return declared_fault(headers, most)

    def _opens(self, given: Iterable[bytes]) -> bool:
        """Tell whether one of the keys is right, in a time that does not depend on how much of it is."""
        return sum(hmac.compare_digest(one, key) for one in given for key in self._keys) > 0


def is_rebound(scope: Scope, headers: Headers) -> bool:
    """Tell whether a request over the loopback names a host that is not this machine.

    Whoever owns a name may point it to 127.0.0.1: a page of that name then counts as the service's own page.
    """
    client, host = scope.get("client"), headers.get("host", "").lower()
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return bool(client and name and is_loopback(client[0]) and name != "localhost" and not is_address(name))


def is_loopback(host: str) -> bool:
    """Tell whether an address, or `localhost`, is reached from this machine alone."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_address(name: str) -> bool:
    """Tell whether a host is an IP address and not a name."""
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


def declared_fault(headers: Headers, most: BodyLimit) -> ServiceError | None:
    """Return what is wrong with the size that a request declares."""
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > sum(most):
        return TooLargeError(most.bytes)
    return None


def body_limit_of(path: str, headers: Headers, settings: Settings) -> BodyLimit:
    """Return how large a body may be: a recording, a form with other fields as well, or fields alone."""
    if path not in UPLOAD_PATHS:
        return BodyLimit(FORM_BYTES, 0)
    is_form = headers.get("content-type", "").lower().startswith("multipart/")
    return BodyLimit(settings.max_upload, FORM_BYTES if is_form else 0)


class _Body:
    """The body of a request, whose size and pace are watched as it comes."""

    def __init__(self, receive: Receive, service: Service, most: BodyLimit) -> None:
        """Watch a body that may be so large."""
        self._receive, self._service, self._settings, self._most = receive, service, service.settings, most
        self._size = self._since = 0
        self._until: float | None = None
        self._last: float | None = None
        self._complete = False

    async def __call__(self) -> Message:
        """Receive the next message.

        Raises:
            TooLargeError: the body has more bytes than are allowed.
            StalledError: it comes too slowly.
        """
        if self._complete:
            return await self._departure()
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
        if self._size > sum(self._most):
            raise TooLargeError(self._most.bytes)
        return message

    async def _departure(self) -> Message:
        """Return when the client leaves, or when the service has ended and streams shall too."""
        while not self._service.ended:
            with anyio.move_on_after(LOOK_SECONDS):
                return await self._receive()
        return {"type": "http.disconnect"}


class _Sent:
    """The answer to a request, with the headers that every answer has."""

    def __init__(self, send: Send, path: str, service: Service) -> None:
        """Stand before the answer."""
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
