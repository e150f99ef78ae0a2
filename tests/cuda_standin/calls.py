"""The log of the stand-ins, read as counts of what ONNX Runtime asked NVIDIA's libraries for."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, TypeAlias

Call: TypeAlias = dict[str, Any]
"""One call: `thread` (its number), `call` (its name) and details by name, such as `bytes`; `code` where it failed."""

CAPTURE = "cudaStreamBeginCapture"
REPLAY = "cudaGraphLaunch"

PAIRS = {
    "cudaStreamCreate": "cudaStreamDestroy",
    "cudaEventCreate": "cudaEventDestroy",
    "cudaGraphInstantiate": "cudaGraphExecDestroy",
    "cublasCreate": "cublasDestroy",
    "cublasLtCreate": "cublasLtDestroy",
    "cudnnCreate": "cudnnDestroy",
    "cudaMalloc": "cudaFree",
    "cudaHostAlloc": "cudaFreeHost",
    "cudaHostRegister": "cudaHostUnregister",
}
"""What makes a handle or takes memory, and what gives it back."""


class Calls:
    """The calls of this process since a mark."""

    def __init__(self, log: Path) -> None:
        """Begin at the end of a log."""
        self._log = log
        self._start = log.stat().st_size if log.exists() else 0

    def all(self) -> list[Call]:
        """Return every call since the mark, in their order."""
        if not self._log.exists():
            return []
        with self._log.open("rb") as file:
            file.seek(self._start)
            return [json.loads(line) for line in file]

    def named(self, name: str) -> list[Call]:
        """Return the calls of one name."""
        return [call for call in self.all() if call["call"] == name]

    def counts(self) -> Counter[str]:
        """Count the calls by name."""
        return Counter(call["call"] for call in self.all())

    def held(self) -> dict[str, int]:
        """Count the handles and allocations that were made and not given back since the mark."""
        counts = Counter(call["call"] for call in self.all() if "code" not in call)
        return {made: counts[made] - counts[given_back] for made, given_back in PAIRS.items()}

    def copied(self) -> Counter[str]:
        """Count the bytes that were copied, by direction: `HtoD` to the GPU, `DtoH` from it."""
        copied: Counter[str] = Counter()
        for call in self.all():
            if call["call"] in {"cudaMemcpy", "cudaMemcpyAsync"}:
                copied[call["kind"]] += call["bytes"]
        return copied

    def threads(self, *names: str) -> set[int]:
        """Return the threads that made calls of these names."""
        return {call["thread"] for call in self.all() if call["call"] in names}
