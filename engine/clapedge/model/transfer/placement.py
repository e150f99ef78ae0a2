"""Where a bundle goes: a directory that appears whole or not at all."""

import shutil
from pathlib import Path

from clapedge.errors import UsageError
from clapedge.model.bundle import MANIFEST_NAME


def check_place(out: Path, *, force: bool) -> None:
    """Raise if a directory is in use, or is not a bundle; to be called before any work is done.

    Args:
        out: where a bundle is to appear.
        force: whether it may replace a bundle.

    Raises:
        UsageError: it is something else, or a bundle that is to stay.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UsageError(f"{out} is not a directory; name another")
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / MANIFEST_NAME).is_file():
        raise UsageError(f"{out} holds something else than a bundle; name another directory")
    if not force:
        raise UsageError(f"{out} holds a bundle already; replace it with force=True, or name another directory")


def take_place(fresh: Path, out: Path) -> None:
    """Move a finished directory to its place; what was there comes back where that fails.

    Args:
        fresh: the directory, on the same disk.
        out: its place.

    Raises:
        OSError: it cannot be moved.
    """
    old = fresh.with_name(f"{fresh.name}.old")
    if out.exists():
        out.rename(old)
    try:
        fresh.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
