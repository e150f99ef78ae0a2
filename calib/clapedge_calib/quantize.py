"""A float32 tower to an INT8 one: static Q/DQ around each product's inputs, or scales computed at run time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from clapedge.arrays import Float32Array
from clapedge_calib.layers import Layer, weight_of
from clapedge_calib.ranges import LEVELS, Range

Scheme = Literal["static", "dynamic"]
Target = Literal["cpu", "tensorrt", "arm"]

BIAS = 2
"""Place of the bias among the inputs of a Gemm."""

INT8_TOP = 127
"""Largest magnitude of a weight: −128 is left out, so that the scale is symmetric."""


def quantize_static(
    model: ModelProto, layers: Sequence[Layer], ranges: Mapping[str, Range], *, target: Target
) -> ModelProto:
    """Return a copy in which the inputs of products are quantized to eight bits and back.

    Weights are signed, with one scale an output channel; biases and results stay in float.

    Args:
        model: float32 tower.
        layers: those that become INT8.
        ranges: of each activation that they multiply.
        target: `cpu` (x86) takes unsigned activations, the others symmetric signed ones.
    """
    rewriter, symmetric = _Rewriter(model), target != "cpu"
    nodes = {node.output[0]: node for node in rewriter.graph.node}
    for layer in layers:
        activation = rewriter.through_int8(layer, ranges[layer.activation], symmetric=symmetric)
        weight = rewriter.constant_int8(layer)
        # of MatMul and Add, ONNX Runtime's CPU provider makes a float Gemm before it looks for INT8; of Sub it does not
        rewriter.make_static(nodes[layer.output], activation, weight, subtract=target != "tensorrt")
    return rewriter.finish()


def quantize_dynamic(model: ModelProto, layers: Sequence[Layer]) -> ModelProto:
    """Return a copy whose products are integer, with the scales of activations computed from its input.

    It takes one clip at a time, so that no clip depends on its neighbours.
    """
    rewriter = _Rewriter(model)
    by_output = {layer.output: layer for layer in layers}
    for node in list(rewriter.graph.node):
        if node.output[0] in by_output:
            rewriter.make_dynamic(node, by_output[node.output[0]])
    return one_row(rewriter.finish())


def one_row(model: ModelProto) -> ModelProto:
    """Let a graph take one clip at a time, and return it."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return model


def int8_weight(weight: Float32Array) -> tuple[npt.NDArray[np.int8], Float32Array]:
    """Quantize a weight (inputs, channels) with one symmetric scale an output channel.

    Returns:
        The weight in int8, and the scales (channels,).
    """
    scales = np.maximum(np.abs(weight).max(axis=0), np.finfo(np.float32).tiny) / INT8_TOP
    rounded = np.clip(np.rint(weight / scales), -INT8_TOP, INT8_TOP)
    return rounded.astype(np.int8), scales.astype(np.float32)


