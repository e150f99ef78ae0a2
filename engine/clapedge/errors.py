"""Everything that clapedge raises on purpose: one tree, each class also the builtin that it specialises.

Every message says what was found and ends with what to do about it, so that a command line can print it as it is.
`exit_code` is the status with which the command line ends: 1 input, 2 usage, 3 bundle or model, 4 provider.
"""

from typing import ClassVar


class ClapEdgeError(Exception):
    """Base of every error that clapedge raises on purpose."""

    exit_code: ClassVar[int] = 1


class AudioError(ClapEdgeError, ValueError):
    """A recording cannot be used; the message names it."""


class AudioFileNotFoundError(AudioError, FileNotFoundError):
    """A path names no readable recording."""

    def __str__(self) -> str:
        """Return the message alone, without the errno decoration of OSError."""
        return str(self.args[0])


class AudioFormatError(AudioError):
    """The bytes are no audio that the installed decoders understand, or they are damaged."""


class AudioSpanError(AudioError):
    """The span asked for does not lie in the recording, or is longer than is allowed."""


class UsageError(ClapEdgeError, ValueError):
    """An option has a value that it cannot have."""

    exit_code: ClassVar[int] = 2


class StorageError(ClapEdgeError, OSError):
    """Results or embeddings cannot be written, or what was kept of them cannot be read back."""

    exit_code: ClassVar[int] = 2


class LabelError(UsageError):
    """A label set is empty, ambiguous or not understood."""


class BundleError(ClapEdgeError, ValueError):
    """A bundle is missing, damaged, or does not hold what was asked of it."""

    exit_code: ClassVar[int] = 3


class BundleNotFoundError(BundleError, FileNotFoundError):
    """No bundle lies where one was expected."""

    def __str__(self) -> str:
        """Return the message alone, without the errno decoration of OSError."""
        return str(self.args[0])


class BundleDamagedError(BundleError):
    """A file of a bundle is not the one that its manifest describes."""


class ModelError(ClapEdgeError, ValueError):
    """A checkpoint cannot be found, read or exported."""

    exit_code: ClassVar[int] = 3


class ParityError(ModelError):
    """An exported variant does not reproduce its reference within the written tolerance."""


class ProviderError(ClapEdgeError, RuntimeError):
    """An ONNX Runtime provider that was asked for cannot be honoured."""

    exit_code: ClassVar[int] = 4


class MissingExtraError(ClapEdgeError, ImportError):
    """A command needs packages of an extra that is not installed."""

    exit_code: ClassVar[int] = 2

    def __init__(self, what: str, extra: str) -> None:
        """Name what is wanted and the extra that brings it.

        Args:
            what: the thing that cannot be done, as the beginning of a sentence.
            extra: name of the extra in `pip install clapedge[extra]`.
        """
        super().__init__(f"{what} needs packages that are not installed; run: pip install 'clapedge[{extra}]'")


class ClapEdgeWarning(UserWarning):
    """Something that a user should know about how scores are made; said once."""
