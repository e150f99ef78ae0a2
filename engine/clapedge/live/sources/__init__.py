"""Where live sound comes from: the protocol of sources; one kind of source a module."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias

from clapedge.errors import AudioError

if TYPE_CHECKING:
    from clapedge.arrays import Float32Array

Frames: TypeAlias = "tuple[int, Float32Array]"
"""Sample rate in Hz, and (n, channels) float32 in ±1."""

BLOCK_SECONDS = 0.05
"""Seconds in one block at most: sound waits for so long until the block that holds it is full."""


class SourceLostError(AudioError):
    """A source that was there gives no sound any more, or cannot be opened now."""


class Source(Protocol):
    """A source of live sound.

    Attributes:
        name: what messages and records call it, without passwords.
        live: whether sound that is not read in time is lost; else the source waits.
        reopens: whether it can be opened again, as devices and servers can; a pipe cannot, but it can wait.
    """

    name: str
    live: ClassVar[bool]
    reopens: ClassVar[bool]

    def frames(self) -> Iterator[Frames]:
        """Open it and yield its sound as it comes.

        Raises:
            SourceLostError: it is lost, and may come back.
            AudioError: it cannot be used.
        """
        ...

    def notes(self) -> list[str]:
        """Return what went wrong so far, as sentences."""
        ...
