"""Every exported graph, run by ONNX Runtime, against transformers' own `ClapModel`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import tokenizers
import torch
from transformers import ClapModel

from clapedge.arrays import BoolArray, Float32Array
from clapedge.errors import ModelError, ParityError
from clapedge.features.clips import ClipMaker, ClipOptions
from clapedge.features.front_end import FrontEnd
from clapedge.features.padding import pad_samples
from clapedge.features.strips import Strips, strip_seconds
from clapedge.model import proof_inputs
from clapedge.model.bundle import Variant
from clapedge.model.collapse import likeness
from clapedge.model.sessions import session_options
from clapedge.model.towers import AudioTower
from clapedge_export import front_end_graph
from clapedge_export.checkpoint import Checkpoint
from clapedge_export.half_arithmetic import LARGEST_HALF, MARGIN, HalfArithmetic
from clapedge_export.signals import extreme_clips, extreme_recordings

MAX_ERROR = {"fp32": 2e-6}
"""Largest difference of an embedding's element: float32 rounds sums of some hundred terms by about 1e-7."""

MIN_COSINE = {"fp32": 0.999999, "fp16": 0.9999, "int8": 0.995}
"""Least cosine between an embedding and its reference: what rounding to 11 bits and to 8 bits leaves, with a margin."""

SHORT_SOUNDS = 8
"""Sounds by which a short tower is compared with the whole one."""

ADVICE: dict[Variant, str] = {
    "fp32": "report the checkpoint, since it is of a kind that was never tried",
    "fp16": "export it without fp16",
    "int8": "export it without int8, and make that variant with recordings: clapedge calibrate BUNDLE --audio DIR",
}
"""What to do about a variant over its tolerance."""

PROMPTS = (
    *proof_inputs.PROMPTS,
    "A high-pitched grinding squeal of a dry bearing, then silence; somewhere behind it a fan hums at a steady pitch.",
    "a door slams " * 60,
)
"""Those of the proof first; prompts of one token and of more than a model reads, in and beyond ASCII."""


@dataclass(frozen=True, eq=False)
class AudioCases:
    """Inputs of an audio tower and the reference's answers.

    Attributes:
        features: (N, channels, frames, mels) float32 dB.
        is_longer: (N,) bool.
        batches: sizes of the batches that are run, N in sum.
        expected: (N, E) float32, unit norm.
        proof: how many of them, the first, are those of the bundle's proof.
    """

    features: Float32Array
    is_longer: BoolArray
    batches: tuple[int, ...]
    expected: Float32Array
    proof: int


@dataclass(frozen=True, eq=False)
class TextCases:
    """Inputs of a text tower, padded to one length, and the reference's answers (N, E) float32, unit norm."""

    ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.int64]
    expected: Float32Array


def audio_cases(model: ClapModel, front_end: FrontEnd, *, extremes: bool = False) -> AudioCases:
    """Let the reference embed the recordings of the proof, each alone, then others: short, long, mixed, short together.

    Args:
        model: the reference.
        front_end: of the checkpoint.
        extremes: whether recordings at the ends of what a tower is given follow, each alone; see `extreme_clips`.
    """
    long = [False, True, False, True, True, False, False, False] if front_end.fusion else [False] * 5
    batches: tuple[int, ...] = (1, 1, 3, 3) if front_end.fusion else (1, 1, 3)
    proof = list(proof_inputs.proof_clips(ClipMaker(front_end)))
    others = np.stack([_recording(front_end, seed) for seed in range(len(long))])
    features = np.concatenate([*(clips.features for clips in proof), others])
    is_longer = np.concatenate([*(clips.is_longer for clips in proof), np.array(long)])
    batches = (1,) * len(proof) + batches
    if extremes:
        clips = extreme_clips(front_end).values()
        features = np.concatenate([features, *(clip for clip, _ in clips)])
        is_longer = np.concatenate([is_longer, *(flag for _, flag in clips)])
        batches += (1,) * len(clips)
    expected = _embedded(model, features, is_longer, batches)
    return AudioCases(features, is_longer, batches, expected, len(proof))


@torch.inference_mode()
def _embedded(model: ClapModel, features: Float32Array, is_longer: BoolArray, batches: tuple[int, ...]) -> Float32Array:
    """Let the reference embed clips in batches: it decides about the fusion of a batch as a whole."""
    sizes = list(batches)
    parts = zip(torch.from_numpy(features).split(sizes), torch.from_numpy(is_longer).split(sizes), strict=True)
    rows = [model.get_audio_features(input_features=part, is_longer=flags).pooler_output for part, flags in parts]
    return np.asarray(torch.cat(rows).numpy(), np.float32)


