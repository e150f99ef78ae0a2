"""Text from outside (file names, labels, metadata of models) made safe for a terminal, and file names for records."""

import os
import re
import unicodedata

ESCAPED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Control characters, which move the cursor or worse; lone surrogates; separators of lines and paragraphs."""

ESCAPED_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They reverse the direction of text, so that a name reads as another one."""


ESCAPED_CODE = re.compile(r"\\ud([89a-f][0-9a-f]{2})")
"""A surrogate as `record_name` writes it."""

ESCAPED_BACKSLASH = r"\udc5c"
"""A backslash that stands before what would read as such an escape; no byte that cannot be decoded has this code."""


def record_name(path: str | os.PathLike[str]) -> str:
    r"""Return a path as records hold it: encodable as UTF-8, and different for every path.

    Bytes that are not UTF-8, which Python holds as lone surrogates, are written as `\udcNN`, NN being the byte in
    hexadecimal. A backslash of the path before what would read as such an escape is written as `\udc5c`. Every other
    path stays as it is.
    """
    escaped = ESCAPED_CODE.sub(lambda found: ESCAPED_BACKSLASH + found[0][1:], os.fspath(path))
    return escaped.encode("utf-8", "backslashreplace").decode()


def path_of(name: str) -> str:
    """Return the path that `record_name` was given."""
    return ESCAPED_CODE.sub(lambda found: "\\" if found[0] == ESCAPED_BACKSLASH else chr(int(f"d{found[1]}", 16)), name)


def printable(text: str) -> str:
    r"""Return a text on one line, with control characters written as `\n` or `\x1b`."""
    if text.isprintable():
        return text
    return "".join(_escaped(one) if _is_control(one) else one for one in text)


def counted(number: int, noun: str, *, nouns: str | None = None) -> str:
    """Return a number with its noun, such as `1 file` or `3 files`.

    Args:
        number: the count.
        noun: the singular.
        nouns: the plural; None adds an s.
    """
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"


def display_width(text: str) -> int:
    """Return how many columns of a terminal a text takes: East Asian wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _is_control(character: str) -> bool:
    """Return whether a character controls the terminal instead of being shown."""
    return unicodedata.category(character) in ESCAPED_CATEGORIES or character in ESCAPED_MARKS


def _escaped(character: str) -> str:
    r"""Return a character as Python writes it: `\n`, `\x1b`, `\u202e`."""
    return character.encode("unicode_escape").decode()
