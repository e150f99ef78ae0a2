"""Where a recording comes from: a path, bytes or a file object, as one seekable view for every decoder.

Decoders see no file name, so that the same bytes give the same samples wherever they come from.
"""

import io
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from clapedge.errors import AudioError, AudioFileNotFoundError, AudioFormatError, UsageError
from clapedge.terminal import printable, record_name

AudioSource: TypeAlias = (
    str | os.PathLike[str] | bytes | BinaryIO | npt.NDArray[np.generic] | tuple[npt.NDArray[np.generic], int]
)

SPOOL_BYTES = 32 * 2**20
"""A stream without seeking is kept in memory up to this, and beyond it in a temporary file."""

LONGEST_STREAM_BYTES = 8 * 2**30
"""A longer stream (8 GiB, 12 hours of 24-bit 96 kHz stereo) is taken for endless."""

AHEAD_BYTES = 2**16
"""Read at once, because decoders ask for a few bytes at a time: an MP3 decoder for every frame's header."""

TAG_BYTES = 128
"""At the end of a file an MP3 decoder looks for a tag (ID3v1), and gives up if it cannot."""


class ByteView:
    """A seekable file as a decoder sees it: read errors become its end, because a callback from C cannot raise.

    Attributes:
        size: bytes in the file.
        length: bytes that the decoder sees; may differ from the real number.
        failure: the error that ended reading, or None.
    """

    def __init__(self, file: BinaryIO) -> None:
        """View a file from its first byte; closing it stays with its owner."""
        self._file = file
        self.size = self.length = file.seek(0, os.SEEK_END)
        self._position = 0
        self._mask: tuple[int, bytes] = (0, b"")
        self._patches: list[tuple[int, bytes]] = []
        self._ahead = b""
        self._ahead_from = 0
        self.failure: OSError | None = None
        self._until: float | None = None

    @property
    def exhausted(self) -> bool:
        """Whether the processor time that was allowed has passed."""
        return self._until is not None and time.thread_time() > self._until

    def allow(self, seconds: float | None) -> None:
        """Show the end of the file once so many seconds of processor time have passed; None ends that limit.

        Decoders cannot be interrupted, but they return to their caller for every 64 kB.
        """
        self._until = None if seconds is None else time.thread_time() + seconds

    def pretend(self, *, length: int, patch: tuple[int, bytes] = (0, b"")) -> None:
        """Show another length and other bytes at one position: for headers that keep a decoder from reading on.

        Args:
            length: bytes in all. Beyond the real end nothing can be read, except zeros for the last `TAG_BYTES`.
            patch: an offset and the bytes to be read there.
        """
        self.length = length
        self._mask = patch
        self._ahead = b""

    def patch(self, offset: int, data: bytes) -> None:
        """Show other bytes at an offset from now on, whatever length is pretended: for headers that are wrong."""
        self._patches.append((offset, data))
        self._ahead = b""

    def cut(self, size: int) -> None:
        """Show nothing from an offset on: for files in which another recording follows."""
        self.size = self.length = min(size, self.size)
        self._ahead = b""

    def peek(self, offset: int, count: int) -> bytes:
        """Return up to `count` real bytes from `offset`, without moving."""
        try:
            self._file.seek(offset)
            return self._file.read(max(0, min(count, self.size - offset)))
        except OSError as error:
            self.failure = error
            return b""

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes, none at the end."""
        room = max(0, self.length - self._position)
        count = room if count < 0 else min(count, room)
        at = self._position - self._ahead_from
        if at < 0 or at + count > len(self._ahead):
            self._ahead, self._ahead_from, at = self._fetched(max(count, AHEAD_BYTES)), self._position, 0
        data = self._ahead[at : at + count]
        self._position += len(data)
        return data

    def readinto(self, buffer: bytearray) -> int:
        """Fill a buffer with the next bytes and return their number."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position, never to before the beginning, and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.length}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def _fetched(self, count: int) -> bytes:
        """Return up to `count` bytes from the current position, with patch and pretended tail."""
        if self.exhausted:
            return b""
        if self.size <= self.length - TAG_BYTES <= self._position:
            return bytes(max(0, self.length - self._position))
        data = self.peek(self._position, count)
        for offset, patch in (*self._patches, self._mask):
            at = offset - self._position
            low, high = max(0, at), min(len(data), at + len(patch))
            if low < high:
                data = data[:low] + patch[low - at : high - at] + data[high:]
        return data


