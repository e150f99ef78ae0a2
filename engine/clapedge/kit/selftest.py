"""Clips with their embeddings and similarities when a kit was packed, and the comparison on a device."""

import base64
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime

from clapedge.arrays import Float32Array
from clapedge.engine import Engine
from clapedge.errors import BundleDamagedError, BundleError, BundleNotFoundError, ParityError
from clapedge.model.bundle import Bundle, Variant
from clapedge.model.proof import TOLERANCES, Tolerance, misses
from clapedge.model.providers import ProviderWish

EXPECTED = "expected.json"
"""Name of the record beside the clips."""


class ExpectedClip(msgspec.Struct, frozen=True, kw_only=True):
    """The expected results of one clip with one variant.

    Attributes:
        file: name of the clip.
        variant: precision of the audio tower.
        embedding: (E,) little-endian float32 in base64.
        similarities: by label.
    """

    file: str
    variant: Variant
    embedding: str
    similarities: dict[str, float]

    def vector(self) -> Float32Array:
        """Return the embedding (E,)."""
        return np.frombuffer(base64.b64decode(self.embedding), "<f4")


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """The expected results of all clips, recorded when the kit was packed.

    Attributes:
        labels: label set of the bundle, or None if it has none.
        machine: instruction set of the machine that recorded them.
        onnxruntime: version that recorded them.
        tolerances: by variant.
        clips: one entry a clip and variant.
    """

    labels: str | None
    machine: str
    onnxruntime: str
    tolerances: dict[Variant, Tolerance]
    clips: tuple[ExpectedClip, ...]


@dataclass(frozen=True)
class Comparison:
    """How the results of one clip compare with the expected ones.

    Attributes:
        file: name of the clip.
        variant: precision of the audio tower.
        provider: where it ran.
        top: the best label, or an empty string without labels.
        difference: the largest difference of any element of the embedding.
        cosine: of the embedding and the expected one.
        drift: the largest difference of a similarity.
        holds: whether all is within the tolerance.
        seconds: from opening the engine for the first clip of a variant; of this clip for the others.
    """

    file: str
    variant: Variant
    provider: str
    top: str
    difference: float
    cosine: float
    drift: float
    holds: bool
    seconds: float


def record(directory: Path, clips: Sequence[Path]) -> None:
    """Score clips with every audio tower of `directory/bundle` on the CPU, and write the results.

    Args:
        directory: of the kit; the clips are in its folder `selftest`.
        clips: the recordings.
    """
    bundle = Bundle.open(directory / "bundle")
    labels = next(iter(bundle.label_sets), None)
    recorded = []
    for variant in bundle.variants("audio"):
        with Engine.load(bundle.directory, provider="cpu", precision=variant) as engine:
            for clip in clips:
                embedding, similarities = _score(engine, clip, labels)
                recorded.append(
                    ExpectedClip(
                        file=clip.name,
                        variant=variant,
                        embedding=base64.b64encode(embedding.astype("<f4").tobytes()).decode(),
                        similarities=similarities,
                    )
                )
    expectation = Expectation(
        labels=labels,
        machine=platform.machine(),
        onnxruntime=onnxruntime.__version__,
        tolerances={variant: TOLERANCES[variant] for variant in bundle.variants("audio")},
        clips=tuple(recorded),
    )
    encoded = msgspec.json.format(msgspec.json.encode(expectation), indent=1)
    (directory / "selftest" / EXPECTED).write_bytes(encoded + b"\n")


def read(directory: Path) -> Expectation:
    """Read the record of a kit.

    Raises:
        BundleNotFoundError: the directory is not a kit.
        BundleDamagedError: its record is not understood.
    """
    path = directory / "selftest" / EXPECTED
    try:
        return msgspec.json.decode(path.read_bytes(), type=Expectation)
    except OSError as error:
        raise BundleNotFoundError(
            f"{directory} is not a kit: {path} cannot be read ({error.strerror}); name its directory"
        ) from None
    except msgspec.MsgspecError as error:
        raise BundleDamagedError(f"{path} is damaged ({error}); unpack the kit again") from error


