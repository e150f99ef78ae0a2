"""The server: sockets, timeouts of clients, signals, and a shutdown that loses no request."""

import asyncio
import errno
import logging
import os
import signal
import socket
import stat
import time
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from clapedge.errors import ClapEdgeWarning, UsageError
from clapedge.serve.app import create_app
from clapedge.serve.bundle_watcher import BundleWatcher
from clapedge.serve.middleware import is_loopback
from clapedge.serve.service import Service
from clapedge.serve.settings import Settings

log = logging.getLogger("clapedge.serve")

UNIX = "unix:"

MOST_CONNECTIONS = 500
"""Connections at once: with their uploads, well below the usual limit of 1024 descriptors."""

KEEP_ALIVE_SECONDS = 30
"""How long a connection may be idle between two requests."""

LINGER_SECONDS = 0.5
"""How long the service accepts connections after SIGTERM, so that clients that have just connected lose nothing."""

LOOK_SECONDS = 0.05
"""How often the shutdown checks whether uploads are still being received."""

SHORTEST_KEY = 16
"""Characters of a key: a shorter one can be guessed."""


class TimeoutProtocol(H11Protocol):
    """HTTP/1.1 with a timeout where no route has one.

    That is: before the head of a request is complete, and after a response that did not wait for the body.
    """

    head_seconds = 10.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout of the head."""
        super().connection_made(transport)
        self._update_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeout."""
        self._stop_timeout()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive data; the timeout goes on until the head is complete."""
        super().data_received(data)
        self._update_timeout()

    def on_response_complete(self) -> None:
        """Start the timeout of the rest of a body that is not read."""
        super().on_response_complete()
        self._update_timeout()

    def _update_timeout(self) -> None:
        """Start the timeout if the client has to send something, and stop it if not."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        answered = cycle is None or cycle.response_complete
        idle = cycle is not None and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]
        if not answered or idle:
            self._stop_timeout()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.head_seconds, self._close)

    def _close(self) -> None:
        """Close the connection."""
        self._deadline = None
        self.transport.abort()

    def _stop_timeout(self) -> None:
        """Stop the timeout."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Server(uvicorn.Server):
    """A server that shuts down without losing a request."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        """Prepare to serve."""
        super().__init__(config)
        self._service = service
        self._until: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Begin the shutdown: not ready, but still accepting for a moment; a second Ctrl-C ends at once."""
        if self._until is not None:
            if sig == signal.SIGINT:
                self.force_exit = self.should_exit = True
            return
        log.info("ending: requests in progress are finished first")
        self._service.draining = True
        self._until = time.monotonic() + LINGER_SECONDS

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and log where."""
        await super().startup(sockets)
        for listener in sockets or ():
            log.info("answering at %s", address(listener))

    async def on_tick(self, counter: int) -> bool:
        """Return whether to shut down; called ten times a second."""
        over = self._until is not None and time.monotonic() >= self._until
        self.should_exit = self.should_exit or over
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the requests in progress, then end streams that would not end by themselves."""
        ending = asyncio.get_running_loop().run_in_executor(None, self._end_streams)
        await super().shutdown(sockets)
        self._service.halted = True
        await ending

    def _end_streams(self) -> None:
        """Finish the accepted work and the uploads in progress, then let streams end."""
        while self._service.receiving and not self._service.halted:
            time.sleep(LOOK_SECONDS)
        self._service.pool.close()
        self._service.ended = True


def run(settings: Settings, *, host: str, port: int, page: bool) -> None:
    """Serve until a signal ends it.

    Args:
        settings: settings of the service.
        host: an address, or `unix:PATH`.
        port: 0 takes a free one.
        page: whether the page is served at `/`.

    Raises:
        ClapEdgeError: no bundle can be used.
        UsageError: the address cannot be used.
    """
    # each long prompt of a client would leave a line in the log, and a copy in the memory of `warnings`
    warnings.filterwarnings("ignore", "only the first", ClapEdgeWarning)
    listener = bind(host, port)
    if not settings.keys and not host.startswith(UNIX) and not is_loopback(host):
        log.warning("everyone who reaches %s can use this service; give --api-key-file, or keep to 127.0.0.1", host)
    try:
        service = Service(settings)
        watcher = BundleWatcher(service)
        watcher.begin()
        server = Server(uvicorn_config(service, page=page), service)
        asyncio.run(server.serve(sockets=[listener]))
        watcher.end()
    finally:
        listener.close()
        if host.startswith(UNIX):
            Path(host.removeprefix(UNIX)).unlink(missing_ok=True)
    log.info("ended")


def uvicorn_config(service: Service, *, page: bool) -> uvicorn.Config:
    """Return the configuration of uvicorn for a service."""
    protocol = type("Protocol", (TimeoutProtocol,), {"head_seconds": service.settings.head_seconds})
    return uvicorn.Config(
        create_app(service, page=page),
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(service.settings.drain_seconds),
    )


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Args:
        host: an address, or `unix:PATH`, for a socket that only this user and group may use.
        port: 0 takes a free one.

    Raises:
        UsageError: the address cannot be used.
    """
    if host.startswith(UNIX):
        return _bind_path(host.removeprefix(UNIX))
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{host} port {port} cannot be used ({reason}); choose another --host or --port") from error
    return listener


def _bind_path(path: str) -> socket.socket:
    """Return a listening Unix socket; it replaces one that nobody listens on any more.

    Raises:
        UsageError: the path cannot be used.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        _remove_stale(path)
        listener.bind(path)
    except OSError as error:
        listener.close()
        reason = "another service listens there" if error.errno == errno.EADDRINUSE else error.strerror or error
        raise UsageError(f"the socket {path} cannot be made ({reason}); choose another path") from error
    finally:
        os.umask(before)
    return listener


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on."""
    if not Path(path).exists() or not stat.S_ISSOCK(Path(path).stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            Path(path).unlink()


def address(listener: socket.socket) -> str:
    """Return the address of a socket, for clients."""
    name: Any = listener.getsockname()
    if isinstance(name, str):
        return f"{UNIX}{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"


def read_keys(path: Path) -> tuple[str, ...]:
    """Read keys, one per line; empty lines and lines that begin with # are skipped.

    Raises:
        UsageError: the file cannot be read, or holds no usable key.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"key file {path} cannot be read ({error}); check the path") from error
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys or min(map(len, keys)) < SHORTEST_KEY or not all(key.isascii() for key in keys):
        raise UsageError(f"key file {path}: write one key a line, {SHORTEST_KEY} letters or more: openssl rand -hex 32")
    return keys
