"""A wheel: a file, and the metadata in it."""

import email.parser
import zipfile
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from packaging.utils import canonicalize_name

from clapedge.errors import UsageError


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
