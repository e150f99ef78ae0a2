"""Whether a variant gives here what the bundle's model gives in float32: a few inputs, compared, and the answer kept.

What was verified where a bundle was made may not hold on another processor, in another version of ONNX Runtime, on a
GPU. The manifest carries the float32 embeddings of a few inputs (`proof_inputs`); a variant is held against them the
first time that a machine opens it, and the answer is kept in the cache directory.
"""

import binascii
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import onnxruntime

from clapedge.arrays import BoolArray, Float32Array
from clapedge.atomic_file import atomic_write
from clapedge.cache_dir import default_directory
from clapedge.errors import ProviderError, StorageError
from clapedge.features.clips import ClipMaker
from clapedge.model.bundle import Bundle, BundleFile, Proof, Variant
from clapedge.model.cpu import processor_features
from clapedge.model.proof_inputs import FORMULA, PROMPTS, proof_clips
from clapedge.model.providers import Gpu, Provider, ProviderConfig, describe_gpu
from clapedge.model.saturation import saturates

PROOF_COSINE = "proof_min_cosine"
"""Entry of a file's checks: the least cosine that it reached on the inputs of the proof where it was made."""

SLACK = 2
"""A variant that was further away where it was made, as one that was calibrated for other sounds, may be so many times
as far: rounding differs between processors, and a wrong kernel is further away."""


class Tolerance(msgspec.Struct, frozen=True, kw_only=True):
    """How far an embedding may be from the expected one.

    Attributes:
        max_difference: of any element of the unit embedding; None where only the cosine counts.
        min_cosine: of the two embeddings.
    """

    max_difference: float | None
    min_cosine: float


TOLERANCES: dict[Variant, Tolerance] = {
    # processors and thread counts add float32 in different orders: 1e-7 was seen, a wrong kernel is far beyond 1e-4
    "fp32": Tolerance(max_difference=1e-4, min_cosine=0.999999),
    "fp16": Tolerance(max_difference=None, min_cosine=0.9999),
    # the export's own bound against float32: elsewhere eight bits may be rounded and multiplied in another way
    "int8": Tolerance(max_difference=None, min_cosine=0.995),
}
"""Tolerance of each variant."""


@dataclass(frozen=True)
class Reproduction:
    """How near a variant comes to the float32 embeddings of its bundle on this machine.

    Attributes:
        cosine: the least over the inputs of the proof.
        difference: the largest of any element.
        required: the least cosine that is accepted.
        holds: whether the variant reproduces the model here.
    """

    cosine: float
    difference: float
    required: float
    holds: bool

    def __str__(self) -> str:
        """Return the figures in words."""
        return f"least cosine {self.cosine:.6f} (at least {self.required:g}), largest difference {self.difference:.1e}"


class AudioEmbedder(Protocol):
    """An audio tower."""

    def embed(self, features: Float32Array, is_longer: BoolArray) -> Float32Array:
        """Embed clips (N, channels, frames, mels) to (N, E)."""
        ...


class TextEmbedder(Protocol):
    """A text tower."""

    def embed(self, prompts: Sequence[str]) -> Float32Array:
        """Embed prompts to (N, E)."""
        ...


