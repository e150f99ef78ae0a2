"""Scoring by a service: what `clapedge score --server` sends and reads. Loads neither NumPy nor a runtime.

Over http.client, not httpx, which takes four times as long to import (0.1 s, as much as the rest of the command), sends
a pipe with a wrong length and fails on names that are not UTF-8; and installations without it would lose the option.
"""

import http.client
import io
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import IO, Any, TypeAlias
from urllib.parse import quote, urlsplit

import msgspec
from typing_extensions import Self

from clapedge import __version__
from clapedge.errors import AudioError, AudioFileNotFoundError, BundleError, ClapEdgeError, ProviderError, UsageError
from clapedge.scoring.decision import Decision
from clapedge.scoring.result import Result
from clapedge.terminal import printable, record_name

UNIX = "unix:"

KEY_VARIABLE = "CLAPEDGE_API_KEY"
"""Environment variable with the key of the service: an option would be seen by everybody on the machine."""

SECONDS = 900.0
"""How long a service may be silent: an hour in sliding clips takes minutes on a small device."""

BLOCK = 2**16

LABEL_SUFFIXES = (".toml", ".csv", ".txt")

Opener: TypeAlias = "Callable[[], AbstractContextManager[IO[bytes]]]"


class Remote:
    """A service that scores. One connection serves all recordings; a context manager."""

    def __init__(self, server: str) -> None:
        """Name a service; it is asked with the first recording.

        Args:
            server: `http://HOST:PORT`, `https://…`, or `unix:PATH`.

        Raises:
            UsageError: it is not such an address.
        """
        self._server = server
        self._connection = _connection(server)
        self._prefix = "" if server.startswith(UNIX) else urlsplit(server).path.rstrip("/")
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise UsageError(f"{KEY_VARIABLE} holds characters that no key has; give one of the service's keys alone")
        self._headers = {"User-Agent": f"clapedge/{__version__}", "Accept": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    def __enter__(self) -> Self:
        """Return the service."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._connection.close()

    def score(self, name: str, opened: Opener, fields: Mapping[str, object], label_file: str | None) -> Result:
        """Have a recording scored.

        Args:
            name: what the result calls the recording.
            opened: opens it.
            fields: of `/v1/score`, but for what is None.
            label_file: a file that is sent along, or None.

        Raises:
            AudioError: the recording cannot be used, or was rejected.
            UsageError: the service does not understand the request.
            ProviderError: the service cannot be reached, or fails.
        """
        boundary = secrets.token_hex(16)
        with ExitStack() as stack:
            file = stack.enter_context(opened())
            head, tail = _form(name, fields, label_file, boundary)
            headers = {**self._headers, "Content-Type": f"multipart/form-data; boundary={boundary}"}
            size = _size(file)
            if size is not None:
                headers["Content-Length"] = str(len(head) + size + len(tail))
            status, answer = self._ask(_blocks(head, file, tail), headers, chunked=size is None)
        if status != http.client.OK:
            raise _failure(status, answer, self._server, name)
        return _result(answer, name)

    def _ask(self, body: Iterator[bytes], headers: Mapping[str, str], *, chunked: bool) -> tuple[int, bytes]:
        """Send a request and return the status and body of the answer.

        Raises:
            ProviderError: there is none.
        """
        if chunked:
            headers = {**headers, "Transfer-Encoding": "chunked"}
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # answered before all was sent; the answer says why
                self._connection.request(
                    "POST", f"{self._prefix}/v1/score", body, dict(headers), encode_chunked=chunked
                )
            response = self._connection.getresponse()
            answer = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ProviderError(
                f"server {self._server} does not answer ({reason}); start it with clapedge serve, or leave --server out"
            ) from error
        if answer[0] != http.client.OK:
            self._connection.close()  # what was not read of the request would be taken for the next one
        return answer


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        """Name the socket."""
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(server: str) -> http.client.HTTPConnection:
    """Return a connection, which is made when it is first needed.

    Raises:
        UsageError: the address is not understood.
    """
    if server.startswith(UNIX):
        return _UnixConnection(server.removeprefix(UNIX))
    kinds: dict[str, type[http.client.HTTPConnection]] = {
        "http": http.client.HTTPConnection,
        "https": http.client.HTTPSConnection,
    }
    if "@" in server:
        raise UsageError(f"--server takes no user and no password; put the key into {KEY_VARIABLE}")
    try:
        parts = urlsplit(server)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in kinds or not host:
        raise UsageError(f"--server {server} is not an address; write http://HOST:PORT or unix:PATH")
    return kinds[scheme](host, port, timeout=SECONDS)


def label_fields(
    words: tuple[str, ...], label_file: str | None, template: str | None
) -> tuple[dict[str, object], str | None]:
    """Return the fields that name labels, and the label file that is sent along, if one is.

    Args:
        words: values of `-l`.
        label_file: value of `--labels`: a file, or the name of a set that the service knows.
        template: value of `--template`.

    Raises:
        UsageError: the file cannot be sent.
    """
    if label_file is None:
        return {"labels": list(words), "template": template}, None
    if words or template:
        raise UsageError("--labels is given with -l or --template; put the words into the file, or leave it out")
    path = Path(label_file)
    if not path.exists():
        return {"label_set": label_file}, None
    if path.suffix.lower() not in LABEL_SUFFIXES:
        raise UsageError(f"label file {label_file} cannot be sent; send {', '.join(LABEL_SUFFIXES)}, or name a set")
    return {}, label_file


def opener(name: str) -> Opener:
    """Return what opens a recording on disk.

    Raises:
        AudioError: when it is opened, if it cannot be.
    """
    shown = printable(record_name(name))

    def opened() -> IO[bytes]:
        try:
            return Path(name).open("rb")
        except (FileNotFoundError, NotADirectoryError):
            raise AudioFileNotFoundError(f"{shown} does not exist; check the path") from None
        except OSError as error:
            raise AudioError(f"{shown} cannot be read ({error.strerror}); check the path") from error

    return opened


def _form(name: str, fields: Mapping[str, object], label_file: str | None, boundary: str) -> tuple[bytes, bytes]:
    """Return what stands before and behind the recording in a multipart form.

    Raises:
        UsageError: the label file cannot be read.
    """
    out = io.BytesIO()
    for key, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                text = json.dumps(one) if isinstance(one, bool) else str(one)
                _part(out, boundary, f'name="{key}"', text.encode("utf-8", "replace"))
    if label_file is not None:
        try:
            content = Path(label_file).read_bytes()
        except OSError as error:
            raise UsageError(f"label file {label_file} cannot be read ({error.strerror}); check the path") from error
        _part(out, boundary, f'name="label_file"; filename="{_quoted(Path(label_file).name)}"', content)
    _part(out, boundary, f'name="file"; filename="{_quoted(Path(name).name)}"', None)
    return out.getvalue(), f"\r\n--{boundary}--\r\n".encode()


def _part(out: io.BytesIO, boundary: str, described: str, content: bytes | None) -> None:
    """Write a part of a form; without content, only what stands before it."""
    out.write(f"--{boundary}\r\nContent-Disposition: form-data; {described}\r\n\r\n".encode())
    if content is not None:
        out.write(content + b"\r\n")


def _quoted(name: str) -> str:
    """Return a file name as a form carries it, in ASCII."""
    return quote(record_name(name), safe=" ()[]+,;=@~")


def _size(file: IO[bytes]) -> int | None:
    """Return how many bytes a regular file has; None for a pipe, whose end is not known."""
    try:
        here = file.tell()
        size = file.seek(0, os.SEEK_END)
        file.seek(here)
    except OSError:
        return None
    return size - here


def _blocks(head: bytes, file: IO[bytes], tail: bytes) -> Iterator[bytes]:
    """Yield a form in blocks."""
    yield head
    while block := file.read(BLOCK):
        yield block
    yield tail


def _failure(status: int, answer: bytes, server: str, name: str) -> ClapEdgeError:
    """Return the error that an answer means, with the name that the command line gave to the recording."""
    try:
        problem = msgspec.json.decode(answer, type=dict[str, Any])
        detail, code = str(problem["detail"]), int(problem["exit_code"])
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
        return ProviderError(f"server {server} answers with status {status}; is it clapedge serve? check the address")
    if status == http.client.UNAUTHORIZED:
        return UsageError(f"server {server} asks for a key; set {KEY_VARIABLE} to one of its keys")
    sent = printable(record_name(Path(name).name))
    if detail.startswith(sent):
        detail = printable(record_name(name)) + detail.removeprefix(sent)
    kinds: dict[int, type[ClapEdgeError]] = {1: AudioError, 2: UsageError, 3: BundleError}
    return kinds.get(code, ProviderError)(detail)


def _result(answer: bytes, name: str) -> Result:
    """Return the result that an answer holds, under the name that the command line gave."""
    try:
        return Result.from_dict({**msgspec.json.decode(answer, type=dict[str, Any]), "file": name})
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise ProviderError(f"the server's answer is not a record ({error}); does it run the same clapedge?") from error


def decision_fields(decision: Decision, *, threshold: float | None) -> dict[str, object]:
    """Return the fields that say how labels are decided."""
    return {"multi": decision.multi, "threshold": threshold, "unsure_margin": decision.unsure_margin}
