"""The tools underneath, kept quiet, and what they say in one line."""

import contextlib
import logging
import textwrap
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings and log lines of the tools off the terminal: they speak to their authors, not to users."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line of at most 200 characters."""
    return textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" ...")
