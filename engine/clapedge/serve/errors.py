"""What goes wrong with a request: errors of the service, and every error as `application/problem+json` (RFC 9457)."""

from http import HTTPStatus
from typing import ClassVar

import msgspec

from clapedge.errors import ClapEdgeError, ProviderError, StorageError

MEDIA_TYPE = "application/problem+json"


class ServiceError(ClapEdgeError):
    """Something that the service refuses; `status` is the HTTP status, `headers` go with it."""

    status: ClassVar[int] = HTTPStatus.BAD_REQUEST
    exit_code: ClassVar[int] = 2

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {}


class RequestError(ServiceError):
    """The request itself is not understood."""


class KeyRefusedError(ServiceError):
    """No key, or a wrong one."""

    status = HTTPStatus.UNAUTHORIZED

    @property
    def headers(self) -> dict[str, str]:
        """Let a browser ask for the key, as the password of any user."""
        return {"WWW-Authenticate": 'Basic realm="clapedge", charset="UTF-8"'}


class ForbiddenError(ServiceError):
    """Another site sent the request."""

    status = HTTPStatus.FORBIDDEN


class UnknownError(ServiceError):
    """Nothing has that name."""

    status = HTTPStatus.NOT_FOUND


class StalledError(ServiceError):
    """The client sends too slowly."""

    status = HTTPStatus.REQUEST_TIMEOUT


class TooLargeError(ServiceError):
    """More bytes than an upload may have."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    exit_code = 1

    def __init__(self, most: int) -> None:
        """Say how many bytes an upload may have."""
        super().__init__(f"the upload has more than {most / 1e6:g} MB; send a part of it, or a compressed format")


class BusyError(ServiceError):
    """The queue is full; `retry_after` says in how many seconds a place is likely to be free."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    exit_code = 1

    def __init__(self, retry_after: int) -> None:
        """Say when to come back.

        Args:
            retry_after: seconds.
        """
        super().__init__(f"the queue is full; send it again in {retry_after} s")
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Say when to come back."""
        return {"Retry-After": str(self.retry_after)}


class NotReadyError(ServiceError):
    """The service is starting or ending."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    exit_code = 4


class GoneError(ServiceError):
    """Nobody waits for the answer any longer."""

    def __init__(self) -> None:
        """Say so; nobody but a log reads it."""
        super().__init__("the client is gone; send the request again")


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer that says what went wrong.

    Attributes:
        title: the status in words.
        status: the HTTP status.
        detail: what was found, and what to do about it.
        error: class of the error, as Python's API raises it.
        exit_code: status with which `clapedge score` ends for it.
        type: always about:blank, since the status says what kind it is.
    """

    title: str
    status: int
    detail: str
    error: str
    exit_code: int
    type: str = "about:blank"


def status_of(error: ClapEdgeError) -> int:
    """Return the HTTP status that an error means."""
    if isinstance(error, ServiceError):
        return int(error.status)
    if isinstance(error, (ProviderError, StorageError)):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.UNPROCESSABLE_ENTITY


def problem(error: ClapEdgeError) -> Problem:
    """Describe an error."""
    status = status_of(error)
    return Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=str(error),
        error=type(error).__name__,
        exit_code=error.exit_code,
    )
