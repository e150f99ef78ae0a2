"""Files that appear whole or not at all, and whose places are looked at before the work begins."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from clapedge.errors import StorageError, UsageError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and give it its own when all of it is on the disk.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_output(path: Path, content: bytes) -> None:
    """Write a file that the user has named, as `write_whole` does.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror}); make room, or name another place") from error


def check_output(path: Path | None) -> None:
    """Refuse a file that could not be written; None is no file.

    Raises:
        UsageError: its name belongs to a folder or a device, or there is no such folder to hold it.
        StorageError: the folder cannot be written to.
    """
    if path is None:
        return
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no regular file; name another")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist; make it first, or name another place")
    check_folder(path.parent, room=0)


def check_folder(folder: Path, *, room: int) -> None:
    """Refuse a folder that could not be written to; one that does not exist yet will be made.

    Args:
        folder: the folder.
        room: bytes that will be needed at least.

    Raises:
        UsageError: something else than a folder is in the way.
        StorageError: it cannot be written to, or its disk is too full.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise UsageError(f"{existing} is no folder; name another place")
    if not os.access(existing, os.W_OK):
        raise StorageError(f"{existing} cannot be written to; check its permissions, or name another place")
    free = shutil.disk_usage(existing).free
    if free < room:
        raise StorageError(
            f"{existing} has {free / 1e6:.1f} MB free, and {room / 1e6:.1f} MB are needed at least; make room, or name "
            "another place"
        )
