"""A bundle from elsewhere into a directory: fetched, checked, and only then in its place."""

import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from clapedge import cache_dir
from clapedge.atomic_file import cannot_be_written, check_folder
from clapedge.errors import BundleDamagedError, BundleError, ClapEdgeError, UsageError
from clapedge.model.bundle import MANIFEST_NAME, Bundle, BundleFile, Variant, fault_of, parse_manifest, write_manifest
from clapedge.model.bundle import sha256 as file_sha256
from clapedge.model.transfer.archive import Archive
from clapedge.model.transfer.download import Download, check_scheme
from clapedge.model.transfer.hub import PREFIX, Repository
from clapedge.model.transfer.placement import check_place, take_place
from clapedge.model.transfer.selection import select_files

if sys.platform != "win32":
    import fcntl

log = logging.getLogger(__name__)

MAX_MANIFEST = 4 << 20
"""Bytes of a manifest: that of a bundle with a thousand label sets has 300 kB."""

MAX_BYTES = 32 << 30
"""Bytes of a bundle or of an archive: the largest published model has 2.5 GB in all precisions."""


class Source(Protocol):
    """Where a bundle comes from."""

    def manifest(self, scratch: Path) -> bytes:
        """Return the manifest; `scratch` is a directory that a later run finds again."""
        ...

    def fetch(self, files: Sequence[BundleFile], directory: Path) -> None:
        """Write files into a directory, each checked; those that are there and right are kept."""
        ...


@dataclass(frozen=True)
class Listing:
    """What would be fetched.

    Attributes:
        model: model id of the bundle.
        chosen: the files that would be fetched.
        left_out: the others.
    """

    model: str
    chosen: tuple[BundleFile, ...]
    left_out: tuple[BundleFile, ...]


def pull(
    source: str,
    output: Path | None = None,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    variants: Sequence[Variant] = (),
    text: bool = True,
    force: bool = False,
) -> Bundle:
    """Fetch a bundle; what breaks off is resumed by the next call. The steps are logged.

    Args:
        source: `hf:ORG/NAME`, the https URL of a packed bundle, or the path of one.
        output: the directory; None keeps a repository of the hub where `Engine.load("hf:ORG/NAME")` finds it.
        revision: branch, tag or commit of a repository.
        sha256: of an archive, which is refused if it has another.
        variants: of the audio tower; none means all.
        text: whether to take the text tower, where there is one.
        force: whether to replace a bundle at `output`.

    Raises:
        BundleError: the bundle cannot be had, is damaged, or lacks a variant; nothing of it appears at `output`.
        UsageError: the source is none, or `output` is in use.
        StorageError: it cannot be written.
    """
    opened = _open(source, revision=revision, sha256=sha256)
    place = _place(source, revision) if output is None else output.absolute()
    check_place(place, force=force or output is None)
    scratch = place.with_name(f".{place.name}.pull")
    fresh = scratch / "bundle"
    try:
        fresh.mkdir(parents=True, exist_ok=True)
        bundle = Bundle(fresh, parse_manifest(opened.manifest(scratch), Path(source, MANIFEST_NAME)))
        chosen = select_files(bundle, variants=variants, text=text)
        _check_size(source, chosen, place)
        opened.fetch(chosen, fresh)
        _remove_others(fresh, chosen)
        write_manifest(fresh, msgspec.structs.replace(bundle.manifest, files=chosen))
        take_place(fresh, place)
    except OSError as error:
        if isinstance(error, ClapEdgeError):  # some of them are OSErrors too
            raise
        raise cannot_be_written(place, error) from error
    shutil.rmtree(scratch, ignore_errors=True)
    log.info("%s is at %s", source, place)
    return Bundle.open(place)


def listing(
    source: str,
    scratch: Path,
    *,
    revision: str | None = None,
    variants: Sequence[Variant] = (),
    text: bool = True,
) -> Listing:
    """Return what `pull` would fetch; of an archive behind a URL, all of it has to be downloaded for that.

    Args:
        source: see `pull`.
        scratch: a directory for what has to be downloaded.
        revision: see `pull`.
        variants: see `pull`.
        text: see `pull`.

    Raises:
        BundleError: the bundle cannot be had, is damaged, or lacks a variant.
    """
    raw = _open(source, revision=revision, sha256=None).manifest(scratch)
    bundle = Bundle(Path(source), parse_manifest(raw, Path(source, MANIFEST_NAME)))
    chosen = select_files(bundle, variants=variants, text=text)
    left_out = tuple(file for file in bundle.manifest.files if file not in chosen)
    return Listing(bundle.manifest.model, chosen, left_out)


def kept_copy(source: str) -> Path:
    """Return the directory of a repository's bundle, which is fetched the first time alone.

    Later calls need no network; `pull` brings the copy up to date.

    Args:
        source: `hf:ORG/NAME` or `hf:ORG/NAME@REVISION`.

    Raises:
        BundleError: there is no copy yet, and the bundle cannot be had.
    """
    place = _place(source, None)
    if not (place / MANIFEST_NAME).is_file():
        with _alone(place):
            if not (place / MANIFEST_NAME).is_file():  # another process may have been quicker
                log.info("%s is not on this machine yet", source)
                pull(source)
    return place


