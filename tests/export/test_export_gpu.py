"""What a GPU asks of a graph, checked without one: operators that it has kernels for, sizes that are known beforehand.

Whether a session then really runs there is counted when it is opened, and by `make gpu-check`.
"""

import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, shape_inference

from clapedge.model.bundle import Bundle, Variant
from clapedge.model.gpu_tower import BUCKETS
from clapedge_export.graph_rules import OPSET

ELEMENTWISE = frozenset({"Add", "Cast", "Clip", "Div", "Gelu", "Mul", "Relu", "Sqrt", "Sub", "Tanh"})
PRODUCTS = frozenset({"Gemm", "LayerNormalization", "MatMul", "Softmax"})
SHAPES = frozenset({"Gather", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
CUDA_OPERATORS = ELEMENTWISE | PRODUCTS | SHAPES
"""Operators of opset 20 with float and float16 kernels since ONNX Runtime 1.18: its `docs/OperatorKernels.md`.

Not among them: `Pad`, which has none before 1.25; `Split`, which copies uneven sizes from the host at every run; and
reductions, which take cuDNN for some sizes and add in half for others.
"""
TENSORRT_OPERATORS = CUDA_OPERATORS
"""Operators that TensorRT 10 parses: `docs/operators.md` of onnx-tensorrt."""


def operator_faults(model: ModelProto, operators: frozenset[str]) -> list[str]:
    """Name the nodes with an operator that is not among some."""
    return [f"{node.op_type} {node.name}" for node in model.graph.node if node.op_type not in operators or node.domain]


def size_faults(model: ModelProto, batch: int) -> list[str]:
    """Name the values whose sizes are unknown once the batch is known."""
    fixed = ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param == "batch":
                size.dim_value = batch
    inferred = shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True).graph
    known = {
        value.name
        for value in (*inferred.value_info, *inferred.output)
        if all(size.HasField("dim_value") for size in value.type.tensor_type.shape.dim)
    }
    return [name for node in inferred.node for name in node.output if name and name not in known]


def graph_of(bundle: Bundle, variant: Variant) -> ModelProto:
    return onnx.load(bundle.path(bundle.file("audio", variant)))


@pytest.mark.parametrize("variant", ["fp32", "fp16"])
def test_cuda_has_a_kernel_for_every_operator(bundle: Bundle, variant: Variant) -> None:
    assert operator_faults(graph_of(bundle, variant), CUDA_OPERATORS) == []


@pytest.mark.parametrize("variant", ["fp32", "fp16"])
def test_tensorrt_parses_every_operator(bundle: Bundle, variant: Variant) -> None:
    assert operator_faults(graph_of(bundle, variant), TENSORRT_OPERATORS) == []


@pytest.mark.parametrize("batch", sorted(BUCKETS))
@pytest.mark.parametrize("variant", ["fp32", "fp16"])
def test_every_size_is_known_once_the_batch_is(bundle: Bundle, variant: Variant, batch: int) -> None:
    graph = graph_of(bundle, variant)
    assert [node.op_type for node in graph.graph.node if node.op_type in {"Shape", "Size", "Range"}] == []
    assert size_faults(graph, batch) == []


def test_int8_of_the_cpu_is_none_for_a_gpu(bundle: Bundle) -> None:
    found = {fault.split()[0] for fault in operator_faults(graph_of(bundle, "int8"), TENSORRT_OPERATORS)}
    assert {"DynamicQuantizeLinear", "MatMulIntegerToFloat", "If"} <= found


def test_a_size_that_depends_on_data_is_found() -> None:
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch"]),
        helper.make_tensor_value_info("y", TensorProto.INT64, [1, None]),
    ]
    graph = helper.make_graph([helper.make_node("NonZero", ["x"], ["y"])], "one", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    assert size_faults(model, 8) == ["y"]
    assert operator_faults(model, CUDA_OPERATORS) == ["NonZero "]
