"""A bundle in a tar archive (`.tar`, `.tar.gz`): a kit of `clapedge bundle pack`, or a packed directory."""

import lzma
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from clapedge.errors import BundleDamagedError, BundleError, BundleNotFoundError
from clapedge.model.bundle import MANIFEST_NAME, BundleFile

DEPTH = 2
"""Folders above the manifest at most: a kit's has two, `NAME/bundle/manifest.json`."""

MAX_MEMBERS = 100_000
MAX_UNPACKED = 64 << 30
"""Limits of what is gone through for a bundle: a kit with the wheels of a GPU unpacks to 8 GB."""


class Archive:
    """A packed bundle. Nothing is unpacked but regular files that a manifest names, under the manifest's names."""

    def __init__(self, path: Path) -> None:
        """Use an archive."""
        self.path = path
        self._root = ""

    def manifest(self, *, limit: int) -> bytes:
        """Return the manifest, and remember where it lies.

        Raises:
            BundleNotFoundError: there is none.
            BundleDamagedError: there are several, one is too large, or the archive is damaged.
        """
        found: list[tuple[str, bytes]] = []
        with self._opened() as archive:
            for name, member, content in self._members(archive):
                parts = PurePosixPath(name).parts
                if parts[-1:] != (MANIFEST_NAME,) or len(parts) > DEPTH + 1:
                    continue
                if member.size > limit:
                    raise BundleDamagedError(f"{self.path} has a {name} of {member.size} bytes; do not use this bundle")
                found.append((name, content.read()))
        if not found:
            raise BundleNotFoundError(f"{self.path} holds no bundle (it has no {MANIFEST_NAME}); name another archive")
        if len(found) > 1:
            raise BundleDamagedError(f"{self.path} holds {len(found)} bundles; unpack it, and name a directory")
        self._root = found[0][0].removesuffix(MANIFEST_NAME)
        return found[0][1]

    def extract(self, files: Iterable[BundleFile], directory: Path) -> None:
        """Write files of the bundle into a directory, as far as the archive has them.

        Raises:
            BundleDamagedError: one has another size than the manifest says, or the archive is damaged.
            OSError: one cannot be written.
        """
        wanted = {f"{self._root}{file.path}": file for file in files}
        with self._opened() as archive:
            for name, member, content in self._members(archive):
                file = wanted.get(name)
                if file is None:
                    continue
                if member.size != file.bytes:
                    raise BundleDamagedError(
                        f"{file.path} in {self.path} has {member.size} bytes where the manifest says {file.bytes}; "
                        "get the archive again"
                    )
                target = directory / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as stream:
                    shutil.copyfileobj(content, stream)

    def _members(self, archive: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo, IO[bytes]]]:
        """Yield the regular files of the archive: name, entry and content."""
        for number, member in enumerate(archive):
            if number == MAX_MEMBERS or member.offset_data + member.size > MAX_UNPACKED:
                raise BundleDamagedError(f"{self.path} unpacks to too much; do not use this archive")
            content = archive.extractfile(member) if member.isreg() else None
            if content is not None:
                yield member.name.removeprefix("./"), member, content

    @contextmanager
    def _opened(self) -> Iterator[tarfile.TarFile]:
        """Open the archive; its damages are errors of ours, other errors of the system are not."""
        if not self.path.is_file():
            raise BundleNotFoundError(f"{self.path} does not exist, or is not a file; check the path")
        try:
            with tarfile.open(self.path, "r:*") as archive:
                yield archive
        except BundleError:  # some of them are OSErrors too
            raise
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # gzip and bz2 raise it without a number
                raise
            raise BundleDamagedError(
                f"{self.path} cannot be read: it is damaged, or not a .tar or .tar.gz; get it again"
            ) from error
