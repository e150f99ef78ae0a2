"""The log-mel front end as a graph of its own, for a GPU that computes it faster than the CPU beside it.

- Input `samples` (batch, samples of a clip) float32 in ±1, mono at the front end's rate: a clip that fills its length
  already, as `pad_samples` makes it.
- Output `log_mels` (batch, channels, frames, mels) float32 dB: what `LogMel` makes of each row, within `MAX_ERROR`, as
  every channel of it: the input of a tower, in whose place a GPU writes it.

Frames are gathered, their reflection at both ends included; the Fourier transform is a product with the windowed
cosines and sines of the bins that a band weighs; the bank is another product, over the squares of both.

The transform is in float64, as that of `LogMel` is: in float32, bands of ordinary recordings were up to 1e-3 dB off,
and those more than 80 dB below a pure tone 0.6 dB. So it is for GPUs that compute float64 at half the rate of float32,
as an A100 or H100 does; those of desktops and of Jetson are far slower at it, and TensorRT has no float64.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper, numpy_helper

from clapedge.arrays import Float64Array, Int64Array
from clapedge.features.front_end import FrontEnd
from clapedge.features.log_mel import DECIBELS, FLOOR, mel_bank
from clapedge_export.graph_rules import MAX_IR_VERSION, OPSET, check_graph

MAX_ERROR = 1e-4
"""Largest difference of a log-mel in dB, silence included: float32 holds 100 dB to 8e-6, as does its logarithm."""


def export_front_end(front_end: FrontEnd) -> ModelProto:
    """Return the graph of a front end, for any number of clips; see the module."""
    bank = mel_bank(
        front_end.sample_rate,
        front_end.n_fft,
        front_end.n_mels,
        front_end.f_min,
        front_end.f_max,
        front_end.mel_scale,
    )
    used = np.flatnonzero(bank.any(axis=1))
    constants: dict[str, npt.NDArray[Any]] = {
        "places": frame_places(front_end).astype(np.int32),
        "basis": fourier_basis(front_end.n_fft, used),
        "bank": np.concatenate([bank[used], bank[used]]).astype(np.float32),
        "floor": np.array(FLOOR, np.float32),
        "channel": np.array([1], np.int64),
        "decibels": np.full((1, front_end.channels, 1, 1), DECIBELS, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["samples"], ["exact"], to=TensorProto.DOUBLE),
        helper.make_node("Gather", ["exact", "places"], ["frames"], axis=1),
        helper.make_node("MatMul", ["frames", "basis"], ["exact_spectra"]),
        helper.make_node("Cast", ["exact_spectra"], ["spectra"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["spectra", "spectra"], ["power"]),
        helper.make_node("MatMul", ["power", "bank"], ["bands"]),
        helper.make_node("Max", ["bands", "floor"], ["audible"]),
        helper.make_node("Log", ["audible"], ["nepers"]),
        helper.make_node("Unsqueeze", ["nepers", "channel"], ["one_channel"]),
        helper.make_node("Mul", ["one_channel", "decibels"], ["log_mels"]),
    ]
    for number, node in enumerate(nodes):
        node.name = f"front_end/{node.op_type}_{number}"
    size = [front_end.channels, front_end.clip_frames, front_end.n_mels]
    taken = helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["batch", front_end.clip_samples])
    given = helper.make_tensor_value_info("log_mels", TensorProto.FLOAT, ["batch", *size])
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "clapedge_front_end", [taken], [given], held),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=MAX_IR_VERSION,
    )
    check_graph(model)
    return model


def frame_places(front_end: FrontEnd) -> Int64Array:
    """Return which sample of a clip each place of each frame takes, (frames, n_fft); both ends are reflected."""
    starts = np.arange(front_end.clip_frames) * front_end.hop_length - front_end.n_fft // 2
    last = front_end.clip_samples - 1
    places: Int64Array = last - np.abs(last - np.abs(starts[:, None] + np.arange(front_end.n_fft)))
    return places


def fourier_basis(n_fft: int, bins: Int64Array) -> Float64Array:
    """Return the cosines and sines of some bins under a periodic Hann window, (n_fft, 2 * bins)."""
    phase = 2 * np.pi * (np.outer(np.arange(n_fft), bins) % n_fft) / n_fft
    window = np.hanning(n_fft + 1)[:-1, None]
    return np.concatenate([window * np.cos(phase), window * np.sin(phase)], axis=1)
