"""Errors of requests, and every error as `application/problem+json` (RFC 9457)."""

from http import HTTPStatus
from typing import ClassVar

import msgspec

from clapedge.errors import ClapEdgeError, ProviderError, StorageError

MEDIA_TYPE = "application/problem+json"


class ServiceError(ClapEdgeError):
    """A request that the service rejects; `status` is the HTTP status, `headers` are those of the response."""

    status: ClassVar[int] = HTTPStatus.BAD_REQUEST
    exit_code: ClassVar[int] = 2

    @property
    def headers(self) -> dict[str, str]:
        """Additional headers of the response."""
        return {}


class RequestError(ServiceError):
    """The request itself is malformed."""


class KeyRefusedError(ServiceError):
    """The API key is missing or wrong."""

    status = HTTPStatus.UNAUTHORIZED

    @property
    def headers(self) -> dict[str, str]:
        """Make a browser ask for the key, as the password of any user."""
        return {"WWW-Authenticate": 'Basic realm="clapedge", charset="UTF-8"'}


class ForbiddenError(ServiceError):
    """A page of another site sent the request."""

    status = HTTPStatus.FORBIDDEN


class UnknownError(ServiceError):
    """Nothing has the requested name."""

    status = HTTPStatus.NOT_FOUND


class StalledError(ServiceError):
    """The client sends its request too slowly."""

    status = HTTPStatus.REQUEST_TIMEOUT


class TooLargeError(ServiceError):
    """The upload exceeds the limit."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    exit_code = 1

    def __init__(self, limit: int) -> None:
        """Name the limit in bytes."""
        super().__init__(f"the upload has more than {limit / 1e6:g} MB; send a part of it, or a compressed format")


class BusyError(ServiceError):
    """The queue is full; `retry_after` is the number of seconds until a place is likely to be free."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    exit_code = 1

    def __init__(self, retry_after: int) -> None:
        """Name the seconds to wait."""
        super().__init__(f"the queue is full; send it again in {retry_after} s")
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Name the seconds to wait."""
        return {"Retry-After": str(self.retry_after)}


class NotReadyError(ServiceError):
    """The service is starting or shutting down."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    exit_code = 4


class GoneError(ServiceError):
    """The client has disconnected."""

    def __init__(self) -> None:
        """Make the message, which appears in logs alone."""
        super().__init__("the client is gone; send the request again")


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an error response.

    Attributes:
        title: the status in words.
        status: the HTTP status.
        detail: what was found, and what to do about it.
        error: class of the error, as Python's API raises it.
        exit_code: status with which `clapedge score` ends for it.
        type: always about:blank, since the status names the kind.
    """

    title: str
    status: int
    detail: str
    error: str
    exit_code: int
    type: str = "about:blank"


def problem_of(error: ClapEdgeError) -> Problem:
    """Return the body of the response to an error."""
    if isinstance(error, ServiceError):
        status = HTTPStatus(error.status)
    elif isinstance(error, (ProviderError, StorageError)):
        status = HTTPStatus.SERVICE_UNAVAILABLE
    else:
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    return Problem(
        title=status.phrase,
        status=status,
        detail=str(error),
        error=type(error).__name__,
        exit_code=error.exit_code,
    )
