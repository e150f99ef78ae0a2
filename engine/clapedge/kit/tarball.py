"""A folder to a reproducible archive: names sorted, times and owners fixed."""

import gzip
import os
import tarfile
from pathlib import Path

from clapedge.atomic_file import atomic_write
from clapedge.errors import UsageError
from clapedge.model.bundle import sha256

EPOCH_VARIABLE = "SOURCE_DATE_EPOCH"
"""Environment variable with the time that reproducible builds write, in seconds since 1970."""

DEFAULT_EPOCH = 1_580_601_600
"""2020-02-02, which hatchling writes into wheels by default."""

COMPRESSION = 6
"""gzip's own default; wheels are compressed already, so that more would only cost time."""

CHECKSUMS = "SHA256SUMS"
"""Name of the list of every file with its SHA-256, as `sha256sum -c` reads it."""


def epoch() -> int:
    """Return the time that is written for everything in a kit, in seconds since 1970.

    Raises:
        UsageError: the environment variable is not a number of seconds.
    """
    value = os.environ.get(EPOCH_VARIABLE, str(DEFAULT_EPOCH))
    if not value.isdecimal():
        raise UsageError(f"{EPOCH_VARIABLE} is {value!r}; give seconds since 1970, or unset it")
    return int(value)


def files_of(directory: Path) -> list[Path]:
    """Return every file below a directory, in the order of the archive."""
    return sorted(
        (path for path in directory.rglob("*") if path.is_file()),
        key=lambda path: path.relative_to(directory).as_posix(),
    )


def write_checksums(directory: Path) -> None:
    """Write the list of every file of a kit, which the installer checks before it does anything."""
    lines = [f"{sha256(path)}  {path.relative_to(directory).as_posix()}\n" for path in files_of(directory)]
    (directory / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def write_archive(directory: Path, target: Path) -> str:
    """Write a folder as `.tar.gz`, with the folder's name at its root, atomically.

    Returns:
        The archive's SHA-256.

    Raises:
        StorageError: it cannot be written.
    """
    time = epoch()
    with atomic_write(target) as temporary:
        with (
            temporary.open("wb") as raw,
            gzip.GzipFile("", "wb", COMPRESSION, raw, mtime=time) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in files_of(directory):
                _add(archive, path, f"{directory.name}/{path.relative_to(directory).as_posix()}", time)
        return sha256(temporary)


def _add(archive: tarfile.TarFile, path: Path, name: str, time: int) -> None:
    """Add a file that belongs to root and is readable to all; scripts stay executable."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = path.stat().st_size, time
    entry.mode = 0o755 if path.suffix == ".sh" else 0o644
    with path.open("rb") as stream:
        archive.addfile(entry, stream)