class VariantCheck:
    """The comparison of one file of a bundle on one provider, and the answer that is kept of it."""

    def __init__(self, bundle: Bundle, file: BundleFile, provider_config: ProviderConfig) -> None:
        """Prepare the comparison of a tower that `file` holds."""
        self.file, self._provider_config = file, provider_config
        proof = bundle.manifest.proof
        encoded = getattr(proof, file.role, None) if proof is not None and proof.formula == FORMULA else None
        self._expected = rows_of(encoded, bundle.manifest.embedding_size) if encoded else None
        self._front_end = bundle.manifest.front_end

    @property
    def possible(self) -> bool:
        """Whether the bundle carries what this tower can be compared with."""
        return self._expected is not None

    def recall(self) -> Reproduction | None:
        """Return what was found on this machine before, None if nothing was."""
        path = self._path()
        if path is None:
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=Reproduction)
        except (OSError, msgspec.MsgspecError):  # what cannot be read is found out again
            return None

    def measure_audio(self, tower: AudioEmbedder, maker: ClipMaker | None = None) -> Reproduction | None:
        """Compare an audio tower and keep the answer; None where the bundle carries nothing to compare with."""
        if self._expected is None:
            return None
        return self._keep(embed_audio(tower, maker or ClipMaker(self._front_end)))

    def measure_text(self, tower: TextEmbedder) -> Reproduction | None:
        """Compare a text tower and keep the answer; None where the bundle carries nothing to compare with."""
        return None if self._expected is None else self._keep(tower.embed(PROMPTS))

    def compare(self, found: Float32Array) -> Reproduction:
        """Compare embeddings (N, E) with those of the proof."""
        if self._expected is None or self._expected.shape != found.shape:
            return Reproduction(0.0, float("inf"), 1.0, holds=False)
        tolerance = TOLERANCES[self.file.variant or "fp32"]
        reached = self.file.checks.get(PROOF_COSINE, 1.0)
        required = min(tolerance.min_cosine, 1 - SLACK * (1 - reached))
        cosine = min(1.0, float((found.astype(np.float64) * self._expected).sum(axis=1).min()))
        difference = float(np.abs(found - self._expected).max())
        near = tolerance.max_difference is None or difference <= tolerance.max_difference
        return Reproduction(cosine, difference, required, holds=near and cosine >= required)

    def _keep(self, found: Float32Array) -> Reproduction:
        """Compare embeddings and keep the answer; a cache that cannot be written is ignored."""
        answer, path = self.compare(found), self._path()
        if path is not None:
            with suppress(OSError, StorageError):
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(path, shared=True) as temporary:
                    temporary.write_bytes(msgspec.json.encode(answer))
        return answer

    def _path(self) -> Path | None:
        """Return the file of the answer: another file, model, processor, provider or version gets another."""
        root = default_directory()
        if root is None or self._expected is None:
            return None
        config = self._provider_config
        facts = (
            self.file.sha256,
            hashlib.sha256(self._expected.tobytes()).hexdigest(),
            self.file.checks.get(PROOF_COSINE),
            processor_features(),
            saturates(),
            onnxruntime.__version__,
            config.provider,
            sorted(config.options.items()),
            _gpu_of(config),
        )
        return root / "proofs" / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:32]}.json"


def _gpu_of(config: ProviderConfig) -> Gpu | None:
    """Return the GPU of a provider, None for one on the processor, or where opening it will say what is wrong."""
    try:
        return describe_gpu(config.device_id) if config.on_gpu else None
    except ProviderError:
        return None


def embed_audio(tower: AudioEmbedder, maker: ClipMaker) -> Float32Array:
    """Embed the recordings of a proof: (N, E) float32.

    One at a time, as a short recording is scored: on a GPU in the session that is there for it.
    """
    return np.concatenate([tower.embed(clips.features, clips.is_longer) for clips in proof_clips(maker)])


def misses(file: BundleFile, provider: Provider, found: Reproduction) -> str:
    """Return a sentence about a variant that does not reproduce its model."""
    return f"{file.path} does not reproduce its model on this machine, on {provider}: {found}"


def make_proof(audio: Float32Array, text: Float32Array | None) -> Proof:
    """Return the proof of a model.

    Args:
        audio: float32 embeddings of the recordings, see `embed_audio`.
        text: those of `PROMPTS`; None for a bundle that will have no text tower.
    """
    return Proof(formula=FORMULA, audio=encoded(audio), text=None if text is None else encoded(text))


def encoded(rows: Float32Array) -> str:
    """Return embeddings (N, E) as little-endian float32 in base64."""
    return binascii.b2a_base64(rows.astype("<f4").tobytes(), newline=False).decode()


def rows_of(text: str, size: int) -> Float32Array | None:
    """Return embeddings (N, size) from base64; None for what is no such thing."""
    try:
        return np.frombuffer(binascii.a2b_base64(text), "<f4").reshape(-1, size)
    except ValueError:
        return None
