"""A graph that reads its weights from the file of another one, so that they lie on the disk once.

It is the form that ONNX has for data outside of a graph; the file has to lie beside the graph's own.
"""

from pathlib import Path

from onnx import ModelProto
from onnx.external_data_helper import set_external_data

LEAST_SHARED = 1024
"""Bytes of the smallest tensor that is read from another graph's file: to name one takes about a hundred."""


def share_weights(model: ModelProto, owner: Path) -> None:
    """Let a graph read its weights from another one's file wherever the same bytes are there."""
    content, place = owner.read_bytes(), 0
    for tensor in model.graph.initializer:
        raw = tensor.raw_data
        if len(raw) < LEAST_SHARED:
            continue
        found = content.find(raw, place)  # in the same order, mostly
        found = content.find(raw) if found < 0 else found
        if found >= 0:
            place = found + len(raw)
            set_external_data(tensor, owner.name, offset=found, length=len(raw))
            tensor.ClearField("raw_data")
