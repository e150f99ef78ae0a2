"""Test vectors of a bundle in one file, with which a port to another language can prove itself.

The file is an `.npz`, that is a zip archive of NumPy arrays; its member `vectors.json` says what they are.
"""

import hashlib
import json
import platform
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime

from clapedge import __version__
from clapedge.arrays import Float32Array
from clapedge.atomic_file import atomic_write
from clapedge.engine import Engine
from clapedge.features.clips import ClipOptions, Clips, Window
from clapedge.labels import EmbeddedLabels, LabelSet
from clapedge.labels.npz import Arrays
from clapedge.model.bundle import Bundle, Manifest
from clapedge.model.proof_inputs import named_recordings
from clapedge.model.space import SAME_COSINE
from clapedge.scoring.similarity import Scorer, mean_embedding, probabilities

DESCRIPTION = "vectors.json"
"""Name of the member that describes the others."""

WORDS = ("rain", "a siren far away", "dog barking")
"""Labels of a bundle with a text tower."""

README = """\
Recordings are made by the formula of docs/bundle.md; 'samples' and 'sha256' (of their float32, little-endian) tell
whether a port makes the same. NAME.log_mel (clips, channels, frames, mels) in dB and NAME.is_longer (clips,) are what
the audio tower takes; compare these first. NAME.VARIANT.clips (clips, E) are unit embeddings, NAME.VARIANT.embedding
(E,) is their mean, normalised again. labels.VARIANT (labels, E) are the embeddings of 'labels': the mean of those of
the prompts, normalised again. NAME.VARIANT.similarities are the products of the two, NAME.VARIANT.probabilities the
softmax of similarities times 'logit_scale'. A port has the space of 'spaces' if every cosine of its embedding and the
one here is at least 'min_cosine'. Embeddings were made by ONNX Runtime on the processor."""


@dataclass(frozen=True)
class FormulaClips:
    """A recording by formula and how it becomes clips."""

    name: str
    samples: Float32Array
    window: Window
    clips: Clips

    def describe(self) -> dict[str, Any]:
        """Return what the description holds of it."""
        content = self.samples.astype("<f4").tobytes()
        return {
            "name": self.name,
            "samples": len(self.samples),
            "sha256": hashlib.sha256(content).hexdigest(),
            "window": self.window,
            "spans": self.clips.spans,
        }


def write_vectors(bundle: Bundle, target: Path) -> list[str]:
    """Write the test vectors of every variant of a bundle, computed on the CPU.

    Args:
        bundle: the model.
        target: the file; it appears whole or not at all.

    Returns:
        The names of the recordings.

    Raises:
        BundleError: the bundle is damaged.
        StorageError: the file cannot be written.
    """
    arrays: Arrays = {}
    recordings: list[FormulaClips] = []
    labels: EmbeddedLabels | None = None
    for variant in bundle.variants("audio"):
        with Engine.load(bundle.directory, provider="cpu", precision=variant) as engine:
            recordings = recordings or list(formula_clips(engine))
            labels = _labels(engine)
            if labels is not None:
                arrays[f"labels.{variant}"] = labels.embeddings
            for recording in recordings:
                found = _expected(engine, recording, labels)
                arrays |= {f"{recording.name}.{variant}.{part}": array for part, array in found.items()}
    for recording in recordings:
        arrays[f"{recording.name}.log_mel"] = recording.clips.features
        arrays[f"{recording.name}.is_longer"] = recording.clips.is_longer
    about = {**_describe(bundle.manifest, labels), "recordings": [recording.describe() for recording in recordings]}
    _write(target, about, arrays)
    return [recording.name for recording in recordings]


def formula_clips(engine: Engine) -> Iterator[FormulaClips]:
    """Yield the recordings with their clips: the long one in sliding clips and, where the model fuses, fused."""
    front_end = engine.bundle.manifest.front_end
    for name, samples in named_recordings(front_end).items():
        windows: dict[str, Window] = {name: "first" if name != "long" else "slide"}
        if name == "long" and front_end.fusion:
            windows["fused"] = "fuse"
        for own, window in windows.items():
            yield FormulaClips(own, samples, window, engine.clip_maker(samples, ClipOptions(window)))


def _expected(engine: Engine, recording: FormulaClips, labels: EmbeddedLabels | None) -> Arrays:
    """Return the embeddings and scores of a recording by name."""
    clips = engine.audio_tower.embed(recording.clips.features, recording.clips.is_longer)
    embedding = mean_embedding(clips)
    found: Arrays = {"clips": clips, "embedding": embedding}
    if labels is not None:
        scorer = Scorer(labels, engine.bundle.manifest.logit_scale)
        (cosines,) = scorer.similarities(embedding[None])
        found |= {"similarities": cosines, "probabilities": probabilities(cosines, scorer.logit_scale)}
    return found


def _labels(engine: Engine) -> EmbeddedLabels | None:
    """Return labels of a bundle: words if it reads them, else those of its first set that are not hidden."""
    if engine.bundle.files("text"):
        return engine.embed_labels(LabelSet.of(WORDS))
    stored = next(iter(engine.bundle.label_sets), None)
    return None if stored is None else engine.stored_labels(stored)


def _describe(manifest: Manifest, labels: EmbeddedLabels | None) -> dict[str, Any]:
    """Return the description of the file, less that of the recordings."""
    named = [] if labels is None else labels.label_set.labels
    shown = [{"name": label.name, "prompts": label.prompts} for label in named]
    return {
        "readme": README,
        "schema": 1,
        "model": manifest.model,
        "weights": manifest.weights,
        "spaces": manifest.spaces,
        "min_cosine": SAME_COSINE,
        "logit_scale": manifest.logit_scale / (1 if labels is None else labels.temperature),
        "front_end": msgspec.to_builtins(manifest.front_end),
        "labels": shown,
        "made_with": {
            "clapedge": __version__,
            "onnxruntime": onnxruntime.__version__,
            "machine": platform.machine(),
        },
    }


def _write(target: Path, about: Mapping[str, Any], arrays: Arrays) -> None:
    """Write the description and the arrays, the same bytes for the same content."""
    text = json.dumps(about, ensure_ascii=False, indent=1) + "\n"
    with (
        atomic_write(target) as temporary,
        temporary.open("wb") as stream,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        archive.writestr(_member(DESCRIPTION), text)
        for name, array in sorted(arrays.items()):
            with archive.open(_member(f"{name}.npy"), "w") as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


def _member(name: str) -> zipfile.ZipInfo:
    """Return a compressed member without a time."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry
