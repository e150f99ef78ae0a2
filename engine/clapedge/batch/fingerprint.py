"""What identifies a recording: its size and time of change and, failing that, its bytes."""

import hashlib
import os
import stat

import msgspec

from clapedge.audio import sources
from clapedge.errors import AudioError

HASH_BYTES = 2**20


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """What distinguishes a changed file without reading it: bytes, and nanoseconds of its last change."""

    bytes: int
    modified: int


def stamp_of(file: str) -> Stamp | None:
    """Return the stamp of a file, or None where the error comes when it is opened.

    Raises:
        AudioError: it is a device or a pipe.
    """
    try:
        status = os.stat(file)  # noqa: PTH116 - called for every file of a large archive
    except (OSError, ValueError):
        return None
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise AudioError(f"{sources.shown_name(file)} is not a regular file; score it with: clapedge score")
    return Stamp(status.st_size, status.st_mtime_ns)


def fingerprint(file: str) -> tuple[Stamp, str]:
    """Return the stamp of a file and the SHA-256 of its bytes.

    Raises:
        AudioError: it cannot be read.
    """
    stamp = stamp_of(file)
    digest = hashlib.sha256()
    with sources.open_source(file) as view:
        for offset in range(0, view.size, HASH_BYTES):
            digest.update(view.peek(offset, HASH_BYTES))
        if stamp is None or view.failure is not None:
            raise AudioError(f"{sources.shown_name(file)} cannot be read to its end; copy it again")
    return stamp, digest.hexdigest()
