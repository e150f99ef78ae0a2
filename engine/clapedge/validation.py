"""Errors of msgspec in plain words: it names types of Python and counts from 0."""

import re
from collections.abc import Callable

import msgspec

KINDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}

PHRASES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"Expected `([^`]+)`, got `([^`]+)`", lambda found: f"expected {_kinds(found[1])}, found {_kinds(found[2])}"),
    (r"Expected `([^`]+)`(.*)", lambda found: f"expected {_kinds(found[1])}{found[2]}"),
    (r"Object missing required field `(.+)`", lambda found: f"{found[1]} is missing"),
    (r"Object contains unknown field `(.+)`", lambda found: f"{found[1]} is unknown"),
)


def describe_mismatch(error: msgspec.MsgspecError) -> str:
    """Return a message of msgspec in plain words, such as `label 2: name: expected text, found a whole number`."""
    message, _, place = str(error).partition(" - at ")
    for pattern, phrase in PHRASES:
        found = re.fullmatch(pattern, message)
        if found:
            message = phrase(found)
            break
    steps = re.findall(r"\w+(?:\[\d+\])*", place)
    named = [re.sub(r"\[(\d+)\]", lambda index: f" {int(index[1]) + 1}", step) for step in steps]
    return ": ".join([*named, message.replace("`", "")])


def _kinds(types: str) -> str:
    """Return types of msgspec, separated by `|`, in plain words."""
    return " or ".join(KINDS.get(name, name) for name in types.split(" | "))
