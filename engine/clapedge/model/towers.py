"""The two towers: arrays in, unit embeddings out. One ONNX Runtime session each, on a GPU one a batch size."""

import os
import threading
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clapedge.arrays import BoolArray, Float32Array, Int64Array
from clapedge.errors import BundleError, ClapEdgeWarning, GpuLostError, ProviderError, UsageError
from clapedge.features.front_end import Frontend
from clapedge.model.forked import check_process
from clapedge.model.providers import ProviderConfig, choose
from clapedge.model.sessions import checked, open_session

if TYPE_CHECKING:
    from clapedge.model.gpu_tower import GpuAudioTower, SharedRuns


class AudioTower:
    """Log-mels to embeddings in one session, which is not on a GPU. Threads may share it."""

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
        self._session = open_session(self._model, self._provider_config, threads=threads, spinning=spinning)
        nodes = {node.name: node.shape for node in self._session.get_inputs()}
        batch, channels = nodes["input_features"][:2]
        self.batch: int | None = batch if isinstance(batch, int) else None
        """Clips per run if the graph was exported for a fixed batch, else None."""
        self._fused = "is_longer" in nodes
        self.channels: int = int(channels)
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
        step = self.batch or len(features)
        for start in range(0, len(features), step):
            stop = min(start + step, len(features))
            rows: slice | Int64Array = slice(start, stop)
            if stop - start < step:  # copies of the last clip fill it up
                rows = np.minimum(np.arange(start, start + step), stop - 1)
            parts.append(self._run(features[rows], is_longer[rows])[: stop - start])
        return checked(np.concatenate(parts), self._model, self._provider_config)

    def close(self) -> None:
        """Do nothing: the session is released with the last reference to it, when no thread runs it any longer."""

    def _run(self, features: Float32Array, is_longer: BoolArray) -> Float32Array:
        """Run one batch."""
        inputs: dict[str, Any] = {"input_features": features} | ({"is_longer": is_longer} if self._fused else {})
        (embeddings,) = self._session.run(None, inputs)
        return np.asarray(embeddings, np.float32)


def open_audio_tower(
    model: str | os.PathLike[str],
    *,
    provider_config: ProviderConfig,
    threads: int | None = None,
    spinning: bool = True,
    front_end: Path | None = None,
) -> "AudioTower | GpuAudioTower":
    """Open an audio tower, see `AudioTower` and `GpuAudioTower`.

    Args:
        model: path of the exported tower.
        provider_config: the provider to run on.
        threads: threads within an operator; None means every usable core. A GPU needs none.
        spinning: whether idle threads wait busily, see `open_session`.
        front_end: on a GPU, path of the graph that makes log-mels there, or None.

    Raises:
        BundleError: ONNX Runtime cannot run the file.
        ProviderError: the session does not run where it was asked to.
    """
    if provider_config.on_gpu:
        from clapedge.model.gpu_tower import GpuAudioTower

        return GpuAudioTower(model, provider_config=provider_config, front_end=front_end)
    return AudioTower(model, provider_config=provider_config, threads=threads, spinning=spinning)


class AudioTowers:
    """The audio tower of an engine: for a caller that is alone, and for several side by side."""

    def __init__(
        self,
        model: Path,
        *,
        provider_config: ProviderConfig,
        threads: int | None = None,
        spinning: bool = True,
        front_end: Path | None = None,
        spare_front_end: bool = False,
    ) -> None:
        """Open the tower, see `open_audio_tower`.

        Args:
            model: see there.
            provider_config: see there.
            threads: see there.
            spinning: see there.
            front_end: see there.
            spare_front_end: whether to do without the front end if that is what cannot be opened, with a warning.
        """
        self._model, self._provider_config, self._threads = model, provider_config, threads
        self._lock, self._process = threading.Lock(), os.getpid()
        self._single_core: AudioTower | None = None
        opened = partial(open_audio_tower, model, provider_config=provider_config, threads=threads, spinning=spinning)
        try:
            alone = opened(front_end=front_end)
        except ProviderError as error:
            if front_end is None or not spare_front_end or isinstance(error, GpuLostError):
                raise
            alone = opened()
            warnings.warn(f"log-mels are made on the CPU: {error}", ClapEdgeWarning, stacklevel=2)
        self.alone = alone
        """On the CPU its operators share the threads of the engine."""

    @property
    def frontend(self) -> Frontend:
        """What makes the log-mels of clips."""
        return "numpy" if isinstance(self.alone, AudioTower) or not self.alone.front_end else "device"

    def checked(self) -> "AudioTowers":
        """Return the towers themselves in the process that opened them, see `check_process`."""
        check_process(self._process)
        return self

    def shared(self) -> "AudioTower | SharedRuns":
        """Return the tower for callers that work side by side.

        On the CPU it is a session without threads of its own, opened when it is first needed: cores that work apart do
        more than cores that share every operator, and the bits are the same. On a GPU callers share runs.
        """
        if not isinstance(self.alone, AudioTower):
            return self.alone.shared
        if self._threads == 1:
            return self.alone
        with self._lock:
            if self._single_core is None:
                self._single_core = AudioTower(self._model, provider_config=self._provider_config, threads=1)
            return self._single_core

    def close(self) -> None:
        """Release the sessions."""
        self.alone.close()


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
        self._process = os.getpid()
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
        check_process(self._process)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        (embeddings,) = self._session.run(None, inputs)
        return np.asarray(embeddings, np.float32)
