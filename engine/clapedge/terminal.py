"""Text that came from elsewhere (file names, labels, models' own words) as a terminal may show it."""

import unicodedata

UNSHOWN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Control characters, which move the cursor or worse; lone surrogates; separators of lines and paragraphs."""

UNSHOWN_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They turn the direction of what follows around, so that a name reads as another one."""


def printable(text: str) -> str:
    r"""Return a text on one line, with what a terminal would obey instead of showing written as `\n` or `\x1b`."""
    if text.isprintable():
        return text
    return "".join(_escaped(character) if _is_unshown(character) else character for character in text)


def counted(number: int, noun: str, *, nouns: str | None = None) -> str:
    """Return a number with its noun, such as `1 file` or `3 files`.

    Args:
        number: how many.
        noun: the word for one.
        nouns: the word for several; None adds an s.
    """
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"


def _is_unshown(character: str) -> bool:
    """Tell whether a character does something instead of being seen."""
    return unicodedata.category(character) in UNSHOWN_CATEGORIES or character in UNSHOWN_MARKS


def _escaped(character: str) -> str:
    r"""Return a character as Python writes it: `\n`, `\x1b`, `\u202e`."""
    return character.encode("unicode_escape").decode()
