"""Messages of the library in the words of the command line: Python's options become flags."""

import re

from clapedge.terminal import printable

KEYWORD = re.compile(r'\b([a-z_]+)=(?:"([^"]*)"|True\b)')
"""A keyword argument in a message of the library: `window="slide"`, `force=True`."""

PROVIDER_OPTION = re.compile(r'provider_options=\{"(\w+)": "?(\w+)"?\}')


def with_flags(message: str) -> str:
    """Return a message with flags for keyword arguments, on one line, as a terminal may show it.

    Example:
        >>> with_flags('use window="slide", or provider_options={"device_id": "1"}')
        'use --window slide, or --provider-option device_id=1'
    """
    message = PROVIDER_OPTION.sub(r"--provider-option \1=\2", message)
    return printable(KEYWORD.sub(_flag, message))


def _flag(found: re.Match[str]) -> str:
    """Return a keyword argument as a flag."""
    name, value = found[1].replace("_", "-"), found[2]
    return f"--{name}" if value is None else f"--{name} {value}"
