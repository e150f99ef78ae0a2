"""The layers of a tower that can be INT8: products of an activation with a constant weight."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from clapedge.errors import BundleError
from clapedge.mel import Float32Array

PRODUCTS = frozenset({"MatMul", "Gemm"})

FLOAT_LAYERS = ("patches", "projection")
"""Layers that stay in float: the first and the last product cost little time and most of the accuracy."""


@dataclass(frozen=True)
class Layer:
    """A product with a constant weight.

    Attributes:
        name: the layer it belongs to, such as `stages.3.qkv`.
        node: name of its node.
        activation: tensor that it multiplies.
        weight: initializer that it multiplies by.
        transposed: whether the weight lies as (channels, inputs).
    """

    name: str
    node: str
    activation: str
    weight: str
    transposed: bool


def find_layers(model: ModelProto) -> tuple[Layer, ...]:
    """List the layers of a tower that may be INT8, in the order in which they run.

    Raises:
        BundleError: there are none, so the graph is none that this package exports.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    layers = []
    for node in model.graph.node:
        name = node.name.partition("/")[0]
        constant = node.op_type in PRODUCTS and node.input[1] in constants and node.input[0] not in constants
        if constant and not name.startswith(FLOAT_LAYERS):
            layers.append(Layer(name, node.name, node.input[0], node.input[1], bool(attribute(node, "transB"))))
    if not layers:
        raise BundleError("the audio tower holds no product that could be INT8; export the bundle with clapedge export")
    return tuple(layers)


def attribute(node: NodeProto, name: str) -> int:
    """Return an integer attribute of a node, 0 where it has none of that name."""
    return next((entry.i for entry in node.attribute if entry.name == name), 0)


def weight_of(model: ModelProto, layer: Layer) -> Float32Array:
    """Return the weight of a layer, (inputs, channels)."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == layer.weight)
    weight = np.asarray(numpy_helper.to_array(tensor), np.float32)
    return weight.T if layer.transposed else weight


def activations(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Return the tensors that layers multiply, each once."""
    return tuple(dict.fromkeys(layer.activation for layer in layers))