def compare(directory: Path, *, provider: ProviderWish = "auto") -> Iterator[Comparison]:
    """Score the clips of a kit here and compare with the expected results.

    Args:
        directory: of the kit, or of its installed version.
        provider: where to run.

    Raises:
        BundleError: the kit is damaged, or its bundle is not the recorded one.
        ParityError: a variant does not reproduce its model here.
        ProviderError: the provider cannot be used.
    """
    expectation = read(directory)
    bundle = Bundle.open(directory / "bundle")
    for variant, tolerance in expectation.tolerances.items():
        began = time.perf_counter()
        with Engine.load(bundle.directory, provider=provider, precision=variant, self_check=False) as engine:
            _check_variant(engine)
            for each in expectation.clips:
                if each.variant == variant:
                    yield _compare(engine, directory, each, expectation.labels, tolerance, began)
                    began = time.perf_counter()


def _check_variant(engine: Engine) -> None:
    """Hold the engine's tower against the proof of its bundle.

    Raises:
        ParityError: it does not reproduce its model here.
    """
    found = engine.check_variant()
    if found is not None and not found.holds:
        file = engine.bundle.file("audio", engine.variant, provider=engine.provider_config.provider)
        raise ParityError(f"{misses(file, engine.provider_config.provider, found)}; pack another variant")


def _compare(
    engine: Engine, directory: Path, clip: ExpectedClip, labels: str | None, tolerance: Tolerance, began: float
) -> Comparison:
    """Score one clip and compare with its expected results."""
    expected = clip.vector()
    embedding, similarities = _score(engine, directory / "selftest" / clip.file, labels)
    if expected.shape != embedding.shape or similarities.keys() != clip.similarities.keys():
        raise BundleError(f"{directory / 'bundle'} is not the bundle that the self-test recorded; unpack the kit again")
    drift = max((abs(similarities[name] - value) for name, value in clip.similarities.items()), default=0.0)
    return Comparison(
        file=clip.file,
        variant=clip.variant,
        provider=engine.provider_config.provider,
        top=max(similarities, key=similarities.__getitem__, default=""),
        difference=float(np.abs(embedding - expected).max()),
        cosine=_cosine(embedding, expected),
        drift=drift,
        holds=holds(tolerance, embedding, expected, drift),
        seconds=time.perf_counter() - began,
    )


def holds(tolerance: Tolerance, embedding: Float32Array, expected: Float32Array, drift: float) -> bool:
    """Return whether an embedding (E,) is within the tolerance of the expected one.

    Args:
        tolerance: of the variant.
        embedding: of unit norm.
        expected: of unit norm.
        drift: the largest difference of a similarity. Unit vectors at the least cosine are at most so far apart, and
            so are their products with a third.
    """
    cosine = _cosine(embedding, expected)
    near = tolerance.max_difference is None or float(np.abs(embedding - expected).max()) <= tolerance.max_difference
    farthest = float(np.sqrt(2 * (1 - tolerance.min_cosine)))
    return near and cosine >= tolerance.min_cosine and drift <= farthest


def _cosine(embedding: Float32Array, expected: Float32Array) -> float:
    """Return the cosine of two unit vectors; rounding makes it no more than 1."""
    return min(1.0, float(embedding.astype(np.float64) @ expected))


def _score(engine: Engine, clip: Path, labels: str | None) -> tuple[Float32Array, dict[str, float]]:
    """Return the embedding of a clip, and its similarity to each label."""
    embedding: Float32Array = engine.embed_audio([clip])[0]
    if labels is None:
        return embedding, {}
    stored = engine.stored_labels(labels)
    products = stored.embeddings @ embedding
    names = (label.name for label in stored.label_set.labels)
    return embedding, {name: float(value) for name, value in zip(names, products, strict=True)}
