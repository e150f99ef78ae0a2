"""A float32 tower to an INT8 one: static Q/DQ around each product's inputs, or scales found as it runs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from clapedge.mel import Float32Array
from clapedge_calib.layers import Layer, weight_of
from clapedge_calib.ranges import LEVELS, Range

Scheme = Literal["static", "dynamic"]

INT8_TOP = 127
"""Largest magnitude of a weight: −128 is left out, so that the scale is symmetric."""


def quantize_static(
    model: ModelProto, layers: Sequence[Layer], ranges: Mapping[str, Range], *, symmetric: bool
) -> ModelProto:
    """Return a copy in which the inputs of products pass through eight bits (QuantizeLinear, DequantizeLinear).

    Weights are signed, with one scale an output channel; biases and results stay in float.

    Args:
        model: float32 tower.
        layers: those that become INT8.
        ranges: of each activation that they multiply.
        symmetric: signed activations around zero (TensorRT, ARM), else unsigned ones (x86).
    """
    rewriter = _Rewriter(model)
    for layer in layers:
        activation = rewriter.through_int8(layer.activation, ranges[layer.activation], symmetric=symmetric)
        rewriter.take(layer, activation, rewriter.constant_int8(layer))
    return rewriter.finish()


def quantize_dynamic(model: ModelProto, layers: Sequence[Layer]) -> ModelProto:
    """Return a copy whose products are integer, with scales of activations found in what it is given.

    It takes one clip at a time, so that no clip depends on its neighbours.
    """
    rewriter = _Rewriter(model)
    by_node = {layer.node: layer for layer in layers}
    for node in list(rewriter.graph.node):
        if node.name in by_node:
            rewriter.make_dynamic(node, by_node[node.name])
    for value in (*rewriter.graph.input, *rewriter.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return rewriter.finish()


def int8_weight(weight: Float32Array, axis: int) -> tuple[npt.NDArray[np.int8], Float32Array]:
    """Quantise a weight with one symmetric scale an output channel.

    Returns:
        The weight in int8, and the scales (channels,).
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scales = np.maximum(np.abs(weight).max(axis=others), np.finfo(np.float32).tiny) / INT8_TOP
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    rounded = np.clip(np.rint(weight / scales.reshape(shape)), -INT8_TOP, INT8_TOP)
    return rounded.astype(np.int8), scales.astype(np.float32)


