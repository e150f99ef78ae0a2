"""Files that appear whole or not at all, and whose places are looked at before the work begins."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clapedge.errors import ClapEdgeError, StorageError, UsageError


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield the name under which a file is written; it takes the target's when the block ends, and else is deleted.

    Raises:
        StorageError: it cannot be written.
    """
    temporary = target.with_name(f"{target.name}.tmp")
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
    """Refuse a file that could not be written, or that would replace another one.

    Args:
        target: the file; a device or a pipe is taken as it is.
        force: whether it may replace a file.

    Raises:
        UsageError: there is a file already, or a folder, or no folder to hold it.
        StorageError: its folder cannot be written to.
    """
    if target.is_file() and not force:
        raise UsageError(f"{target} exists; replace it with --force, or name another file")
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
    """Return the error of a file that the system does not let one write."""
    return StorageError(f"{target} cannot be written ({error.strerror or error}); make room, or name another place")
