"""Files that appear whole or not at all, and that are known to be writable before the work begins."""

import os
import shutil
import threading
from collections.abc import Collection, Iterable, Iterator
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
    except ClapEdgeError:  # some of them are OSErrors too
        raise
    except OSError as error:
        raise cannot_be_written(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_target(
    target: Path,
    *,
    force: bool,
    suffixes: Collection[str] = (),
    special: bool = False,
    inputs: Iterable[str | Path] = (),
) -> None:
    """Raise if a file could not be written, or would replace another one; to be called before the work begins.

    Args:
        target: the file.
        force: whether it may replace a file.
        suffixes: the endings that name a format, in lower case; none allows any name.
        special: whether a device or a pipe will do, which is written to in place.
        inputs: names of files that will be read, which it never replaces.

    Raises:
        UsageError: its name, or what has that name already, will not do, or there is no folder to hold it.
        StorageError: its folder cannot be written to.
    """
    if suffixes and target.suffix.lower() not in suffixes:
        raise UsageError(f"{target} ends in none of {', '.join(suffixes)}; the name says which format is written")
    if target.exists() and not target.is_file():
        if special and not target.is_dir():
            return
        raise UsageError(f"{target} is not a regular file; name another")
    if target.is_file() and any(Path(name).is_file() and target.samefile(name) for name in inputs):
        raise UsageError(f"{target} is what will be read; name another file")
    if target.is_file() and not force:
        raise UsageError(f"{target} exists; replace it with force=True, or name another file")
    if not target.parent.is_dir():
        raise UsageError(f"the folder {target.parent} does not exist; make it first, or name another place")
    probe = target.with_name(f"{target.name}.tmp")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise cannot_be_written(target, error) from error


def check_folder(folder: Path, *, bytes_needed: int) -> None:
    """Raise if files could not be written to a folder, which may not exist yet; to be called before the work begins.

    Args:
        folder: the folder.
        bytes_needed: how much will be written at least.

    Raises:
        UsageError: the folder, or one above it, is something else.
        StorageError: it cannot be written to, or its disk is too full.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise UsageError(f"{existing} is not a folder; name another place")
    if not os.access(existing, os.W_OK):
        raise StorageError(f"{existing} cannot be written to; check its permissions, or name another place")
    free = shutil.disk_usage(existing).free
    if free < bytes_needed:
        raise StorageError(
            f"{existing} has {free / 1e6:.1f} MB free, and {bytes_needed / 1e6:.1f} MB are needed at least; make room, "
            "or name another place"
        )


def cannot_be_written(target: Path, error: OSError) -> StorageError:
    """Return the error of a file that cannot be written."""
    return StorageError(f"{target} cannot be written ({error.strerror or error}); make room, or name another place")
