"""Addresses as they may be shown: without passwords."""

from urllib.parse import urlsplit

from clapedge.errors import UsageError


def without_password(address: str) -> str:
    """Return an address without user, password and query, where secrets travel.

    Raises:
        UsageError: it cannot be parsed.
    """
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:  # whose message may hold a part of the password
        raise UsageError(
            "an address cannot be read; give scheme://host:port/path, and in a password %2F for / and %23 for #"
        ) from None
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def origin(address: str) -> str:
    """Return scheme, host and port of an address: all that may be shown if its path is a secret as well."""
    scheme, _, rest = without_password(address).partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"
