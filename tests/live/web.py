"""Web servers for the tests, with or without TLS."""

import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def web_server(handler: type[http.server.BaseHTTPRequestHandler], *, certificate: Path | None = None) -> Iterator[str]:
    """Run a server; yield its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def files_of(directory: Path, fetched: list[str]) -> type[http.server.BaseHTTPRequestHandler]:
    """Return a handler that gives the files of a directory, and notes which were fetched."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(directory))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            """Note what was asked for."""
            fetched.append(self.path)

    return Handler
