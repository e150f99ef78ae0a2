"""Embeddings of prompts on disk, by text tower, tokenizer and prompt: known prompts need no text tower."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.atomic_file import atomic_write
from clapedge.cache_dir import default_directory
from clapedge.labels.embedded import TextEncoder


class PromptCache:
    """The cached prompts of one text tower. A cache that cannot be read or written is ignored."""

    def __init__(self, *files: str, directory: Path | None = None) -> None:
        """Use the cache of a text tower.

        Args:
            *files: SHA-256 of each file that embeddings depend on: the tower and its tokenizer.
            directory: where to store it; None means `default_directory()`.
        """
        root = directory or default_directory()
        name = hashlib.sha256(" ".join(files).encode()).hexdigest()
        self._directory = root / "prompts" / name[:32] if root else None

    def encode(self, prompts: Sequence[str], encode: TextEncoder) -> Float32Array:
        """Embed prompts to (N, E) float32, calling `encode` once for the unknown ones."""
        rows = {prompt: self._load(prompt) for prompt in prompts}
        missing = [prompt for prompt, row in rows.items() if row is None]
        if missing:
            for prompt, row in zip(missing, encode(missing), strict=True):
                rows[prompt] = row
                self._store(prompt, row)
        return np.stack([row for prompt in prompts if (row := rows[prompt]) is not None])

    def _path(self, prompt: str) -> Path | None:
        """Return the file of a prompt."""
        name = hashlib.sha256(prompt.encode()).hexdigest()
        return self._directory / f"{name}.npy" if self._directory else None

    def _load(self, prompt: str) -> Float32Array | None:
        """Return the embedding of a known prompt."""
        path = self._path(prompt)
        try:
            row = np.load(path, allow_pickle=False) if path else None
        except (OSError, ValueError, EOFError):
            return None
        is_embedding = row is not None and row.ndim == 1 and row.dtype == np.float32 and np.isfinite(row).all()
        return row if is_embedding else None

    def _store(self, prompt: str, row: Float32Array) -> None:
        """Store an embedding."""
        path = self._path(prompt)
        if path is None:
            return
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path, shared=True) as temporary, temporary.open("wb") as stream:
                np.save(stream, row)
