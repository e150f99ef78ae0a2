"""Text from outside (file names, labels, metadata of models) made safe for a terminal."""

import unicodedata

ESCAPED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Control characters, which move the cursor or worse; lone surrogates; separators of lines and paragraphs."""

ESCAPED_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They reverse the direction of text, so that a name reads as another one."""


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
