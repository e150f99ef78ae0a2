"""Messages of the library on stderr, in the words of the command line: Python's options become flags."""

import re

import click

from clapedge.terminal import printable

KEYWORD = re.compile(r'(?<!--provider-option )\b([a-z_]+)=(?:"([^"]*)"|(\d+(?:\.\d+)?)|True|(False))(?!\.?\w)')
"""A keyword argument in a message, such as `window="slide"`, `hop=2` or `force=True`; not a part of a file name."""

FLAGS = {"max_age": "spool-age", "max_bytes": "spool-bytes", "timeout": "on-event-timeout"}
"""Flags that are not called like their keyword arguments."""

PROVIDER_OPTION = re.compile(r'provider_options=\{"(\w+)": "?(\w+)"?\}')


def to_flags(message: str) -> str:
    """Return a message with flags in place of keyword arguments.

    Example:
        >>> to_flags('use window="slide", force=True or provider_options={"device_id": "1"}')
        'use --window slide, --force or --provider-option device_id=1'
    """
    message = PROVIDER_OPTION.sub(r"--provider-option \1=\2", message)
    return KEYWORD.sub(_flag, message).replace("provider_options", "--provider-option")


def with_flags(message: str) -> str:
    """Return a message with flags in place of keyword arguments, on one line, as a terminal may show it."""
    return printable(to_flags(message))


def note(message: str, *, about: str = "") -> None:
    """Print something to know on stderr.

    Args:
        message: a sentence of the library or of a command.
        about: the recording that it is about, if it is about one.
    """
    click.echo(f"note: {printable(about)}{': ' if about else ''}{with_flags(message)}", err=True)


def report_error(error: Exception | str) -> None:
    """Print what went wrong on stderr."""
    click.echo(f"error: {with_flags(str(error))}", err=True)


def _flag(found: re.Match[str]) -> str:
    """Return a keyword argument as a flag."""
    name, value = FLAGS.get(found[1], found[1].replace("_", "-")), found[2] or found[3]
    if found[4]:
        return f"--no-{name}"
    return f"--{name} {value}" if value else f"--{name}"