def tensorrt_faults(model: ModelProto) -> list[str]:
    """Return what in a graph TensorRT would not take, or not as INT8, one sentence each."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    faults = []
    for node in model.graph.node:
        if node.op_type in {"DynamicQuantizeLinear", "MatMulInteger", "STFT", "Resize", "If", "Loop"}:
            faults.append(f"{node.name} is a {node.op_type}")
        if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}:
            continue
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None  # noqa: PLR2004 - the zero point comes third
        if zero is None or zero.dtype != np.int8 or zero.any():
            faults.append(f"{node.name} is not symmetric int8")
        if node.op_type == "QuantizeLinear" and constants[node.input[1]].ndim:
            faults.append(f"{node.name} has several scales for an activation")
    return faults


class _Rewriter:
    """A copy of a graph under work."""

    def __init__(self, model: ModelProto) -> None:
        """Copy a graph."""
        self.model = ModelProto()
        self.model.CopyFrom(model)
        self.graph = self.model.graph
        self._source = model
        self._before: dict[str, list[NodeProto]] = {}

    def through_int8(self, tensor: str, values: Range, *, symmetric: bool) -> str:
        """Let an activation pass through eight bits, once, and return the name of what comes out."""
        result = f"{tensor}_dequantized"
        if tensor in self._before:
            return result
        if symmetric:
            step, zero = values.symmetric().high / INT8_TOP, np.int8(0)
        else:
            step = (values.high - values.low) / (LEVELS - 1)
            zero = np.uint8(np.clip(round(-values.low / step) if step else 0, 0, LEVELS - 1))
        scale = self.constant(f"{tensor}_scale", np.float32(max(step, np.finfo(np.float32).tiny)))
        point = self.constant(f"{tensor}_zero_point", zero)
        self._add(tensor, "QuantizeLinear", [tensor, scale, point], f"{tensor}_int8")
        self._add(tensor, "DequantizeLinear", [f"{tensor}_int8", scale, point], result)
        return result

    def constant_int8(self, layer: Layer) -> str:
        """Add a weight in int8 and the node that scales it back, once, and return the name of what comes out."""
        result = f"{layer.weight}_dequantized"
        if layer.weight in self._before:
            return result
        rounded, scales = int8_weight(weight_of(self._source, layer), layer.channel_axis)
        inputs = [
            self.constant(f"{layer.weight}_int8", rounded),
            self.constant(f"{layer.weight}_scale", scales),
            self.constant(f"{layer.weight}_zero_point", np.zeros(len(scales), np.int8)),
        ]
        self._add(layer.weight, "DequantizeLinear", inputs, result, axis=layer.channel_axis)
        return result

    def take(self, layer: Layer, activation: str, weight: str) -> None:
        """Let a product multiply other tensors."""
        for node in self.graph.node:
            if node.name == layer.node:
                node.input[0], node.input[1] = activation, weight

    def make_dynamic(self, node: NodeProto, layer: Layer) -> None:
        """Put an integer product in the place of a float one, in the shape that ONNX Runtime fuses to one kernel."""
        tensor, result = layer.activation, node.output[0]
        weight = weight_of(self._source, layer)
        rounded, scales = int8_weight(weight.T if layer.channel_axis == 0 else weight, 1)
        quantised = f"{tensor}_int8"
        if tensor not in self._before:
            found = [quantised, f"{tensor}_scale", f"{tensor}_zero_point"]
            name = f"{tensor}/DynamicQuantizeLinear"
            self._before[tensor] = [helper.make_node("DynamicQuantizeLinear", [tensor], found, name=name)]
        named = {suffix: f"{result}_{suffix}" for suffix in ("integer", "float", "scale")}
        integer = [
            quantised,
            self.constant(f"{layer.weight}_int8", rounded),
            f"{tensor}_zero_point",
            self.constant(f"{layer.weight}_zero_point", np.int8(0)),
        ]
        scale = self.constant(f"{layer.weight}_scale", scales)
        bias = list(node.input[2:])
        product = f"{result}_product" if bias else result
        new = [
            helper.make_node("MatMulInteger", integer, [named["integer"]], name=f"{layer.node}_integer"),
            helper.make_node(
                "Cast", [named["integer"]], [named["float"]], name=f"{layer.node}_cast", to=TensorProto.FLOAT
            ),
            helper.make_node("Mul", [f"{tensor}_scale", scale], [named["scale"]], name=f"{layer.node}_scales"),
            helper.make_node("Mul", [named["float"], named["scale"]], [product], name=f"{layer.node}_scaled"),
        ]
        if bias:
            new.append(helper.make_node("Add", [product, bias[0]], [result], name=f"{layer.node}_bias"))
        place = next(i for i, each in enumerate(self.graph.node) if each.name == node.name)
        self.graph.node.remove(node)
        for offset, each in enumerate(new):
            self.graph.node.insert(place + offset, each)

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        """Add a constant and return its name."""
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def finish(self) -> ModelProto:
        """Put each new node before the first that needs it, drop what is no longer used, and return the graph."""
        nodes = list(self._ordered())
        used = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.node[:], self.graph.initializer[:], self.graph.value_info[:]
        self.graph.node.extend(nodes)
        self.graph.initializer.extend(kept)
        return self.model

    def _add(self, tensor: str, op: str, inputs: list[str], result: str, **attributes: Any) -> None:  # noqa: ANN401 - as onnx takes it
        """Add a node that makes a stand-in of a tensor."""
        node = helper.make_node(op, inputs, [result], name=f"{result}/{op}", **attributes)
        self._before.setdefault(tensor, []).append(node)

    def _ordered(self) -> Iterator[NodeProto]:
        """Yield all nodes, those that stand for a tensor just before their first reader."""
        waiting = {nodes[-1].output[0]: nodes for nodes in self._before.values()}
        for node in self.graph.node:
            for name in node.input:
                yield from waiting.pop(name, [])
            yield node