def short_cases(model: ClapModel, front_end: FrontEnd, strips: Strips) -> AudioCases:
    """Let the reference embed whole clips, each one sound repeated that fills so many strips; a short tower hears less.

    Returns:
        The features are those of a short tower's strips; none of the cases is of the bundle's proof.
    """
    length = round(strip_seconds(strips, front_end) * front_end.sample_rate)
    maker = ClipMaker(front_end)
    sounds = [_sound(front_end, np.random.default_rng(seed))[:length] for seed in range(SHORT_SOUNDS)]
    whole = np.concatenate([maker(sound).features for sound in sounds])
    short = np.concatenate([maker(sound, ClipOptions(strips=strips)).features for sound in sounds])
    alone, flags = (1,) * len(sounds), np.zeros(len(sounds), np.bool_)
    return AudioCases(short, flags, alone, _embedded(model, whole, flags, alone), 0)


@torch.inference_mode()
def text_cases(checkpoint: Checkpoint) -> TextCases:
    """Let the reference embed prompts of different lengths, the short ones padded."""
    encoder = tokenizers.Tokenizer.from_str(checkpoint.tokenizer.decode())
    encoder.enable_truncation(checkpoint.max_tokens)
    encoder.enable_padding(pad_id=checkpoint.model.text_model.config.pad_token_id)
    encoded = encoder.encode_batch(list(PROMPTS))
    ids = np.array([entry.ids for entry in encoded], np.int64)
    mask = np.array([entry.attention_mask for entry in encoded], np.int64)
    output = checkpoint.model.get_text_features(torch.from_numpy(ids), torch.from_numpy(mask))
    return TextCases(ids, mask, output.pooler_output.numpy())


def check_distinction(checkpoint: Checkpoint, tower: Literal["audio", "text"], cases: AudioCases | TextCases) -> None:
    """Raise if the reference itself gives nearly the same embedding for different inputs, or no numbers.

    A graph reproduces such a model exactly, and would be called verified, though its scores mean nothing. So it is
    refused, whatever else the bundle would hold: the place to notice is where the checkpoint can still be exchanged.

    Raises:
        ModelError: it does.
    """
    fault = likeness(cases.expected).fault
    if fault:
        raise ModelError(
            f"the {tower} tower of {checkpoint.name} {fault}, so scores would mean nothing; download its weights "
            "again, or take another checkpoint"
        )


def verify_audio(path: Path, cases: AudioCases, variant: Variant) -> dict[str, float]:
    """Compare an exported audio tower with the reference and return the figures of a manifest.

    Raises:
        ParityError: it differs by more than the variant's tolerance.
    """
    tower = AudioTower(path)
    ends = np.cumsum(cases.batches)[:-1]
    runs = zip(np.split(cases.features, ends), np.split(cases.is_longer, ends), strict=True)
    found = np.concatenate([tower.embed(features, is_longer) for features, is_longer in runs])
    figures = _compare(found, cases.expected, path, variant)
    if variant != "fp16":
        return figures
    return _verify_half(path, {"input_features": cases.features, "is_longer": cases.is_longer}, cases.expected)


def verify_short(path: Path, tower: torch.nn.Module, cases: AudioCases, variant: Variant) -> dict[str, float]:
    """Compare an exported short tower with its own form in PyTorch, and with what the whole model gives.

    Args:
        path: of the graph.
        tower: what it was exported from, in evaluation mode; the graph has to reproduce it.
        cases: see `short_cases`.
        variant: precision of the graph.

    Returns:
        `max_abs_error` to the former; `min_cosine` and `mean_cosine` to the latter, which say what is lost.

    Raises:
        ParityError: it does not reproduce its own form.
    """
    found = AudioTower(path).embed(cases.features, cases.is_longer)
    with torch.inference_mode():
        expected = tower(torch.from_numpy(cases.features)).numpy()
    figures = _compare(found, expected, path, variant)
    cosines = (found.astype(np.float64) * cases.expected).sum(axis=1)
    return {**figures, "min_cosine": min(float(cosines.min()), 1.0), "mean_cosine": min(float(cosines.mean()), 1.0)}


