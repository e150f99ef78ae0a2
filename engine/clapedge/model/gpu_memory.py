"""Copies to a GPU that let other threads run, and memory from which a GPU copies at the full speed of its bus.

ONNX Runtime's own way into a buffer (`update_inplace`) holds Python's lock for as long as the copy takes, and gives
Python no memory that is locked in place (pinned). CUDA's runtime does both; where it is not found, ONNX Runtime's way
is taken.
"""

import ctypes
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt

RUNTIMES = ("libcudart.so.13", "libcudart.so.12")
"""CUDA's runtime, as ONNX Runtime loads it on Linux."""

HOST_TO_DEVICE = 1
"""cudaMemcpyHostToDevice."""

LARGE_BYTES = 1 << 16
"""Rows from this size on are copied one by one from where they lie; smaller ones are joined first."""

LENT_ROWS = 40
"""Rows of pinned memory: one run of 32 and one of 8 that wait or run, 77 MB of samples."""


class CudaRuntime:
    """The CUDA runtime of this process, for the thread that runs sessions."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Declare the functions that are called; calling them lets other threads run."""
        self._copy, self._wait = library.cudaMemcpy, library.cudaStreamSynchronize
        self._pin, self._unpin = library.cudaHostRegister, library.cudaHostUnregister
        self._forget = library.cudaGetLastError
        self._copy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        self._wait.argtypes = self._unpin.argtypes = (ctypes.c_void_p,)
        self._pin.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint)

    @classmethod
    def loaded(cls) -> "CudaRuntime | None":
        """Return the runtime that ONNX Runtime loaded, or None where it is not found by its name."""
        if not hasattr(os, "RTLD_NOLOAD"):
            return None
        for name in RUNTIMES:
            with suppress(OSError, AttributeError):
                return cls(ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_LAZY))
        return None

    def copy(self, to: int, parts: Sequence[npt.NDArray[Any]]) -> None:
        """Copy contiguous arrays to an address on the GPU, one behind the other; return when they are there.

        Raises:
            RuntimeError: the GPU failed; in ONNX Runtime's words.
        """
        for part in parts:
            _raise_for(self._copy(to, part.ctypes.data, part.nbytes, HOST_TO_DEVICE), "cudaMemcpy")
            to += part.nbytes
        # of memory that is not pinned, cudaMemcpy returns when all of it is read, not when it has arrived
        _raise_for(self._wait(None), "cudaStreamSynchronize")

    def pin(self, memory: npt.NDArray[Any]) -> bool:
        """Lock memory in place; return False where the system refuses that."""
        refused = self._pin(memory.ctypes.data, memory.nbytes, 0)
        if refused:
            self._forget()  # else the next call of ONNX Runtime finds the error
        return not refused

    def unpin(self, memory: npt.NDArray[Any]) -> None:
        """Unlock it; what a lost GPU answers changes nothing."""
        self._unpin(memory.ctypes.data)


def _raise_for(code: int, call: str) -> None:
    """Raise what ONNX Runtime would for the answer of a call."""
    if code:
        raise RuntimeError(f"CUDA failure {code}: {call} failed")


class LentRows:
    """Pinned rows of one shape, lent to callers, who fill them while the GPU is busy with others."""

    def __init__(self, runtime: CudaRuntime | None, shape: tuple[int, ...]) -> None:
        """Pin the memory; without a runtime, or where the system refuses, nothing is lent."""
        self._runtime = runtime
        self._memory = np.empty((LENT_ROWS if runtime else 0, *shape), np.float32)
        self._pinned = runtime is not None and runtime.pin(self._memory)
        self._free = deque(range(len(self._memory)) if self._pinned else ())

    @contextmanager
    def copied(self, rows: npt.NDArray[Any]) -> Iterator[list[npt.NDArray[Any]]]:
        """Yield rows (N, ...) as parts, one behind the other: as many as there is room for lie in pinned memory."""
        taken: list[int] = []
        try:
            with suppress(IndexError):  # nothing left to lend
                while len(taken) < len(rows) and rows.shape[1:] == self._memory.shape[1:]:
                    taken.append(self._free.pop())
                    self._memory[taken[-1]] = rows[len(taken) - 1]
            rest = rows[len(taken) :]
            yield [*(self._memory[place : place + 1] for place in taken), *([rest] if len(rest) else [])]
        finally:
            self._free.extend(taken)

    def release(self) -> None:
        """Unlock the memory."""
        if self._runtime and self._pinned:
            self._pinned = False
            self._runtime.unpin(self._memory)
