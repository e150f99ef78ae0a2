"""Places where results go, looked at before the work begins."""

import os
import shutil
from pathlib import Path

from clapedge.atomic_file import check_target
from clapedge.errors import StorageError, UsageError


def check_file(path: Path | None, *, force: bool) -> None:
    """Refuse a file that could not be written, or that would replace another one; None is no file.

    Raises:
        UsageError: there is something already, or no folder to hold it.
        StorageError: its folder cannot be written to.
    """
    if path is None:
        return
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no regular file; name another")
    check_target(path, force=force)


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
