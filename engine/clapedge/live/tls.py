"""TLS with certificates of one's own, and the reason why a connection failed in words."""

import os
import ssl
from dataclasses import dataclass

from clapedge.errors import UsageError

UNKNOWN_ISSUER = frozenset({18, 19, 20, 21})
"""OpenSSL's X509_V_ERR_* of a certificate whose issuer is not trusted: self-signed, or signed by an unknown CA."""

OUTSIDE_VALIDITY = frozenset({9, 10})
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


@dataclass(frozen=True)
class TlsFiles:
    """Certificates beside those of the system.

    Attributes:
        ca: PEM file of authorities to trust as well, or None.
        cert: PEM file with the certificate of this client and its key, or None.
    """

    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None

    def context(self) -> ssl.SSLContext:
        """Return a context that checks the certificate and the name of a server.

        Raises:
            UsageError: a file cannot be used.
        """
        context = ssl.create_default_context()
        try:
            if self.ca is not None:
                context.load_verify_locations(self.ca)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise UsageError(f"{self.ca} is not a file of authorities ({_reason(error)}); give one in PEM") from error
        try:
            if self.cert is not None:
                context.load_cert_chain(self.cert, password=_no_password)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{self.cert} is not a certificate with its key ({_reason(error)}); join both in one PEM file, the key "
                "without a password"
            ) from error
        return context


def failure_reason(error: BaseException) -> str:
    """Return why a connection failed, and what helps."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"its TLS certificate is not trusted ({error.verify_message.rstrip('.')})"
        if error.verify_code in UNKNOWN_ISSUER:
            return f'{reason}; name the authority that signed it: ca="FILE"'
        if error.verify_code in OUTSIDE_VALIDITY:
            return f"{reason}; is the clock of this machine right?"
        return reason
    if isinstance(error, (ssl.SSLError, ConnectionResetError)):
        return f"{_reason(error)}; is it the right port, for TLS or without?"
    return _reason(error)


def _reason(error: BaseException) -> str:
    """Return the reason of a failure without the numbers and the line of OpenSSL's source."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _no_password() -> str:
    """Return an empty password: OpenSSL would ask for one on the terminal, where nobody sits."""
    return ""
