"""The INT8 variant for CPUs: products whose scales are computed at run time."""

import tempfile
from pathlib import Path

import onnx
from onnx import ModelProto
from onnxruntime.quantization import QuantType, quantize_dynamic

from clapedge_export.cpu_graph import for_cpu
from clapedge_export.graph_rules import check_graph
from clapedge_export.quiet import quiet

FLOAT_LAYERS = ("patches", "mean", "projection")
"""Layers that stay in float: the first and the last products cost little time and, in INT8, most of the accuracy."""


def dynamic_int8(model: ModelProto) -> ModelProto:
    """Return a copy of a tower, traced for one row, whose products with constant weights are INT8.

    Scales of activations are computed at run time; weights are signed, with one scale per output channel. Products
    between activations (attention), the patch embedding and the projection stay in float32.
    """
    source = ModelProto()
    source.CopyFrom(model)  # the quantizer changes its argument
    named = [node.name for node in model.graph.node if node.name.startswith(FLOAT_LAYERS)]
    left = [*named, *(f"{name}_MatMul" for name in named)]  # the second is the quantizer's name for a Gemm
    with quiet(), tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "int8.onnx"
        quantize_dynamic(
            source,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=left,
            extra_options={"MatMulConstBOnly": True},
        )
        quantized = onnx.load(path)
    joined = for_cpu(quantized)
    check_graph(joined, branches=True)
    return joined
