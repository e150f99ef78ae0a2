"""A file over HTTPS, resumed where it broke off, by a later run too.

Its own, since `huggingface_hub` deletes what it has of a file when it gives up, and fetches from the hub alone.
"""

import http.client
import logging
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from pathlib import Path
from typing import IO

from clapedge.errors import BundleError, BundleNotFoundError, UsageError

log = logging.getLogger(__name__)

BLOCK = 1 << 20
"""Bytes read and written at once."""

ANSWER_SECONDS = 30.0
"""Longest wait for the next bytes."""

FUTILE_TRIES = 3
"""Connections in a row that bring nothing, after which a download is given up."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

OFFLINE_VARIABLE = "HF_HUB_OFFLINE"
"""Environment variable of the hub's library that forbids downloads."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """What is downloaded.

    Attributes:
        url: https, or http of this machine.
        size: bytes, where they are known.
        limit: bytes that it may have at most.
        headers: for the host of the URL alone: a redirect elsewhere does not get them.
    """

    url: str
    limit: int
    size: int | None = None
    headers: Mapping[str, str] | None = None

    @property
    def name(self) -> str:
        """The URL without what may be secret in it."""
        parts = urllib.parse.urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()

    def fetch(self, target: Path) -> None:
        """Write the file to `target`, or go on where `target.part` ends.

        Raises:
            BundleError: it cannot be had, or is larger than is allowed; what has arrived is kept.
        """
        part = target.with_name(f"{target.name}.part")
        futile, size, error = 0, self.size, None
        while size is None or _bytes_of(part) != size:
            have = _bytes_of(part)
            if futile == FUTILE_TRIES:
                raise self._explained(error, part) from error
            if size is not None and have > size:
                part.unlink()
                continue
            try:
                size, error = self._receive(part), None
            except (OSError, http.client.HTTPException) as failure:
                error = failure
                if isinstance(failure, urllib.error.HTTPError):
                    if failure.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                        raise self._explained(failure, part) from failure
                    part.unlink(missing_ok=True)  # of another version of the file
            if _bytes_of(part) != size:
                log.info("%s broke off (%s); going on", self.name, _reason(error))
            futile = 0 if _bytes_of(part) > have else futile + 1
        part.replace(target)

    def check(self) -> int | None:
        """Return the size that the server states, without downloading.

        Raises:
            BundleError: it cannot be had.
        """
        try:
            with self._open("HEAD", 0) as response:
                return _number(response.headers.get("Content-Length"))
        except (OSError, http.client.HTTPException) as error:
            raise self._explained(error, None) from error

    def _receive(self, part: Path) -> int | None:
        """Append what one connection brings to what is there, and return the size of the whole, if it is known."""
        have = _bytes_of(part)
        with self._open("GET", have) as response:
            resumed = response.status == HTTPStatus.PARTIAL_CONTENT and _begins_at(response.headers, have)
            have = have if resumed else 0
            length = _number(response.headers.get("Content-Length"))
            size = self.size if self.size is not None or length is None else have + length
            most = self.limit if size is None else size
            if most > self.limit:
                raise BundleError(f"{self.name} has {most} bytes, more than {self.limit}; it is not a bundle")
            with part.open("ab" if resumed else "wb") as stream:
                while block := response.read(BLOCK):
                    have += len(block)
                    if have > most:
                        part.unlink()
                        raise BundleError(f"{self.name} has more than {most} bytes; it is not what was announced")
                    stream.write(block)
            if size is None and length is None:  # its end is the connection's
                size = have
        return size

    def _open(self, method: str, start: int) -> http.client.HTTPResponse:
        """Ask for the file from a byte on."""
        if os.environ.get(OFFLINE_VARIABLE, "").upper() in {"1", "ON", "YES", "TRUE"}:
            raise BundleError(f"{self.name} is not downloaded, since {OFFLINE_VARIABLE} is set; unset it")
        check_scheme(self.url)
        request = urllib.request.Request(self.url, method=method)  # noqa: S310 - checked above
        request.add_header("User-Agent", "clapedge")
        request.add_header("Accept-Encoding", "identity")
        if start:
            request.add_header("Range", f"bytes={start}-")
        for key, value in (self.headers or {}).items():
            request.add_unredirected_header(key, value)
        response: http.client.HTTPResponse = _OPENER.open(request, timeout=ANSWER_SECONDS)
        return response

    def _explained(self, error: Exception | None, part: Path | None) -> BundleError:
        """Return the error of a download: what went wrong, and what to do."""
        if isinstance(error, BundleError):
            return error
        status = error.code if isinstance(error, urllib.error.HTTPError) else None
        if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            return BundleNotFoundError(f"{self.name} does not exist; check the address")
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return BundleError(f"{self.name} is refused ({status}); check the address, and the token in HF_TOKEN")
        kept = " what has arrived is kept" if part is not None and _bytes_of(part) else ""
        return BundleError(f"{self.name} cannot be downloaded ({_reason(error)}); run it again:{kept or ' later'}")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from an encrypted connection to an open one."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the next request."""
        check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


_OPENER = urllib.request.build_opener(_SafeRedirects)


def check_scheme(url: str) -> None:
    """Raise if a URL is not encrypted, unless it is of this machine.

    Raises:
        UsageError: it is another kind of URL.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise UsageError(f"{parts.scheme}://{parts.hostname} is not encrypted; use an https address")


def _begins_at(headers: Message, start: int) -> bool:
    """Return whether a partial answer is the one that was asked for."""
    return (headers.get("Content-Range") or "").startswith(f"bytes {start}-")


def _bytes_of(path: Path) -> int:
    """Return the size of a file, 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _number(text: str | None) -> int | None:
    """Return a whole number, or None."""
    return int(text) if text is not None and text.isdecimal() else None


def _reason(error: Exception | None) -> str:
    """Return what an error of the network says, in a few words; None is a connection that ended early."""
    if error is None:
        return "the connection ended early"
    reason = getattr(error, "reason", None)
    return str(getattr(reason, "strerror", None) or reason or error) or type(error).__name__
