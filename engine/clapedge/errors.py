"""The errors of clapedge: one tree, each class also a subclass of the builtin that it specialises.

Every message names what was found and ends with what to do about it, so that a command line can print it as it is.
`exit_code` is the exit status of the command line: 1 input, 2 usage, 3 bundle or model, 4 provider.
"""

from typing import ClassVar


class ClapEdgeError(Exception):
    """Base of every error that clapedge raises."""

    exit_code: ClassVar[int] = 1


class _NotFoundError(FileNotFoundError):
    """A file is missing; the text of the error is its message alone, without the errno decoration of OSError."""

    def __str__(self) -> str:
        """Return the message."""
        return str(self.args[0])


class AudioError(ClapEdgeError, ValueError):
    """A recording cannot be used; the message names it."""


class AudioFileNotFoundError(AudioError, _NotFoundError):
    """A path names no readable recording."""


class AudioFormatError(AudioError):
    """The bytes are damaged, or not audio that the installed decoders understand."""


class AudioSpanError(AudioError):
    """The requested span is not in the recording, or is longer than is allowed."""


class UsageError(ClapEdgeError, ValueError):
    """An option has an impossible value."""

    exit_code: ClassVar[int] = 2


class StorageError(ClapEdgeError, OSError):
    """Results or embeddings cannot be written, or stored ones cannot be read."""

    exit_code: ClassVar[int] = 2


class LabelError(UsageError):
    """A label set is empty, ambiguous or not understood."""


class BundleError(ClapEdgeError, ValueError):
    """A bundle is missing, damaged, or lacks a requested part."""

    exit_code: ClassVar[int] = 3


class BundleNotFoundError(BundleError, _NotFoundError):
    """There is no bundle at the given place."""


class BundleDamagedError(BundleError):
    """A file of a bundle is not the one that its manifest describes."""


class ModelError(ClapEdgeError, ValueError):
    """A checkpoint cannot be found, read or exported."""

    exit_code: ClassVar[int] = 3


class ParityError(ModelError):
    """An exported variant does not reproduce its reference within the written tolerance."""


class ProviderError(ClapEdgeError, RuntimeError):
    """The requested ONNX Runtime provider cannot be used."""

    exit_code: ClassVar[int] = 4


class GpuMemoryError(ProviderError, MemoryError):
    """The memory of the GPU is full; what was opened before goes on working."""


class GpuLostError(ProviderError):
    """The GPU failed in a way after which no work of this process on it succeeds: only a new process may use it."""


class MissingExtraError(ClapEdgeError, ImportError):
    """A command needs packages of an extra that is not installed."""

    exit_code: ClassVar[int] = 2

    def __init__(self, what: str, extra: str) -> None:
        """Name the feature and its extra.

        Args:
            what: the feature, as the beginning of a sentence.
            extra: name of the extra in `pip install clapedge[extra]`.
        """
        super().__init__(f"{what} needs packages that are not installed; run: pip install 'clapedge[{extra}]'")


class ClapEdgeWarning(UserWarning):
    """Something that a user should know about scores, or a misuse of the library."""


class ProviderWarning(ClapEdgeWarning):
    """Something that a user should know about the provider."""
