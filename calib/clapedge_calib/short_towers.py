"""Short INT8 towers of a calibrated bundle: those of FP32 in INT8, beside the calibrated tower and measured against it.

Their scales of activations are computed at run time, as in an export; weights that calibration left as they were are
read from its tower's file.
"""

from pathlib import Path

import msgspec
import numpy as np
import onnx

from clapedge.arrays import Float32Array
from clapedge.features.clips import ClipMaker, ClipOptions
from clapedge.features.front_end import FrontEnd
from clapedge.features.strips import Strips, strip_seconds
from clapedge.model.bundle import Bundle, BundleFile, Tensor, describe
from clapedge.model.proof_inputs import named_recordings
from clapedge.model.towers import AudioTower
from clapedge_export.graph_rules import opset_of
from clapedge_export.int8 import dynamic_int8
from clapedge_export.shared_weights import share_weights

SOUNDING = {"chirp": 1.0, "tone": 0.5, "hiss": 1.0}
"""Recordings of a proof, and the share of each that is no silence."""


def short_name(whole: str, strips: int) -> str:
    """Return the name of a short tower's file beside that of the whole tower."""
    return whole.replace(".onnx", f".strips{strips}.onnx")


def make_short_towers(bundle: Bundle, whole: str) -> list[BundleFile]:
    """Write short INT8 towers beside a calibrated one.

    Args:
        bundle: holds the short towers in FP32.
        whole: name of the calibrated tower's file.

    Returns:
        Their entries of a manifest: `min_cosine` and `mean_cosine` are to the calibrated tower.
    """
    made = []
    for file in bundle.files("short"):
        if file.variant == "fp32" and file.strips is not None:
            name = short_name(whole, file.strips)
            quantized = _quantized(bundle.path(file))
            share_weights(quantized, bundle.directory / whole)
            (bundle.directory / name).write_bytes(quantized.SerializeToString(deterministic=True))
            entry = describe(
                bundle.directory,
                name,
                role="short",
                variant="int8",
                strips=file.strips,
                opset=opset_of(quantized),
                inputs=tuple(map(_of_one_row, file.inputs)),
                outputs=tuple(map(_of_one_row, file.outputs)),
                checks=_figures(bundle, file, name, whole),
            )
            made.append(entry)
    return made


def _quantized(path: Path) -> onnx.ModelProto:
    """Return a graph in INT8; it takes one row, since scales are found in what it is given."""
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        size = value.type.tensor_type.shape.dim[0]
        size.Clear()
        size.dim_value = 1
    return dynamic_int8(model)


def _of_one_row(tensor: Tensor) -> Tensor:
    """Return the description of a tensor of one clip."""
    return msgspec.structs.replace(tensor, shape=(1, *tensor.shape[1:]))


def _figures(bundle: Bundle, reference: BundleFile, name: str, whole: str) -> dict[str, float]:
    """Compare a short tower with its FP32 form, and with the calibrated tower, on sounds that fill its strips."""
    strips, front_end = reference.strips or 1, bundle.manifest.front_end
    maker, sounds = ClipMaker(front_end), _sounds(front_end, strips)
    flag = np.zeros(1, np.bool_)
    short, exact, entire = (AudioTower(bundle.directory / path) for path in (name, reference.path, whole))
    found, expected, full = (
        np.concatenate([tower.embed(maker(sound, options).features, flag) for sound in sounds])
        for tower, options in (
            (short, ClipOptions(strips=strips)),
            (exact, ClipOptions(strips=strips)),
            (entire, ClipOptions()),
        )
    )
    cosines = (found.astype(np.float64) * full).sum(axis=1)
    return {
        "max_abs_error": float(np.abs(found - expected).max()),
        "min_cosine": min(float(cosines.min()), 1.0),
        "mean_cosine": min(float(cosines.mean()), 1.0),
        "embeddings": float(len(sounds)),
    }


def _sounds(front_end: FrontEnd, strips: Strips) -> list[Float32Array]:
    """Return sounds that are as long as strips, cut from the recordings of a proof."""
    length, sounds = round(strip_seconds(strips, front_end) * front_end.sample_rate), []
    for name, share in SOUNDING.items():
        samples = named_recordings(front_end)[name]
        samples = samples[: round(len(samples) * share)]
        pieces = max(1, len(samples) // length)
        sounds += [np.resize(samples[piece * length :], length) for piece in range(pieces)]
    return sounds
