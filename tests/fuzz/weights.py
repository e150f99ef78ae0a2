"""Reads damaged files of weights as the exporter does, and reports whatever a file makes the program do."""

import codecs
import contextlib
import functools
import os
import pickle
import sys
import tempfile
import zipfile
from pathlib import Path

import torch

from clapedge.errors import ModelError

LEGACY_START = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""How a file of PyTorch's format before 1.6 begins, after the protocol of its first pickle."""

STORAGE = bytes(range(256)) * 4
"""Content of the storage `0` in an archive around a damaged pickle."""

HARMFUL = ("compile", "ctypes", "exec", "import", "os.", "pickle", "shutil.", "socket.", "subprocess.")
"""Starts of the names of audit events that reading a file of weights has no reason for."""


class Attack:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Name the function to call."""
        return os.system, ("exit 0",)


_events: list[str] = []
"""What has happened while a file is read."""


@functools.cache
def _watch() -> None:
    """Record harmful audit events from now on; what is imported at the first reading of a file is imported before."""
    from clapedge_export.torch_file import read_tensors

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "weights.pt"
        file.write_bytes(archive(hostile_pickle(2)))
        with contextlib.suppress(ModelError):
            read_tensors(file)
        torch.save({"weight": torch.ones(2)}, file)
        read_tensors(file)
    codecs.lookup("raw-unicode-escape")  # Python's own module, in which texts of protocol 0 are written
    sys.addaudithook(_listen)


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    written = event == "open" and "w" in str(arguments[1:2])
    if written or event.startswith(HARMFUL):
        _events.append(event)


def archive(content: bytes) -> bytes:
    """Return a file as `torch.save` writes it around a pickle."""
    with tempfile.SpooledTemporaryFile() as file:
        with zipfile.ZipFile(file, "w") as written:
            written.writestr("small/data.pkl", content)
            written.writestr("small/data/0", STORAGE)
        file.seek(0)
        return file.read()


def read_as_the_exporter_would(data: bytes, _: int) -> str:
    """Read a damaged pickle in a whole archive, or a damaged file; return the outcome."""
    from clapedge_export import torch_file

    _watch()
    whole = data[:2] == b"PK" or LEGACY_START in data[:32]
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "weights.pt"
        file.write_bytes(data if whole else archive(data))
        _events.clear()
        try:
            tensors = torch_file.read_tensors(file)
            # whatever lies outside of the file's storages would be read, and crash
            [tensor.double().sum() for tensor in tensors.values()]
            outcome = "ok"
        except ModelError:
            outcome = "ModelError"
        happened = sorted(set(_events))
    return f"EXECUTED {', '.join(happened)}" if happened else outcome


def hostile_pickle(protocol: int) -> bytes:
    """Return a pickle that would run a command, beside numbers."""
    return pickle.dumps({"state_dict": {"a": Attack(), "b": [1.5, "text", (1, 2)]}, "epoch": 3}, protocol)
