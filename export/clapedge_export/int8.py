"""The INT8 variant for CPUs: products whose scales are computed at run time, tables of rows with a scale each."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from clapedge_export.cpu_graph import for_cpu
from clapedge_export.graph_rules import check_graph
from clapedge_export.quiet import quiet

FLOAT_LAYERS = ("patches", "mean", "projection")
"""Layers that stay in float: the first and the last products cost little time and, in INT8, most of the accuracy."""

INT8_TOP = 127
"""Largest magnitude of a row's elements: -128 is left out, so that the scale is symmetric."""


def dynamic_int8(model: ModelProto) -> ModelProto:
    """Return a copy of a tower, traced for one row, whose products with constant weights are INT8.

    Scales of activations are computed at run time; weights are signed, with one scale per output channel. Products
    between activations (attention), the patch embedding and the projection stay in float32. The tables of words and
    places are INT8 with one scale a row.
    """
    source = ModelProto()
    source.CopyFrom(model)  # the quantizer changes its argument
    _quantize_tables(source)
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


def _quantize_tables(model: ModelProto) -> None:
    """Keep in INT8, with one scale a row, every matrix of which a graph only takes whole rows, as a text tower's words.

    The rows that are taken become float32 again: two small nodes more, where the table was two thirds of the file. It
    is Cast and Mul, as DequantizeLinear knows no scales that depend on what was taken.
    """
    graph = model.graph
    matrices = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}  # noqa: PLR2004 - rows, width
    gathers = [node for node in graph.node if node.op_type == "Gather" and node.input[0] in matrices]
    taken = [node for node in gathers if not any(attribute.i for attribute in node.attribute)]  # along axis 0
    for node in taken:
        (table, index), (result,) = node.input, node.output
        rounded, scale = f"{table}_int8", f"{table}_scale"
        new = [
            helper.make_node("Gather", [rounded, index], [f"{result}_int8"], name=f"{node.name}_int8"),
            helper.make_node("Gather", [scale, index], [f"{result}_scale"], name=f"{node.name}_scale"),
            helper.make_node(
                "Cast", [f"{result}_int8"], [f"{result}_float"], name=f"{node.name}_float", to=TensorProto.FLOAT
            ),
            helper.make_node("Mul", [f"{result}_float", f"{result}_scale"], [result], name=f"{node.name}_scaled"),
        ]
        place = list(graph.node).index(node)
        graph.node.remove(node)
        for offset, each in enumerate(new):
            graph.node.insert(place + offset, each)
    used = {name for node in graph.node for name in node.input}
    for table in {node.input[0] for node in taken}:
        graph.initializer.extend(_int8_rows(matrices[table]))
        if table not in used:
            graph.initializer.remove(matrices[table])


def _int8_rows(table: TensorProto) -> list[TensorProto]:
    """Return a table (rows, width) in INT8, and its scales (rows, 1)."""
    values = numpy_helper.to_array(table)
    scales = np.maximum(np.abs(values).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / INT8_TOP
    rounded = np.clip(np.rint(values / scales), -INT8_TOP, INT8_TOP).astype(np.int8)
    return [
        numpy_helper.from_array(rounded, f"{table.name}_int8"),
        numpy_helper.from_array(scales.astype(np.float32), f"{table.name}_scale"),
    ]