class _HubSource:
    """A repository of the hub, whose files are fetched one by one."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def manifest(self, scratch: Path) -> bytes:
        """Fetch the manifest, and stay at its commit."""
        self._repository = self._repository.pinned()
        target = scratch / MANIFEST_NAME
        target.with_name(f"{target.name}.part").unlink(missing_ok=True)  # perhaps of another commit
        self._repository.download(MANIFEST_NAME, size=None, limit=MAX_MANIFEST).fetch(target)
        return target.read_bytes()

    def fetch(self, files: Sequence[BundleFile], directory: Path) -> None:
        """Fetch the files that are missing."""
        for file in files:
            if fault_of(directory, file):
                log.info("fetching %s, %.1f MB", file.path, file.bytes / 1e6)
                self._fetch(file, directory)

    def _fetch(self, file: BundleFile, directory: Path) -> None:
        """Fetch a file; one that began with what an earlier run left is fetched anew where it is not right."""
        target = directory / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        download = self._repository.download(file.path, size=file.bytes, limit=file.bytes)
        begun = target.with_name(f"{target.name}.part").exists()
        download.fetch(target)
        if begun and fault_of(directory, file):
            target.unlink()
            download.fetch(target)
        _check(file, directory, f"{self._repository}")


class _ArchiveSource:
    """An archive on disk, or behind a URL."""

    def __init__(self, source: str, *, sha256: str | None) -> None:
        self._source, self._sha256 = source, sha256
        self._archive = Archive(Path(source))

    def manifest(self, scratch: Path) -> bytes:
        """Read the manifest; an archive behind a URL is downloaded for that."""
        if "://" in self._source:
            download, target = Download(url=self._source, limit=MAX_BYTES), scratch / "archive"
            check_scheme(self._source)
            log.info("fetching %s", download.name)
            download.fetch(target)
            self._archive = Archive(target)
        try:
            self._check_archive()
            return self._archive.manifest(limit=MAX_MANIFEST)
        except BundleDamagedError:
            if "://" in self._source:  # perhaps two halves of different files
                self._archive.path.unlink(missing_ok=True)
            raise

    def fetch(self, files: Sequence[BundleFile], directory: Path) -> None:
        """Unpack the files."""
        self._archive.extract(files, directory)
        for file in files:
            _check(file, directory, self._source)

    def _check_archive(self) -> None:
        """Raise if the archive is not the one that was asked for."""
        if self._sha256 is None:
            return
        found = file_sha256(self._archive.path)
        if found != self._sha256.lower():
            raise BundleDamagedError(f"{self._source} has SHA-256 {found}, not {self._sha256}; get it again")


def _open(source: str, *, revision: str | None, sha256: str | None) -> Source:
    """Return the source of a name."""
    if source.startswith(PREFIX):
        if sha256 is not None:
            raise UsageError(f"{source} is not an archive, so sha256 does not apply; name a commit as its revision")
        return _HubSource(Repository.parse(source, revision=revision))
    if revision is not None:
        raise UsageError(f"{source} has no revisions; leave revision out")
    return _ArchiveSource(source, sha256=sha256)


def _place(source: str, revision: str | None) -> Path:
    """Return where the bundle of a repository is kept."""
    if not source.startswith(PREFIX):
        raise UsageError(f'where to put {source}? Name a directory: output="DIR"')
    repository = Repository.parse(source, revision=revision)
    cache = cache_dir.default_directory()
    if cache is None:
        raise BundleError(
            f"{cache_dir.CACHE_VARIABLE} turns the cache off, where {source} would be kept; set it, or pull into a "
            f"directory: clapedge bundle pull {source} -o DIR"
        )
    name, revision = (text.replace("/", "--") for text in (repository.name, repository.revision))
    return cache / "bundles" / name / revision


def _check_size(source: str, chosen: Sequence[BundleFile], place: Path) -> None:
    """Raise if a bundle is too large, for this project or for the disk."""
    size = sum(file.bytes for file in chosen)
    if size > MAX_BYTES:
        raise BundleError(f"{source} has {size / 1e9:.1f} GB, more than {MAX_BYTES / 1e9:.1f}; it is not a bundle")
    check_folder(place.parent, bytes_needed=size)


def _check(file: BundleFile, directory: Path, source: str) -> None:
    """Raise if a fetched file is not what the manifest says, and remove it."""
    fault = fault_of(directory, file)
    if fault:
        (directory / file.path).unlink(missing_ok=True)
        raise BundleDamagedError(f"{file.path} of {source} {fault}; run it again, or have the bundle pushed again")


def _remove_others(directory: Path, chosen: Sequence[BundleFile]) -> None:
    """Remove what an earlier call left of other parts."""
    paths = {directory / file.path for file in chosen}
    for path in directory.rglob("*"):
        if path.is_file() and path not in paths:
            path.unlink()


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Wait until no other process fetches to the same place."""
    lock = place.with_name(f".{place.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        stream = lock.open("w")
    except OSError as error:
        raise cannot_be_written(place, error) from error
    with stream:
        if sys.platform != "win32":
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
