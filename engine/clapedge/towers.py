"""The two towers: arrays in, unit embeddings out. One ONNX Runtime session each, and the only place that opens one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime
import tokenizers
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_state

from clapedge.clips import BoolArray
from clapedge.errors import BundleError, ProviderError
from clapedge.mel import Float32Array
from clapedge.providers import Plan, choose, usable_cores

Int64Array: TypeAlias = npt.NDArray[np.int64]

ONNX_RUNTIME_ERRORS: tuple[type[Exception], ...] = tuple(
    error for error in vars(onnxruntime_state).values() if isinstance(error, type) and issubclass(error, Exception)
)
"""Everything that ONNX Runtime raises: classes of its own without a common base."""

LOG_ERRORS_ONLY = 3
"""ONNX Runtime's severity; its warnings speak to those who build graphs, not to those who run them."""


class AudioTower:
    """Log-mels to embeddings. Threads may share it."""

    def __init__(self, model: str | os.PathLike[str], *, plan: Plan | None = None, threads: int | None = None) -> None:
        """Open a session.

        Args:
            model: path of the exported tower.
            plan: the provider to run on; None means the CPU.
            threads: threads within an operator; None means every usable core.

        Raises:
            BundleError: ONNX Runtime cannot run the file.
            ProviderError: the session does not run where it was asked to.
        """
        self._session = _open_session(Path(model), plan or choose("cpu"), threads)
        shape = self._session.get_inputs()[0].shape
        self.channels: int = shape[1]
        """Mels per clip: 4 for a fusion model, else 1."""
        self.batch: int | None = shape[0] if isinstance(shape[0], int) else None
        """Clips per run if the graph was exported for a fixed batch, else None."""
        self._fused = any(node.name == "is_longer" for node in self._session.get_inputs())

    def embed(self, features: Float32Array, is_longer: BoolArray) -> Float32Array:
        """Embed clips.

        Args:
            features: (N, channels, 1001, 64) float32 dB.
            is_longer: (N,) bool; ignored by a model without fusion.

        Returns:
            (N, E) float32, rows of unit norm.
        """
        step = self.batch or len(features)
        parts = [self._run(features[i : i + step], is_longer[i : i + step]) for i in range(0, len(features), step)]
        return np.concatenate(parts)

    def _run(self, features: Float32Array, is_longer: BoolArray) -> Float32Array:
        """Run the session once, filling a fixed batch up with copies of the last clip."""
        count = len(features)
        if self.batch and count < self.batch:
            rows = np.minimum(np.arange(self.batch), count - 1)
            features, is_longer = features[rows], is_longer[rows]
        inputs = {"input_features": features} | ({"is_longer": is_longer} if self._fused else {})
        (embeddings,) = self._session.run(None, inputs)
        return np.asarray(embeddings[:count], np.float32)


class TextTower:
    """Prompts to embeddings. Threads may share it."""

    def __init__(
        self,
        model: str | os.PathLike[str],
        tokenizer: bytes,
        *,
        max_tokens: int,
        plan: Plan | None = None,
        threads: int | None = None,
    ) -> None:
        """Open a session and read the tokenizer.

        Args:
            model: path of the exported tower.
            tokenizer: content of `tokenizer.json`.
            max_tokens: longest prompt in tokens, special tokens included.
            plan: the provider to run on; None means the CPU.
            threads: threads within an operator; None means every usable core.

        Raises:
            BundleError: ONNX Runtime cannot run the file.
            ProviderError: the session does not run where it was asked to.
        """
        self._session = _open_session(Path(model), plan or choose("cpu"), threads)
        self._tokenizer = tokenizers.Tokenizer.from_str(tokenizer.decode())
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self.max_tokens = max_tokens
        self._batch: object = self._session.get_inputs()[0].shape[0]

    def embed(self, prompts: Sequence[str]) -> Float32Array:
        """Embed prompts: N texts to (N, E) float32, rows of unit norm.

        Only prompts of equal length share a run, so that no embedding depends on its neighbours.
        """
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


def _open_session(model: Path, plan: Plan, threads: int | None) -> onnxruntime.InferenceSession:
    """Open a session on exactly the planned provider; ONNX Runtime itself would quietly fall back to the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = LOG_ERRORS_ONLY
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    providers = [(plan.onnx_runtime_name, dict(plan.options))]
    try:
        session = onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except ONNX_RUNTIME_ERRORS as error:
        reason = " ".join(str(error).split())
        if plan.provider == "cpu":
            raise BundleError(f"{model} cannot be run by ONNX Runtime ({reason}); export it again") from error
        raise ProviderError(f"provider {plan.provider} did not start ({reason}); use --provider cpu") from error
    session.disable_fallback()
    if session.get_providers()[0] != plan.onnx_runtime_name:
        raise ProviderError(
            f"{plan.provider} was asked for and ONNX Runtime took {session.get_providers()[0]}; "
            "run: clapedge doctor, or use --provider cpu"
        )
    return session
