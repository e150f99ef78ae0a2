"""A wheel: a file, and the metadata in it; and one that is made anew of what was installed from it."""

import base64
import email.parser
import hashlib
import zipfile
from dataclasses import dataclass
from email.message import Message
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

from clapedge.errors import UsageError

ADDED = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"})
"""Files in the metadata of an installed distribution that an installer writes (PEP 376, 610)."""

OLDEST = (1980, 1, 1, 0, 0, 0)
"""The first date that a ZIP file can hold: the same files make the same wheel."""


@dataclass(frozen=True)
class Wheel:
    """A wheel and its metadata.

    Attributes:
        path: the file.
        metadata: its METADATA (core metadata, RFC 822).
    """

    path: Path
    metadata: Message

    @classmethod
    def read(cls, path: Path) -> "Wheel":
        """Read the metadata of a wheel.

        Raises:
            UsageError: it is not a wheel.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                inside = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
                metadata = email.parser.Parser().parsestr(archive.read(inside).decode("utf-8"))
        except StopIteration:
            raise UsageError(f"{path} is not a wheel (it has no METADATA); download it again") from None
        except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is not a wheel ({error}); download it again") from error
        return cls(path, metadata)

    @property
    def name(self) -> str:
        """Name of the distribution, as wheels' file names spell it (PEP 503)."""
        return canonicalize_name(str(self.metadata["Name"]))

    @property
    def version(self) -> str:
        """Version of the distribution."""
        return str(self.metadata["Version"])


def rebuild(name: str, directory: Path) -> Path | None:
    """Write the wheel that an installed distribution came from, of its files.

    Args:
        name: of the distribution.
        directory: where to write it.

    Returns:
        The wheel; None if the distribution is not installed, or its files lie elsewhere, as in development.

    Raises:
        UsageError: a file is not the one that was installed.
    """
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    files = [file for file in distribution.files or () if ".." not in file.parts and "__pycache__" not in file.parts]
    files = [file for file in files if not (file.parts[0].endswith(".dist-info") and file.name in ADDED)]
    if f"{name}/__init__.py" not in map(str, files):
        return None
    described = next(file.parts[0] for file in files if file.parts[0].endswith(".dist-info"))
    tags = email.parser.Parser().parsestr(distribution.read_text("WHEEL") or "").get_all("Tag", ["py3-none-any"])
    tag = "-".join(".".join(dict.fromkeys(parts)) for parts in zip(*(each.split("-") for each in tags), strict=True))
    path = directory / f"{described.removesuffix('.dist-info')}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        lines = []
        for file in sorted(files, key=str):
            data = Path(str(distribution.locate_file(file))).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            if file.hash and (file.hash.mode, file.hash.value) != ("sha256", digest):
                raise UsageError(f"{distribution.locate_file(file)} was changed; install {name} again")
            archive.writestr(_entry(str(file)), data)
            lines.append(f"{file},sha256={digest},{len(data)}\n")
        archive.writestr(_entry(f"{described}/RECORD"), "".join([*lines, f"{described}/RECORD,,\n"]))
    return path


def _entry(name: str) -> zipfile.ZipInfo:
    """Return an entry of a wheel, readable by all."""
    entry = zipfile.ZipInfo(name, OLDEST)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
    return entry