def verify_front_end(path: Path, front_end: FrontEnd) -> dict[str, float]:
    """Compare an exported front end with the engine's own and return the figures of a manifest.

    Raises:
        ParityError: it differs by more than its tolerance.
    """
    session = onnxruntime.InferenceSession(path, session_options(None), providers=["CPUExecutionProvider"])
    log_mel, error = ClipMaker(front_end).log_mel, 0.0
    for recording in extreme_recordings(front_end).values():
        samples = pad_samples(recording[: front_end.clip_samples], front_end.clip_samples, "repeatpad")
        (found,) = session.run(None, {"samples": samples[None]})
        error = max(error, float(np.abs(found[0] - log_mel(samples)).max()))
    if not error <= front_end_graph.MAX_ERROR:  # also true of NaN
        raise ParityError(
            f"{path.name} differs from the front end by {error:.2g} dB (at most {front_end_graph.MAX_ERROR}); "
            "export it without fp16"
        )
    return {"max_error_db": error}


def verify_text(path: Path, cases: TextCases, variant: Variant) -> dict[str, float]:
    """Compare an exported text tower with the reference and return the figures of a manifest.

    The prompts run once together, padded, and once each by itself, as the engine runs them.

    Raises:
        ParityError: it differs by more than the variant's tolerance.
    """
    # a session of its own, since the engine's tower never pads
    session = onnxruntime.InferenceSession(path, session_options(None), providers=["CPUExecutionProvider"])
    fixed = isinstance(session.get_inputs()[0].shape[0], int)

    def embed(ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> Float32Array:
        if fixed and len(ids) > 1:
            return np.concatenate([embed(ids[i : i + 1], mask[i : i + 1]) for i in range(len(ids))])
        (rows,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
        return np.asarray(rows, np.float32)

    alone = [
        embed(ids[None, : mask.sum()], mask[None, : mask.sum()])
        for ids, mask in zip(cases.ids, cases.mask, strict=True)
    ]
    found = np.concatenate([embed(cases.ids, cases.mask), *alone])
    figures = _compare(found, np.concatenate([cases.expected, cases.expected]), path, variant)
    if variant != "fp16":
        return figures
    return _verify_half(path, {"input_ids": cases.ids, "attention_mask": cases.mask}, cases.expected)


def _verify_half(path: Path, inputs: Mapping[str, npt.NDArray[Any]], expected: Float32Array) -> dict[str, float]:
    """Compare a tower with the reference as a device computes it that has half precision, see `half_arithmetic`.

    Raises:
        ParityError: it overflows, comes too near to that, or differs by more than the tolerance.
    """
    run = HalfArithmetic(onnx.load(path)).run(inputs)
    value, node = run.peak
    if value > LARGEST_HALF / MARGIN:
        raise ParityError(
            f"{path.name} comes too near to the end of half precision, which is {LARGEST_HALF:.0f}: {value:.4g} in "
            f"{node}, at most {LARGEST_HALF / MARGIN:.0f} are allowed; export it without fp16"
        )
    return {**_compare(run.embeddings, expected, path, "fp16"), "largest_half": value}


def _compare(found: Float32Array, expected: Float32Array, path: Path, variant: Variant) -> dict[str, float]:
    """Measure the distance of embeddings from the reference and hold it against the tolerance."""
    error = float(np.abs(found.astype(np.float64) - expected).max())
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosine = float(((found.astype(np.float64) * expected).sum(axis=1) / norms).min())
    limit, least = MAX_ERROR.get(variant, np.inf), MIN_COSINE[variant]
    if not (error <= limit and cosine >= least):  # also true of NaN
        raise ParityError(
            f"{path.name} does not reproduce the original model: largest error {error:.2g} (at most {limit:.2g}), "
            f"least cosine {cosine:.6f} (at least {least}); {ADVICE[variant]}"
        )
    return {"max_abs_error": error, "min_cosine": min(cosine, 1.0), "embeddings": float(len(found))}


def _recording(front_end: FrontEnd, seed: int) -> Float32Array:
    """Return log-mels (channels, frames, mels) of different sounds, see `_sound`."""
    log_mel = ClipMaker(front_end).log_mel
    generator = np.random.default_rng(seed)
    return np.stack([log_mel(_sound(front_end, generator)) for _ in range(front_end.channels)])


def _sound(front_end: FrontEnd, generator: np.random.Generator) -> Float32Array:
    """Return a clip (samples,) of chirps, bursts and noise at everyday levels."""
    seconds = np.arange(front_end.clip_samples) / front_end.sample_rate
    low, sweep, rate = generator.uniform([80.0, 10.0, 0.5], [2000.0, 600.0, 6.0])
    chirp = np.sin(2 * np.pi * (low * seconds + sweep * seconds**2 / 2))
    bursts = (np.sin(2 * np.pi * rate * seconds) > generator.uniform(-0.5, 0.9)).astype(np.float64)
    noise = generator.normal(size=len(seconds)) * 10 ** generator.uniform(-4, -1)
    return (0.3 * chirp * bursts + noise).astype(np.float32)
