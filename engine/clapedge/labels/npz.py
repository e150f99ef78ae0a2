"""Arrays of an untrusted `.npz` file: no pickles, and a limit of memory."""

import lzma
import math
import os
import zipfile
import zlib
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]

MAX_BYTES = 256 * 2**20
"""Of all arrays together, unpacked: 100,000 labels of 512 numbers; a larger file is a mistake or an attack."""

LONGEST_HEADER = 1024
"""Bytes of an array's header: `save` writes 118, and NumPy parses longer ones as a Python expression."""

DAMAGES = (EOFError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What zipfile raises for a damaged, encrypted or exotic archive."""


def read_arrays(path: str | os.PathLike[str]) -> Arrays:
    """Read every array of an `.npz` file.

    Raises:
        ValueError: it has another content; the message names it.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if sum(info.file_size for info in members) > MAX_BYTES:
                raise ValueError(f"it unpacks to more than {MAX_BYTES // 2**20} MiB")
            return {info.filename.removesuffix(".npy"): _array(archive, info) for info in members}
    except DAMAGES as error:
        raise ValueError("it is damaged, or not an .npz file") from error


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Read one array, whose size must be the same in the archive and in its header.

    Raises:
        ValueError: the sizes differ, or it is not an array of plain values.
    """
    with archive.open(info) as stream:
        try:
            shape, in_columns, dtype = _header(stream)
        except ValueError as error:
            raise ValueError(f"its array {info.filename!r} has no header that can be read") from error
        if dtype.hasobject:
            raise ValueError(f"its array {info.filename!r} has pickles, which could run any program")
        if stream.tell() + math.prod(shape) * dtype.itemsize != info.file_size:
            raise ValueError(f"its array {info.filename!r} is not as long as its header says")
        values: npt.NDArray[Any] = np.ndarray(shape, dtype, bytearray(stream.read()), order="F" if in_columns else "C")
    return values


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, Fortran order and type from a header of NumPy's format 1.0.

    Raises:
        ValueError: it is another format, or damaged.
    """
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("another version")
    shape, in_columns, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=LONGEST_HEADER)
    if any(size < 0 for size in shape):
        raise ValueError("a negative size")
    return shape, in_columns, dtype