def source_name(source: object) -> str:
    """Return what records call a source: its path, see `record_name`, else what kind of thing it is."""
    if isinstance(source, (str, os.PathLike)):
        return record_name(source)
    if isinstance(source, (np.ndarray, tuple)):
        return "array"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "bytes"
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "stream"


def shown_name(source: object) -> str:
    """Return the name of a source as a message shows it: on one line, whatever the path holds."""
    return printable(source_name(source))


@contextmanager
def open_source(source: AudioSource) -> Iterator[ByteView]:
    """Open a path, bytes or a binary file object as a view; a file object stays open afterwards.

    Raises:
        AudioFileNotFoundError: the path names no file.
        AudioError: it cannot be read, or is empty; on leaving, it could not be read to its end.
        UsageError: it is of another type, or closed.
    """
    name = shown_name(source)
    with _opened_file(source, name) as file:
        view = _view(file, name)
        try:
            yield view
        except AudioError:
            if view.failure is None:
                raise
        if view.failure is not None:  # decoders took it for the end, or for damage
            raise AudioError(
                f"{name} cannot be read to its end ({view.failure.strerror or view.failure}); copy it again"
            ) from view.failure


@contextmanager
def _opened_file(source: AudioSource, name: str) -> Iterator[BinaryIO]:
    """Yield a source as a file object, closed afterwards unless it was one."""
    if isinstance(source, (str, os.PathLike)):
        with _open_path(source, name) as file:
            yield file
    elif isinstance(source, (bytes, bytearray, memoryview)):
        yield io.BytesIO(bytes(source))
    elif not isinstance(source, (np.ndarray, tuple)) and hasattr(source, "read"):
        yield source
    else:
        raise UsageError(
            f"{type(source).__name__} is not a recording; give a path, bytes, a binary file object or an array"
        )


def _open_path(path: str | os.PathLike[str], name: str) -> BinaryIO:
    """Open the file of a path."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - Path would change what the message quotes
        if not stat.S_ISDIR(mode) and not stat.S_ISCHR(mode) and not stat.S_ISBLK(mode):
            return open(path, "rb")  # noqa: PTH123 - the caller closes it
    except (FileNotFoundError, NotADirectoryError):
        raise AudioFileNotFoundError(f"{name} does not exist; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{name} cannot be read ({reason}); check the path and its permissions") from error
    if stat.S_ISDIR(mode):
        raise AudioError(f"{name} is a directory; name the recordings in it, or score all of it with: clapedge batch")
    raise AudioError(f"{name} is a device, not a recording; record from it into a file first")


def _view(file: BinaryIO, name: str) -> ByteView:
    """View a file, after copying it if it cannot seek."""
    if getattr(file, "closed", False):
        raise UsageError(f"{name} is closed; give a file object that is open")
    try:
        view = ByteView(file if _is_seekable(file) else _spooled(file, name))
    except OSError as error:
        raise AudioError(f"{name} cannot be read ({error}); send or copy it again") from error
    if view.size == 0:
        raise AudioFormatError(f"{name} is empty (0 bytes); record, copy or send it again")
    return view


def _is_seekable(file: object) -> bool:
    """Return whether a file can seek; without `seekable` it is assumed if it has `seek`."""
    if isinstance(file, io.TextIOBase):
        raise UsageError("a file object gives text; open it in binary mode")
    seekable = getattr(file, "seekable", None)
    return bool(seekable()) if callable(seekable) else hasattr(file, "seek")


def _spooled(stream: BinaryIO, name: str) -> BinaryIO:
    """Copy a stream into memory, or into a temporary file if it is large."""
    copy: BinaryIO = io.BytesIO()
    size = 0
    while (chunk := stream.read(2**20)) != b"":
        if not isinstance(chunk, bytes):  # None comes from a stream that does not block
            raise UsageError(f"{name} gives {type(chunk).__name__}; open it in binary mode, as a stream that blocks")
        if size <= SPOOL_BYTES < size + len(chunk):
            copy = _on_disk(copy)
        size += copy.write(chunk)
        if size > LONGEST_STREAM_BYTES:
            raise AudioError(f"{name} has not ended after {size / 2**30:.0f} GiB; send a recording that ends")
    return copy


def _on_disk(copy: BinaryIO) -> BinaryIO:
    """Move a copy from memory into a temporary file, which is deleted when it is closed."""
    file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as its view
    copy.seek(0)
    while chunk := copy.read(2**20):
        file.write(chunk)
    return file
