"""The two towers: arrays in, unit embeddings out. One ONNX Runtime session each; on a GPU one a batch size."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clapedge.arrays import BoolArray, Float32Array, Int64Array
from clapedge.errors import BundleError, ProviderError, UsageError
from clapedge.model.gpu_session import DeviceSession
from clapedge.model.providers import ProviderConfig, choose
from clapedge.model.sessions import open_session
from clapedge.model.tensorrt import locate

BUCKETS = (32, 8, 1)
"""Batch sizes that a GPU is given: each has its own session, buffers and CUDA graph."""


class AudioTower:
    """Log-mels to embeddings. Threads may share it."""

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        provider_config: ProviderConfig | None = None,
        threads: int | None = None,
        spinning: bool = True,
    ) -> None:
        """Open a session.

        Args:
            model: path of the exported tower.
            provider_config: the provider to run on; None means the CPU.
            threads: threads within an operator; None means every usable core.
            spinning: whether idle threads wait busily, see `open_session`.

        Raises:
            BundleError: ONNX Runtime cannot run the file.
            ProviderError: the session does not run where it was asked to.
        """
        self._model, self._provider_config = Path(model), provider_config or choose("cpu")
        self._on_device: dict[int, DeviceSession] = {}
        self._lock = threading.Lock()
        self.batch: int | None = None
        """Clips per run if the graph was exported for a fixed batch, else None."""
        if self._provider_config.on_gpu:
            shape: Sequence[int | str] = self._device_session(1).input_shapes["input_features"]
            self._fused = "is_longer" in self._device_session(1).input_shapes
        else:
            self._session = open_session(self._model, self._provider_config, threads=threads, spinning=spinning)
            shape = self._session.get_inputs()[0].shape
            self.batch = shape[0] if isinstance(shape[0], int) else None
            self._fused = any(node.name == "is_longer" for node in self._session.get_inputs())
        self.channels: int = int(shape[1])
        """Mels per clip: 4 for a fusion model, else 1."""

    def embed(self, features: Float32Array, is_longer: BoolArray) -> Float32Array:
        """Embed clips.

        Args:
            features: (N, channels, 1001, 64) float32 dB.
            is_longer: (N,) bool; ignored by a model without fusion.

        Returns:
            (N, E) float32, rows of unit norm.

        Raises:
            ProviderError: what comes out is no numbers, as of a float16 that overflows.
        """
        parts = []
        for start, stop, batch in self._runs(len(features)):
            rows: slice | Int64Array = slice(start, stop)
            if stop - start < batch:  # copies of the last clip fill it up
                rows = np.minimum(np.arange(start, start + batch), stop - 1)
            inputs = {"input_features": features[rows]} | ({"is_longer": is_longer[rows]} if self._fused else {})
            parts.append(self._run(inputs, batch)[: stop - start])
        embeddings = np.concatenate(parts)
        if not np.isfinite(embeddings).all():
            raise ProviderError(
                f"{self._model} gives no numbers on {self._provider_config.provider}; use --precision fp32, or another "
                "provider"
            )
        return embeddings

    def _runs(self, count: int) -> Iterator[tuple[int, int, int]]:
        """Yield (start, stop, batch) of the runs that so many clips take."""
        if self._provider_config.on_gpu:
            yield from split(count)
            return
        step = self.batch or count
        for start in range(0, count, step):
            yield start, min(start + step, count), step

    def _run(self, inputs: Mapping[str, npt.NDArray[Any]], batch: int) -> Float32Array:
        """Run one batch."""
        if self._provider_config.on_gpu:
            return self._device_session(batch).run(inputs)
        (embeddings,) = self._session.run(None, inputs)
        return np.asarray(embeddings, np.float32)

    def _device_session(self, batch: int) -> DeviceSession:
        """Return the session of a batch size, opened when it is first needed."""
        with self._lock:
            if batch not in self._on_device:
                model, provider_config = locate(self._model, self._provider_config, batch=batch)
                self._on_device[batch] = DeviceSession(model, provider_config, batch=batch)
            return self._on_device[batch]


def split(count: int, buckets: Sequence[int] = BUCKETS) -> Iterator[tuple[int, int, int]]:
    """Yield (start, stop, batch) of the batches that so many clips are run in.

    A batch is taken if at least half of it is filled; its rest is computed in vain.

    Args:
        count: clips.
        buckets: batch sizes, largest first, the last one 1.

    Example:
        >>> list(split(39))
        [(0, 32, 32), (32, 39, 8)]
    """
    start = 0
    while start < count:
        batch = next(size for size in buckets if size <= 2 * (count - start))
        stop = min(start + batch, count)
        yield start, stop, batch
        start = stop


class TextTower:
    """Prompts to embeddings. Threads may share it."""

    def __init__(
        self,
        model: str | os.PathLike[str],
        tokenizer: bytes,
        *,
        max_tokens: int,
        provider_config: ProviderConfig | None = None,
        threads: int | None = None,
        spinning: bool = True,
    ) -> None:
        """Open a session and read the tokenizer.

        Args:
            model: path of the exported tower.
            tokenizer: content of `tokenizer.json`.
            max_tokens: longest prompt in tokens, special tokens included.
            provider_config: the provider to run on; None means the CPU.
            threads: threads within an operator; None means every usable core.
            spinning: whether idle threads wait busily, see `open_session`.

        Raises:
            BundleError: ONNX Runtime cannot run the file.
            ProviderError: the session does not run where it was asked to.
        """
        import tokenizers

        self._session = open_session(Path(model), provider_config or choose("cpu"), threads=threads, spinning=spinning)
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(tokenizer)
        except ValueError as error:
            raise BundleError(
                f"the tokenizer beside {model} is none ({error}); copy the bundle again, or export it again"
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self.max_tokens = max_tokens
        self._batch: object = self._session.get_inputs()[0].shape[0]
        self._size = int(self._session.get_outputs()[0].shape[-1])

    def embed(self, prompts: Sequence[str]) -> Float32Array:
        """Embed prompts: N texts to (N, E) float32, rows of unit norm.

        Only prompts of equal length share a run, so that no embedding depends on its neighbours.

        Raises:
            UsageError: one prompt is given instead of several.
        """
        if isinstance(prompts, str):
            raise UsageError(f"expected a list of prompts, found the string {prompts[:40]!r}; put it into a list")
        if not prompts:
            return np.empty((0, self._size), np.float32)
        encoded = [self._tokenizer.encode(prompt).ids for prompt in prompts]
        by_length: dict[int, list[int]] = {}
        for index, ids in enumerate(encoded):
            by_length.setdefault(len(ids), []).append(index)
        rows: dict[int, Float32Array] = {}
        for indices in by_length.values():
            step = self._batch if isinstance(self._batch, int) else len(indices)
            for i in range(0, len(indices), step):
                part = indices[i : i + step]
                rows.update(zip(part, self._run(np.array([encoded[k] for k in part], np.int64)), strict=True))
        return np.stack([rows[index] for index in range(len(encoded))])

    def count_tokens(self, prompt: str) -> int:
        """Return the length of a prompt in tokens, special tokens and those that are not read included."""
        encoded = self._tokenizer.encode(prompt)
        return len(encoded) + sum(sum(1 - mask for mask in rest.special_tokens_mask) for rest in encoded.overflowing)

    def truncated(self, prompts: Sequence[str]) -> list[str]:
        """Return those prompts of which the tower reads only the beginning."""
        return [prompt for prompt in prompts if self._tokenizer.encode(prompt).overflowing]

    def _run(self, ids: Int64Array) -> Float32Array:
        """Embed token ids (N, tokens) without padding."""
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        (embeddings,) = self._session.run(None, inputs)
        return np.asarray(embeddings, np.float32)
