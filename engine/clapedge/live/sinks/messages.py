"""Records as they wait: what is read from them, and what is changed before they are sent."""

from typing import Any

import msgspec


def event_of(key: str) -> str:
    """Return the id of the event of a record's key."""
    return key.rpartition("-")[0]


def kind_of(data: bytes) -> str | None:
    """Return the kind of a record; None if it has none.

    Raises:
        ValueError: it is damaged.
    """
    return _decoded(data).get("kind")


def with_age(data: bytes, seconds: float) -> bytes:
    """Return a record with the seconds for which it has waited.

    Raises:
        ValueError: it is damaged.
    """
    return msgspec.json.encode(_decoded(data) | {"age_s": round(seconds, 3)})


def interrupted(data: bytes) -> tuple[str, bytes]:
    """Return key and content of the last record of an event that ended with the process, from the record before it.

    An end stays as it is.

    Raises:
        ValueError: it is damaged.
    """
    record = _decoded(data)
    if not {"kind", "id", "sequence"} <= record.keys():
        raise ValueError("it is not a record")
    if record["kind"] != "end":
        record |= {"kind": "end", "sequence": record["sequence"] + 1, "reason": "interrupted"}
    return f"{record['id']}-{record['sequence']}", msgspec.json.encode(record)


def _decoded(data: bytes) -> dict[str, Any]:
    """Return the fields of a record, those of other versions too."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ValueError(f"it is damaged ({error})") from error
