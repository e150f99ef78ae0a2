"""Events to a web server: one POST a record, with a key by which the server recognises one that comes twice."""

import base64
import http.client
import os
import urllib.error
import urllib.request
from typing import IO
from urllib.parse import unquote, urlsplit

from clapedge import __version__
from clapedge.errors import UsageError
from clapedge.live.addresses import origin
from clapedge.live.sinks.delivery import RefusedError, UndeliveredError
from clapedge.live.tls import TlsFiles, failure_reason

TOKEN_VARIABLE = "CLAPEDGE_WEBHOOK_TOKEN"  # noqa: S105 - its name alone
"""Environment variable with a token, sent as `Authorization: Bearer`: arguments can be seen by every user."""

TIMEOUT_SECONDS = 10.0

REFUSALS = frozenset({400, 405, 406, 410, 413, 414, 415, 422})
"""Answers after which a message is given up. After all others (a wrong token, an address that does not exist yet, an
error of the server) it is sent again."""

LONGEST_PAUSE = 300.0
"""Seconds that a server may ask to wait at most (`Retry-After`)."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would turn a POST into a GET, and send the token elsewhere."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:
        """Follow none."""


class WebhookTransport:
    """Posts messages to one address."""

    def __init__(self, address: str, *, timeout: float = TIMEOUT_SECONDS, tls: TlsFiles | None = None) -> None:
        """Prepare to send.

        Args:
            address: http:// or https://, with user:password@ where the server asks for them; certificates are
                checked, proxies taken from the environment.
            timeout: seconds to wait for an answer.
            tls: certificates for https://; None means those of the system.

        Raises:
            UsageError: the address, or a certificate, cannot be used.
        """
        self.name = origin(address)
        parts = urlsplit(address)
        if parts.scheme not in {"http", "https"} or not parts.hostname or not _is_plain(address):
            raise UsageError(f"{self.name} is not an HTTP address; give http://… or https://…")
        user, _, place = parts.netloc.rpartition("@")
        self._address, self._timeout = parts._replace(netloc=place, fragment="").geturl(), timeout
        handlers = [urllib.request.HTTPSHandler(context=tls.context())] if tls else []
        self._opener = urllib.request.build_opener(_NoRedirects, *handlers)
        self._headers = {"Content-Type": "application/json", "User-Agent": f"clapedge/{__version__}"}
        if user:
            secret = base64.b64encode(unquote(user).encode()).decode()
            self._headers["Authorization"] = f"Basic {secret}"
        if token := os.environ.get(TOKEN_VARIABLE, "").strip():
            if not _is_plain(token):
                raise UsageError(
                    f"{TOKEN_VARIABLE} holds a space or a character that is not ASCII; give the token alone"
                )
            self._headers["Authorization"] = f"Bearer {token}"

    def send(self, key: str, data: bytes) -> None:
        """Post a message, see `Transport.send`."""
        headers = {**self._headers, "Idempotency-Key": key}
        request = urllib.request.Request(self._address, data, headers, method="POST")  # noqa: S310 - http(s) was checked
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                answer.read(1)
        except urllib.error.HTTPError as error:
            with error:
                answered = f"it answers {error.code} {error.reason}"
                if error.code in REFUSALS:
                    raise RefusedError(answered) from error
                raise UndeliveredError(answered, _asked_pause(error.headers.get("Retry-After"))) from error
        except (OSError, http.client.HTTPException) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            reason = failure_reason(cause) if isinstance(cause, OSError) else cause
            raise UndeliveredError(f"it cannot be reached ({reason})") from error

    def close(self) -> None:
        """Do nothing: no connection is kept open."""


def _is_plain(text: str) -> bool:
    """Return whether a text is printable ASCII without spaces, as addresses and headers are."""
    return all("!" <= character <= "~" for character in text)


def _asked_pause(value: str | None) -> float | None:
    """Return the seconds that a server asks to wait, up to `LONGEST_PAUSE`; None if it does not."""
    return min(float(value), LONGEST_PAUSE) if value and value.isdecimal() else None
