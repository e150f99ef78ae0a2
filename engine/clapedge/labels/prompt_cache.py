"""Embeddings of prompts on disk, keyed by text tower, tokenizer and prompt: known words open no text tower."""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.cache_dir import default_directory
from clapedge.labels import TextEncoder


class PromptCache:
    """The cached prompts of one text tower. A cache that cannot be read or written is passed over."""

    def __init__(self, *files: str, directory: Path | None = None) -> None:
        """Use the cache of a text tower.

        Args:
            *files: SHA-256 of each file that an embedding is made by: the tower and its tokenizer.
            directory: where to keep it; None means `default_directory()`.
        """
        root = directory or default_directory()
        name = hashlib.sha256(" ".join(files).encode()).hexdigest()
        self._directory = root / "prompts" / name[:32] if root else None

    def encode(self, prompts: Sequence[str], encode: TextEncoder) -> Float32Array:
        """Embed prompts to (N, E) float32, calling `encode` once for those that are not known yet."""
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
        """Keep an embedding; the file appears whole or not at all."""
        path = self._path(prompt)
        if path is None:
            return
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    np.save(stream, row)
                Path(temporary).replace(path)
            finally:
                Path(temporary).unlink(missing_ok=True)
