"""Files that appear whole or not at all, and that are known to be writable before the work begins."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clapedge.errors import ClapEdgeError, StorageError, UsageError


@contextmanager
def atomic_write(target: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to; it is renamed to the target when the block ends, or deleted on an error.

    Args:
        target: the file.
        shared: whether other threads and processes may write the same file at the same time.

    Raises:
        StorageError: it cannot be written.
    """
    unique = f".{os.getpid()}-{threading.get_ident()}" if shared else ""
    temporary = target.with_name(f"{target.name}{unique}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        if isinstance(error, ClapEdgeError):  # some of them are OSErrors too
            raise
        raise cannot_be_written(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_target(target: Path, *, force: bool) -> None:
    """Raise if a file could not be written, or would replace another one.

    Args:
        target: the file; devices and pipes are accepted.
        force: whether it may replace a file.

    Raises:
        UsageError: there is a file or folder of that name, or its folder does not exist.
        StorageError: its folder cannot be written to.
    """
    if target.is_file() and not force:
        raise UsageError(f"{target} exists; replace it with force=True, or name another file")
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name a file in it")
    if not target.parent.is_dir():
        raise UsageError(f"the folder {target.parent} does not exist; make it first, or name another place")
    if target.exists() and not target.is_file():
        return
    probe = target.with_name(f"{target.name}.tmp")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise cannot_be_written(target, error) from error


def cannot_be_written(target: Path, error: OSError) -> StorageError:
    """Return the error of a file that cannot be written."""
    return StorageError(f"{target} cannot be written ({error.strerror or error}); make room, or name another place")
