"""Tensors of a file that `torch.save` wrote: from PyTorch 1.6 on a zip archive, before that consecutive pickles.

Only the tensors that are asked for are read, never the state of an optimizer beside them, and nothing in the file is
run: see `pickle_machine`. Sources of the formats: `torch/serialization.py` and `torch/_utils.py` of PyTorch 2.13.
"""

import io
import math
import mmap
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import torch
from torch import Tensor

from clapedge.errors import ModelError
from clapedge_export.pickle_machine import Unknown, plain_dict, read_pickle
from clapedge_export.quiet import first_line, quiet

MAX_PICKLE = 2**25
"""Most bytes of the pickle in an archive; that of a CLAP with the state of its optimizer has about half a million."""

MAX_DIMENSIONS = 8
"""Most dimensions of a tensor; those of CLAP have up to 4."""

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""First value of a file that is not an archive (`MAGIC_NUMBER` of PyTorch)."""

DTYPES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Float": torch.float32,
        "Double": torch.float64,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
"""Types of numbers by the class of storage that a file names."""

COUNT_BYTES = 8
"""Bytes before each storage of a file that is not an archive."""

DAMAGED = (ValueError, TypeError, EOFError, OSError, LookupError, RuntimeError, zipfile.BadZipFile)
"""Errors that a damaged archive raises; an encrypted or compressed entry is a RuntimeError of `zipfile`."""


@dataclass(frozen=True)
class Storage:
    """Numbers in a file.

    Attributes:
        key: names them in the file.
        dtype: their type.
        count: how many there are.
    """

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is not read yet: a view of a storage, in elements; every one of them lies within it."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name: those of its `state_dict` if it has one, else those at its top.

    Raises:
        ModelError: it is damaged, in another format, or holds no tensors.
    """
    try:
        with file.open("rb") as opened:
            read = _read_archive if opened.read(4) == b"PK\x03\x04" else _read_pickles
        return read(file)
    except DAMAGED as error:
        raise ModelError(
            f"{file} is not a file of weights, or is damaged ({first_line(error)}); download it again (only tensors "
            "are read, never code)"
        ) from error


def _read_archive(file: Path) -> dict[str, Tensor]:
    """Read the format that `torch.save` has written since PyTorch 1.6."""
    left = file.stat().st_size
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
        if len(roots) != 1 or entries[f"{roots[0]}data.pkl"].file_size > MAX_PICKLE:
            raise ValueError(f"it has {len(roots)} entries data.pkl of at most {MAX_PICKLE >> 20} MiB instead of one")
        if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
            raise ValueError("it is compressed, which PyTorch never does")
        if f"{roots[0]}byteorder" in entries and archive.read(f"{roots[0]}byteorder") != b"little":
            raise ValueError("its numbers are big-endian")
        content = read_pickle(io.BytesIO(archive.read(f"{roots[0]}data.pkl")), NAMES, _storage)

        def load(storage: Storage) -> bytes:
            nonlocal left
            info = entries[f"{roots[0]}data/{storage.key}"]
            left -= info.file_size
            if left < 0:
                raise ValueError("its entries overlap")
            return archive.read(info)  # checks the entry's CRC

        return _load(_stored(content, file), load)


def _read_pickles(file: Path) -> dict[str, Tensor]:
    """Read the format of PyTorch before 1.6: magic number, version, machine, content, keys of storages, and these."""
    storages: dict[str, Storage] = {}

    def resolve(identity: object) -> object:
        storage = _storage(identity)
        if isinstance(storage, Storage):
            storages[storage.key] = storage
        return storage

    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        stream = cast("IO[bytes]", content)
        if read_pickle(stream, {}, resolve) != LEGACY_MAGIC:
            raise ValueError("PyTorch did not write it")
        _, machine, saved, keys = (read_pickle(stream, NAMES, resolve) for _ in range(4))
        if type(machine) is not dict or machine.get("little_endian") is not True:
            raise ValueError("its numbers are big-endian")
        starts: dict[str, int] = {}
        for key in keys:
            # each storage is preceded by its count of numbers
            starts[key] = content.tell() + COUNT_BYTES
            content.seek(starts[key] + _bytes(storages[key]))

        def load(storage: Storage) -> bytes:
            return content[starts[storage.key] : starts[storage.key] + _bytes(storage)]

        return _load(_stored(saved, file), load)