def tensorrt_faults(model: ModelProto) -> list[str]:
    """Return the parts of a graph that TensorRT would reject, or not run as INT8, one sentence each."""
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
    """A copy of a graph that is being changed."""

    def __init__(self, model: ModelProto) -> None:
        """Copy a graph."""
        self.model = ModelProto()
        self.model.CopyFrom(model)
        self.graph = self.model.graph
        self._source = model
        self._new: dict[str, NodeProto] = {}

    def through_int8(self, layer: Layer, values: Range, *, symmetric: bool) -> str:
        """Quantize the activation of a layer to eight bits and back, and return the name of the result.

        Layers share the QuantizeLinear; each has its own DequantizeLinear, since ONNX Runtime fuses that one.
        """
        tensor, result = layer.activation, f"{layer.output}_dequantized_input"
        pair = [f"{tensor}_scale", f"{tensor}_zero_point"]
        if f"{tensor}_int8" in self._new:
            self._add("DequantizeLinear", [f"{tensor}_int8", *pair], [result])
            return result
        if symmetric:
            step, zero = values.symmetric().high / INT8_TOP, np.int8(0)
        else:
            step = (values.high - values.low) / (LEVELS - 1)
            zero = np.uint8(np.clip(round(-values.low / step) if step else 0, 0, LEVELS - 1))
        self.constant(pair[0], np.float32(max(step, np.finfo(np.float32).tiny)))
        self.constant(pair[1], zero)
        self._add("QuantizeLinear", [tensor, *pair], [f"{tensor}_int8"])
        self._add("DequantizeLinear", [f"{tensor}_int8", *pair], [result])
        return result

    def constant_int8(self, layer: Layer) -> str:
        """Add a weight in int8 and its DequantizeLinear, once, and return the name of the result.

        It is (inputs, channels), whichever way the product takes it.
        """
        result = f"{layer.weight}_dequantized"
        if result in self._new:
            return result
        rounded, scales = int8_weight(weight_of(self._source, layer))
        inputs = [
            self.constant(f"{layer.weight}_int8", rounded),
            self.constant(f"{layer.weight}_scale", scales),
            self.constant(f"{layer.weight}_zero_point", np.zeros(len(scales), np.int8)),
        ]
        self._add("DequantizeLinear", inputs, [result], axis=1)
        return result

    def make_static(self, node: NodeProto, activation: str, weight: str, *, subtract: bool) -> None:
        """Replace a float product by one of dequantized inputs; its bias follows it, in float.

        Args:
            node: the product.
            activation: replaces its first input.
            weight: replaces its second, (inputs, channels).
            subtract: whether the negated bias is subtracted instead of adding the bias.
        """
        name, product = node.name or node.output[0], node.output[0]
        biases = list(node.input[BIAS:])
        if biases:
            product = f"{node.output[0]}_product"
        new = [helper.make_node("MatMul", [activation, weight], [product], name=f"{name}_product")]
        for bias in biases:
            added, op = bias, "Add"
            if subtract:
                value = next(tensor for tensor in self._source.graph.initializer if tensor.name == bias)
                added, op = self.constant(f"{node.output[0]}_negated_bias", -numpy_helper.to_array(value)), "Sub"
            new.append(helper.make_node(op, [product, added], list(node.output), name=f"{name}_bias"))
        self._replace(node, new)

    def make_dynamic(self, node: NodeProto, layer: Layer) -> None:
        """Replace a float product by an integer one, in the form that ONNX Runtime fuses into one kernel."""
        tensor, result = layer.activation, node.output[0]
        rounded, scales = int8_weight(weight_of(self._source, layer))
        quantized = f"{tensor}_int8"
        if quantized not in self._new:
            self._add("DynamicQuantizeLinear", [tensor], [quantized, f"{tensor}_scale", f"{tensor}_zero_point"])
        named = {suffix: f"{result}_{suffix}" for suffix in ("integer", "float", "scale")}
        integer = [
            quantized,
            self.constant(f"{layer.weight}_int8", rounded),
            f"{tensor}_zero_point",
            self.constant(f"{layer.weight}_zero_point", np.int8(0)),
        ]
        scale = self.constant(f"{layer.weight}_scale", scales)
        product = f"{result}_product" if len(node.input) > BIAS else result
        cast = {"name": f"{layer.name}/{result}_cast", "to": TensorProto.FLOAT}
        new = [
            helper.make_node("MatMulInteger", integer, [named["integer"]], name=f"{layer.name}/{result}_integer"),
            helper.make_node("Cast", [named["integer"]], [named["float"]], **cast),  # type: ignore[arg-type]
            helper.make_node("Mul", [f"{tensor}_scale", scale], [named["scale"]], name=f"{layer.name}/{result}_scales"),
            helper.make_node("Mul", [named["float"], named["scale"]], [product], name=f"{layer.name}/{result}_scaled"),
        ]
        new += [
            helper.make_node("Add", [product, name], [result], name=f"{layer.name}/{result}_bias")
            for name in node.input[BIAS:]
        ]
        self._replace(node, new)

    def _replace(self, node: NodeProto, others: Sequence[NodeProto]) -> None:
        """Replace a node by others."""
        place = next(i for i, each in enumerate(self.graph.node) if each.output[0] == node.output[0])
        self.graph.node.remove(node)
        for offset, each in enumerate(others):
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

    def _add(self, op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:  # noqa: ANN401 - as onnx
        """Add a node, to stand before the first that reads it."""
        self._new[outputs[0]] = helper.make_node(op, inputs, outputs, name=f"{outputs[0]}/{op}", **attributes)

    def _ordered(self) -> Iterator[NodeProto]:
        """Yield all nodes, each new one just before the first that reads it."""
        waiting = dict(self._new)

        def needed(names: Iterable[str]) -> Iterator[NodeProto]:
            for name in names:
                if name in waiting:
                    node = waiting.pop(name)
                    yield from needed(node.input)
                    yield node

        for node in self.graph.node:
            yield from needed(node.input)
            yield node
