"""Towers to ONNX graphs: export, tidying, the rules that every graph keeps, and half precision."""

import ast
import copy
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import onnx
import torch
from onnx import ModelProto, ValueInfoProto
from torch import nn
from torch.onnx.errors import OnnxExporterError

from clapedge.errors import ModelError
from clapedge.features.front_end import FrontEnd
from clapedge.features.strips import strip_frames
from clapedge.model.bundle import Tensor
from clapedge_export.audio_tower import AudioTower, Block
from clapedge_export.graph_rules import OPSET, TRIED_VERSIONS, check_graph
from clapedge_export.quiet import first_line, quiet
from clapedge_export.text_tower import TextTower

Tower = TypeVar("Tower", AudioTower, TextTower)

FLOAT32_LAYERS = ("resize", "unit")
"""Layers that half precision leaves in float32: dB values at one end, the division by the norm at the other."""

SCOPES = "pkg.torch.onnx.name_scopes"
"""Node metadata in which PyTorch's exporter names the modules that a node comes from."""


def export_audio(tower: AudioTower, front_end: FrontEnd, *, batch: int | None = None) -> ModelProto:
    """Export an audio tower.

    Args:
        tower: in evaluation mode.
        front_end: gives the shape of a clip's features.
        batch: number of clips that the graph takes, None for any number.

    Returns:
        A graph from `input_features` (batch, channels, frames, mels) float32 and, for fusion checkpoints, `is_longer`
        (batch,) bool to `embeddings` (batch, size) float32.
    """
    rows = batch or 2  # one would be taken for a constant
    inputs = {"input_features": torch.zeros(rows, front_end.channels, front_end.clip_frames, front_end.n_mels)}
    if front_end.fusion:
        inputs["is_longer"] = torch.zeros(rows, dtype=torch.bool)
    axes: dict[str, dict[int, str]] = {name: {0: "batch"} for name in inputs} if batch is None else {}
    return _export(tower, inputs, axes, name="clapedge_audio_tower")


def export_short(tower: AudioTower, front_end: FrontEnd, strips: int, *, batch: int | None = None) -> ModelProto:
    """Export a short audio tower.

    Args:
        tower: of that many strips, in evaluation mode.
        front_end: gives the shape of a clip's features.
        strips: that it looks at.
        batch: number of clips that the graph takes, None for any number.

    Returns:
        A graph from `input_features` (batch, 1, frames of the strips, mels) float32 to `embeddings` (batch, size)
        float32.
    """
    frames = len(strip_frames(strips, front_end.clip_frames))
    inputs = {"input_features": torch.zeros(batch or 2, 1, frames, front_end.n_mels)}
    axes: dict[str, dict[int, str]] = {"input_features": {0: "batch"}} if batch is None else {}
    return _export(tower, inputs, axes, name="clapedge_short_audio_tower")


def export_text(tower: TextTower, *, batch: int | None = None) -> ModelProto:
    """Export a text tower.

    Args:
        tower: in evaluation mode.
        batch: number of prompts that the graph takes, None for any number.

    Returns:
        A graph from `input_ids` and `attention_mask`, (batch, tokens) int64, to `embeddings` (batch, size) float32.
    """
    inputs = {name: torch.ones(batch or 2, 5, dtype=torch.long) for name in ("input_ids", "attention_mask")}
    axes = {name: {1: "tokens"} if batch else {0: "batch", 1: "tokens"} for name in inputs}
    return _export(tower, inputs, axes, name="clapedge_text_tower")


def tensors(values: Iterable[ValueInfoProto]) -> tuple[Tensor, ...]:
    """Describe the inputs or outputs of a graph as a manifest does."""
    described = []
    for value in values:
        kind = value.type.tensor_type
        shape = tuple(size.dim_param or size.dim_value for size in kind.shape.dim)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        described.append(Tensor(name=value.name, dtype=dtype, shape=shape))
    return tuple(described)


def save(model: ModelProto, path: Path) -> None:
    """Write a graph as one file; the same graph gives the same bytes."""
    path.write_bytes(model.SerializeToString(deterministic=True))


def _export(
    tower: nn.Module, inputs: dict[str, torch.Tensor], axes: dict[str, dict[int, str]], *, name: str
) -> ModelProto:
    """Run PyTorch's exporter quietly and tidy what it returns."""
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                tower.eval(),
                tuple(inputs.values()),
                None,
                input_names=list(inputs),
                output_names=["embeddings"],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=tuple(axes.get(key, {}) for key in inputs) if axes else None,
                verbose=False,
            )
    except OnnxExporterError as error:
        raise ModelError(f"PyTorch cannot export {name} ({first_line(error)}); {TRIED_VERSIONS}") from error
    if program is None:
        raise ModelError(f"PyTorch returned no graph of {name}; {TRIED_VERSIONS}")
    model = program.model_proto
    del program
    _tidy(model, name)
    check_graph(model)
    return model


def half_precision(tower: Tower) -> Tower:
    """Return a float16 copy of a tower that takes and gives float32."""
    half = copy.deepcopy(tower)
    for layer in half.modules():
        if isinstance(layer, Block):
            layer.bake_masks()
    for name, layer in half.named_children():
        if name not in FLOAT32_LAYERS:
            layer.half()
    return half


def _tidy(model: ModelProto, name: str) -> None:
    """Name the nodes after the layers they belong to, and drop what describes the machine instead of the graph."""
    graph = model.graph
    graph.name = name
    for index, node in enumerate(graph.node):
        scopes = ast.literal_eval(next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]"))
        layer = scopes[-2] if len(scopes) > 1 and scopes[-2] else "tower"
        node.name = f"{layer}/{node.op_type}_{index}"
        node.doc_string = ""
        del node.metadata_props[:]
    for tensor in (*graph.initializer, *graph.input, *graph.output):
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    graph.doc_string = model.doc_string = ""
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