def _stored(content: object, file: Path) -> dict[str, StoredTensor]:
    """Return the tensors among what a file holds, by name.

    Raises:
        ModelError: there are none.
    """
    if type(content) is dict and type(content.get("state_dict")) is dict:
        content = content["state_dict"]
    if type(content) is not dict:
        kind = content.name[:80] if isinstance(content, Unknown) else type(content).__name__
        raise ModelError(f"{file} holds a {kind} instead of named tensors; give a checkpoint of CLAP")
    stored = {key: value for key, value in content.items() if type(key) is str and isinstance(value, StoredTensor)}
    if not stored:
        raise ModelError(f"{file} holds no tensors; give a checkpoint of CLAP (only tensors are read, never code)")
    return stored


def _load(stored: dict[str, StoredTensor], load: Callable[[Storage], bytes]) -> dict[str, Tensor]:
    """Read tensors; those of one storage share its memory."""
    found: dict[Storage, Tensor] = {}
    tensors = {}
    with quiet():  # PyTorch warns of memory that cannot be written, which nothing does
        for name, one in stored.items():
            storage = one.storage
            if storage.count == 0:
                tensors[name] = torch.empty(one.size, dtype=storage.dtype)
                continue
            if storage not in found:
                found[storage] = torch.frombuffer(load(storage), dtype=storage.dtype, count=storage.count)
            tensors[name] = found[storage].as_strided(one.size, one.stride, one.offset)
    return tensors


def _bytes(storage: Storage) -> int:
    return storage.count * storage.dtype.itemsize


def _storage(identity: object) -> object:
    """Return the storage that a persistent id describes: kind, type, key, device, count and, in old files, a view."""
    if type(identity) is not tuple or len(identity) not in (5, 6) or any(identity[5:]):
        return Unknown()
    kind, dtype, key, _, count = identity[:5]
    if kind != "storage" or not isinstance(dtype, torch.dtype) or type(key) is not str:
        return Unknown()
    if not _natural(count):
        raise ValueError("the size of a storage is not a number")
    return Storage(key, dtype, count)


def _tensor(storage: object, offset: object, size: object, stride: object, *_: object) -> object:
    """Return a tensor as `torch._utils._rebuild_tensor_v2` does, within its storage."""
    if not isinstance(storage, Storage):
        return Unknown("torch.Tensor")
    if type(size) is not tuple or type(stride) is not tuple or not len(size) == len(stride) <= MAX_DIMENSIONS:
        raise ValueError("the shape of a tensor is damaged")
    if not all(map(_natural, (offset, *size, *stride))):
        raise ValueError("the shape of a tensor is damaged")
    start = cast("int", offset)
    last = start + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if math.prod(size) > storage.count or (0 not in size and last >= storage.count):
        raise ValueError("a tensor reaches beyond its storage")
    return StoredTensor(storage, start, size, stride)


def _parameter(data: object, *_: object) -> object:
    """Return the tensor of a parameter."""
    return data


def _ordered(*items: object) -> object:
    """Return a dictionary; old files state its items as a list of pairs."""
    pairs = items[0] if items and type(items[0]) is list else []
    return plain_dict([value for pair in pairs if type(pair) in (list, tuple) for value in pair[:2]])


def _natural(value: object) -> bool:
    """Return whether a value is an integer of at least 0 that a size in memory may be."""
    return type(value) is int and 0 <= value < 2**48


NAMES: dict[str, object] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    **DTYPES,
}
"""All that a file may name; anything else becomes a stand-in."""
