"""What half precision makes of a graph, found on a CPU: its rounding after every node, and how far from overflow it is.

ONNX Runtime's CPU provider has no kernels for half precision: it computes chains of nodes in float32 and rounds at
their ends, so that a value beyond 65504 in between passes unseen. Here the graph itself is rewritten: all is float32,
and what a node of half precision returns is rounded to half and back. That is also what a GPU does: the kernels of
products, LayerNormalization, Softmax and attention add in float32 and round what they store.

A product may be split along its inner size, and its parts be stored in half before they are added. Its bound is
therefore the sum of the absolute values of its terms, which no sum of some of them exceeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from clapedge.arrays import Float32Array
from clapedge.model.cpu import usable_cores
from clapedge.model.sessions import LOG_ERRORS_ONLY

LARGEST_HALF = 65_504.0
"""Largest finite number of half precision (IEEE 754 binary16)."""

MOVES = frozenset(
    {
        "Concat",
        "Expand",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
        "Where",
    }
)
"""Operators that return numbers as they are given: nothing to round, nothing to bound."""

PRODUCTS = frozenset({"Gemm", "MatMul"})
"""Operators that add up products of two inputs; a third input of Gemm is added to them."""


MARGIN = 4.0
"""How many times the largest value found must fit into the range: recordings that nobody tried may be louder."""


@dataclass(frozen=True, eq=False)
class HalfRun:
    """What a graph of half precision computes.

    Attributes:
        embeddings: (N, E) float32; not finite where something overflowed.
        largest: for each node of half precision that computes, the largest absolute value of its results and, of a
            product, of any part of its sums.
    """

    embeddings: Float32Array
    largest: dict[str, float]

    @property
    def peak(self) -> tuple[float, str]:
        """The largest of all values and the node that it belongs to, or the first value that overflows."""
        beyond = (node for node, value in self.largest.items() if value > LARGEST_HALF)
        node = next(beyond, max(self.largest, key=self.largest.__getitem__))
        return self.largest[node], node


class HalfArithmetic:
    """A graph of half precision, run on a CPU with its rounding."""

    def __init__(self, model: ModelProto) -> None:
        """Rewrite a graph and open a session on it.

        Args:
            model: with inputs and outputs of other types than half; it stays as it is.
        """
        emulated, self._nodes = _emulated(model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = LOG_ERRORS_ONLY
        options.intra_op_num_threads = usable_cores()
        # an optimiser would take the two casts for nothing
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(
            emulated.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> HalfRun:
        """Run the graph on inputs (N, ...) by name; those that it does not have are left out."""
        rows = len(next(iter(inputs.values())))
        size = self._session.get_inputs()[0].shape[0]
        batch = size if isinstance(size, int) else rows
        embeddings, largest = [], dict.fromkeys(self._nodes, 0.0)
        for start in range(0, rows, batch):
            taken = np.minimum(np.arange(start, start + batch), rows - 1)  # copies of the last row fill a fixed batch
            found, *bounds = self._session.run(
                None, {node.name: inputs[node.name][taken] for node in self._session.get_inputs()}
            )
            embeddings.append(found[: rows - start])
            for node, bound in zip(self._nodes, bounds, strict=True):
                largest[node] = max(largest[node], np.inf if np.isnan(bound) else float(bound))
        return HalfRun(np.concatenate(embeddings), largest)


def _emulated(model: ModelProto) -> tuple[ModelProto, list[str]]:
    """Return the graph in float32 with rounding, and the node that each of its further outputs bounds."""
    types = element_types(model)
    emulated = ModelProto()
    emulated.CopyFrom(model)
    graph = emulated.graph
    constants = [_float_constant(tensor) for tensor in graph.initializer]
    del graph.initializer[:], graph.node[:], graph.value_info[:]
    graph.initializer.extend(constants)
    bounded: list[str] = []
    for node in model.graph.node:
        computes = node.op_type not in MOVES and any(types[name] == TensorProto.FLOAT16 for name in node.output if name)
        nodes, bounds = _with_rounding(node) if computes else ([_float_node(node)], [])
        graph.node.extend(nodes)
        graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in bounds)
        bounded += [node.name] * len(bounds)
    return emulated, bounded


def _with_rounding(node: NodeProto) -> tuple[list[NodeProto], list[str]]:
    """Return a node whose results are rounded to half, with what bounds them, and the names of the bounds."""
    inner = _float_node(node)
    inner.output[:] = [f"{name}/exact" if name else "" for name in node.output]
    nodes, bounds = [inner], []
    for name in filter(None, node.output):
        nodes += [
            *_largest(f"{name}/exact", f"{name}/largest"),
            helper.make_node("Cast", [f"{name}/exact"], [f"{name}/half"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", [f"{name}/half"], [name], to=TensorProto.FLOAT),
        ]
        bounds.append(f"{name}/largest")
    if node.op_type in PRODUCTS:
        terms = f"{node.output[0]}/terms"
        absolute = [f"{terms}/{place}" for place in range(len(node.input))]
        summed = _float_node(node)
        summed.input[:], summed.output[:], summed.name = absolute, [terms], ""
        nodes += [helper.make_node("Abs", [name], [to]) for name, to in zip(node.input, absolute, strict=True)]
        nodes += [summed, *_largest(terms, f"{terms}/largest")]
        bounds.append(f"{terms}/largest")
    return nodes, bounds


def _largest(value: str, result: str) -> list[NodeProto]:
    """Return nodes that compute the largest absolute value of a tensor."""
    absolute = helper.make_node("Abs", [value], [f"{result}/absolute"])
    return [absolute, helper.make_node("ReduceMax", [f"{result}/absolute"], [result], keepdims=0)]


def element_types(model: ModelProto) -> dict[str, int]:
    """Return the element type of every value of a graph.

    ONNX infers nothing of ONNX Runtime's own operators: they return what their first input is.
    """
    graph = shape_inference.infer_shapes(model).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    types |= {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info)}
    types |= {value.name: value.type.tensor_type.elem_type for value in graph.output}
    for node in graph.node:
        for name in node.output:
            types.setdefault(name, types[node.input[0]] if node.input else TensorProto.UNDEFINED)
    return types


def _float_node(node: NodeProto) -> NodeProto:
    """Return a copy of a node that makes float32 of what it makes half precision of."""
    copied = NodeProto()
    copied.CopyFrom(node)
    for attribute in copied.attribute:
        if attribute.type == AttributeProto.TENSOR:
            attribute.t.CopyFrom(_float_constant(attribute.t))
        if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
            attribute.i = TensorProto.FLOAT
    return copied


def _float_constant(tensor: TensorProto) -> TensorProto:
    """Return a constant, in float32 if it is of half precision."""
    if tensor.data_type != TensorProto.FLOAT16:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
